"""Nodes for the tests of this folder: on real loopback sockets, or on a network in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import memory_stream_pair

from hostmesh.net.network import BoundListener
from hostmesh.net.node import Node, NodeConfig
from hostmesh.net.peer_key import PeerKey
from hostmesh.net.stream import Stream

ECHO = "/test/echo/1"


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    def __init__(self, on_close: Callable[[], None]) -> None:
        self.send, self._receive = trio.open_memory_channel[trio.abc.Stream](100)
        self._on_close = on_close

    async def accept(self) -> trio.abc.Stream:
        return await self._receive.receive()

    async def aclose(self) -> None:
        self._on_close()
        await self._receive.aclose()


class MemoryNetwork:
    """One little world: nodes dial each other by address, names resolve by a table, black holes swallow."""

    def __init__(self) -> None:
        self.listeners: dict[tuple[str, int], MemoryListener] = {}
        self.names: dict[str, tuple[str, ...] | None] = {}
        """DNS answers; None never answers."""
        self.black_holes: set[str] = set()
        self.interfaces: tuple[str, ...] = ("127.0.0.1", "::1")
        self.inbound_ip = "198.51.100.1"
        """Where connections seem to come from."""
        self.dialled: list[tuple[str, int]] = []
        self._next_port = 4001

    async def dial(self, host: str, port: int) -> trio.abc.Stream:
        self.dialled.append((host, port))
        if host in self.black_holes:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        listener = self.listeners.get((host, port))
        if listener is None:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = memory_stream_pair()
        await listener.send.send(theirs)
        return ours

    async def listen(self, host: str, port: int) -> BoundListener:
        await trio.lowlevel.checkpoint()
        if port == 0:
            port = self._next_port
            self._next_port += 1
        if (host, port) in self.listeners:
            raise OSError(98, "Address already in use")
        listener = MemoryListener(lambda: self.listeners.pop((host, port), None))
        self.listeners[host, port] = listener
        return BoundListener(listener=listener, host=host, port=port)

    async def resolve(self, name: str, *, version: int | None = None) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        answers = self.names.get(name, ())
        if answers is None:
            await trio.sleep_forever()
        if not answers:
            raise OSError(-2, "Name or service not known")
        return tuple(each for each in answers if version is None or (version == 6) == (":" in each))

    def remote_endpoint(self, stream: trio.abc.Stream) -> tuple[str, int] | None:
        return (self.inbound_ip, 5000)

    def interface_addresses(self) -> tuple[str, ...]:
        return self.interfaces


async def echo(stream: Stream) -> None:
    while data := await stream.receive():
        await stream.send(data)


StartNode = Callable[..., Awaitable[Node]]


@pytest.fixture
def start_node(nursery: trio.Nursery) -> StartNode:
    """Start a node that serves an echo; keyword arguments go into its NodeConfig."""

    async def start(*, network: MemoryNetwork | None = None, key: PeerKey | None = None, **config: object) -> Node:
        settings = {"enable_dht": False, **config}
        node = Node(NodeConfig(**settings), key or PeerKey.generate(), network=network)  # type: ignore[arg-type]
        node.set_stream_handler(ECHO, echo)
        await nursery.start(node.run)
        return node

    return start


@pytest.fixture
def memory_network() -> MemoryNetwork:
    return MemoryNetwork()
