"""The tasks of a node's connections: each runs under supervision, and all are ended in order."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio
from libp2p.protocol_muxer.multiselect import Multiselect

from hostmesh.errors import DialError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.connection import Connection, serve_stream
from hostmesh.net.identify import Identify
from hostmesh.net.peer_id import PeerId, peer_id_from_bytes
from hostmesh.net.pool import ConnectionPool
from hostmesh.net.stock import PatientStream, SteadyYamux

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.net")

GOODBYE_S = 1.0
"""How long ending may take to tell the peers."""


class ConnectionKeeper:
    """Runs the connections of a node.

    Args:
        pool: the connections that there are.
        protocols: who serves which protocol.
        identify: asks every new peer.
        on_connected: is told of every new connection.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        protocols: Multiselect,
        identify: Identify,
        on_connected: Callable[[PeerId], None],
    ) -> None:
        self._pool = pool
        self._protocols = protocols
        self._identify = identify
        self._on_connected = on_connected
        self._nursery: trio.Nursery | None = None
        self._scope = trio.CancelScope(shield=True)

    @property
    def is_open(self) -> bool:
        """Whether connections are taken in."""
        return self._nursery is not None

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the connections' tasks until :meth:`end`; a cancellation does not reach them: first peers are told."""
        with self._scope:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await trio.sleep_forever()

    async def end(self) -> None:
        """Say goodbye to all peers, for a second at most, and end every connection. Shielded."""
        self._nursery = None
        with trio.CancelScope(shield=True):
            with trio.move_on_after(GOODBYE_S):
                async with trio.open_nursery() as goodbye:
                    for connection in self._pool:
                        goodbye.start_soon(connection.close)
            self._scope.cancel()

    async def adopt_inbound(self, muxed: SteadyYamux, remote: tuple[str, int] | None) -> None:
        """Take in a connection that a peer made; see :meth:`adopt`."""
        peer_id = peer_id_from_bytes(muxed.peer_id.to_bytes())
        await self.adopt(Connection(muxed, peer_id, address=None, origin=AddressOrigin.REMOTE, remote=remote))

    async def adopt(self, connection: Connection) -> None:
        """Take in an authenticated connection and run it.

        Raises:
            DialError: there is no room, or the node is ending; the connection was closed.
        """
        if self._nursery is None or not self._pool.add(connection):
            await connection.close()
            raise DialError(
                f"no room for a connection with {connection.peer_id}",
                stage="limit",
                remedy="end some calls, or raise max_connections",
            )
        await self._nursery.start(self._supervise, connection)
        _log.info("connected", extra={"peer_id": connection.peer_id, "address": connection.address})
        self._on_connected(connection.peer_id)

    async def _supervise(
        self, connection: Connection, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run one connection: whatever happens on it, it ends alone."""

        async def serve(connection: Connection, muxed: PatientStream) -> None:
            await serve_stream(connection, muxed, self._protocols)

        try:
            await connection.run(serve, self._identify.ask, task_status=task_status)
        except Exception:  # noqa: BLE001 # the supervisor of connections
            _log.exception("a connection failed", extra={"peer_id": connection.peer_id})
        finally:
            self._pool.remove(connection)
            if not self._pool.of(connection.peer_id):
                self._identify.forget(connection.peer_id)
            _log.info("disconnected", extra={"peer_id": connection.peer_id})
