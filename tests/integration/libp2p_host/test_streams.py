"""Streams of py-libp2p's protocols on a node: how they are opened, read, written and ended."""

from __future__ import annotations

import logging
from contextlib import suppress

import pytest
import trio
import trio.testing
from libp2p.host.exceptions import StreamFailure
from libp2p.host.ping import PingService
from libp2p.io.utils import read_exactly
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamClosed, StreamEOF, StreamReset
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr
from tests.integration.libp2p_host.conftest import info_of, reset_errors, stock_host, until

from hostmesh.errors import DialError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.libp2p_host import open_libp2p_host
from hostmesh.net.libp2p_stream import libp2p_id

ECHO = "/test/echo/1"
COUNT = "/test/count/1"
RESET = "/test/reset/1"


async def echo(stream):
    try:
        while True:
            await stream.write(await stream.read(1000))
    except StreamEOF:
        await stream.close()


async def count(stream):
    """Read to the end, then say how much it was: only a half-close makes that possible."""
    size = 0
    try:
        while True:
            size += len(await stream.read())
    except StreamEOF:
        await stream.write(str(size).encode())
        await stream.close()


async def reset(stream):
    await stream.read(1)
    await stream.reset()


HANDLERS = {ECHO: echo, COUNT: count, RESET: reset}


def serve(host):
    for protocol_id, handler in HANDLERS.items():
        host.set_stream_handler(protocol_id, handler)


@pytest.fixture
async def pair(start_node, request):
    """Yield a client and a server that are connected, one of them or both on a node."""
    if request.param == "node to node":
        async with open_libp2p_host(await start_node()) as client, open_libp2p_host(await start_node()) as server:
            serve(server)
            await client.connect(info_of(server))
            yield client, server
    else:
        async with open_libp2p_host(await start_node()) as ours, stock_host() as stock:
            client, server = (ours, stock) if request.param == "node to stock" else (stock, ours)
            serve(server)
            await client.connect(info_of(server))
            yield client, server


WAYS = pytest.mark.parametrize("pair", ["node to node", "node to stock", "stock to node"], indirect=True)


@WAYS
async def test_bytes_come_back_and_the_end_too(pair):
    client, server = pair
    stream = await client.new_stream(server.get_id(), [ECHO])
    assert stream.get_protocol() == ECHO
    assert stream.muxed_conn.peer_id == server.get_id()
    data = bytes(range(256)) * 1024

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.write, data)
        with trio.fail_after(10):
            assert await read_exactly(stream, len(data), retry_count=len(data)) == data
    await stream.close_write()
    with trio.fail_after(5), pytest.raises(StreamEOF):
        await stream.read(1)


@WAYS
async def test_half_close_leaves_the_other_way_open(pair):
    client, server = pair
    stream = await client.new_stream(server.get_id(), [COUNT])
    await stream.write(bytes(70_000))
    await stream.close_write()
    with pytest.raises(StreamClosed):
        await stream.write(b"x")
    with trio.fail_after(5):
        assert await read_exactly(stream, 5) == b"70000"
        with pytest.raises(StreamEOF):
            await stream.read()
    await stream.close()


@WAYS
async def test_the_servers_reset_is_no_end(pair):
    client, server = pair
    stream = await client.new_stream(server.get_id(), [RESET])
    await stream.write(b"x")
    with trio.fail_after(5), pytest.raises(reset_errors(client)):
        await stream.read(1)


@WAYS
async def test_the_clients_reset_is_no_end(pair):
    client, server = pair
    came, ended = trio.Event(), []

    async def wait_for_more(stream):
        await stream.read(1)
        came.set()
        try:
            await stream.read(1)
        except reset_errors(server) as error:
            ended.append(error)

    server.set_stream_handler("/test/wait/1", wait_for_more)
    stream = await client.new_stream(server.get_id(), ["/test/wait/1"])
    await stream.write(b"x")
    with trio.fail_after(5):
        await came.wait()
        await stream.reset()
        while not ended:
            await trio.lowlevel.checkpoint()
    with pytest.raises(StreamReset):
        await stream.read(1)


@WAYS
async def test_the_protocols_are_tried_in_order(pair):
    client, server = pair
    stream = await client.new_stream(server.get_id(), ["/test/unknown/1", COUNT, ECHO])
    assert stream.get_protocol() == COUNT
    await stream.reset()
    with pytest.raises(StreamFailure):
        await client.new_stream(server.get_id(), ["/test/unknown/1", "/test/unknown/2"])


@WAYS
async def test_ping(pair):
    client, server = pair
    for round_trip_ms in await PingService(client).ping(server.get_id(), 3):
        assert 0 <= round_trip_ms < 5000


async def test_a_handler_that_raises_ends_only_its_stream(start_node, caplog):
    async def fail(stream):
        await stream.read(1)
        raise ValueError("broken handler")

    node = await start_node()
    async with open_libp2p_host(node) as ours, stock_host() as stock:
        serve(ours)
        ours.set_stream_handler("/test/fail/1", fail)
        await stock.connect(info_of(ours))
        bystander = await stock.new_stream(ours.get_id(), [ECHO])
        failing = await stock.new_stream(ours.get_id(), ["/test/fail/1"])
        await failing.write(b"x")
        with trio.fail_after(5), pytest.raises(reset_errors(stock)):
            await failing.read(1)
        await bystander.write(b"still here")
        with trio.fail_after(5):
            assert await read_exactly(bystander, 10) == b"still here"
        assert "broken handler" in caplog.text
        assert "/test/fail/1" not in node.usage().inbound_streams


