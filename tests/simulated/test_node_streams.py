"""Streams between two nodes."""

from __future__ import annotations

import pytest
import trio
from tests.simulated.nodes import ECHO, Nodes, nodes_on
from tests.support.simulated import eventually, simulated

from hostmesh.errors import ConnectionLostError, DialError, ProtocolNotSupportedError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.stream import Stream


async def _drain(stream) -> None:
    while await stream.receive():
        pass


async def _pair(nodes: Nodes, **config):
    server = await nodes.start(**config)
    client = await nodes.start()
    await client.connect(server.peer_id, server.listen_addresses(), origin=AddressOrigin.CONFIGURED)
    return client, server


async def _call(client, server, data: bytes = b"hello") -> bytes:
    stream = await client.open_stream(server.peer_id, ECHO)

    async def send() -> None:
        await stream.send(data)
        await stream.close_write()

    answer = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while chunk := await stream.receive():
            answer += chunk
    await stream.close()
    return answer


@simulated(nodes_on)
async def test_stream_knows_peer_and_protocol(nodes: Nodes):
    client, server = await _pair(nodes)
    seen: list[tuple[str, str]] = []
    done = trio.Event()

    async def note(stream: Stream) -> None:
        seen.append((stream.peer_id, stream.protocol_id))
        done.set()

    server.set_stream_handler("/test/note/1", note)
    stream = await client.open_stream(server.peer_id, "/test/note/1")
    assert (stream.peer_id, stream.protocol_id) == (server.peer_id, "/test/note/1")
    await done.wait()
    assert seen == [(client.peer_id, "/test/note/1")]


@simulated(nodes_on)
async def test_half_close_leaves_the_other_direction_open(nodes: Nodes):
    client, server = await _pair(nodes)

    async def answer_after_the_end(stream: Stream) -> None:
        received = b""
        while chunk := await stream.receive():
            received += chunk
        await stream.send(received[::-1])

    server.set_stream_handler("/test/reverse/1", answer_after_the_end)
    stream = await client.open_stream(server.peer_id, "/test/reverse/1")
    await stream.send(b"abc")
    await stream.close_write()
    assert await stream.receive() == b"cba"
    assert await stream.receive() == b""
    assert await stream.receive() == b""


@simulated(nodes_on)
async def test_unsupported_protocol_is_named(nodes: Nodes):
    client, server = await _pair(nodes)
    with pytest.raises(ProtocolNotSupportedError) as caught:
        await client.open_stream(server.peer_id, "/test/unknown/1")
    assert caught.value.needed == "/test/unknown/1"
    assert not caught.value.may_have_executed
    assert await _call(client, server) == b"hello"


@simulated(nodes_on)
async def test_removed_handler_serves_no_longer(nodes: Nodes):
    client, server = await _pair(nodes)
    server.remove_stream_handler(ECHO)
    with pytest.raises(ProtocolNotSupportedError):
        await client.open_stream(server.peer_id, ECHO)


@simulated(nodes_on)
async def test_handler_exception_ends_its_stream_only(nodes: Nodes, caplog):
    client, server = await _pair(nodes)

    async def fail(stream: Stream) -> None:
        await stream.receive()
        raise RuntimeError("a bug in a handler")

    server.set_stream_handler("/test/fail/1", fail)
    sibling = await client.open_stream(server.peer_id, ECHO)
    await sibling.send(b"before")
    assert await sibling.receive() == b"before"
    with client.watch_connections() as watch:
        for _ in range(3):
            stream = await client.open_stream(server.peer_id, "/test/fail/1")
            await stream.send(b"x")
            with pytest.raises(ConnectionLostError) as caught:
                await stream.receive()
            assert caught.value.may_have_executed
        await sibling.send(b"after")
        assert await sibling.receive() == b"after"
        with trio.move_on_after(0) as scope:
            await anext(aiter(watch))
        assert scope.cancelled_caught, "the connection was lost"
    assert [record.message for record in caplog.records if record.exc_info] == ["a handler of /test/fail/1 failed"] * 3


