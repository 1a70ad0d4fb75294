"""A program on a machine of a :class:`MeshWorld`: one node, started again whenever it ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import trio

from hostmesh.net.peer_id import PeerId
from hostmesh.sdk import SDK
from hostmesh.testing.machine import DEFAULT_PORT, SimMachine
from hostmesh.testing.mesh_account import Ending, MeshAccount
from hostmesh.testing.wallets import make_wallet

if TYPE_CHECKING:
    from trio_typing import TaskStatus

MODEL = "mesh-chat"
START_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 20.0
"""Most time that closing may take: 3 s to say goodbye, 5 s to stop jobs, 3 s and 5 s for the node."""
_RESTART_S = 2.0
"""From the end of a program that was killed to the next."""


class MeshProgram:
    """A machine's program.

    Args:
        machine: where it runs.
        account: told of starts and ends.
        serve_dht: as bootstrap nodes and hosts do.
        bootstrap: addresses that it joins the network through.
        work: what it does beside the operations that it is given, until cancelled.
    """

    def __init__(
        self,
        machine: SimMachine,
        account: MeshAccount,
        *,
        serve_dht: bool,
        bootstrap: Sequence[str],
        work: Callable[[SDK], Awaitable[None]] | None = None,
    ) -> None:
        self.machine = machine
        self.account = account
        self.sdk: SDK | None = None
        """While it runs."""
        self.peer_id: PeerId
        """It is the same each time; there is none before the program has run."""
        self._serve_dht = serve_dht
        self._bootstrap = tuple(bootstrap)
        self._work = work
        self._crew: trio.Nursery | None = None
        self._life = trio.CancelScope()
        self._ended = trio.Event()
        self._pause_s = _RESTART_S
        self._is_over = False

    @property
    def name(self) -> str:
        """The machine's."""
        return self.machine.name

    @property
    def address(self) -> str:
        """Where others reach it, once it has run."""
        return f"/ip4/{self.machine.address}/tcp/{DEFAULT_PORT}/p2p/{self.peer_id}"

    def start_soon(self, work: Callable[..., Awaitable[object]], *args: object) -> None:
        """Do something in the program, if it runs; it is cancelled when the program ends."""
        if self._crew is not None and not self.machine.is_dying:
            self._crew.start_soon(self._do, work, *args)

    @staticmethod
    async def _do(work: Callable[..., Awaitable[object]], *args: object) -> None:
        await trio.lowlevel.checkpoint()  # the program may have ended since
        await work(*args)

    async def live(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the program again and again, until :meth:`end`."""
        has_run = False
        while not self._is_over:
            await self.machine.wait_ready()
            self._ended = trio.Event()
            self._pause_s = _RESTART_S
            async with self.machine.open_sdk(serve_dht=self._serve_dht) as sdk:
                if await self._start(sdk):
                    if not has_run:
                        has_run = True
                        task_status.started()
                    await self._run(sdk)
            self._ended.set()
            if not self._is_over:
                await trio.sleep(self._pause_s)

    async def _start(self, sdk: SDK) -> bool:
        with self.account.call("start", self.name, within_s=START_TIMEOUT_S) as call:
            await sdk.authenticate(wallet=make_wallet(self.name))
            self.peer_id = await sdk.get_discovery_manager().create_node(bootstrap=self._bootstrap)
        return call.ending is Ending.DONE

    async def _run(self, sdk: SDK) -> None:
        try:
            with trio.CancelScope() as self._life:
                async with trio.open_nursery() as self._crew:
                    self.sdk = sdk
                    if self._work is not None:
                        self._crew.start_soon(self._work, sdk)
                    await trio.sleep_forever()
        finally:
            self.sdk = self._crew = None

    async def restart(self, pause_s: float) -> None:
        """End the program in order, if it runs, and start it again after a pause."""
        if self.sdk is not None:
            with self.account.call("close", self.name, within_s=CLOSE_TIMEOUT_S):
                self._pause_s = pause_s
                ended = self._ended
                self.sdk = self._crew = None
                self._life.cancel()
                await ended.wait()

    async def end(self) -> None:
        """End the program in order, for good."""
        self._is_over = True
        await self.restart(0.0)
