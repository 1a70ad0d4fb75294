"""Keeps the connections to the peers that somebody wants. Drives :mod:`hostmesh.net.wanted`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from hostmesh.errors import DialError, NodeNotRunningError, UsageError
from hostmesh.net.backoff import unit_of
from hostmesh.net.events import ConnectionClosed, ConnectionOpened, NodeEvent, RetryPlanned, RetryReason
from hostmesh.net.peer_id import PeerId
from hostmesh.net.wanted import MAX_DIALS, WantedPeers
from hostmesh.system import System


class WantedLoop:
    """Dials wanted peers, again and again, until it is cancelled.

    Args:
        reach: makes sure that there is a connection; raises DialError, or NodeNotRunningError once the node stops.
        is_connected: whether there is one.
        tell: is told every pause.
        max_peers: wanted at once, >= 1.
        system: random bytes.
    """

    def __init__(
        self,
        reach: Callable[[PeerId], Awaitable[object]],
        is_connected: Callable[[PeerId], bool],
        tell: Callable[[NodeEvent], None],
        *,
        max_peers: int,
        system: System,
    ) -> None:
        self._reach = reach
        self._is_connected = is_connected
        self._tell = tell
        self._system = system
        self._table = WantedPeers(max_peers)
        self._dials: dict[trio.CancelScope, PeerId] = {}
        """Of a peer there are two for a moment, where one was called off and has not ended."""
        self._changed = trio.Event()

    def __contains__(self, peer_id: PeerId) -> bool:
        """Whether somebody wants a peer."""
        return peer_id in self._table

    @contextmanager
    def want(self, peer_id: PeerId) -> Iterator[None]:
        """Want a peer while the block runs.

        Raises:
            UsageError: too many peers are wanted.
        """
        if peer_id not in self._table and self._table.is_full:
            raise UsageError(
                f"{len(self._table)} peers are wanted already",
                remedy="leave the block of another one first, or raise max_connections",
            )
        self._table.want(peer_id, is_connected=self._is_connected(peer_id), now=trio.current_time())
        self._wake()
        try:
            yield
        finally:
            if self._table.unwant(peer_id):
                self._call_off(peer_id)

    def note(self, event: NodeEvent) -> None:
        """Take in what the node tells of its connections. Never waits or raises."""
        if isinstance(event, ConnectionOpened) and event.is_first:
            self._table.note_connected(event.peer_id, event.at_s)
        elif isinstance(event, ConnectionClosed) and event.is_last and event.peer_id in self._table:
            pause = self._table.note_disconnected(event.peer_id, event.at_s, self._draw())
            self._plan(event.peer_id, "connected", pause)

    def hurry(self) -> None:
        """Dial everybody who is not connected, now; dials that run begin anew."""
        self._table.hurry(trio.current_time())
        self._call_off(None)
        self._wake()

    def _call_off(self, peer_id: PeerId | None) -> None:
        for scope, dialled in self._dials.items():
            if peer_id in (None, dialled):
                scope.cancel()

    async def run(self) -> None:
        """Dial until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                # A dial that was called off still counts until it has ended.
                room = MAX_DIALS - len(self._dials)
                for peer_id in self._table.take_due(trio.current_time(), room) if room > 0 else ():
                    scope = trio.CancelScope()
                    self._dials[scope] = peer_id
                    nursery.start_soon(self._dial, peer_id, scope)
                wakes_at = self._table.next_due_s() if len(self._dials) < MAX_DIALS else float("inf")
                with trio.move_on_at(wakes_at):
                    await self._changed.wait()
                self._changed = trio.Event()

    async def _dial(self, peer_id: PeerId, scope: trio.CancelScope) -> None:
        with scope:
            stage = "connected"
            try:
                await self._reach(peer_id)
            except DialError as error:
                stage = error.stage
            except NodeNotRunningError:
                # It stops at this moment; the cancellation comes next.
                return
            finally:
                del self._dials[scope]
                self._wake()
            if self._is_connected(peer_id):
                # Where there was a connection already, nobody told of a new one.
                self._table.note_connected(peer_id, trio.current_time())
            else:
                self._plan(peer_id, stage, self._table.note_failed(peer_id, trio.current_time(), self._draw()))

    def _plan(self, peer_id: PeerId, stage: str, pause: tuple[int, float] | None) -> None:
        if pause is None:
            return
        failures, delay_s = pause
        self._tell(
            RetryPlanned(
                at_s=trio.current_time(),
                peer_id=peer_id,
                reason=RetryReason.WANTED,
                address=None,
                stage=stage,
                failures=failures,
                delay_s=delay_s,
            )
        )
        self._wake()

    def _draw(self) -> float:
        return unit_of(self._system.random_bytes(2))

    def _wake(self) -> None:
        self._changed.set()
