"""Nodes for the tests of this folder: in this process, or in a process of their own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.integration.transport import kit
from tests.support.json_process import JsonProcess, json_processes

from hostmesh.net.node import Node, NodeConfig
from hostmesh.net.peer_key import PeerKey

ROOT = Path(__file__).resolve().parents[3]

StartNode = Callable[..., Awaitable[Node]]


@pytest.fixture
def start_node(nursery: trio.Nursery) -> StartNode:
    """Start a node that serves the kit's protocols; keyword arguments go into its NodeConfig."""

    async def start(**config: object) -> Node:
        settings = {"enable_dht": False, **config}
        node = Node(NodeConfig(**settings), PeerKey.generate())  # type: ignore[arg-type]
        for protocol_id, handler in kit.HANDLERS.items():
            node.set_stream_handler(protocol_id, handler)
        await nursery.start(node.run)
        return node

    return start


class PeerProcess:
    """A node in a process of its own; see :mod:`tests.integration.transport.peer`."""

    def __init__(self, process: JsonProcess, pid: int) -> None:
        self._process = process
        self._questions = 0
        self._asking = trio.Lock()
        self._folder = Path("/proc") / str(pid)
        self.pid = pid
        self.peer_id = process.peer_id
        self.address = process.addresses[0]

    async def ask(self, command: str, *, within_s: float = 40.0, **arguments: object) -> dict[str, Any]:
        """Give a command, and return the answer once it is done."""
        self._questions += 1
        name = f"answer {self._questions}"
        async with self._asking:  # tasks of a test may ask at once
            await self._process.command(json.dumps({"command": command, "name": name, **arguments}))
        return await self._process.event(name, within_s=within_s)

    def begin_peak(self) -> int:
        """Return the resident memory, and let :meth:`peak_bytes` look at what comes from now on."""
        (self._folder / "clear_refs").write_text("5")
        return self._memory("VmRSS")

    def peak_bytes(self) -> int:
        """Return the most resident memory since :meth:`begin_peak`."""
        return self._memory("VmHWM")

    def _memory(self, field: str) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)


StartPeer = Callable[..., Awaitable[PeerProcess]]


@pytest.fixture
async def start_peer() -> AsyncIterator[StartPeer]:
    """Start a node in a process of its own; keyword arguments go into its NodeConfig."""
    async with AsyncExitStack() as stack:
        start_process = await stack.enter_async_context(json_processes())

        async def start(**config: object) -> PeerProcess:
            command = [sys.executable, "-m", "tests.integration.transport.peer", json.dumps(config)]
            process = await start_process(command, {"PYTHONPATH": os.pathsep.join((str(ROOT), *sys.path))})
            return PeerProcess(process, process._process.pid)

        yield start