@simulated(nodes_on)
async def test_exception_group_of_a_handler_is_contained_too(nodes: Nodes, caplog):
    client, server = await _pair(nodes)

    async def fail(stream: Stream) -> None:
        async with trio.open_nursery() as nursery:

            async def child() -> None:
                raise ValueError("in a child")

            nursery.start_soon(child)

    server.set_stream_handler("/test/fail/1", fail)
    stream = await client.open_stream(server.peer_id, "/test/fail/1")
    with pytest.raises(ConnectionLostError):
        await stream.receive()
    assert await _call(client, server) == b"hello"
    assert "a handler of /test/fail/1 failed" in caplog.text


@simulated(nodes_on)
async def test_cancelled_receive_loses_nothing(nodes: Nodes):
    client, server = await _pair(nodes)
    stream = await client.open_stream(server.peer_id, ECHO)
    received = b""
    for index in range(50):
        with trio.move_on_after(0):
            received += await stream.receive(3)
        await stream.send(b"%04d" % index)
        # From before the echo is back to after it: the round trip is 40 ms.
        with trio.move_on_after(0.015 + 0.001 * index):
            received += await stream.receive(3)
    await stream.close_write()
    while chunk := await stream.receive(3):
        received += chunk
    assert received == b"".join(b"%04d" % index for index in range(50))


@simulated(nodes_on)
async def test_receive_returns_no_more_than_asked(nodes: Nodes):
    client, server = await _pair(nodes)
    stream = await client.open_stream(server.peer_id, ECHO)
    await stream.send(b"abcdefgh")
    sizes = []
    while sum(sizes) < 8:
        sizes.append(len(await stream.receive(3)))
    assert max(sizes) <= 3


@simulated(nodes_on)
async def test_cancelled_write_leaves_a_working_connection(nodes: Nodes):
    """Stock libp2p writes half a frame here, and the connection dies (G3)."""
    client, server = await _pair(nodes)
    started = resets_seen = 0
    all_cancelled = trio.Event()

    async def read_late(stream: Stream) -> None:
        nonlocal started, resets_seen
        started += 1
        await all_cancelled.wait()
        with pytest.raises(ConnectionLostError):
            await _drain(stream)
        resets_seen += 1

    server.set_stream_handler("/test/late/1", read_late)
    sibling = await client.open_stream(server.peer_id, ECHO)
    for index in range(20):
        stream = await client.open_stream(server.peer_id, "/test/late/1")
        with trio.move_on_after(0.005 * index) as scope:
            await stream.send(bytes(5_000_000))
        assert scope.cancelled_caught
        with pytest.raises(ConnectionLostError):
            await stream.send(b"more")
    with trio.fail_after(5):
        assert await _call(client, server) == b"hello"
        await sibling.send(b"still here")
        assert await sibling.receive() == b"still here"
        # A stream whose first send was cancelled while TCP still let nothing out is one that the server never hears of.
        assert started >= 10
        all_cancelled.set()
        await eventually(lambda: not (resets_seen < started))
    assert client.connected_peers() == (server.peer_id,)


@simulated(nodes_on)
async def test_cancelled_open_stream_costs_nothing(nodes: Nodes):
    """In stock libp2p 47 of 256 stream slots were gone after 60 of these."""
    client, server = await _pair(nodes)
    for index in range(300):
        with trio.move_on_after(0.001 * (index % 100)):
            stream = await client.open_stream(server.peer_id, ECHO)
            await stream.reset()
    with trio.fail_after(5):
        streams = [await client.open_stream(server.peer_id, ECHO) for _ in range(200)]
    for stream in streams:
        await stream.reset()
    assert await _call(client, server) == b"hello"


@simulated(nodes_on)
async def test_streams_over_the_limit_are_refused_not_stalled(nodes: Nodes):
    client, server = await _pair(nodes)
    with trio.fail_after(10):
        streams = [await client.open_stream(server.peer_id, ECHO) for _ in range(256)]
        with pytest.raises(DialError) as caught:
            await client.open_stream(server.peer_id, ECHO)
        assert caught.value.stage == "limit"
        await streams[0].close_write()
        assert await streams[0].receive() == b""
        await streams[0].close()
        assert await _call(client, server) == b"hello"
        for stream in streams:
            await stream.reset()
        assert await _call(client, server) == b"hello"


