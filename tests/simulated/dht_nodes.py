"""Nodes with a DHT on a simulated network."""

from __future__ import annotations

from typing import Any

from libp2p.kad_dht.pb.kademlia_pb2 import Message
from tests.simulated.nodes import Nodes

from hostmesh.net.address import AddressOrigin
from hostmesh.net.dht import Dht
from hostmesh.net.dht_message import content_key
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream

KEY = content_key("a model")
PROTOCOL = "/hostmesh/kad/1.0.0"


def frame(message: Message) -> bytes:
    data = message.SerializeToString()
    size, prefix = len(data), b""
    while size > 0x7F:
        prefix += bytes([size & 0x7F | 0x80])
        size >>= 7
    return prefix + bytes([size]) + data


async def start(nodes: Nodes, *, server: bool, prefix: str = "/hostmesh") -> tuple[Node, Dht]:
    """Start a node with a DHT."""
    node = await nodes.start(enable_dht=True, dht_server=server, protocol_prefix=prefix, max_connections=1000)
    assert node.dht is not None
    return node, node.dht


async def connect(one: tuple[Node, Dht], other: tuple[Node, Dht]) -> None:
    await one[0].connect(other[0].peer_id, other[0].listen_addresses(), origin=AddressOrigin.CONFIGURED)


def note_asked(node: Node) -> list[PeerId]:
    """Return a list of whom the node's DHT asks from now on."""
    asked: list[PeerId] = []
    open_stream = node.open_stream

    async def note(peer_id: PeerId, protocol_id: str, **options: Any) -> Stream:
        if protocol_id == PROTOCOL:
            asked.append(peer_id)
        return await open_stream(peer_id, protocol_id, **options)

    node.open_stream = note  # type: ignore[method-assign]
    return asked
