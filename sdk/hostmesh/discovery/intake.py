"""Whom a sweep asks, of all whom the sources name, and in what order. Pure.

Whoever is asked costs a dial, and most of those who are named may be made up. So there are places, and shares of them:

- a source has places that no other can take: an even part of half of them all. The other half is anybody's;
- a peer that names others has an eighth of the places for them, and each network that strangers' addresses lie in (/24
  of IPv4, /48 of IPv6, the last two labels of a name; not loopback) a quarter, within each source for itself.

So nobody whom one source names is kept out by what another one makes up, and whom one peer names not by another peer's
crowd, as long as the crowd is not of many peers. Who finds no place is held back: once a source has ended, its peers'
and networks' shares bind no more, and what it did not use of its own places is anybody's. Where everything was quiet,
every place is used.

The order is by turns, first of the sources, then of the peers that named somebody. Who was named by several stands in
each of their lines, and is asked when the first of these turns comes.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import lru_cache

from hostmesh.discovery.source import Candidate
from hostmesh.discovery.subnet import NOWHERE, subnets_of
from hostmesh.discovery.turns import Turns
from hostmesh.errors import InvalidAddressError
from hostmesh.net.address import MAX_ADDRESSES_PER_PEER, AddressOrigin, AddressScope, scope_of
from hostmesh.net.peer_id import PeerId

OWN_SHARE = 0.5
"""Part of the places that the sources have for themselves, each as many."""
PER_NAMER_SHARE = 0.125
PER_SUBNET_SHARE = 0.25
MAX_LINES = 64
"""Lines that one candidate stands in."""
HELD_SHARE = 2
"""Of each source so many times as many may be held back as there are places; others are refused at once."""
MAX_NEWS = 64
"""Addresses of one candidate that count as news: who names ever others keeps nobody busy with them."""
_REMEMBERED = 4096


class _State(Enum):
    WAITING = "waiting"
    ASKED = "asked"
    AGAIN = "again"
    """Asked, and another address came up meanwhile."""
    FAILED = "failed"
    DONE = "done"


@dataclass(slots=True)
class _Place:
    state: _State
    addresses: set[str]
    lines: set[Hashable] = field(default_factory=set)


class Intake:
    """The candidates of one sweep.

    Args:
        sources: the names of all that will be asked.
        max_candidates: places, >= 1.
    """

    def __init__(self, sources: Iterable[str], *, max_candidates: int) -> None:
        names = tuple(dict.fromkeys(sources))
        own = int(max_candidates * OWN_SHARE) // max(1, len(names))
        self._max_candidates = max_candidates
        self._max_per_namer = max(1, int(max_candidates * PER_NAMER_SHARE))
        self._max_per_subnet = max(1, int(max_candidates * PER_SUBNET_SHARE))
        self._own_room = dict.fromkeys(names, own)
        """Places left that a source has for itself; those that have ended have none."""
        self._common_room = max_candidates - own * len(names)
        self._places: dict[PeerId, _Place] = {}
        self._held: dict[str, dict[PeerId, Candidate]] = {}
        self._of_namer: Counter[tuple[str, PeerId]] = Counter()
        self._of_subnet: Counter[tuple[str, str]] = Counter()
        self._lines: OrderedDict[str, Turns[PeerId]] = OrderedDict()
        self._waiting = 0
        self._refused = 0

    def __len__(self) -> int:
        """Return how many wait to be asked."""
        return self._waiting

    @property
    def dropped(self) -> int:
        """How many of those who were named have found no place so far; who was refused counts each time."""
        kept_out = {peer_id for held in self._held.values() for peer_id in held if peer_id not in self._places}
        return len(kept_out) + self._refused

    def offer(self, candidate: Candidate, source: str) -> bool:
        """Take in what a source names.

        Args:
            candidate: its addresses are canonical.
            source: one of those that were told.

        Returns:
            Whether the candidate has a place, from now or from before. If not, it may get one in :meth:`end`.
        """
        place = self._places.get(candidate.peer_id)
        if place is not None:
            self._take_news(place, candidate, source)
        elif self._has_room(candidate, source):
            self._admit(candidate, source)
        else:
            self._hold(candidate, source)
            return False
        return True

    def end(self, source: str) -> list[tuple[Candidate, str]]:
        """Note that a source names nobody any more.

        Returns:
            Who gets a place by that, and which source named each; one of each peer that named any in turn.
        """
        self._common_room += self._own_room.pop(source, 0)
        waiting: Turns[tuple[Candidate, str]] = Turns()
        for name, held in self._held.items():
            for candidate in held.values():
                waiting.add((name, candidate.named_by), (candidate, name))
        admitted: list[tuple[Candidate, str]] = []
        while len(waiting):
            candidate, name = waiting.next()
            if (candidate.peer_id in self._places or self._has_room(candidate, name)) and self.offer(candidate, name):
                del self._held[name][candidate.peer_id]
                admitted.append((candidate, name))
        return admitted

    def next(self) -> PeerId | None:
        """Return whom to ask next; None: nobody waits."""
        while self._lines:
            source, line = self._lines.popitem(last=False)
            while len(line):
                peer_id = line.next()
                place = self._places[peer_id]
                if place.state is _State.WAITING:
                    if len(line):
                        self._lines[source] = line
                    place.state = _State.ASKED
                    place.lines.clear()
                    self._waiting -= 1
                    return peer_id
        return None

    def finish(self, peer_id: PeerId, *, has_failed: bool) -> bool:
        """Note what came of asking a candidate.

        Args:
            peer_id: from :meth:`next`.
            has_failed: another address might help.

        Returns:
            Whether to ask at once again: it failed, and another address came up meanwhile.
        """
        place = self._places[peer_id]
        if has_failed and place.state is _State.AGAIN:
            place.state = _State.ASKED
            return True
        place.state = _State.FAILED if has_failed else _State.DONE
        return False

    def _take_news(self, place: _Place, candidate: Candidate, source: str) -> None:
        has_news = not place.addresses.issuperset(candidate.addresses) and len(place.addresses) < MAX_NEWS
        place.addresses.update(candidate.addresses)
        if place.state is _State.WAITING:
            self._line_up(place, candidate, source)
        elif has_news and place.state is _State.ASKED:
            place.state = _State.AGAIN
        elif has_news and place.state is _State.FAILED:
            self._queue(place, candidate, source)

    def _has_room(self, candidate: Candidate, source: str) -> bool:
        if not self._own_room.get(source) and not self._common_room:
            return False
        if source not in self._own_room:
            return True  # it has ended: there is no other peer and no other network to keep places for
        if candidate.named_by is not None and self._of_namer[source, candidate.named_by] >= self._max_per_namer:
            return False
        return all(self._of_subnet[source, subnet] < self._max_per_subnet for subnet in _crowds_of(candidate))

    def _admit(self, candidate: Candidate, source: str) -> None:
        if self._own_room.get(source):
            self._own_room[source] -= 1
        else:
            self._common_room -= 1
        if candidate.named_by is not None:
            self._of_namer[source, candidate.named_by] += 1
        self._of_subnet.update((source, subnet) for subnet in _crowds_of(candidate))
        place = self._places[candidate.peer_id] = _Place(_State.DONE, set(candidate.addresses))
        self._queue(place, candidate, source)

    def _hold(self, candidate: Candidate, source: str) -> None:
        held = self._held.setdefault(source, {})
        before = held.get(candidate.peer_id)
        if before is not None:
            addresses = tuple(dict.fromkeys((*before.addresses, *candidate.addresses)))[:MAX_ADDRESSES_PER_PEER]
            held[candidate.peer_id] = replace(before, addresses=addresses)
        elif len(held) < HELD_SHARE * self._max_candidates:
            held[candidate.peer_id] = candidate
        else:
            self._refused += 1

    def _queue(self, place: _Place, candidate: Candidate, source: str) -> None:
        place.state = _State.WAITING
        self._waiting += 1
        self._line_up(place, candidate, source)

    def _line_up(self, place: _Place, candidate: Candidate, source: str) -> None:
        line = (source, candidate.named_by)
        if line not in place.lines and len(place.lines) < MAX_LINES:
            place.lines.add(line)
            self._lines.setdefault(source, Turns()).add(candidate.named_by, candidate.peer_id)


def _crowds_of(candidate: Candidate) -> set[str]:
    """Return the networks that a candidate counts for: those where strangers' word places it."""
    if candidate.origin is not AddressOrigin.REMOTE:
        return set()
    return {subnet for address in candidate.addresses if (subnet := _crowd_of(address)) is not None}


@lru_cache(maxsize=_REMEMBERED)
def _crowd_of(address: str) -> str | None:
    try:
        if scope_of(address) is AddressScope.LOOPBACK:
            return None
    except InvalidAddressError:
        return NOWHERE
    return next(iter(subnets_of((address,))))
