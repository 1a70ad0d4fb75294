"""Nodes for the tests of this folder, on real loopback sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from hostmesh.net.node import Node, NodeConfig
from hostmesh.net.peer_key import PeerKey
from hostmesh.net.stream import Stream

ECHO = "/test/echo/1"


async def echo(stream: Stream) -> None:
    while data := await stream.receive():
        await stream.send(data)


StartNode = Callable[..., Awaitable[Node]]


@pytest.fixture
def start_node(nursery: trio.Nursery) -> StartNode:
    """Start a node that serves an echo; keyword arguments go into its NodeConfig."""

    async def start(*, key: PeerKey | None = None, **config: object) -> Node:
        settings = {"enable_dht": False, **config}
        node = Node(NodeConfig(**settings), key or PeerKey.generate())  # type: ignore[arg-type]
        node.set_stream_handler(ECHO, echo)
        await nursery.start(node.run)
        return node

    return start
