"""WebSocket links. Truth: trio_websocket on the other side."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

import pytest
import trio
from tests.support.links import REMOTE, receive_exactly, socket_pair, stream_pair
from trio.testing import memory_stream_pair, wait_all_tasks_blocked
from trio_websocket import wrap_client_stream, wrap_server_stream

from hostmesh.net.links import LinkBrokenError, StreamLink, WebSocketLink

BIG = bytes(range(256)) * 4096


@pytest.fixture
def streams():
    return memory_stream_pair()


@dataclass
class Shaken:
    """A WebSocket link of ours and trio_websocket's at the other end."""

    link: WebSocketLink
    other: object


@pytest.fixture(params=[socket_pair, stream_pair], ids=["socket", "stream"])
async def client(request: pytest.FixtureRequest, nursery):
    """Our client against trio_websocket's server."""
    ours, theirs = request.param()
    link = WebSocketLink(ours, is_client=True)
    accepted = []

    async def serve() -> None:
        asked = await wrap_server_stream(nursery, theirs)
        assert asked.path == "/"
        accepted.append(await asked.accept())

    async with trio.open_nursery() as shaking:
        shaking.start_soon(serve)
        shaking.start_soon(link.open, "host.example")
    yield Shaken(link, accepted[0])
    await link.close()
    await trio.aclose_forcefully(theirs)


@pytest.fixture(params=[socket_pair, stream_pair], ids=["socket", "stream"])
async def server(request: pytest.FixtureRequest, nursery):
    """Our server against trio_websocket's client."""
    ours, theirs = request.param()
    link = WebSocketLink(ours, is_client=False)
    connections = []

    async def connect() -> None:
        connections.append(await wrap_client_stream(nursery, theirs, "host.example", "/"))

    async with trio.open_nursery() as shaking:
        shaking.start_soon(connect)
        shaking.start_soon(link.accept)
    yield Shaken(link, connections[0])
    await link.close()
    await trio.aclose_forcefully(theirs)


@pytest.mark.parametrize("role", ["client", "server"])
async def test_messages_both_ways(role, client, server):
    shaken = {"client": client, "server": server}[role]
    link, other = shaken.link, shaken.other
    assert link.remote == REMOTE
    assert link.send_nowait(b"from us") == 0, "a message goes out whole, or not at all"
    await link.send(b"from us")
    assert await other.get_message() == b"from us"
    await other.send_message(b"from ")
    await other.send_message(b"them, in parts")
    assert await receive_exactly(link, 19) == b"from them, in parts"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.send_message, BIG)
        assert await receive_exactly(link, len(BIG)) == BIG
        nursery.start_soon(link.send, memoryview(BIG))
        assert await other.get_message() == BIG


async def test_messages_that_come_with_the_accept_are_there(streams):
    ours, theirs = streams
    link = WebSocketLink(StreamLink(ours, None), is_client=True)

    async def answer() -> None:
        await _accept(theirs, b"", b"\x82\x05hello")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        await link.open("host.example")
    assert await link.receive() == b"hello"


async def test_pings_are_answered(client):
    results = []

    async def read() -> None:
        results.append(await client.link.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await client.other.ping()
        await client.other.send_message(b"x")
    assert results == [b"x"]


async def test_a_close_of_the_other_side_is_the_end(client, nursery):
    nursery.start_soon(client.other.aclose)
    assert await client.link.receive() == b""
    assert await client.link.receive() == b""


async def test_what_came_before_a_close_is_not_lost(server, nursery):
    async def say_and_close() -> None:
        await server.other.send_message(b"last words")
        await server.other.aclose()

    nursery.start_soon(say_and_close)
    await wait_all_tasks_blocked()
    assert await server.link.receive() == b"last words"
    assert await server.link.receive() == b""


async def test_a_closed_websocket_fails_both_ways(server):
    await server.link.close()
    await server.link.close()
    with pytest.raises(LinkBrokenError):
        await server.link.receive()
    with pytest.raises(LinkBrokenError):
        await server.link.send(b"x")


async def test_garbage_after_the_handshake_is_the_end(server):
    await server.other._stream.send_all(b"\xff" * 50)
    assert await server.link.receive() == b""
    assert await server.link.receive() == b""


async def test_when_a_message_came_last_is_that_of_the_link_below(autojump_clock, streams):
    below = StreamLink(streams[0], None)
    link = WebSocketLink(below, is_client=True)
    below.last_heard_s = 17.0
    assert link.last_heard_s == 17.0
    link.last_heard_s = 18.0
    assert below.last_heard_s == 18.0


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
    link = WebSocketLink(StreamLink(ours, None), is_client=True)
    await theirs.send_all(answer)
    await theirs.send_eof()
    with pytest.raises(LinkBrokenError):
        await link.open("host.example")


@pytest.mark.parametrize(
    "request_bytes", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x13/multistream/1.0.0\n", b"\x00" * 100, b"GET", b""]
)
async def test_a_client_that_asks_for_no_websocket_is_refused(streams, request_bytes):
    ours, theirs = streams
    link = WebSocketLink(StreamLink(ours, None), is_client=False)
    await theirs.send_all(request_bytes)
    await theirs.send_eof()
    with pytest.raises(LinkBrokenError):
        await link.accept()


UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.mark.parametrize(
    "header", [b"Host: \xff", b"Host: xn--\xff", b"Sec-WebSocket-Protocol: \xff", b"Sec-WebSocket-Extensions: \xff"]
)
async def test_a_client_whose_headers_cannot_be_decoded_is_refused(streams, header):
    ours, theirs = streams
    link = WebSocketLink(StreamLink(ours, None), is_client=False)
    host = b"" if header.startswith(b"Host") else b"Host: x\r\n"
    await theirs.send_all(b"GET / HTTP/1.1\r\n" + host + header + b"\r\n" + UPGRADE)
    with pytest.raises(LinkBrokenError):
        await link.accept()


async def _accept(stream: trio.abc.Stream, header: bytes, rest: bytes = b"") -> None:
    """Accept a WebSocket by hand, with one more header and what comes after."""
    asked = b""
    while b"\r\n\r\n" not in asked:
        asked += bytes(await stream.receive_some())
    (key,) = (line[19:] for line in asked.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key: "))
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    await stream.send_all(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n" + header + b"\r\n" + rest
    )


@pytest.mark.parametrize("header", [b"Sec-WebSocket-Protocol: \xff\r\n", b"Sec-WebSocket-Extensions: \xff\r\n"])
async def test_a_server_whose_headers_cannot_be_decoded_is_refused(streams, nursery, header):
    ours, theirs = streams
    link = WebSocketLink(StreamLink(ours, None), is_client=True)
    nursery.start_soon(_accept, theirs, header)
    with pytest.raises(LinkBrokenError):
        await link.open("host.example")
