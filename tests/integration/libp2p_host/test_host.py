"""The life of a host on a node: what it leaves behind, whom it tells, and what it does not do."""

from __future__ import annotations

import subprocess
import sys

import pytest
import trio
from libp2p.abc import INotifee
from libp2p.host.exceptions import StreamFailure
from libp2p.host.ping import ID as PING_ID
from libp2p.host.ping import PingService
from libp2p.io.utils import read_exactly
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamReset
from libp2p.peer.peerinfo import PeerInfo
from libp2p.peer.peerstore import create_signed_peer_record
from libp2p.utils.varint import encode_uvarint
from multiaddr import Multiaddr
from tests.integration.libp2p_host.conftest import info_of, until

from hostmesh.errors import NodeNotRunningError, UsageError
from hostmesh.net.identify import IDENTIFY_ID
from hostmesh.net.libp2p_host import open_libp2p_host
from hostmesh.net.libp2p_stream import libp2p_id, node_peer_id

ECHO = "/test/echo/1"


async def echo(stream):
    while True:
        await stream.write(await stream.read(1000))


class Listener(INotifee):
    """Keeps what it is told."""

    def __init__(self, failing=False):
        self.told = []
        self._is_failing = failing

    async def connected(self, network, conn):
        self.told.append(("connected", conn.muxed_conn.peer_id))
        if self._is_failing:
            raise ValueError("broken notifee")

    async def disconnected(self, network, conn):
        self.told.append(("disconnected", conn.muxed_conn.peer_id))

    async def opened_stream(self, network, stream): ...
    async def closed_stream(self, network, stream): ...
    async def listen(self, network, multiaddr): ...
    async def listen_close(self, network, multiaddr): ...


async def test_a_notifee_is_told_who_is_there_and_who_comes_and_goes(start_node, stock, caplog):
    node, other = await start_node(), await start_node()
    await node.connect(other.peer_id, other.peer_addresses())
    there, coming = libp2p_id(other.peer_id), stock.get_id()
    async with open_libp2p_host(node) as host:
        listener, failing, removed = Listener(), Listener(failing=True), Listener()
        for each in (listener, failing, removed):
            host.get_network().register_notifee(each)
        host.get_network().remove_notifee(removed)
        await until(lambda: listener.told)
        await host.connect(info_of(stock))
        await until(lambda: len(listener.told) > 1)
        await host.disconnect(there)
        await until(lambda: len(listener.told) > 2)
        assert listener.told == [("connected", there), ("connected", coming), ("disconnected", there)]
        await until(lambda: failing.told == listener.told)
        assert not removed.told
    assert "broken notifee" in caplog.text


async def test_tags_are_kept_while_a_peer_is_connected(start_node, stock):
    async with open_libp2p_host(await start_node()) as host:
        peer_id, network = stock.get_id(), host.get_network()
        network.tag_peer(peer_id, "useful", 5)
        assert network.get_tag_info(peer_id) is None
        await host.connect(info_of(stock))
        network.tag_peer(peer_id, "useful", 5)
        network.protect(peer_id, "useful")
        assert network.get_tag_info(peer_id).value == 5
        assert network.is_protected(peer_id)
        await host.disconnect(peer_id)
        await until(lambda: network.get_tag_info(peer_id) is None)
        assert not network.is_protected(peer_id)


async def test_what_has_expired_goes_from_the_peer_store_and_the_host_stays(start_node, stock):
    async with open_libp2p_host(await start_node()) as host, trio.open_nursery() as nursery:
        store = host.get_peerstore()
        record = create_signed_peer_record(stock.get_id(), stock.get_addrs(), stock.get_private_key())
        assert store.consume_peer_record(record, 7200)
        store.peer_data_map[stock.get_id()].last_identified = 1  # seconds of 1970
        nursery.start_soon(store.start_cleanup_task, 0)
        await until(lambda: not store.has_peer(stock.get_id()))
        assert store.get_peer_record(stock.get_id()) is None
        nursery.cancel_scope.cancel()


async def test_a_node_that_stops_takes_the_hosts_streams_and_not_the_block(start_node, stock):
    node = await start_node()
    stock.set_stream_handler(ECHO, echo)
    async with open_libp2p_host(node) as host:
        await host.connect(info_of(stock))
        stream = await host.new_stream(stock.get_id(), [ECHO])
        await node.stop()
        with pytest.raises(StreamReset):
            await stream.read(1)
        with pytest.raises(SwarmException) as caught:
            await host.connect(info_of(stock))
        assert isinstance(caught.value.__cause__, NodeNotRunningError)
        assert not host.get_connected_peers()


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
        peer.set_stream_handler(ECHO, echo)
        peer.set_stream_handler("/test/hang/1", wait)
        await peer.connect(info_of_node(node))
        await settled(node, other)
        tasks = trio.lowlevel.current_statistics().tasks_living
        usage = node.usage()
        async with open_libp2p_host(node) as host:
            host.set_stream_handler(ECHO, echo)
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
        with trio.fail_after(5):
            while "/test/hang/1" in other.protocols_of(node.peer_id):  # noqa: ASYNC110 - identify has no event
                await trio.sleep(0.01)
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


async def test_a_cancelled_block_ends_its_handlers(start_node):
    running, ended = trio.Event(), trio.Event()

    async def hang(stream):
        running.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with open_libp2p_host(await start_node()) as peer:
        with trio.CancelScope() as scope:
            async with open_libp2p_host(await start_node()) as host:
                host.set_stream_handler("/test/hang/1", hang)
                await peer.connect(info_of(host))
                await peer.new_stream(host.get_id(), ["/test/hang/1"])
                await running.wait()
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert ended.is_set()


async def test_a_protocol_can_sign_with_the_nodes_key_but_neither_read_it_nor_speak_for_the_node(start_node):
    async with open_libp2p_host(await start_node()) as host:
        key = host.get_private_key()
        assert key.get_public_key().verify(b"some bytes", key.sign(b"some bytes"))
        with pytest.raises(UsageError):
            key.to_bytes()
        for ours in (
            b"noise-libp2p-static-key:" + bytes(32),
            encode_uvarint(20) + b"hostmesh:host-record",
            encode_uvarint(200) + b"hostmesh:",
        ):
            with pytest.raises(UsageError):
                key.sign(ours)


def test_nothing_else_of_hostmesh_imports_py_libp2p():
    code = """
import importlib, pkgutil, sys, hostmesh
for module in pkgutil.walk_packages(hostmesh.__path__, "hostmesh."):
    if not module.name.startswith("hostmesh.net.libp2p_") and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
assert "hostmesh.node_stack" in sys.modules
print(sorted({name.partition(".")[0] for name in sys.modules} & {"libp2p", "multiaddr"}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


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
