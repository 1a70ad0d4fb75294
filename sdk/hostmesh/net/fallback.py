"""Peers that were there before, for when no bootstrap node answers.

Who restarts after every bootstrap node has gone for good still finds the network: by the peers that he met when he ran
last. They are dialled where no bootstrap peer is connected and hardly anybody else, a few at a time; an address that is
no more leads to nobody, for the one who answers must prove the peer id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from hostmesh.errors import DialError, InvalidAddressError, NodeNotRunningError
from hostmesh.net.address import AddressOrigin, split_peer_address
from hostmesh.net.backoff import retry_delay_s, unit_of
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System

PATIENCE_S = 2.0
"""How long bootstrap nodes have before others are dialled. Chosen here: four round trips over a slow path."""
ENOUGH_PEERS = 3
"""With so many peers nobody is dialled any more: they know others. With half of ``max_connections``, where that is
less: who has hardly any room would trim one for the next."""
MAX_PEERS = 64
"""Addresses that are tried in one round."""
AT_ONCE = 4
"""Peers dialled at once."""

FallbackPeers = Callable[[], Sequence[str]]
"""Returns where peers were reached before, each address with ``/p2p/<peer id>``, the likeliest first. Must not wait."""


class FallbackNode(Protocol):
    """What the loop needs of the node."""

    @property
    def peer_id(self) -> PeerId:
        """The node's own."""
        ...

    def connected_peers(self) -> tuple[PeerId, ...]:
        """Return the peers with a live connection."""
        ...

    async def connect(
        self,
        peer_id: PeerId,
        addresses: Sequence[str] = (),
        *,
        origin: AddressOrigin = ...,
        timeout_s: float | None = None,
    ) -> None:
        """Connect to a peer; raises DialError, or NodeNotRunningError once the node stops."""
        ...

    async def wait_connections_changed(self) -> None:
        """Return after the next peer that came or went."""
        ...


class FallbackLoop:
    """Dials last-known peers while no bootstrap peer is connected, until it is cancelled.

    Args:
        node: dials.
        bootstrap: the bootstrap peers; empty: nobody is waited for.
        peers: names last-known peers, asked for each round.
        max_connections: what the node holds.
        timeout_s: for each peer.
        system: random bytes.
        is_poor: whether a peer is a poor neighbour; such are dialled last.
    """

    def __init__(
        self,
        node: FallbackNode,
        bootstrap: frozenset[PeerId],
        peers: FallbackPeers,
        *,
        max_connections: int,
        timeout_s: float,
        system: System,
        is_poor: Callable[[PeerId], bool] = lambda peer_id: False,
    ) -> None:
        self._is_poor = is_poor
        self._node = node
        self._bootstrap = bootstrap
        self._peers = peers
        self._enough = min(ENOUGH_PEERS, max(1, max_connections // 2))
        self._timeout_s = timeout_s
        self._system = system
        self._pause = trio.CancelScope()

    @property
    def is_alone(self) -> bool:
        """Whether last-known peers are worth a dial: no bootstrap peer is connected, and too few others."""
        connected = self._node.connected_peers()
        return len(connected) < self._enough and self._bootstrap.isdisjoint(connected)

    def hurry(self) -> None:
        """Try the next round now."""
        self._pause.cancel()

    async def run(self) -> None:
        """Dial until cancelled."""
        failures = 0
        while True:
            while not self.is_alone:
                failures = 0
                await self._node.wait_connections_changed()
            delay_s = PATIENCE_S if self._bootstrap else 0.0
            if failures:
                delay_s = retry_delay_s(failures, unit_of(self._system.random_bytes(2)))
            with trio.CancelScope() as self._pause:
                await trio.sleep(delay_s)
            if self.is_alone:
                failures += 1
                await self._round()

    async def _round(self) -> None:
        """Dial each of the peers once, a few at a time, until there are enough."""
        room = trio.CapacityLimiter(AT_ONCE)
        async with trio.open_nursery() as nursery:
            for peer_id, addresses in self._known().items():
                await room.acquire_on_behalf_of(peer_id)
                if not self.is_alone:
                    return
                nursery.start_soon(self._dial, peer_id, addresses, room)

    async def _dial(self, peer_id: PeerId, addresses: Sequence[str], room: trio.CapacityLimiter) -> None:
        try:
            await self._node.connect(peer_id, addresses, origin=AddressOrigin.CONNECTED, timeout_s=self._timeout_s)
        except (DialError, NodeNotRunningError):
            pass  # the node's events tell, or it stops at this moment
        finally:
            room.release_on_behalf_of(peer_id)

    def _known(self) -> dict[PeerId, list[str]]:
        known: dict[PeerId, list[str]] = {}
        for text in list(self._peers())[:MAX_PEERS]:
            try:
                address, peer_id = split_peer_address(text)
            except InvalidAddressError:
                continue
            if peer_id is not None and peer_id != self._node.peer_id and peer_id not in self._node.connected_peers():
                known.setdefault(peer_id, []).append(address)
        return dict(sorted(known.items(), key=lambda each: self._is_poor(each[0])))
