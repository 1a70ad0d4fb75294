"""Choices that are not simply the best: one at random among the best few, and several that differ. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from hostmesh.discovery.choice import HostChoice
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.ranking import Score, group_of
from hostmesh.discovery.record import HostInfo
from hostmesh.discovery.subnet import subnets_of
from hostmesh.discovery.terms import check_integer
from hostmesh.discovery.view import HostView

RANDOM_BYTES = 16
"""That many random bytes make one choice; the odds are off by less than 2^-64."""
MAX_CHOOSE_AMONG = 1000
_MOST = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Diversity:
    """How many of the hosts that are returned may be alike; None = any number.

    Raises:
        ConfigError: a limit that is no integer, or less than 1.
    """

    max_per_operator: int | None = None
    """Hosts of one wallet."""
    max_per_subnet: int | None = None
    """Hosts in one IPv4 /24 or IPv6 /48, by the address that was used, else by every address that the host claims; see
    :func:`hostmesh.discovery.subnet.subnets_of`."""

    def __post_init__(self) -> None:
        for name in ("max_per_operator", "max_per_subnet"):
            if getattr(self, name) is not None:
                check_integer(getattr(self, name), name=name, least=1, most=_MOST)


class Shares:
    """Counts hosts by what a :class:`Diversity` limits."""

    def __init__(self, diversity: Diversity) -> None:
        self._diversity = diversity
        self._counts: Counter[str] = Counter()
        self.full: set[str] = set()
        """The wallets and networks of which no more may come."""

    def take(self, info: HostInfo, address: str) -> bool:
        """Count a host; tell whether it is not one too many, else nothing happens.

        Args:
            info: its record.
            address: that was used; empty = none.
        """
        limits = {info.operator_address: self._diversity.max_per_operator}
        for subnet in subnets_of((address,) if address else info.addresses):
            limits[subnet] = self._diversity.max_per_subnet
        if not self.full.isdisjoint(limits):
            return False
        self._counts.update(limits.keys())
        self.full.update(name for name, most in limits.items() if most is not None and self._counts[name] >= most)
        return True


def diversify(choices: Iterable[HostChoice], diversity: Diversity) -> list[HostChoice]:
    """Return the choices in their order without those that are one too many of their operator or subnet.

    The better one of two that are alike stays, so the best choice always does.
    """
    shares = Shares(diversity)
    return [choice for choice in choices if shares.take(choice.record, choice.address)]


def choose(ranked: Sequence[tuple[HostView, Score]], criteria: HostCriteria, among: int, random: bytes) -> int:
    """Return the index of one of the best hosts, drawn with odds in proportion to ``max(total, 0) + 1``.

    Args:
        ranked: best first, by :func:`hostmesh.discovery.ranking.rank`; at least one.
        criteria: those ranked by.
        among: how many of the best are drawn from, >= 1. A host that only ranks behind because it is not preferred, or
            could not be measured, is never drawn.
        random: bytes of the caller's; the same ones give the same host.
    """
    group = group_of(ranked[0][0], criteria)
    best = takewhile(lambda pair: group_of(pair[0], criteria) == group, ranked[:among])
    weights = [max(points.total, 0) + 1 for _, points in best]
    drawn = int.from_bytes(random) % sum(weights)
    for index, weight in enumerate(weights):
        if drawn < weight:
            return index
        drawn -= weight
    raise AssertionError("unreachable: drawn is less than the sum of the weights")
