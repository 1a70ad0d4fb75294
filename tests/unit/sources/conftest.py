"""A network of DHT nodes in memory: streams are pairs of queues, and nothing waits for a real clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import trio

from hostmesh.errors import ConnectionLostError, DialError, ProtocolNotSupportedError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.dht import Dht
from hostmesh.net.peer_id import PeerId, peer_id_from_public_key
from hostmesh.net.stream import StreamHandler
from hostmesh.system import System


class _Pipe:
    def __init__(self) -> None:
        self.send, self.receive = trio.open_memory_channel[bytes](math.inf)


class MemoryStream:
    """One end of a stream."""

    def __init__(self, peer_id: PeerId, protocol_id: str, outgoing: _Pipe, incoming: _Pipe, ends: list[MemoryStream]):
        self.peer_id = peer_id
        self.protocol_id = protocol_id
        self._outgoing = outgoing
        self._incoming = incoming
        self._buffer = b""
        self._ends = ends
        self.was_reset = False
        ends.append(self)

    def _check(self) -> None:
        if any(end.was_reset for end in self._ends):
            raise ConnectionLostError("reset")

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        self._outgoing.send.send_nowait(data)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        self._check()
        if not self._buffer:
            try:
                self._buffer = await self._incoming.receive.receive()
            except (trio.EndOfChannel, trio.ClosedResourceError):
                self._check()
                return b""
        data, self._buffer = self._buffer[:max_bytes], self._buffer[max_bytes:]
        return data

    async def close_write(self) -> None:
        self._outgoing.send.close()

    async def close(self) -> None:
        self._outgoing.send.close()
        self._incoming.receive.close()

    async def reset(self) -> None:
        self.was_reset = True
        self._outgoing.send.close()
        self._incoming.send.close()


@dataclass
class MemoryNode:
    """A node that knows nothing but streams."""

    peer_id: PeerId
    address: str
    network: MemoryNetwork
    handlers: dict[str, StreamHandler] = field(default_factory=dict)
    book: dict[PeerId, tuple[str, ...]] = field(default_factory=dict)
    dialled: list[PeerId] = field(default_factory=list)
    connected: list[PeerId] = field(default_factory=list)
    is_silent: bool = False

    async def open_stream(self, peer_id: PeerId, protocol_id: str, *, timeout_s: float | None = None) -> MemoryStream:
        self.dialled.append(peer_id)
        await trio.lowlevel.checkpoint()
        target = self.network.nodes.get(peer_id)
        if target is None or (peer_id not in self.connected and target.address not in self.book.get(peer_id, ())):
            raise DialError("nobody there", stage="dial")
        if target.is_silent:
            await trio.sleep_forever()
        handler = target.handlers.get(protocol_id)
        if handler is None:
            raise ProtocolNotSupportedError("not spoken", needed=protocol_id)
        there, back, ends = _Pipe(), _Pipe(), list[MemoryStream]()
        mine = MemoryStream(peer_id, protocol_id, there, back, ends)
        theirs = MemoryStream(self.peer_id, protocol_id, back, there, ends)
        self.network.nursery.start_soon(self._handle, handler, theirs)
        return mine

    @staticmethod
    async def _handle(handler: StreamHandler, stream: MemoryStream) -> None:
        await handler(stream)

    def set_stream_handler(self, protocol_id: str, handler: StreamHandler) -> None:
        self.handlers[protocol_id] = handler

    def remove_stream_handler(self, protocol_id: str) -> None:
        self.handlers.pop(protocol_id, None)

    def add_addresses(self, peer_id: PeerId, addresses: Sequence[str], origin: AddressOrigin) -> None:
        assert origin is AddressOrigin.REMOTE
        self.book[peer_id] = tuple(addresses)

    def addresses_of(self, peer_id: PeerId) -> tuple[str, ...]:
        if peer_id in self.connected:
            return (self.network.nodes[peer_id].address,)
        return self.book.get(peer_id, ())

    def announced_addresses(self) -> tuple[str, ...]:
        return (self.address,)

    def connected_peers(self) -> tuple[PeerId, ...]:
        return tuple(self.connected)


@dataclass
class MemoryNetwork:
    """Nodes by their ids, and DHTs that run on them."""

    nursery: trio.Nursery
    nodes: dict[PeerId, MemoryNode] = field(default_factory=dict)

    def node(self, number: int) -> MemoryNode:
        peer_id = peer_id_from_public_key(number.to_bytes(32, "big"))
        node = MemoryNode(peer_id, f"/ip4/198.51.100.{number % 250 + 1}/tcp/{4000 + number}", self)
        self.nodes[peer_id] = node
        return node

    async def dht(self, number: int, *, server: bool, prefix: str = "/hostmesh") -> tuple[MemoryNode, Dht]:
        """Start a DHT on a new node."""
        node = self.node(number)
        draws = iter(range(1 << 30))
        system = System(
            monotonic_s=trio.current_time,
            random_bytes=lambda size: next(draws).to_bytes(8, "big")[-size:].rjust(size),
        )
        dht = Dht(node, protocol_prefix=prefix, server=server, system=system)
        await self.nursery.start(dht.run)
        return node, dht

    @staticmethod
    def connect(one: tuple[MemoryNode, Dht], other: tuple[MemoryNode, Dht]) -> None:
        """Join two nodes, as a dial would."""
        for (node, dht), (peer, _) in ((one, other), (other, one)):
            node.connected.append(peer.peer_id)
            dht.note_connected(peer.peer_id)


@pytest.fixture
def memory_network(nursery: trio.Nursery) -> MemoryNetwork:
    """A network whose nodes stop with the test."""
    return MemoryNetwork(nursery)


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], object]:
    """Wait, on the test's mock clock, until something holds: ``await eventually(lambda: ...)``."""

    async def wait(holds: Callable[[], bool], *, within_s: float = 60.0) -> None:
        with trio.fail_after(within_s):
            while not holds():  # noqa: ASYNC110 - the mock clock's sleep costs nothing
                await trio.sleep(0.01)

    return wait
