"""What strangers on raw sockets may do to a node: garbage, silence, crowds."""

from __future__ import annotations

import os
import random
import struct

import pytest
import trio
from tests.support.wire_peer import WirePeer, proposal
from tests.support.yamux_wire import ACK, DATA, FIN, GO_AWAY, RST, SYN, Frame, data, update

from hostmesh.net import listening
from hostmesh.net.address import AddressOrigin
from hostmesh.net.links import LinkBrokenError, link_over
from hostmesh.net.node import Node

ECHO = "/test/echo/1"
CONFIGURED = AddressOrigin.CONFIGURED


async def _connect(client, server) -> None:
    await client.connect(server.peer_id, server.listen_addresses(), origin=CONFIGURED)


@pytest.mark.parametrize("listen", ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"])
async def test_garbage_does_not_disturb(start_node, listen):
    server, client = await start_node(listen_addresses=(listen,)), await start_node()
    port = int(server.listen_addresses()[0].split("/")[4])
    garbage = [
        b"",
        b"\x00" * 1000,
        os.urandom(5000),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" + b"x" * 1000,
        b"\x13/multistream/1.0.0\n" + b"\xff" * 200,
        b"\x13/multistream/1.0.0\n\x07/noise\n" + b"\x00\x20" + os.urandom(32) + b"\x00\xff" + os.urandom(255),
        b"\x13/multistream/1.0.0\n" + b"\x03ls\n" * 500,
    ]
    for nonsense in garbage * 5:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        try:
            await stream.send_all(nonsense)
            await stream.send_eof()
            with trio.fail_after(2):
                while await stream.receive_some():
                    pass
        except trio.BrokenResourceError:
            pass
        finally:
            await stream.aclose()
    await _connect(client, server)
    stream = await client.open_stream(server.peer_id, ECHO)
    await stream.send(b"x")
    assert await stream.receive() == b"x"
    assert server.connected_peers() == (client.peer_id,)


async def test_too_much_before_the_handshake_is_cut_off(start_node):
    server = await start_node()
    stream = await trio.open_tcp_stream("127.0.0.1", int(server.listen_addresses()[0].split("/")[4]))
    # A length prefix of 2**60 asks for memory without end.
    await stream.send_all(b"\x80\x80\x80\x80\x80\x80\x80\x80\x10")
    sent = 0

    async def send_on() -> None:
        nonlocal sent
        while sent < 100_000_000:
            await stream.send_all(bytes(65536))
            sent += 65536

    with trio.fail_after(2), pytest.raises(trio.BrokenResourceError):
        await send_on()
    await stream.aclose()


async def test_idle_connections_do_not_keep_others_out(start_node):
    server, client = await start_node(max_connections=10), await start_node()
    port = int(server.listen_addresses()[0].split("/")[4])
    idle = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(200)]
    with trio.fail_after(2):
        await _connect(client, server)
    ended = 0

    async def wait_for_the_end(stream: trio.SocketStream) -> None:
        nonlocal ended
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
        ended += 1

    with trio.move_on_after(0.2):
        async with trio.open_nursery() as nursery:
            for stream in idle:
                nursery.start_soon(wait_for_the_end, stream)
    for stream in idle:
        await stream.aclose()
    assert ended >= 200 - listening.MAX_HANDSHAKES


async def test_an_idle_connection_is_closed_by_the_handshake_timeout(start_node, monkeypatch):
    monkeypatch.setattr(listening, "HANDSHAKE_TIMEOUT_S", 0.1)
    server = await start_node()
    stream = await trio.open_tcp_stream("127.0.0.1", int(server.listen_addresses()[0].split("/")[4]))
    with trio.fail_after(2):
        while await stream.receive_some():
            pass
    await stream.aclose()


