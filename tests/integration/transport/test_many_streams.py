"""Ten thousand streams on one connection, and one too many."""

from __future__ import annotations

import hashlib

import pytest
import trio
import trio.testing
from tests.integration.transport import kit

from hostmesh.errors import ConnectionLostError, DialError
from hostmesh.net.node import Node
from hostmesh.net.stream import Stream

STREAMS = 10_000
AT_ONCE = 500
"""Tasks that open streams and speak on them; the streams stay open meanwhile."""


def payload(number: int) -> bytes:
    return hashlib.shake_128(number.to_bytes(4, "big")).digest(100 + number % 1000)


async def refused_here(client: Node, server: Node) -> None:
    """The next stream is over our own limit: it is not opened."""
    with pytest.raises(DialError) as caught:
        await client.open_stream(server.peer_id, kit.ECHO)
    assert caught.value.stage == "limit"
    assert caught.value.remedy
    assert caught.value.retry_safe
    assert server.usage().refused_streams == 0


async def refused_there(client: Node, server: Node) -> None:
    """The next stream is over the peer's limit: it is reset."""
    stream = await client.open_stream(server.peer_id, kit.ECHO)
    await stream.send(b"x")
    with pytest.raises(ConnectionLostError):
        await stream.receive()
    await stream.reset()
    assert server.usage().refused_streams == 1


# Whoever has the lower limit leaves room for the other's own streams.
@pytest.mark.parametrize(("ours", "theirs", "is_refused"), [(0, 10, refused_here), (10, 0, refused_there)])
@pytest.mark.timeout(120)
async def test_ten_thousand_streams_echo_while_all_are_open(start_node, ours, theirs, is_refused):
    server, client = await start_node(max_streams=STREAMS + theirs), await start_node(max_streams=STREAMS + ours)
    connection = await kit.connect(client, server)
    streams: list[Stream] = []

    async def open_some(first: int) -> None:
        for number in range(first, STREAMS, AT_ONCE):
            stream = await client.open_stream(server.peer_id, kit.ECHO)
            await stream.send(payload(number)[:50])
            assert await kit.receive_exactly(stream, 50) == payload(number)[:50]
            streams.append(stream)

    async def speak(first: int) -> None:
        """Exchange a payload of its own on each, now that all are open."""
        for index in range(first, STREAMS, AT_ONCE):
            await streams[index].send(payload(index))
            assert await kit.receive_exactly(streams[index], len(payload(index))) == payload(index)

    began_s = trio.current_time()
    with trio.fail_after(100):
        for work in (open_some, speak):
            async with trio.open_nursery() as nursery:
                for first in range(AT_ONCE):
                    nursery.start_soon(work, first)
        assert client.usage().outbound_streams == {kit.ECHO: STREAMS}
        assert server.usage().inbound_streams == {kit.ECHO: STREAMS}
        print(f"{STREAMS} streams opened and spoken on twice in {trio.current_time() - began_s:.1f} s")

        await is_refused(client, server)
        await streams[0].send(b"others live on")
        assert await kit.receive_exactly(streams[0], 14) == b"others live on"

        await streams.pop().close()
        while server.usage().inbound_streams == {kit.ECHO: STREAMS}:
            await trio.testing.wait_all_tasks_blocked(0.001)
        await kit.echo_works(client, server.peer_id)

        for stream in streams:
            await stream.close()
        while connection.muxer.yamux.streams or server.usage().inbound_streams:
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert client.usage().outbound_streams == {}
    assert kit.connection_of(client, server.peer_id) is connection


async def test_a_stream_over_the_limit_of_the_peer_is_reset_and_the_others_live_on(start_node):
    limit = 50
    server, client = await start_node(max_streams=limit), await start_node(max_streams=limit + 10)
    connection = await kit.connect(client, server)
    streams = [await client.open_stream(server.peer_id, kit.ECHO) for _ in range(limit)]
    with trio.fail_after(10):
        for stream in streams:
            await stream.send(b"x")
            assert await stream.receive() == b"x"
        # Of a protocol that the peer told, nothing is waited for: the refusal meets the first use.
        hopeful = await client.open_stream(server.peer_id, kit.ECHO)
        await hopeful.send(b"x")
        with pytest.raises(ConnectionLostError):
            await hopeful.receive()
        # Of another, it meets the opening, and nothing can have been executed.
        with pytest.raises(ConnectionLostError) as caught:
            await client.open_stream(server.peer_id, kit.UNTOLD)
        assert not caught.value.may_have_executed
        assert server.usage().refused_streams == 2
        for stream in streams:
            await stream.send(b"y")
            assert await stream.receive() == b"y"
        await streams[0].close()
        while server.usage().inbound_streams != {kit.ECHO: limit - 1}:
            await trio.testing.wait_all_tasks_blocked(0.01)
        await kit.echo_works(client, server.peer_id)
    assert kit.connection_of(client, server.peer_id) is connection
