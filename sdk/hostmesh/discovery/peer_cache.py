"""Peers that were of use, so that a restart needs no bootstrap node. Pure.

Only what worked gets in: who answered this node over a connection. A flood of newcomers pushes out its own like: a peer
is worth how long it was known less how long it has been gone. Bounds: :data:`MAX_PEERS` in all, at most half of them of
one use, :data:`MAX_PER_SUBNET` of a network (/24 of IPv4, /48 of IPv6, the last two labels of a name), and
:data:`MAX_AGE_S`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from hostmesh.discovery.subnet import subnets_of
from hostmesh.net.address import join_peer_address
from hostmesh.net.peer_id import PeerId

MAX_PEERS = 512
MAX_PER_SUBNET = 16
MAX_ADDRESSES = 4
"""Of one peer."""
MAX_AGE_S = 30 * 86_400.0
"""Who was not seen for so long is forgotten."""


class PeerUse(IntEnum):
    """What a peer was good for; the more, the longer it is kept."""

    PEER = 0
    """A node of hostmesh that was reached: it knows others."""
    SERVER = 1
    """It serves the DHT."""
    HOST = 2
    """It handed over its own record: it answered a find."""
    JOBS = 3
    """It ran jobs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedPeer:
    """A peer that was of use."""

    peer_id: PeerId
    addresses: tuple[str, ...]
    """Where it was reached, or public ones that it told; at most :data:`MAX_ADDRESSES`, best first."""
    use: PeerUse
    first_seen_unix_s: float
    last_seen_unix_s: float

    @property
    def worth(self) -> float:
        """Orders peers at one moment, whichever: how long it was known, less how long it has been gone."""
        return 2 * self.last_seen_unix_s - self.first_seen_unix_s


class PeerCache:
    """See the module.

    Args:
        peers: what was known before.
        now: unix seconds.
    """

    def __init__(self, peers: Iterable[CachedPeer] = (), *, now: float = 0.0) -> None:
        self._peers: dict[PeerId, CachedPeer] = {}
        self._tries: dict[PeerId, int] = {}
        """How often each was handed out to be dialled since it was seen."""
        for peer in peers:
            if peer.last_seen_unix_s <= now:  # a clock that ran ahead made no one eternal
                self._peers[peer.peer_id] = peer
        self.purge(now)

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[CachedPeer]:
        return iter(tuple(self._peers.values()))

    def get(self, peer_id: PeerId) -> CachedPeer | None:
        """Return what is known of a peer."""
        return self._peers.get(peer_id)

    def note(self, peer_id: PeerId, addresses: tuple[str, ...], use: PeerUse, *, now: float) -> CachedPeer:
        """Note that a peer is there; call :meth:`purge` after a row of these.

        Args:
            peer_id: whose.
            addresses: where it was reached, best first.
            use: a lesser one than before does not lower it.
            now: unix seconds.
        """
        before = self._peers.get(peer_id)
        peer = self._peers[peer_id] = CachedPeer(
            peer_id=peer_id,
            addresses=tuple(dict.fromkeys(addresses))[:MAX_ADDRESSES],
            use=use if before is None else max(use, before.use),
            first_seen_unix_s=now if before is None else min(now, before.first_seen_unix_s),
            last_seen_unix_s=now,
        )
        self._tries.pop(peer_id, None)
        return peer

    def purge(self, now: float) -> tuple[PeerId, ...]:
        """Drop who is too old and who is one too many; return them. Cost: O(n log n)."""
        of_use = dict.fromkeys(PeerUse, 0)
        of_subnet: dict[str, int] = {}
        gone = []
        kept = 0
        for peer in sorted(self._peers.values(), key=lambda peer: (-peer.use, -peer.worth, peer.peer_id)):
            subnets = subnets_of(peer.addresses)
            if (
                kept >= MAX_PEERS
                or of_use[peer.use] >= MAX_PEERS // 2
                or any(of_subnet.get(subnet, 0) >= MAX_PER_SUBNET for subnet in subnets)
                or now - peer.last_seen_unix_s > MAX_AGE_S
            ):
                gone.append(peer.peer_id)
                continue
            kept += 1
            of_use[peer.use] += 1
            for subnet in subnets:
                of_subnet[subnet] = of_subnet.get(subnet, 0) + 1
        for peer_id in gone:
            del self._peers[peer_id]
            self._tries.pop(peer_id, None)
        return tuple(gone)

    def hosts(self, *, now: float, seen_within_s: float, limit: int) -> list[CachedPeer]:
        """Return who was a host, the worthiest first.

        Args:
            now: unix seconds.
            seen_within_s: who was not seen for longer is left out.
            limit: most of them.
        """
        hosts = [
            peer
            for peer in self._peers.values()
            if peer.use >= PeerUse.HOST and now - peer.last_seen_unix_s <= seen_within_s
        ]
        return sorted(hosts, key=lambda peer: (-peer.worth, peer.peer_id))[:limit]

    def next_to_dial(self, most: int) -> list[str]:
        """Return addresses with ``/p2p/<peer id>``, those tried least often first, then the worthiest.

        Whoever asks again gets others, until everybody was tried as often.

        Args:
            most: addresses, >= 1.
        """
        addresses: list[str] = []
        for peer in sorted(
            self._peers.values(), key=lambda peer: (self._tries.get(peer.peer_id, 0), -peer.worth, peer.peer_id)
        ):
            if len(addresses) >= most:
                break
            self._tries[peer.peer_id] = self._tries.get(peer.peer_id, 0) + 1
            addresses += (join_peer_address(address, peer.peer_id) for address in peer.addresses)
        return addresses[:most]
