"""Streams of py-libp2p's protocols on a node: how they are opened, read, written and ended."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing
from libp2p.host.exceptions import StreamFailure
from libp2p.host.ping import ID as PING_ID
from libp2p.host.ping import PingService
from libp2p.io.utils import read_exactly
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamClosed, StreamEOF, StreamReset
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr
from tests.integration.libp2p_host.conftest import info_of, reset_errors, stock_host

from hostmesh.errors import DialError, NodeNotRunningError, UsageError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.identify import IDENTIFY_ID
from hostmesh.net.libp2p_host import open_libp2p_host
from hostmesh.net.libp2p_stream import libp2p_id, node_peer_id

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


async def test_leaving_the_block_leaves_nothing(start_node):
    node, other = await start_node(), await start_node()
    running, cancelled = trio.Event(), trio.Event()

    async def wait(stream):
        await stream.read()

    async def hang(stream):
        running.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with open_libp2p_host(other) as peer:
        serve(peer)
        peer.set_stream_handler("/test/hang/1", wait)
        await peer.connect(info_of_node(node))
        await settled(node, other)
        tasks = trio.lowlevel.current_statistics().tasks_living
        usage = node.usage()
        async with open_libp2p_host(node) as host:
            serve(host)
            host.set_stream_handler("/test/hang/1", hang)
            outbound = await host.new_stream(peer.get_id(), ["/test/hang/1"])
            inbound = await peer.new_stream(host.get_id(), ["/test/hang/1"])
            with trio.fail_after(5):
                await running.wait()
            assert node.usage().inbound_streams["/test/hang/1"] == 1
            assert node.usage().outbound_streams == {"/test/hang/1": 1}
        assert cancelled.is_set()
        assert node.usage().inbound_streams == usage.inbound_streams
        assert node.usage().outbound_streams == usage.outbound_streams
        for stream in (inbound, outbound):
            with trio.fail_after(5), pytest.raises(StreamReset):
                await stream.read(1)
        with trio.fail_after(5):
            while trio.lowlevel.current_statistics().tasks_living != tasks:
                await trio.lowlevel.checkpoint()
        with pytest.raises(StreamFailure):
            await peer.new_stream(libp2p_id(node.peer_id), [ECHO, "/test/hang/1"])
        with pytest.raises(SwarmException):
            await host.new_stream(peer.get_id(), [ECHO])
        with pytest.raises(NodeNotRunningError):
            host.set_stream_handler(ECHO, echo)
        assert node.is_running
        assert node.is_connected(other.peer_id)


def info_of_node(node):
    return PeerInfo(libp2p_id(node.peer_id), [Multiaddr(address) for address in node.peer_addresses()])


async def settled(*nodes):
    """Return once no node asks another who it is."""
    with trio.fail_after(5):
        while any(
            IDENTIFY_ID in (*node.usage().inbound_streams, *node.usage().outbound_streams)
            or not all(map(node.protocols_of, node.connected_peers()))
            for node in nodes
        ):
            await trio.lowlevel.checkpoint()


async def test_the_callers_error_comes_out_as_it_is(start_node):
    with pytest.raises(ZeroDivisionError):
        async with open_libp2p_host(await start_node()):
            raise ZeroDivisionError


async def test_a_node_that_does_not_run_has_no_host(start_node):
    node = await start_node()
    await node.stop()
    with pytest.raises(NodeNotRunningError):
        async with open_libp2p_host(node):
            pass


async def test_a_protocol_of_the_nodes_is_its_own_again(start_node, stock):
    node = await start_node()
    pinged = []

    async def answer(stream):
        pinged.append(stream.muxed_conn.peer_id)
        await stream.write(await read_exactly(stream, 32))
        await stream.close()

    async with open_libp2p_host(node) as host:
        host.set_stream_handler(PING_ID, answer)
        await stock.connect(info_of(host))
        await PingService(stock).ping(host.get_id())
        assert pinged == [stock.get_id()]
    await PingService(stock).ping(libp2p_id(node.peer_id))
    assert pinged == [stock.get_id()]


async def test_what_a_node_does_not_do_is_said(start_node, stock):
    async with open_libp2p_host(await start_node()) as host:
        await host.connect(info_of(stock))
        (connection,) = host.get_network().get_connections(stock.get_id())
        for refused in (
            lambda: host.get_network().listen(Multiaddr("/ip4/127.0.0.1/tcp/0")),
            lambda: host.get_network().new_stream(stock.get_id()),
            lambda: host.get_network().dial_addr(stock.get_addrs()[0], stock.get_id()),
            lambda: host.get_network().dial_addr_as_responder(stock.get_addrs()[0], stock.get_id()),
            lambda: connection.new_stream(),
            lambda: host.initiate_autotls_procedure(),
            lambda: host.get_network().run(),
        ):
            with pytest.raises(UsageError) as caught:
                await refused()
            assert caught.value.remedy
        with pytest.raises(UsageError):
            host.run([])
        assert node_peer_id(connection.peer_id) == host._node.connected_peers()[0]