@simulated(nodes_on)
async def test_reset_reaches_the_peer(nodes: Nodes):
    client, server = await _pair(nodes)
    outcome: list[str] = []
    done = trio.Event()

    async def wait(stream: Stream) -> None:
        try:
            await stream.receive()
        except ConnectionLostError:
            outcome.append("reset")
        done.set()

    server.set_stream_handler("/test/wait/1", wait)
    stream = await client.open_stream(server.peer_id, "/test/wait/1")
    await stream.reset()
    await stream.reset()
    with trio.fail_after(1):
        await done.wait()
    assert outcome == ["reset"]
    with pytest.raises(ConnectionLostError):
        await stream.receive()


@simulated(nodes_on)
async def test_answer_sent_before_the_connection_ended_is_still_read(nodes: Nodes):
    client, server = await _pair(nodes)
    sent = trio.Event()

    async def answer(stream: Stream) -> None:
        await stream.send(b"the answer")
        await stream.close_write()
        sent.set()
        await stream.receive()

    server.set_stream_handler("/test/answer/1", answer)
    stream = await client.open_stream(server.peer_id, "/test/answer/1")
    await sent.wait()
    await server.stop()
    await client.wait_disconnected(server.peer_id)
    assert await stream.receive(4) == b"the "
    assert await stream.receive() == b"answer"
    assert await stream.receive() == b""


@simulated(nodes_on)
async def test_connection_end_is_no_stream_end(nodes: Nodes):
    client, server = await _pair(nodes)
    stream = await client.open_stream(server.peer_id, ECHO)
    await stream.send(b"x")
    assert await stream.receive() == b"x"
    await server.stop()
    with trio.fail_after(1), pytest.raises(ConnectionLostError):
        await stream.receive()


@simulated(nodes_on)
async def test_handler_is_cancelled_when_the_connection_ends(nodes: Nodes):
    client, server = await _pair(nodes)
    started, cancelled = trio.Event(), trio.Event()

    async def work(stream: Stream) -> None:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    server.set_stream_handler("/test/work/1", work)
    await client.open_stream(server.peer_id, "/test/work/1")
    await started.wait()
    await client.disconnect(server.peer_id)
    with trio.fail_after(1):
        await cancelled.wait()


@simulated(nodes_on)
async def test_many_streams_at_once_carry_their_own_bytes(nodes: Nodes):
    client, server = await _pair(nodes)
    answers: dict[int, bytes] = {}

    async def call(index: int) -> None:
        answers[index] = await _call(client, server, b"%d," % index * 2000)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for index in range(100):
                nursery.start_soon(call, index)
    assert answers == {index: b"%d," % index * 2000 for index in range(100)}


@simulated(nodes_on)
async def test_three_hundred_calls_leave_nothing_behind(nodes: Nodes):
    """More than the 256 slots of a connection."""
    client, server = await _pair(nodes)
    await eventually(lambda: client.protocols_of(server.peer_id) and server.protocols_of(client.peer_id))
    for _ in range(300):
        stream = await client.open_stream(server.peer_id, ECHO)
        await stream.send(b"x")
        assert await stream.receive() == b"x"
        await stream.close()
    with trio.fail_after(1):
        for node, peer in ((client, server), (server, client)):
            (connection,) = node._pool.of(peer.peer_id)
            yamux = connection.muxer.yamux
            await eventually(lambda yamux=yamux, connection=connection: not (yamux.streams or connection.streams))
            assert yamux.inbound_streams == yamux.outbound_streams == yamux.unread_bytes == 0
            usage = node.usage()
            assert usage.inbound_streams == usage.outbound_streams == {}


@simulated(nodes_on)
async def test_protocols_of_a_peer_are_learnt(nodes: Nodes):
    client, server = await _pair(nodes)
    with trio.fail_after(2):
        await eventually(lambda: client.protocols_of(server.peer_id) and server.protocols_of(client.peer_id))
    assert ECHO in client.protocols_of(server.peer_id)
    assert set(client.listen_addresses()) <= set(server.addresses_of(client.peer_id))
    await client.disconnect(server.peer_id)
    assert client.protocols_of(server.peer_id) == ()