async def _dial_raw(server: Node) -> WirePeer:
    """Connect a peer that says what a test wants."""
    stream = await trio.open_tcp_stream("127.0.0.1", int(server.listen_addresses()[0].split("/")[4]))
    return await WirePeer.dial(link_over(stream, None), server.peer_id)


@pytest.mark.parametrize(
    ("nonsense", "is_refused_at_once"),
    [
        (b"\x00", True),
        (b"\x01", False),
        (b"\x01\n", True),
        (b"\x05abc", False),
        (b"\x04abcd", True),
        (b"\x02\xff\n", True),
        (b"\xff" * 30, True),
        (b"\x80\x80\x80\x80\x80\x80\x80\x80\x10", True),
        (b"\x13/multistream/1.0.0\n\x00", True),
        (b"\x13/multistream/1.0.0\n\x01\n", False),
        (b"\x13/multistream/1.0.0\n\x02\xff\n", False),
        (b"\x13/multistream/1.0.0\n" + b"\x03ls\n" * 5000, True),
        (b"\x13/multistream/1.0.0\n\x15/test/does-not-exist\n", False),
    ],
)
@pytest.mark.parametrize("how", ["end", "reset", "stay"])
async def test_a_stream_that_names_no_protocol_ends_alone(start_node, nonsense, is_refused_at_once, how):
    server = await start_node()
    peer = await _dial_raw(server)
    await peer.send(data(1, proposal(ECHO), SYN), data(3, nonsense, SYN))
    ends = {"end": update(3, 0, FIN), "reset": update(3, 0, RST), "stay": b""}
    await peer.send(ends[how])
    refusal = 0
    with trio.fail_after(2):
        # A stream that was reset while its nonsense was on the way is not heard of again.
        while how != "reset" and (is_refused_at_once or how == "end") and not refusal & (RST | FIN):
            refusal = (await peer.next_of(3)).flags
        assert await peer.read(1, len(proposal(ECHO))) == proposal(ECHO)
        await peer.send(data(1, b"the sibling works"))
        assert await peer.read(1, 17) == b"the sibling works"
    (connection,) = server._pool
    assert [stream.protocol_id for stream in connection.streams if stream.is_inbound] == [ECHO]
    assert connection.muxer.yamux.inbound_streams == (2 if how == "stay" and not refusal & RST else 1)
    await peer.link.close()


async def test_random_frames_of_a_proven_peer_hurt_nobody_else(start_node):
    server, client = await start_node(), await start_node()
    await _connect(client, server)
    choice = random.Random(20240607)
    for _ in range(30):
        peer = await _dial_raw(server)
        for _ in range(20):
            size = choice.choice([0, 1, 5, 300, 2**31])
            header = struct.pack(
                "!BBHII",
                choice.choice([0, 0, 0, 1, 255]),
                choice.randrange(5),
                choice.randrange(16),
                choice.randrange(6),
                size,
            )
            try:
                await peer.send(header + choice.randbytes(min(size, 300)))
            except LinkBrokenError:
                break
        await peer.link.close()
    stream = await client.open_stream(server.peer_id, ECHO)
    await stream.send(b"x")
    assert await stream.receive() == b"x"
    with trio.fail_after(3):
        while len(server._pool) > 1:
            await trio.lowlevel.checkpoint()
    assert server.connected_peers() == (client.peer_id,)


@pytest.mark.parametrize("flags", [0, SYN, ACK])
async def test_a_frame_over_the_window_is_not_taken_in(start_node, flags):
    server = await start_node()
    peer = await _dial_raw(server)
    if flags != SYN:
        await peer.send(update(1, 0, SYN))
    # Nothing of the frame was sent: its announcement alone ends the connection.
    await peer.send(Frame(DATA, flags, 1, 16 * 1024 * 1024).pack())
    with trio.fail_after(2):
        last = (await peer.rest())[-1]
    assert (last.kind, last.length) == (GO_AWAY, 1), "a protocol error"
    assert server.connected_peers() == ()
    await peer.link.close()
