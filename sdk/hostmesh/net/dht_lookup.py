"""One iterative lookup: which peer to ask next, when it is over, and whom the answers name. Pure.

Asks the nearest peers that it has heard of, a few at a time, and hears from them of nearer ones, until the k nearest
that are alive have all answered. Bounds: peers remembered and queries made, whatever the answers say.

Names cost nothing: an answer may be full of peers that nobody has, nearer than any that exist. So the k nearest of the
*known* peers, which did answer once, are asked as well, and what it takes to ask them is kept from those who were only
named. Where the names are true, nearer peers answer soon, and what is known at first is not asked for long.

Source: Maymounkov and Mazieres, "Kademlia" (2002), section 2.3; libp2p specs, kad-dht, "Peer routing". The place
of known peers is ours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from hostmesh.net.address import keep_usable
from hostmesh.net.dht_table import BUCKET_SIZE, position
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes

KEPT_FOR_KNOWN = 2
"""Of the queries in flight, so many are not for peers that were only named while known ones wait. Chosen here."""


class Lookup:
    """The state of one lookup.

    Args:
        key: what to get near to.
        own: our peer id, which is never asked.
        seeds: known peers to begin with: they answered earlier.
        width: k, how many of the nearest must have answered.
        parallel: most queries in flight.
        max_queries: most queries in all.
        max_peers: most peers remembered; farther ones are let go.
    """

    def __init__(
        self,
        key: bytes,
        *,
        own: PeerId,
        seeds: Iterable[PeerId],
        width: int = BUCKET_SIZE,
        parallel: int = 6,
        max_queries: int = 80,
        max_peers: int = 256,
    ) -> None:
        self._target = position(key)
        self._own = own
        self._width = width
        self._parallel = parallel
        self._max_named = parallel - KEPT_FOR_KNOWN
        self._queries_left = max_queries
        self._max_peers = max_peers
        self._distance: dict[PeerId, int] = {}
        self._in_flight: set[PeerId] = set()
        self._answered: set[PeerId] = set()
        self._failed: set[PeerId] = set()
        seeds = list(seeds)
        self._known: set[PeerId] = set(seeds)
        self._add(seeds)

    @property
    def in_flight(self) -> int:
        """Queries that were begun and have not ended."""
        return len(self._in_flight)

    @property
    def answered(self) -> int:
        """Peers that answered."""
        return len(self._answered)

    def next_query(self) -> PeerId | None:
        """Return a peer to ask now, which counts as asked; None: wait for an answer, or it is over."""
        if len(self._in_flight) >= self._parallel or self._queries_left <= 0:
            return None
        nearest, known = self._waiting(self._distance), self._waiting(self._known)
        if nearest and (not known or nearest[0] in self._known or self._has_place_for_named(len(known))):
            peer_id = nearest[0]
        elif known:
            peer_id = known[0]
        else:
            return None
        self._in_flight.add(peer_id)
        self._queries_left -= 1
        return peer_id

    def on_answer(self, peer_id: PeerId, closer: Iterable[PeerId]) -> None:
        """Note an answer and the peers that it named."""
        self._in_flight.discard(peer_id)
        self._answered.add(peer_id)
        self._known.add(peer_id)
        self._add(closer)

    def on_failure(self, peer_id: PeerId) -> None:
        """Note that a peer did not answer, or not as the protocol says."""
        self._in_flight.discard(peer_id)
        self._failed.add(peer_id)

    def closest(self) -> list[PeerId]:
        """Return the nearest peers that answered, nearest first, at most ``width``."""
        return sorted(self._answered, key=self._distance.__getitem__)[: self._width]

    def _waiting(self, peers: Iterable[PeerId]) -> list[PeerId]:
        """Return those of the nearest of some peers that were not asked, nearest first."""
        alive = (peer_id for peer_id in peers if peer_id in self._distance and peer_id not in self._failed)
        nearest = sorted(alive, key=self._distance.__getitem__)[: self._width]
        return [peer_id for peer_id in nearest if peer_id not in self._answered and peer_id not in self._in_flight]

    def _has_place_for_named(self, known: int) -> bool:
        """Whether a peer that was only named may be asked while so many known ones wait."""
        named = sum(peer_id not in self._known for peer_id in self._in_flight)
        return named < self._max_named and self._queries_left > known

    def _add(self, peers: Iterable[PeerId]) -> None:
        for peer_id in peers:
            if peer_id != self._own and peer_id not in self._distance:
                self._distance[peer_id] = position(peer_id_to_bytes(peer_id)) ^ self._target
        if len(self._distance) <= self._max_peers:
            return
        untouched = [
            peer_id
            for peer_id in self._distance
            if peer_id not in self._known and peer_id not in self._in_flight and peer_id not in self._failed
        ]
        untouched.sort(key=self._distance.__getitem__)
        for peer_id in untouched[max(0, len(untouched) - (len(self._distance) - self._max_peers)) :]:
            del self._distance[peer_id]


class Harvest:
    """The providers that the answers of one lookup name. Pure.

    An answer adds its share at once, and what is left of the limit is dealt out among the rest in the end: who names
    many takes no place from those whom others name.

    Args:
        own: our peer id, which is never kept.
        limit: most providers, >= 1.
        share: most that one answer adds before the end, >= 1.
        found: told of each provider as it is kept, with its addresses and who named it, and again when more of its
            addresses are known.
    """

    def __init__(
        self,
        own: PeerId,
        *,
        limit: int,
        share: int,
        found: Callable[[PeerId, tuple[str, ...], PeerId], None] | None,
    ) -> None:
        self._own = own
        self._limit = limit
        self._share = share
        self._found = found
        self._rest: list[tuple[PeerId, deque[tuple[PeerId, tuple[str, ...]]]]] = []
        self.kept: dict[PeerId, tuple[str, ...]] = {}
        """With at most 16 addresses each."""

    @property
    def is_full(self) -> bool:
        """Whether the limit is reached."""
        return len(self.kept) >= self._limit

    def take(self, providers: Iterable[tuple[PeerId, tuple[str, ...]]], *, named_by: PeerId) -> None:
        """Take the providers of one peer's answer."""
        rest: deque[tuple[PeerId, tuple[str, ...]]] = deque()
        left = self._share
        for peer_id, addresses in providers:
            if peer_id in self.kept:
                self._keep(peer_id, addresses, named_by)
            elif left and not self.is_full and peer_id != self._own:
                left -= 1
                self._keep(peer_id, addresses, named_by)
            elif peer_id != self._own:
                rest.append((peer_id, addresses))
        self._rest.append((named_by, rest))

    def deal_rest(self) -> None:
        """Fill what is left of the limit, one of each answer in turn."""
        while any(rest for _, rest in self._rest) and not self.is_full:
            for named_by, rest in self._rest:
                if rest and not self.is_full:
                    self._keep(*rest.popleft(), named_by)

    def _keep(self, peer_id: PeerId, addresses: Iterable[str], named_by: PeerId) -> None:
        known = self.kept.get(peer_id)
        together = keep_usable((*(known or ()), *addresses))
        if together != known:
            self.kept[peer_id] = together
            if self._found is not None:
                self._found(peer_id, together, named_by)
