"""The tasks of a node's connections: each runs under supervision, and all are ended in order."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING

import trio

from hostmesh.errors import DialError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.connection import HOUSEKEEPING, Connection
from hostmesh.net.deadlines import Deadlines
from hostmesh.net.identify import IDENTIFY_ID, Identify
from hostmesh.net.ledger import Ledger
from hostmesh.net.peer_id import PeerId
from hostmesh.net.pool import ConnectionPool
from hostmesh.net.stream import StreamHandler
from hostmesh.net.upgrade import SecuredLink
from hostmesh.wire.yamux import YamuxLimits

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.net")

TICK_S = 4.0
"""How often connections are looked after: pings, silence, streams that nobody ends, idle ones that are too many."""
GOODBYE_S = 1.0
"""How long ending may take to tell the peers."""


class ConnectionKeeper:
    """Runs the connections of a node.

    Args:
        pool: the connections that there are.
        protocols: who serves which protocol.
        ledger: the node's accounts.
        limits: bounds of each connection's streams.
        identify: asks every new peer.
        on_connected: is told of every new connection.
        background: protocols whose streams do not keep a connection in use; asked each time.
        look: is called every :data:`TICK_S`, with trio's time.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        protocols: Mapping[str, StreamHandler],
        identify: Identify,
        on_connected: Callable[[PeerId], None],
        *,
        ledger: Ledger,
        limits: YamuxLimits,
        background: Collection[str] = HOUSEKEEPING,
        look: Callable[[float], None] = lambda now: None,
    ) -> None:
        self._background = background
        self._look = look
        self._pool = pool
        self._protocols = protocols
        self._identify = identify
        self._on_connected = on_connected
        self._ledger = ledger
        self._limits = limits
        self._deadlines = Deadlines()
        self._nursery: trio.Nursery | None = None
        self._scope = trio.CancelScope(shield=True)

    @property
    def is_open(self) -> bool:
        """Whether connections are taken in."""
        return self._nursery is not None

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the connections' tasks until :meth:`end`; a cancellation does not reach them: first peers are told."""
        # A cancellation that came before there is a node finds nobody to end this: started() hands nothing over then.
        await trio.lowlevel.checkpoint_if_cancelled()
        with self._scope:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._deadlines.run)
                task_status.started()
                while True:
                    await trio.sleep(TICK_S)
                    now = trio.current_time()
                    for connection in list(self._pool):
                        connection.tick(now)
                    self._pool.tell_round_trips()
                    for connection in self._pool.surplus(now):
                        connection.retire(now)
                    self._look(now)

    async def end(self) -> None:
        """Say goodbye to all peers, for a second at most, and end every connection. Shielded."""
        self._nursery = None
        with trio.CancelScope(shield=True):
            with trio.move_on_after(GOODBYE_S):
                async with trio.open_nursery() as goodbye:
                    for connection in self._pool:
                        goodbye.start_soon(connection.close)
            self._scope.cancel()

    async def adopt_inbound(self, opened: SecuredLink) -> None:
        """Take in a connection that a peer made; see :meth:`adopt`.

        Raises:
            DialError: as adopt, or the peer is blacklisted as a neighbour.
        """
        if not self._pool.may_dial(opened.peer_id):
            raise DialError(f"{opened.peer_id} is blacklisted as a neighbour", stage="limit")
        await self.adopt(opened, None, AddressOrigin.REMOTE)

    async def adopt(self, opened: SecuredLink, address: str | None, origin: AddressOrigin) -> Connection:
        """Make a connection of a link whose peer is known, and run it.

        Args:
            opened: the link; closed if this fails.
            address: what was dialled; None for an inbound connection.
            origin: who named that address.

        Raises:
            DialError: there is no room, or the node is ending; the connection was closed.
        """
        connection = Connection(
            opened,
            self._protocols,
            self._ledger,
            deadlines=self._deadlines,
            limits=self._limits,
            background=self._background,
            address=address,
            origin=origin,
        )
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
        return connection

    async def use_apart(self, opened: SecuredLink, address: str, use: Callable[[Connection], Awaitable[None]]) -> None:
        """Run a connection that is in nobody's pool, and end it when ``use`` is done.

        Args:
            opened: the link; closed at the end. Nothing but Identify is served on it.
            address: what was dialled.
            use: must not raise.

        Cancellation: safe; the connection is closed.
        """
        answered = {IDENTIFY_ID: self._protocols[IDENTIFY_ID]} if IDENTIFY_ID in self._protocols else {}
        connection = Connection(
            opened,
            answered,
            self._ledger,
            deadlines=self._deadlines,
            limits=self._limits,
            background=self._background,
            address=address,
            origin=AddressOrigin.REMOTE,
        )
        async with trio.open_nursery() as nursery:
            try:
                await nursery.start(connection.run, _leave)
                await use(connection)
            finally:
                await connection.close()
                nursery.cancel_scope.cancel()

    async def _supervise(
        self, connection: Connection, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run one connection: whatever happens on it, it ends alone."""
        try:
            await connection.run(self._identify.ask, task_status=task_status)
        except Exception:  # noqa: BLE001 # the supervisor of connections
            _log.exception("a connection failed", extra={"peer_id": connection.peer_id})
        finally:
            self._pool.remove(connection)
            if not self._pool.of(connection.peer_id):
                self._identify.forget(connection.peer_id)
            _log.info("disconnected", extra={"peer_id": connection.peer_id})


async def _leave(connection: Connection) -> None:
    """Ask the peer nothing."""
