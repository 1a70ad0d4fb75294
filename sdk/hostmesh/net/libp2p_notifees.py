"""What py-libp2p's notifees are told: a part of :mod:`hostmesh.net.libp2p_host`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

import trio
from libp2p.abc import INetwork, INotifee

from hostmesh.net.libp2p_stream import Libp2pConnection, Libp2pStream
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId

_log = logging.getLogger("hostmesh.net")

MAX_WAITING_NOTICES = 1024
"""Opened and closed streams that a slow notifee is not told of yet; more are left out. Connections never are."""

Notice = Literal["connected", "disconnected", "opened_stream", "closed_stream"]


class NotifeeFeed:
    """Tells one notifee what happens. One that takes its time, or fails, holds nothing up but itself.

    Args:
        network: what the notifee is told of.
        node: whose connections.
        connection_to: returns what stands for the connection to a peer.
        notifee: others' code.
    """

    def __init__(
        self,
        network: INetwork,
        node: Node,
        connection_to: Callable[[PeerId], Libp2pConnection],
        notifee: INotifee,
    ) -> None:
        self._network = network
        self._node = node
        self._connection_to = connection_to
        self._notifee = notifee
        self._notices, self._next_notices = trio.open_memory_channel[tuple[Notice, Libp2pConnection | Libp2pStream]](
            MAX_WAITING_NOTICES
        )
        self.scope = trio.CancelScope()
        """Ends :meth:`run`."""

    def note(self, what: Notice, subject: Libp2pConnection | Libp2pStream) -> None:
        """Have the notifee told. Never waits."""
        try:
            self._notices.send_nowait((what, subject))
        except trio.WouldBlock:
            _log.debug("a slow notifee is not told", extra={"notifee": type(self._notifee).__name__, "notice": what})

    async def run(self) -> None:
        """Tell of the connections that there are, and then of what happens."""
        with self.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell_connections)
                nursery.start_soon(self._tell_notices)

    async def _tell_connections(self) -> None:
        told: dict[PeerId, Libp2pConnection] = {}
        with self._node.watch_connections() as watch:
            for peer_id in self._node.connected_peers():
                told[peer_id] = self._connection_to(peer_id)
            for connection in list(told.values()):
                await self._tell("connected", connection)
            async for event in watch:
                before = told.pop(event.peer_id, None)
                if before is not None:
                    await self._tell("disconnected", before)
                if event.connected:
                    told[event.peer_id] = self._connection_to(event.peer_id)
                    await self._tell("connected", told[event.peer_id])

    async def _tell_notices(self) -> None:
        async for what, subject in self._next_notices:
            await self._tell(what, subject)

    async def _tell(self, what: Notice, subject: Libp2pConnection | Libp2pStream) -> None:
        try:
            await getattr(self._notifee, what)(self._network, subject)
        except Exception:  # noqa: BLE001 # others' code: its fault ends neither the host nor what it is told next
            _log.exception("a notifee failed", extra={"notifee": type(self._notifee).__name__, "notice": what})