async def test_a_handler_that_meets_the_end_of_its_stream_is_no_fault(start_node, caplog):
    caplog.set_level(logging.WARNING, "hostmesh")

    async def read_on(stream):
        while True:
            await stream.read(1)

    async with open_libp2p_host(await start_node()) as client, open_libp2p_host(await start_node()) as server:
        server.set_stream_handler("/test/read-on/1", read_on)
        await client.connect(info_of(server))
        stream = await client.new_stream(server.get_id(), ["/test/read-on/1"])
        await stream.write(b"x")
        await stream.close_write()
        with trio.fail_after(5), pytest.raises(StreamReset):
            await stream.read(1)
    assert not caplog.records


async def test_a_stream_outlives_a_handler_that_keeps_it(start_node):
    kept = []

    async def keep(stream):
        kept.append(stream)

    async with open_libp2p_host(await start_node()) as client, open_libp2p_host(await start_node()) as server:
        server.set_stream_handler("/test/keep/1", keep)
        await client.connect(info_of(server))
        stream = await client.new_stream(server.get_id(), ["/test/keep/1"])
        await stream.write(b"x")
        with trio.fail_after(5):
            while not kept:
                await trio.lowlevel.checkpoint()
            assert await kept[0].read(1) == b"x"
            await kept[0].write(b"later")
            assert await read_exactly(stream, 5) == b"later"


async def test_a_cancelled_write_resets_the_stream_and_no_other(start_node):
    heard = []

    async def read_late(stream):
        await stream.wait_over()
        try:
            while True:
                await stream.read()
        except StreamReset:
            heard.append(stream)

    async with open_libp2p_host(await start_node()) as client, open_libp2p_host(await start_node()) as server:
        serve(server)
        server.set_stream_handler("/test/deaf/1", read_late)
        await client.connect(info_of(server))
        stream = await client.new_stream(server.get_id(), ["/test/deaf/1"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, bytes(4 << 20))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with trio.fail_after(5):
            while not heard:
                await trio.lowlevel.checkpoint()
        with pytest.raises(StreamReset):
            await stream.write(b"x")
        other = await client.new_stream(server.get_id(), [ECHO])
        await other.write(b"abc")
        assert await read_exactly(other, 3) == b"abc"


async def test_writes_of_several_tasks_do_not_mix(start_node):
    size, writers = 300_000, 4

    async with open_libp2p_host(await start_node()) as client, open_libp2p_host(await start_node()) as server:
        serve(server)
        await client.connect(info_of(server))
        stream = await client.new_stream(server.get_id(), [ECHO])
        async with trio.open_nursery() as nursery:
            for index in range(writers):
                nursery.start_soon(stream.write, bytes([index]) * size)
            with trio.fail_after(10):
                data = await read_exactly(stream, size * writers, retry_count=size * writers)
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        assert sorted(pieces) == [bytes([index]) * size for index in range(writers)]


async def test_what_cannot_be_dialled_is_a_swarm_exception_with_the_nodes_error(start_node, stock):
    async with open_libp2p_host(await start_node(connection_timeout_s=2.0)) as host:
        with pytest.raises(SwarmException) as caught:
            await host.connect(PeerInfo(stock.get_id(), [Multiaddr("/ip4/127.0.0.1/tcp/1")]))
        assert isinstance(caught.value.__cause__, DialError)
        with pytest.raises(SwarmException):
            await host.new_stream(stock.get_id(), [ECHO])


async def test_addresses_are_strangers_words_unless_the_caller_says_otherwise(start_node, stock):
    node = await start_node(listen_addresses=(), connection_timeout_s=2.0)
    async with open_libp2p_host(node) as host:
        with pytest.raises(SwarmException) as caught:
            await host.connect(info_of(stock))
        assert isinstance(caught.value.__cause__, DialError)
        assert caught.value.__cause__.stage == "address"
        assert not host.get_connected_peers()
        await host.connect(info_of(stock), origin=AddressOrigin.CONFIGURED)
        assert host.get_connected_peers() == [stock.get_id()]


async def test_a_new_stream_dials_what_a_protocol_put_into_the_peer_store(start_node, stock):
    serve(stock)
    async with open_libp2p_host(await start_node()) as host:
        host.get_peerstore().add_addrs(stock.get_id(), stock.get_addrs(), 60)
        stream = await host.new_stream(stock.get_id(), [ECHO])
        await stream.write(b"abc")
        assert await read_exactly(stream, 3) == b"abc"


async def test_a_handler_that_reads_to_the_end_and_returns_leaves_no_stream(start_node):
    async def read_all(stream):
        with suppress(StreamEOF):
            while True:
                await stream.read()

    node = await start_node()
    async with open_libp2p_host(await start_node()) as client, open_libp2p_host(node) as server:
        server.set_stream_handler("/test/sink/1", read_all)
        await client.connect(info_of(server))
        stream = await client.new_stream(server.get_id(), ["/test/sink/1"])
        await stream.write(b"all")
        await stream.close_write()
        with trio.fail_after(5), pytest.raises(StreamEOF):
            await stream.read()
        assert "/test/sink/1" not in node.usage().inbound_streams


async def test_a_stream_whose_protocol_is_refused_after_all_takes_up_no_place(start_node):
    """The peer has said that it speaks the protocol, so that nothing is waited for, and speaks it no longer."""
    node, peer = await start_node(), await start_node()
    peer.set_stream_handler(ECHO, echo)
    await node.connect(peer.peer_id, peer.peer_addresses())
    await until(lambda: ECHO in node.protocols_of(peer.peer_id))
    async with open_libp2p_host(node) as host:
        peer.remove_stream_handler(ECHO)
        stream = await host.new_stream(libp2p_id(peer.peer_id), [ECHO])
        await stream.write(b"for nobody")
        await stream.wait_over()
        await until(lambda: not node.usage().outbound_streams)
