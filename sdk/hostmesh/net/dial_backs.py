"""The dial-backs of a node, both sides: AutoNAT v2 on its connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from functools import partial

import trio

from hostmesh.net.autonat import AutonatClient, AutonatNode
from hostmesh.net.autonat_message import DIAL_BACK_ID, DIAL_REQUEST_ID
from hostmesh.net.autonat_report import ReachabilityReport
from hostmesh.net.autonat_server import AutonatServer
from hostmesh.net.connection import Connection
from hostmesh.net.connection_keeper import ConnectionKeeper
from hostmesh.net.connector import Connector
from hostmesh.net.identify import Identify
from hostmesh.net.listening import Listening
from hostmesh.net.network import Network
from hostmesh.net.peer_id import PeerId
from hostmesh.net.pool import ConnectionPool
from hostmesh.net.stream import Stream, StreamHandler
from hostmesh.system import System


class DialBacks:
    """Asks peers to dial this node back, and dials back those that ask.

    Args:
        node: knows the peers.
        pool: the connections that there are.
        identify: knows, or learns, what peers speak.
        listening: what this machine listens on.
        connector: dials back.
        keeper: runs the connections of dial-backs.
        network: the machine's addresses, which nobody is dialled at.
        system: clock and random bytes.
    """

    def __init__(
        self,
        node: AutonatNode,
        pool: ConnectionPool,
        identify: Identify,
        listening: Listening,
        connector: Connector,
        keeper: ConnectionKeeper,
        network: Network,
        *,
        system: System,
    ) -> None:
        self._pool = pool
        self._identify = identify
        self._connector = connector
        self._keeper = keeper
        self._client = AutonatClient(node, listening.reachable_addresses, self._came_by, system=system)
        self._server = AutonatServer(node.remote_ip, network.interface_addresses, self._use_apart, system=system)

    def handlers(self, *, serve: bool) -> dict[str, StreamHandler]:
        """Return what to serve, by protocol.

        Args:
            serve: whether to dial others back.
        """
        taken: dict[str, StreamHandler] = {DIAL_BACK_ID: self._client.take_dial_back}
        return taken | {DIAL_REQUEST_ID: self._server.serve} if serve else taken

    @property
    def last(self) -> ReachabilityReport | None:
        """What the last :meth:`check` came to; None: there was none."""
        return self._client.last

    async def check(self, timeout_s: float) -> ReachabilityReport:
        """Learn what the connected peers speak where that is not known, and ask those that dial back.

        See :meth:`hostmesh.net.autonat.AutonatClient.check`.
        """
        async with trio.open_nursery() as nursery:
            for peer_id in self._pool.peers():
                connection = self._pool.get(peer_id)
                if connection is not None and not self._identify.protocols_of(peer_id):
                    nursery.start_soon(partial(self._identify.refresh, connection, is_urgent=True))
        return await self._client.check(timeout_s=timeout_s)

    def _came_by(self, stream: Stream, since_s: float) -> str | None:
        """Return our IP address at which a peer made the connection of a stream, if it did so since a time."""
        for connection in self._pool.of(stream.peer_id):
            streams: Collection[object] = connection.streams
            if stream in streams:
                is_fresh = not connection.is_outbound and connection.began_s >= since_s
                return connection.local_host if is_fresh else None
        return None

    async def _use_apart(
        self, peer_id: PeerId, address: str, timeout_s: float, use: Callable[[Connection], Awaitable[None]]
    ) -> None:
        opened = await self._connector.dial_apart(peer_id, address, timeout_s)
        await self._keeper.use_apart(opened, address, use)
