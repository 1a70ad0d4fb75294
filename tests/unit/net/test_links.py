"""Links: exact reads over raw streams and WebSocket. Truth for WebSocket: trio_websocket on the other side."""

from __future__ import annotations

import base64
import hashlib

import pytest
import trio
from libp2p.io.exceptions import ConnectionClosedError
from trio.testing import memory_stream_pair
from trio_websocket import wrap_client_stream, wrap_server_stream

from hostmesh.net.links import Link, WebSocketLink


@pytest.fixture
def streams():
    return memory_stream_pair()


async def test_read_gives_exactly_what_was_asked(streams):
    ours, theirs = streams
    link = Link(ours, None)
    await theirs.send_all(b"abcdefgh")
    assert await link.read(1) == b"a"
    assert await link.read(3) == b"bcd"
    assert await link.read() == b"efgh"
    assert await link.read(0) == b""


async def test_short_reads_are_put_together(streams):
    ours, theirs = streams
    link = Link(ours, None)
    results = []

    async def read() -> None:
        results.append(await link.read(300))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for _ in range(300):
            await theirs.send_all(b"x")
            await trio.testing.wait_all_tasks_blocked()
    assert results == [b"x" * 300]


async def test_cancelled_read_loses_nothing(autojump_clock, streams):
    ours, theirs = streams
    link = Link(ours, None)
    await theirs.send_all(b"abc")
    with trio.move_on_after(1):
        await link.read(5)
    await theirs.send_all(b"de")
    assert await link.read(5) == b"abcde"


async def test_the_end_is_an_error_and_what_came_before_stays(streams):
    ours, theirs = streams
    link = Link(ours, None)
    await theirs.send_all(b"abc")
    await theirs.send_eof()
    with pytest.raises(ConnectionClosedError):
        await link.read(4)
    assert await link.read(3) == b"abc"


async def test_a_closed_link_fails_both_ways(streams):
    ours, _theirs = streams
    link = Link(ours, None)
    await link.close()
    await link.close()
    with pytest.raises(ConnectionClosedError):
        await link.read(1)
    with pytest.raises(ConnectionClosedError):
        await link.write(b"x")


async def test_what_comes_before_trust_is_bounded(streams):
    ours, theirs = streams
    link = Link(ours, None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.send_all, bytes(200_000))
        with pytest.raises(ConnectionClosedError, match="too much"):
            await link.read(200_000)
        nursery.cancel_scope.cancel()


async def test_trust_lifts_the_bound(streams):
    ours, theirs = streams
    link = Link(ours, None)
    link.trust()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.send_all, bytes(200_000))
        assert await link.read(200_000) == bytes(200_000)


@pytest.fixture
async def client_link(streams, nursery):
    """Our client against trio_websocket's server."""
    ours, theirs = streams
    link = WebSocketLink(ours, None, is_client=True)
    accepted = []

    async def serve() -> None:
        request = await wrap_server_stream(nursery, theirs)
        assert request.path == "/"
        accepted.append(await request.accept())

    async with trio.open_nursery() as shaking:
        shaking.start_soon(serve)
        shaking.start_soon(link.open, "host.example")
    link.trust()
    return link, accepted[0]


@pytest.fixture
async def server_link(nursery):
    """Our server against trio_websocket's client."""
    ours, theirs = memory_stream_pair()
    link = WebSocketLink(ours, None, is_client=False)
    connections = []

    async def connect() -> None:
        connections.append(await wrap_client_stream(nursery, theirs, "host.example", "/"))

    async with trio.open_nursery() as shaking:
        shaking.start_soon(connect)
        shaking.start_soon(link.accept)
    link.trust()
    return link, connections[0]


@pytest.mark.parametrize("role", ["client", "server"])
async def test_messages_both_ways(role, client_link, server_link):
    link, other = {"client": client_link, "server": server_link}[role]
    await link.write(b"from us")
    assert await other.get_message() == b"from us"
    await other.send_message(b"from ")
    await other.send_message(b"them, in parts")
    assert await link.read(9) == b"from them"
    assert await link.read(10) == b", in parts"
    big = bytes(range(256)) * 1000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.send_message, big)
        assert await link.read(len(big)) == big


async def test_pings_are_answered(client_link):
    link, other = client_link
    results = []

    async def read() -> None:
        results.append(await link.read(1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await other.ping()
        await other.send_message(b"x")
    assert results == [b"x"]


async def test_a_close_is_the_end(client_link, nursery):
    link, other = client_link
    nursery.start_soon(other.aclose)
    with pytest.raises(ConnectionClosedError):
        await link.read(1)
    await link.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x13/multistream/1.0.0\n",
        b"",
    ],
)
async def test_a_server_that_speaks_no_websocket_is_refused(streams, answer):
    ours, theirs = streams
    link = WebSocketLink(ours, None, is_client=True)
    await theirs.send_all(answer)
    await theirs.send_eof()
    with pytest.raises(ConnectionClosedError):
        await link.open("host.example")


@pytest.mark.parametrize(
    "request_bytes", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x13/multistream/1.0.0\n", b"\x00" * 100, b"GET"]
)
async def test_a_client_that_asks_for_no_websocket_is_refused(streams, request_bytes):
    ours, theirs = streams
    link = WebSocketLink(ours, None, is_client=False)
    await theirs.send_all(request_bytes)
    await theirs.send_eof()
    with pytest.raises(ConnectionClosedError):
        await link.accept()


async def test_garbage_after_the_handshake_ends_the_link(server_link):
    link, other = server_link
    await other._stream.send_all(b"\xff" * 50)
    with pytest.raises(ConnectionClosedError):
        await link.read(1)


UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.mark.parametrize(
    "header", [b"Host: \xff", b"Host: xn--\xff", b"Sec-WebSocket-Protocol: \xff", b"Sec-WebSocket-Extensions: \xff"]
)
async def test_a_client_whose_headers_cannot_be_decoded_is_refused(streams, header):
    ours, theirs = streams
    link = WebSocketLink(ours, None, is_client=False)
    host = b"" if header.startswith(b"Host") else b"Host: x\r\n"
    await theirs.send_all(b"GET / HTTP/1.1\r\n" + host + header + b"\r\n" + UPGRADE)
    with pytest.raises(ConnectionClosedError):
        await link.accept()


@pytest.mark.parametrize("header", [b"Sec-WebSocket-Protocol: \xff", b"Sec-WebSocket-Extensions: \xff"])
async def test_a_server_whose_headers_cannot_be_decoded_is_refused(streams, nursery, header):
    ours, theirs = streams
    link = WebSocketLink(ours, None, is_client=True)

    async def answer() -> None:
        asked = b""
        while b"\r\n\r\n" not in asked:
            asked += bytes(await theirs.receive_some())
        (key,) = (line[19:] for line in asked.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key: "))
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        await theirs.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n" + header + b"\r\n\r\n"
        )

    nursery.start_soon(answer)
    with pytest.raises(ConnectionClosedError):
        await link.open("host.example")
