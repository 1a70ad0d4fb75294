"""Bare nodes, each on a machine of its own in a simulated network; for tests of what is beneath the SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from types import MappingProxyType
from typing import Any, TypeVar

import trio

from hostmesh.net.events import NodeEvent
from hostmesh.net.node import Node, NodeConfig
from hostmesh.net.peer_key import PeerKey
from hostmesh.net.stream import Stream, StreamHandler
from hostmesh.testing import SimMachine, SimNetwork, make_peer_key

ECHO = "/test/echo/1"
Kind = TypeVar("Kind")


async def echo(stream: Stream) -> None:
    """Send back what comes."""
    while data := await stream.receive():
        await stream.send(data)


class Nodes:
    """Starts nodes.

    Args:
        net: has their machines.
        nursery: runs them, and what else a test runs until its end.
        handlers: what every node serves.
    """

    def __init__(self, net: SimNetwork, nursery: trio.Nursery, handlers: Mapping[str, StreamHandler]) -> None:
        self.net = net
        self.nursery = nursery
        self._handlers = handlers
        self._machines: dict[Node, SimMachine] = {}

    async def start(self, *, on: SimMachine | None = None, key: PeerKey | None = None, **config: Any) -> Node:
        """Start a node that listens on its machine's address, port 4001.

        Args:
            on: the machine, one that may have other nodes already; a new one by default.
            key: by default that of the machine's name.
            config: for its :class:`NodeConfig`; by default it has no DHT.
        """
        machine = on or self.net.machine(f"m{len(self.net.machines)}")
        settings = {"enable_dht": False, "listen_addresses": (f"/ip4/{machine.address}/tcp/4001",), **config}
        node = Node(
            NodeConfig(**settings),
            key or make_peer_key(machine.name),
            system=machine.system,
            network=machine.network,
        )
        for protocol_id, handler in self._handlers.items():
            node.set_stream_handler(protocol_id, handler)
        self._machines[node] = machine
        await self.nursery.start(self._run, machine, node)
        return node

    async def _run(self, machine: SimMachine, node: Node, *, task_status: trio.TaskStatus[None]) -> None:
        is_first = not any(other.is_running for other, home in self._machines.items() if home is machine)
        async with machine.process() if is_first else nullcontext():
            await node.run(task_status=task_status)

    async def restart(self, node: Node, **config: Any) -> Node:
        """Kill a node's machine's process, and start another node with the same key there."""
        machine = self._machines[node]
        await machine.restart()
        return await self.start(on=machine, **config)

    def machine_of(self, node: Node) -> SimMachine:
        """Return where a node runs."""
        return self._machines[node]

    def dials(self, node: Node) -> int:
        """Return how many connections a node tried to open."""
        name = self._machines[node].name
        return sum(event.kind == "dial" and event.source == name for event in self.net.trace)


class Diary:
    """Every event of a node, from now on."""

    def __init__(self, nodes: Nodes, node: Node) -> None:
        self.events: list[NodeEvent] = []
        self._node = node
        nodes.nursery.start_soon(self._read)

    async def _read(self) -> None:
        with self._node.watch_events() as events:
            async for event in events:
                self.events.append(event)

    def of(self, kind: type[Kind]) -> list[Kind]:
        """Return the events of a kind so far."""
        return [event for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def nodes_on(
    net: SimNetwork, handlers: Mapping[str, StreamHandler] = MappingProxyType({ECHO: echo})
) -> AsyncIterator[Nodes]:
    """Nodes, until the block is left."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield Nodes(net, nursery, handlers)
        except Exception as error:  # noqa: BLE001 - raised again below, without the nursery's group around it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
