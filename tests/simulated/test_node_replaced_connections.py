"""A connection that takes no streams any more is replaced by another, and ends with its last stream."""

from __future__ import annotations

import pytest
import trio
from tests.simulated.nodes import ECHO, Nodes, nodes_on
from tests.support.simulated import simulated

from hostmesh.net.address import AddressOrigin
from hostmesh.net.connection import Connection
from hostmesh.net.connection_keeper import TICK_S
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream


def connection_of(node: Node, peer_id: PeerId) -> Connection:
    (connection,) = node._pool.of(peer_id)
    return connection


async def echoes(stream: Stream, data: bytes) -> bool:
    """Whether data come back."""
    with trio.fail_after(5):
        await stream.send(data)
        received = b""
        while len(received) < len(data):
            received += await stream.receive()
    return received == data


@pytest.mark.parametrize("why", ["goaway", "ids"])
@pytest.mark.parametrize("is_busy", [True, False], ids=["busy", "idle"])
@simulated(nodes_on)
async def test_calls_go_on_over_a_new_connection(nodes: Nodes, why, is_busy):
    server, client = await nodes.start(), await nodes.start()
    await client.connect(server.peer_id, server.listen_addresses(), origin=AddressOrigin.CONFIGURED)
    first = connection_of(client, server.peer_id)
    stream = await client.open_stream(server.peer_id, ECHO)
    assert await echoes(stream, b"before")
    await trio.sleep(1)
    if not is_busy:
        await stream.close()
    if why == "goaway":
        muxer = connection_of(server, client.peer_id).muxer
        muxer.yamux.go_away()
        muxer.flush_soon()
    else:
        first.muxer.yamux._next_id = 0xFFFFFFFF + 2
    await trio.sleep(0.1)
    assert not first.is_closed
    for number in range(10):
        with trio.fail_after(5):
            other = await client.open_stream(server.peer_id, ECHO)
        assert await echoes(other, b"call %d" % number)
        await other.close()
    assert client.is_connected(server.peer_id)
    assert nodes.dials(client) == 2, "one new connection for all of them"
    if is_busy:
        await trio.sleep(100)
        assert await echoes(stream, b"still here")
        assert not first.is_closed
        await stream.close()
    await trio.sleep(2 * TICK_S)
    assert first.is_closed
    assert connection_of(client, server.peer_id) is not first
    assert (client.usage().connections, server.usage().connections) == (1, 1)
    assert client.protocols_of(server.peer_id)
    assert await echoes(await client.open_stream(server.peer_id, ECHO), b"after")


@simulated(nodes_on)
async def test_a_peer_that_goes_away_and_is_needed_no_more_is_disconnected(nodes: Nodes):
    server, client = await nodes.start(), await nodes.start()
    await client.connect(server.peer_id, server.listen_addresses(), origin=AddressOrigin.CONFIGURED)
    await trio.sleep(1)
    muxer = connection_of(server, client.peer_id).muxer
    muxer.yamux.go_away()
    muxer.flush_soon()
    with trio.fail_after(2 * TICK_S):
        await client.wait_disconnected(server.peer_id)
        await server.wait_disconnected(client.peer_id)
    await trio.sleep(2 * TICK_S)
    assert (client.usage().connections, server.usage().connections) == (0, 0)
    assert client.protocols_of(server.peer_id) == ()
