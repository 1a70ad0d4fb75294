"""What py-libp2p's notifees are told: a part of :mod:`hostmesh.net.libp2p_host`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import trio
from libp2p.abc import INotifee

from hostmesh.net.libp2p_stream import Libp2pConnection
from hostmesh.net.peer_id import PeerId

if TYPE_CHECKING:
    from hostmesh.net.libp2p_network import Libp2pNetwork

_log = logging.getLogger("hostmesh.net")


class NotifeeFeed:
    """Tells one notifee who comes and goes. One that takes its time, or fails, holds nothing up but itself.

    Of streams and listeners it tells nothing: no protocol of py-libp2p's listens to that.

    Args:
        network: what the notifee is told of.
        notifee: others' code.
    """

    def __init__(self, network: Libp2pNetwork, notifee: INotifee) -> None:
        self._network = network
        self._notifee = notifee
        self._nursery: trio.Nursery | None = None
        self.scope = trio.CancelScope()
        """Ends :meth:`run`."""

    async def run(self) -> None:
        """Tell of the connections that there are, and then of what happens."""
        with self.scope:
            async with trio.open_nursery() as self._nursery:
                await self._tell_all()

    def tell_again(self, peer_id: PeerId) -> None:
        """Have the notifee told once more that a peer is connected. Never waits."""
        if self._nursery is not None:
            self._nursery.start_soon(self._tell, "connected", self._network.connection_to(peer_id))

    async def _tell_all(self) -> None:
        told: dict[PeerId, Libp2pConnection] = {}
        with self._network.node.watch_connections() as watch:
            for peer_id in self._network.node.connected_peers():
                told[peer_id] = self._network.connection_to(peer_id)
            for connection in list(told.values()):
                await self._tell("connected", connection)
            async for event in watch:
                before = told.pop(event.peer_id, None)
                if before is not None:
                    await self._tell("disconnected", before)
                if event.connected:
                    told[event.peer_id] = self._network.connection_to(event.peer_id)
                    await self._tell("connected", told[event.peer_id])

    async def _tell(self, what: Literal["connected", "disconnected"], connection: Libp2pConnection) -> None:
        if self.scope.cancel_called:
            return  # A notifee that never waits would go on to hear what has piled up.
        try:
            await getattr(self._notifee, what)(self._network, connection)
        except Exception:  # noqa: BLE001 # others' code: its fault ends neither the host nor what it is told next
            _log.exception("a notifee failed", extra={"notifee": type(self._notifee).__name__, "notice": what})
