"""How streams between two nodes end, and that nothing of them is left."""

from __future__ import annotations

import pytest
import trio
from tests.simulated.nodes import ECHO, Nodes, nodes_on
from tests.support.simulated import eventually, simulated

from hostmesh.net.address import AddressOrigin
from hostmesh.net.stream import Stream


@pytest.mark.parametrize("how", ["reset", "close"])
@simulated(nodes_on)
async def test_a_stream_left_with_unread_bytes_is_forgotten(nodes: Nodes, how):
    server, client = await nodes.start(), await nodes.start()

    async def say_more_than_is_read(stream: Stream) -> None:
        while await stream.receive():
            pass
        await stream.send(bytes(1000))

    server.set_stream_handler("/test/more/1", say_more_than_is_read)
    await client.connect(server.peer_id, server.listen_addresses(), origin=AddressOrigin.CONFIGURED)
    (connection,) = client._pool.of(server.peer_id)
    yamux = connection.muxer.yamux
    with trio.fail_after(2):
        await eventually(lambda: client.protocols_of(server.peer_id))
        stream = await client.open_stream(server.peer_id, "/test/more/1")
        await stream.close_write()
        await eventually(lambda: stream._yamux_stream.id not in yamux.streams)
    assert yamux.unread_bytes == client.usage().unread_bytes == 1000
    await getattr(stream, how)()
    assert yamux.unread_bytes == client.usage().unread_bytes == 0
    assert stream not in connection.streams


@simulated(nodes_on)
async def test_a_stream_that_its_opener_reset_is_forgotten_with_its_handler(nodes: Nodes):
    server, client = await nodes.start(), await nodes.start()
    leave, left = trio.Event(), trio.Event()

    async def read_nothing(stream: Stream) -> None:
        await leave.wait()
        left.set()

    server.set_stream_handler("/test/nothing/1", read_nothing)
    await client.connect(server.peer_id, server.listen_addresses(), origin=AddressOrigin.CONFIGURED)
    stream = await client.open_stream(server.peer_id, "/test/nothing/1")
    await stream.send(bytes(1000))
    await stream.reset()
    (connection,) = server._pool.of(client.peer_id)
    with trio.fail_after(2):
        await eventually(lambda: not (connection.muxer.yamux.streams))
    assert len(connection.streams) == 1, "the handler has it still"
    leave.set()
    with trio.fail_after(2):
        await eventually(lambda: not (connection.streams))
    assert left.is_set()
    assert connection.muxer.yamux.unread_bytes == 0


@pytest.mark.parametrize("how", ["reset", "disconnect", "own reset"])
@simulated(nodes_on)
async def test_a_lost_stream_is_told_to_one_that_read_to_the_end(nodes: Nodes, how):
    server, client = await nodes.start(), await nodes.start()
    waiting, told = trio.Event(), trio.Event()

    async def wait(stream: Stream) -> None:
        assert await stream.receive() == b""
        waiting.set()
        try:
            if how == "own reset":
                await stream.reset()
            await stream.wait_reset()
        finally:
            told.set()

    server.set_stream_handler("/test/wait/1", wait)
    await client.connect(server.peer_id, server.listen_addresses(), origin=AddressOrigin.CONFIGURED)
    stream = await client.open_stream(server.peer_id, "/test/wait/1")
    await stream.close_write()
    await waiting.wait()
    if how == "reset":
        await trio.sleep(1)
        assert not told.is_set()
        await stream.reset()
    elif how == "disconnect":
        await client.disconnect(server.peer_id)
    with trio.fail_after(1):
        await told.wait()


@simulated(nodes_on)
async def test_an_opener_that_closed_its_side_is_told_of_a_lost_connection(nodes: Nodes):
    server, client = await nodes.start(), await nodes.start()
    await client.connect(server.peer_id, server.listen_addresses(), origin=AddressOrigin.CONFIGURED)

    async def stay(stream: Stream) -> None:
        await trio.sleep_forever()

    server.set_stream_handler("/test/still/1", stay)
    stream = await client.open_stream(server.peer_id, "/test/still/1")
    await stream.close_write()
    await server.disconnect(client.peer_id)
    with trio.fail_after(1):
        await stream.wait_reset()


@simulated(nodes_on)
async def test_streams_closed_in_order_are_not_reset(nodes: Nodes):
    server, client = await nodes.start(), await nodes.start()
    await client.connect(server.peer_id, server.listen_addresses(), origin=AddressOrigin.CONFIGURED)
    stream = await client.open_stream(server.peer_id, ECHO)
    await stream.close_write()
    assert await stream.receive() == b""
    await stream.close()
    with trio.move_on_after(0) as scope:
        await stream.wait_reset()
    assert scope.cancelled_caught
