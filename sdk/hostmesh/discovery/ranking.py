"""The one ranker: which of the hosts that meet the criteria is best, by a strategy. Pure, integers only.

A strategy gives a host points for each of some numbers and a weight to each; the weighted sum decides.
:class:`WeightedStrategy` is the shipped one, in the constants :data:`AUTO`, :data:`CHEAPEST`, :data:`FASTEST` and
:data:`RELIABLE`. It compares each number with a fixed anchor, never with the other candidates, so that removing a loser
never changes the winner. Points fall or rise in one direction and never leave the scale:

- reputation: ``points / 1000``;
- price: ``anchor / (anchor + price)``, the anchor being ``max_price`` or a configured reference; 0 is best, unpriced
  has no points. Scaling every price and the anchor together changes nothing;
- uptime: ``uptime / (uptime + 1 day)``, as observed from here. What a host claims of itself has no points;
- latency: ``100 ms / (100 ms + latency)``; a host that could not be measured ranks after every one that could.

A price divided by a time is no score here: it favours slow hosts.

Source: docs/discovery.md; the weights per mille are those of the table there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from hostmesh.discovery.criteria import MAX_REPUTATION, HostCriteria
from hostmesh.discovery.matching import is_measured
from hostmesh.discovery.measurement import Origin
from hostmesh.discovery.offers import price_in_question
from hostmesh.discovery.view import HostView
from hostmesh.errors import ConfigError

SCALE = 1_000_000
"""Points of a perfect number; fine enough that two prices one per mille apart differ."""
_RESERVED = ("total", "parts")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePart:
    """What one number of a host adds to its score: ``points * weight``.

    Raises:
        ConfigError: points or weight are no integers.
    """

    name: str
    points: int
    weight: int

    def __post_init__(self) -> None:
        for number in (self.points, self.weight):
            if isinstance(number, bool) or not isinstance(number, int):
                raise ConfigError(
                    f"the score's part {self.name!r} is not of integers",
                    name="strategy",
                    source="argument",
                    remedy="scale and round: two hosts of one score shall have it on every machine",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A host's points by name, and their weighted sum.

    Raises:
        ConfigError: two parts of one name, or one called ``total`` or ``parts``.
    """

    parts: tuple[ScorePart, ...]

    def __post_init__(self) -> None:
        names = [part.name for part in self.parts]
        if len(set(names)) < len(names) or any(name in _RESERVED for name in names):
            raise ConfigError(f"a score's parts are called {names}", name="strategy", source="argument")

    @property
    def total(self) -> int:
        """The sum of ``points * weight``; higher is better. With the shipped weights 0 to ``1000 * SCALE``."""
        return sum(part.points * part.weight for part in self.parts)

    def points(self, name: str) -> int:
        """Return the points of a part. Raises KeyError: there is none of this name."""
        return {part.name: part.points for part in self.parts}[name]

    def to_dict(self) -> dict[str, object]:
        """Return the points by name, the total, and the parts with their weights, as JSON takes them."""
        return {
            **{part.name: part.points for part in self.parts},
            "total": self.total,
            "parts": [{"name": part.name, "points": part.points, "weight": part.weight} for part in self.parts],
        }


class Strategy(Protocol):
    """Says how good a host is that meets the criteria. Pure: the same view gives the same score.

    An object with these two methods can stand for :data:`AUTO`; docs/discovery.md has an example. An error that it
    raises ends the search and reaches the caller.
    """

    def score(self, view: HostView, criteria: HostCriteria) -> Score:
        """Return a host's score, from this host alone and from what is known now; it may not have been measured."""
        ...

    def best_possible(self, view: HostView, criteria: HostCriteria) -> int:
        """Return an upper bound of what ``score().total`` can become once the host has been probed.

        A host whose bound is below what another one has is not probed: too low a bound loses the best host, too high a
        one costs probes. What a probe tells: ``view.probe``.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What each number counts for, per mille; they add up to 1000.

    Raises:
        ConfigError: they do not.
    """

    reputation: int
    price: int
    uptime: int
    latency: int

    def __post_init__(self) -> None:
        weights = (self.reputation, self.price, self.uptime, self.latency)
        if sum(weights) != 1000 or min(weights) < 0:
            raise ConfigError("weights are 0 or more and add up to 1000", name="weights", source="argument")


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """Where each number has half of its points.

    Raises:
        ConfigError: one is less than 1.
    """

    price_micros_per_mtok: int = 1_000_000
    """Compared with when the criteria name no ``max_price``; an amount without a currency, so that hosts in different
    currencies are then compared by amount. Name a ``max_price`` to be strict."""
    uptime_s: int = 86_400
    latency_us: int = 100_000

    def __post_init__(self) -> None:
        if min(self.price_micros_per_mtok, self.uptime_s, self.latency_us) < 1:
            raise ConfigError("anchors are 1 or more", name="anchors", source="argument")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedStrategy:
    """Weighs reputation, price, observed uptime and measured latency; see the module for the points of each."""

    weights: Weights
    anchors: Anchors = field(default_factory=Anchors)

    def score(self, view: HostView, criteria: HostCriteria) -> Score:
        """Return the points of one host; it depends on no other host."""
        latency = view.latency
        latency_us = None if latency is None else max(0, round(latency.value * 1000))
        points = 0 if latency_us is None else _falling(latency_us, self.anchors.latency_us)
        return self._weighed(view, criteria, points)

    def best_possible(self, view: HostView, criteria: HostCriteria) -> int:
        """Return the total with a perfect latency."""
        return self._weighed(view, criteria, SCALE).total

    def _weighed(self, view: HostView, criteria: HostCriteria, latency: int) -> Score:
        anchor = criteria.max_price.micros_per_mtok if criteria.max_price else self.anchors.price_micros_per_mtok
        price = price_in_question(view, criteria)
        points = {
            "reputation": min(max(view.reputation.points, 0), MAX_REPUTATION) * SCALE // MAX_REPUTATION,
            "price": 0 if price is None else _falling(price.micros_per_mtok, anchor),
            "uptime": _rising(_observed_uptime_s(view), self.anchors.uptime_s),
            "latency": latency,
        }
        return Score(
            parts=tuple(
                ScorePart(name=name, points=number, weight=getattr(self.weights, name))
                for name, number in points.items()
            )
        )


