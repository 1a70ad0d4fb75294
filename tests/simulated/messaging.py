"""Peers that send each other messages on a simulated network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
from tests.simulated.nodes import Nodes, nodes_on

from hostmesh.messaging.deliveries import DeliveryLimits
from hostmesh.messaging.direct import DirectMessenger
from hostmesh.messaging.inbox import Message
from hostmesh.net.address import AddressOrigin
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.server import RpcServer
from hostmesh.testing import SimNetwork
from hostmesh.v1.message_hostmesh import MESSAGE_SERVICE

PROTOCOL = "/hostmesh/message/1.0.0"
ROUND_TRIP_S = 0.04
"""Between two machines, by default."""


class Peer:
    """A node that sends and takes messages."""

    def __init__(self, nodes: Nodes, node: Node, limits: DeliveryLimits | None = None) -> None:
        self.node = node
        self.system = nodes.machine_of(node).system
        self.rpc = RpcClient(node, prefix="/hostmesh", system=self.system)
        self.messenger = DirectMessenger(self.rpc, self.system, limits=limits)
        server = RpcServer(prefix="/hostmesh", system=self.system)
        server.add_service(MESSAGE_SERVICE, self.messenger.inbox)
        self.handler = server.stream_handlers()[PROTOCOL]
        node.set_stream_handler(PROTOCOL, self.handler)
        self.got: list[Message] = []


class World:
    """Two peers that are connected and know each other's protocols."""

    def __init__(self, nodes: Nodes, a: Peer, b: Peer) -> None:
        self.nodes, self.net, self.nursery = nodes, nodes.net, nodes.nursery
        self.a, self.b = a, b
        self.began_s = trio.current_time()
        self.sent = self.net.trace.counts["data"]

    @property
    def to(self) -> PeerId:
        return self.b.node.peer_id

    @property
    def took_s(self) -> float:
        return trio.current_time() - self.began_s

    def cut(self) -> None:
        """Make b unreachable for a."""
        self.net.cut(self.nodes.machine_of(self.a.node), self.nodes.machine_of(self.b.node))

    def lose_answers(self, count: int, *, after: bool = True) -> None:
        """Make b's next streams die, after or before the request was handled."""
        handler = self.b.handler
        left = count

        async def lossy(stream: Stream) -> None:
            nonlocal left
            if left > 0:
                left -= 1
                if after:
                    await handler(Muted(stream))
                await stream.reset()
                return
            await handler(stream)

        self.b.node.set_stream_handler(PROTOCOL, lossy)


class Muted:
    """A stream whose answers never arrive."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.peer_id = stream.peer_id
        self.protocol_id = stream.protocol_id
        self.receive = stream.receive
        self.receive_chunk = stream.receive_chunk
        self.receive_nowait = stream.receive_nowait
        self.set_read_deadline = stream.set_read_deadline

    async def send(self, data: bytes, *, head: bytes = b"", end: bool = False) -> None:
        await trio.lowlevel.checkpoint()

    def send_nowait(self, data: bytes, *, end: bool = False) -> bool:
        return True

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        self._stream.on_lost(callback)

    async def wait_reset(self) -> None:
        await self._stream.wait_reset()

    async def close_write(self) -> None:
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()

    async def reset(self) -> None:
        await self._stream.reset()


async def start_peer(nodes: Nodes, to: Peer | None = None, limits: DeliveryLimits | None = None) -> Peer:
    """Start a peer that is connected to another."""
    peer = Peer(nodes, await nodes.start(), limits)
    if to is not None:
        await peer.node.connect(to.node.peer_id, to.node.listen_addresses(), origin=AddressOrigin.CONFIGURED)
        await trio.sleep(1)
    return peer


@asynccontextmanager
async def world_of(net: SimNetwork) -> AsyncIterator[World]:
    async with nodes_on(net, {}) as nodes:
        b = await start_peer(nodes)
        a = await start_peer(nodes, b)
        for peer in (a, b):
            await nodes.nursery.start(peer.messenger.run)
        yield World(nodes, a, b)
