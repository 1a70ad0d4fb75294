"""The two tables of a DHT node: which peers serve the DHT, and who provides what. Pure.

Source: Maymounkov and Mazieres, "Kademlia" (2002); libp2p specs, kad-dht.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from hostmesh.net.peer_id import PeerId, peer_id_to_bytes

BUCKET_SIZE = 20
"""k of Kademlia: peers a bucket holds and peers a record goes to."""
STALE_AFTER_S = 900.0
"""A peer of a full bucket that was silent for so long gives way to a new one."""
PROVIDER_LIFETIME_S = 1800.0
"""A provider record ends 30 minutes after it was last given."""


def position(raw: bytes) -> int:
    """Return where a key or a peer id's raw bytes lie in the 256-bit key space."""
    return int.from_bytes(hashlib.sha256(raw).digest(), "big")


class RoutingTable:
    """Peers that answered as DHT servers, in buckets by their distance to us.

    Only a peer that answered a query is put here, so a client never is. A full bucket keeps its old peers, which are
    the likeliest to stay, unless one was silent for :data:`STALE_AFTER_S`. At most 256 buckets of :data:`BUCKET_SIZE`.
    """

    def __init__(self, own: PeerId, *, bucket_size: int = BUCKET_SIZE) -> None:
        self._own = own
        self._own_position = position(peer_id_to_bytes(own))
        self._bucket_size = bucket_size
        self._buckets: dict[int, OrderedDict[PeerId, float]] = {}
        self._positions: dict[PeerId, int] = {}

    def __len__(self) -> int:
        return len(self._positions)

    def __contains__(self, peer_id: object) -> bool:
        return peer_id in self._positions

    def peers(self) -> tuple[PeerId, ...]:
        """Return all peers."""
        return tuple(self._positions)

    def has_room_for(self, peer_id: PeerId, now: float) -> bool:
        """Whether :meth:`add` would take a new peer at ``now``."""
        bucket = self._buckets.get(self._bucket_of(position(peer_id_to_bytes(peer_id))))
        if bucket is None or len(bucket) < self._bucket_size:
            return True
        return now - next(iter(bucket.values())) >= STALE_AFTER_S

    def add(self, peer_id: PeerId, now: float) -> bool:
        """Note that the peer answered at ``now`` (monotonic seconds); say whether the table holds it."""
        if peer_id == self._own:
            return False
        place = self._positions.get(peer_id)
        if place is None:
            place = position(peer_id_to_bytes(peer_id))
        bucket = self._buckets.setdefault(self._bucket_of(place), OrderedDict())
        if peer_id not in bucket and len(bucket) >= self._bucket_size:
            if not self.has_room_for(peer_id, now):
                return False
            self.remove(next(iter(bucket)))
            bucket = self._buckets.setdefault(self._bucket_of(place), OrderedDict())
        bucket[peer_id] = now
        bucket.move_to_end(peer_id)
        self._positions[peer_id] = place
        return True

    def remove(self, peer_id: PeerId) -> None:
        """Forget a peer that did not answer."""
        place = self._positions.pop(peer_id, None)
        if place is None:
            return
        index = self._bucket_of(place)
        del self._buckets[index][peer_id]
        if not self._buckets[index]:
            del self._buckets[index]

    def closest(self, key: bytes, count: int = BUCKET_SIZE) -> list[PeerId]:
        """Return the peers nearest to a key, nearest first."""
        target = position(key)
        return sorted(self._positions, key=lambda peer_id: self._positions[peer_id] ^ target)[:count]

    def _bucket_of(self, place: int) -> int:
        return (place ^ self._own_position).bit_length()


@dataclass(slots=True)
class _Provider:
    addresses: tuple[str, ...]
    given_at: float


class ProviderTable:
    """Who provides which key, each for :data:`PROVIDER_LIFETIME_S`.

    Bounds: ``max_records`` in all, ``max_per_key`` of a key, ``max_per_peer`` of a provider. Over the first two the
    record given longest ago goes; over the last the new one is refused.
    """

    def __init__(self, *, max_records: int = 65_536, max_per_key: int = 256, max_per_peer: int = 512) -> None:
        self._max_records = max_records
        self._max_per_key = max_per_key
        self._max_per_peer = max_per_peer
        self._keys: dict[bytes, OrderedDict[PeerId, _Provider]] = {}
        self._order: OrderedDict[tuple[bytes, PeerId], None] = OrderedDict()
        self._per_peer: dict[PeerId, int] = {}

    def __len__(self) -> int:
        return len(self._order)

    def add(self, key: bytes, peer_id: PeerId, addresses: Iterable[str], now: float) -> bool:
        """Note that a peer provides a key; False when it has as many records as it may have."""
        self.expire(now)
        if peer_id in self._keys.get(key, {}):
            self._drop(key, peer_id)
        elif self._per_peer.get(peer_id, 0) >= self._max_per_peer:
            return False
        providers = self._keys.get(key)
        if providers is not None and len(providers) >= self._max_per_key:
            self._drop(key, next(iter(providers)))
        if len(self._order) >= self._max_records:
            self._drop(*next(iter(self._order)))
        self._keys.setdefault(key, OrderedDict())[peer_id] = _Provider(tuple(addresses), now)
        self._order[(key, peer_id)] = None
        self._per_peer[peer_id] = self._per_peer.get(peer_id, 0) + 1
        return True

    def get(self, key: bytes, now: float, *, limit: int, start: int = 0) -> list[tuple[PeerId, tuple[str, ...]]]:
        """Return at most ``limit`` live providers of a key, from the ``start``-th on and round.

        A random ``start`` gives each provider of a crowded key the same chance to be named.
        """
        self.expire(now)
        providers = [(peer_id, entry.addresses) for peer_id, entry in self._keys.get(key, {}).items()]
        if not providers:
            return []
        first = start % len(providers)
        return (providers[first:] + providers[:first])[:limit]

    def expire(self, now: float) -> None:
        """Drop what is past its time. Cost: what is dropped."""
        while self._order:
            key, peer_id = next(iter(self._order))
            if now - self._keys[key][peer_id].given_at < PROVIDER_LIFETIME_S:
                return
            self._drop(key, peer_id)

    def _drop(self, key: bytes, peer_id: PeerId) -> None:
        del self._order[(key, peer_id)]
        del self._keys[key][peer_id]
        if not self._keys[key]:
            del self._keys[key]
        self._per_peer[peer_id] -= 1
        if not self._per_peer[peer_id]:
            del self._per_peer[peer_id]
