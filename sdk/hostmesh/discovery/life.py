"""One node's life under the discovery manager: start, background work, goodbye, end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

from hostmesh.discovery.collaborators import NodeFactory, NodeOptions, RunningNode
from hostmesh.discovery.supervise import contain, keep_running, plain_errors
from hostmesh.errors import AlreadyRunningError, ConfigError, NodeNotRunningError, UsageError
from hostmesh.net.peer_id import PeerId

if TYPE_CHECKING:
    from trio_typing import TaskStatus

GOODBYE_S = 3.0
"""How long stopping may take to withdraw the record before the node goes."""
CLOSE_S = 5.0
"""How long the node may take to close after that."""
PURGE_EVERY_S = 60.0


class NodeLife:
    """Holds at most one running node.

    States: none -> starting -> running -> stopping -> none.

    Args:
        nursery: owns the tasks. Its cancellation stops the node, which says goodbye first.
        open_node: makes a node.
        purge: called once a minute while a node runs.
        on_start: called with the node as soon as it listens, before anybody else can use it.
        on_end: called when nothing of the node is left.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        open_node: NodeFactory,
        *,
        purge: Callable[[], None],
        on_start: Callable[[RunningNode], None],
        on_end: Callable[[], None],
    ) -> None:
        self._nursery = nursery
        self._open_node = open_node
        self._purge = purge
        self._on_start = on_start
        self._on_end = on_end
        self._is_busy = False
        self._running: RunningNode | None = None
        self._stop_wanted = trio.Event()
        self._stopped = trio.Event()

    @property
    def current(self) -> RunningNode | None:
        """The running node, unless it is being stopped."""
        return None if self._stop_wanted.is_set() else self._running

    def require(self) -> RunningNode:
        """Return the running node.

        Raises:
            NodeNotRunningError: there is none.
        """
        running = self.current
        if running is None:
            raise NodeNotRunningError("there is no running node", remedy="await create_node() first")
        return running

    async def start(self, options: NodeOptions) -> PeerId:
        """Start a node; return its peer id once it listens.

        Raises:
            AlreadyRunningError: one runs, starts or has not ended yet.
            UsageError: the nursery has ended.
            HostmeshError: what entering the node raised; nothing was left behind.
        """
        if self._nursery.cancel_scope.cancel_called:
            raise UsageError("the SDK is closed", remedy="open another with open_sdk()")
        if self._is_busy:
            raise AlreadyRunningError("the node runs already", remedy="stop() it first")
        self._is_busy = True
        self._stop_wanted, self._stopped = trio.Event(), trio.Event()
        with plain_errors():
            peer_id: PeerId = await self._nursery.start(self._run, options)
            return peer_id

    async def stop(self) -> None:
        """Stop the node and wait until nothing of it is left. Idempotent."""
        if self._running is not None:
            stopped = self._stopped
            self._stop_wanted.set()
            await stopped.wait()

    async def _run(self, options: NodeOptions, *, task_status: TaskStatus[PeerId] = trio.TASK_STATUS_IGNORED) -> None:
        shelter = trio.CancelScope(shield=True)

        async def watch() -> None:
            try:
                await trio.sleep_forever()
            finally:
                # Cancelled from outside. Before the node runs there is nobody to say goodbye to.
                if self._running is None:
                    shelter.cancel()
                self._stop_wanted.set()

        try:
            async with trio.open_nursery() as watchers:
                watchers.start_soon(watch)
                with shelter:
                    async with self._open_node(options) as running:
                        await self._live(running, shelter, task_status)
                await trio.lowlevel.checkpoint_if_cancelled()
                watchers.cancel_scope.cancel()
        finally:
            self._running = None
            self._is_busy = False
            self._on_end()
            self._stopped.set()

    async def _live(self, running: RunningNode, shelter: trio.CancelScope, task_status: TaskStatus[PeerId]) -> None:
        async with trio.open_nursery() as workers:
            for source in running.sources:
                await workers.start(keep_running, f"source {source.name}", source.run)
            await workers.start(keep_running, "publisher", running.publisher.run)
            workers.start_soon(self._purge_often)
            self._on_start(running)
            self._running = running
            task_status.started(running.node.peer_id)
            await self._stop_wanted.wait()
            shelter.deadline = trio.current_time() + GOODBYE_S + CLOSE_S
            with trio.move_on_after(GOODBYE_S):
                await contain("withdrawing", running.publisher.withdraw)
            workers.cancel_scope.cancel()

    async def _purge_often(self) -> None:
        while True:
            await trio.sleep(PURGE_EVERY_S)
            self._purge()


def checked_addresses(given: Sequence[str] | None, name: str) -> tuple[str, ...] | None:
    """Return what a caller gave as a list of multiaddrs. Raises ConfigError: it is none."""
    if given is None:
        return None
    if isinstance(given, str) or not all(isinstance(address, str) for address in given):
        raise ConfigError(f"{name} is not a list of multiaddrs", name=name, source="argument")
    return tuple(given)