@dataclass(frozen=True, slots=True)
class SpecificStrategy:
    """Takes the one host that ``criteria.include`` names, or nobody; its type is what the search knows it by."""

    def score(self, _view: HostView, _criteria: HostCriteria) -> Score:
        """Return no points: there is nothing to compare."""
        return Score(parts=())

    def best_possible(self, _view: HostView, _criteria: HostCriteria) -> int:
        """Return 0."""
        return 0

    @staticmethod
    def host_named(criteria: HostCriteria) -> str:
        """Return the peer id of the host that the criteria name.

        Raises:
            ConfigError: they name none, several, or a wallet, which may have several hosts.
        """
        if len(criteria.include) != 1 or criteria.include[0].startswith("0x"):
            raise ConfigError(
                "the strategy SPECIFIC needs one host",
                name="include",
                source="argument",
                remedy="name exactly one peer id in include",
            )
        return criteria.include[0]


AUTO = WeightedStrategy(weights=Weights(reputation=350, price=300, uptime=200, latency=150))
"""A bit of everything."""
CHEAPEST = WeightedStrategy(weights=Weights(reputation=150, price=700, uptime=100, latency=50))
"""The price above all."""
FASTEST = WeightedStrategy(weights=Weights(reputation=100, price=200, uptime=100, latency=600))
"""The measured latency above all."""
RELIABLE = WeightedStrategy(weights=Weights(reputation=500, price=50, uptime=400, latency=50))
"""What this client itself has seen of the host above all."""
SPECIFIC = SpecificStrategy()
"""The host that ``criteria.include`` names: it must answer and meet every criterion."""


class Precedence(NamedTuple):
    """What sorts measured hosts; higher is better."""

    credibility: int
    """0 for one that was caught in a claim that is not true, 1 for others."""
    preference: int
    """How far the criteria prefer it."""
    priority: int
    """Its standing's."""
    total: int
    """Its score's."""


def rank(
    views: Sequence[HostView], criteria: HostCriteria, strategy: Strategy = AUTO, *, seed: bytes
) -> list[tuple[HostView, Score]]:
    """Order hosts, best first.

    Hosts that were caught in a claim that is not true come last, whatever else is said of them, also where nobody asked
    for what they claim. Among the others preferred ones come first, then those of whom everything is known that the
    criteria ask of a probe; then the total decides, then free slots.

    Args:
        views: hosts that meet the criteria.
        criteria: says who is preferred; the strategy reads the price anchor and the offer in question from it.
        strategy: gives the scores.
        seed: breaks ties that free slots do not; of this client's own, so that not every client of the network
            picks the same host.

    Cost: O(n log n) and a hash a host.
    """
    scored = [(view, strategy.score(view, criteria)) for view in views]

    def order(pair: tuple[HostView, Score]) -> tuple[tuple[int, int, int, bool], int, int, bytes]:
        view, points = pair
        free_slots = -1 if view.free_slots is None else view.free_slots
        tie = hashlib.sha256(seed + b"\0" + view.info.peer_id.encode()).digest()
        return (group_of(view, criteria), -points.total, -free_slots, tie)

    return sorted(scored, key=order)


def group_of(view: HostView, criteria: HostCriteria) -> tuple[int, int, int, bool]:
    """Return what sorts before any score; hosts of a lower group come first."""
    return (
        -credibility(view),
        -preference(view, criteria),
        -view.standing.priority,
        not is_measured(view, criteria),
    )


def credibility(view: HostView) -> int:
    """Return 0 for a host that cannot be where it claims to be, 1 for one of which nothing was refuted."""
    return 0 if view.refuted else 1


def preference(view: HostView, criteria: HostCriteria) -> int:
    """Return how far the criteria prefer a host: 0 for one that they do not name, most for the first named."""
    places = [index for index, name in enumerate(criteria.preferred) if name in view.names]
    return len(criteria.preferred) - min(places) if places else 0


def promise(view: HostView, criteria: HostCriteria, strategy: Strategy) -> Precedence:
    """Return the highest precedence that a host can have once it is measured."""
    possible = strategy.best_possible(view, criteria)
    return Precedence(1, preference(view, criteria), view.standing.priority, possible)


def precedence(view: HostView, criteria: HostCriteria, strategy: Strategy) -> Precedence:
    """Return the precedence that a measured host has."""
    total = strategy.score(view, criteria).total
    return Precedence(credibility(view), preference(view, criteria), view.standing.priority, total)


def _observed_uptime_s(view: HostView) -> int:
    if view.uptime is None or view.uptime.origin is not Origin.MEASURED:
        return 0
    return max(0, int(view.uptime.value))


def _rising(value: int, anchor: int) -> int:
    """Return 0 at 0, half of SCALE at the anchor, and never all of it."""
    return SCALE * value // (value + anchor)


def _falling(value: int, anchor: int) -> int:
    """Return SCALE at 0, half of it at the anchor, and never less than 0."""
    return SCALE if value == 0 else SCALE * anchor // (anchor + value)
