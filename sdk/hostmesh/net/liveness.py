"""What a node does once its machine slept or lost an address: see :mod:`hostmesh.net.machine_watch`.

Connections over an address that is gone are closed at once. Where the machine may have been cut off, every other peer
is pinged, and one of which nothing is heard in :data:`ANSWER_S` is closed, instead of after half a minute of silence.
What is wanted is dialled again without a pause.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from hostmesh.net.connection import Connection
from hostmesh.net.events import CloseCause, NetworkChanged, NodeEvent
from hostmesh.net.machine_watch import MachineWatch
from hostmesh.net.network import Network
from hostmesh.net.pool import ConnectionPool
from hostmesh.system import System

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.net")

ANSWER_S = 5.0
"""How long a peer has to answer after the machine may have been cut off: three SYNs' time, and a satellite's. With a
look every 4 s, what is dead is closed 9 s after the machine is back."""


class Liveness:
    """Looks at the machine, and acts on what changed.

    Args:
        network: knows the addresses.
        pool: the connections.
        tell: is told what changed, before anything is closed.
        hurry: dials what is wanted, now.
        every_s: the time between two calls of :meth:`look`.
        system: the clocks.
    """

    def __init__(
        self,
        network: Network,
        pool: ConnectionPool,
        tell: Callable[[NodeEvent], None],
        hurry: Callable[[], None],
        *,
        every_s: float,
        system: System,
    ) -> None:
        self._network = network
        self._pool = pool
        self._tell = tell
        self._hurry = hurry
        self._system = system
        self._watch = MachineWatch(every_s)
        self._addresses: tuple[str, ...] = ()
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look for the first time, and act until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                self.look(trio.current_time())
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def look(self, now: float) -> None:
        """Compare the machine with the last look. Never waits or raises.

        Args:
            now: trio's time.

        Cost: that of :meth:`Network.interface_addresses`, 0.4 ms for five addresses.
        """
        nursery = self._nursery
        if nursery is None:
            return
        try:
            self._addresses = self._network.interface_addresses()
        except OSError as error:
            _log.debug("the system does not tell its addresses: %s", error)
        change = self._watch.observe(
            at_s=now,
            monotonic_s=self._system.monotonic_s(),
            unix_s=self._system.unix_s(),
            addresses=self._addresses,
        )
        if change is None:
            return
        _log.info(
            "the machine slept, or its addresses changed",
            extra={"slept_s": change.slept_s, "added": sorted(change.added), "removed": sorted(change.removed)},
        )
        self._tell(change)
        doubted = self._close_over_gone(change)
        if change.changes_reach:
            for connection in doubted:
                connection.muxer.ping(now)
            nursery.start_soon(self._close_silent, doubted, now)
            self._hurry()

    def _close_over_gone(self, change: NetworkChanged) -> list[Connection]:
        """Close the connections over addresses that are gone, and return the others."""
        others = []
        for connection in self._pool:
            if connection.local_host in change.removed:
                self._end(connection, CloseCause.ADDRESS_GONE)
            else:
                others.append(connection)
        return others

    async def _close_silent(self, doubted: list[Connection], since_s: float) -> None:
        await trio.sleep(ANSWER_S)
        for connection in doubted:
            if not connection.is_closed and connection.muxer.last_sign_s <= since_s:
                self._end(connection, CloseCause.SILENT)

    def _end(self, connection: Connection, cause: CloseCause) -> None:
        # In this order, so that whoever dials next does not find it.
        connection.muxer.abort(cause)
        self._pool.remove(connection)
