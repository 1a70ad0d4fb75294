"""Nodes in virtual time: what takes minutes on real sockets."""

from __future__ import annotations

import pytest
import trio
from tests.simulated.nodes import ECHO, Nodes, nodes_on
from tests.support.simulated import simulated
from tests.support.wire_peer import WirePeer
from tests.support.yamux_wire import ping

from hostmesh.errors import ConnectionLostError, DialError
from hostmesh.net.address import AddressOrigin, AddressScope
from hostmesh.net.links import LinkBrokenError, link_over
from hostmesh.net.muxer import SILENCE_S
from hostmesh.net.node import Node, NodeConfig
from hostmesh.net.peer_key import PeerKey
from hostmesh.net.stream import Stream
from hostmesh.testing import Nat, make_peer_key

ROUND_TRIP_S = 0.04
"""Between two machines, by default."""
CONFIGURED, REMOTE = AddressOrigin.CONFIGURED, AddressOrigin.REMOTE


async def _pair(nodes: Nodes) -> tuple[Node, Node]:
    server = await nodes.start()
    client = await nodes.start(listen_addresses=())
    await client.connect(server.peer_id, server.listen_addresses(), origin=CONFIGURED)
    return client, server


async def _echo_works(client, server) -> None:
    stream = await client.open_stream(server.peer_id, ECHO)
    await stream.send(b"hello")
    assert await stream.receive() == b"hello"
    await stream.close()


async def _drain(stream) -> None:
    while await stream.receive():
        pass


@simulated(nodes_on)
async def test_no_socket_is_opened(nodes: Nodes, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(trio.socket, "socket", refuse)
    client, server = await _pair(nodes)
    await _echo_works(client, server)
    assert nodes.dials(client) == 1


@simulated(nodes_on)
async def test_reader_that_pauses_for_minutes_gets_everything(nodes: Nodes):
    """Stock Yamux gives up after 5 s and does not say so (G4)."""
    client, server = await _pair(nodes)
    data = bytes(range(256)) * 8192
    finished = trio.Event()

    async def send_much(stream: Stream) -> None:
        await stream.send(data)
        finished.set()

    server.set_stream_handler("/test/much/1", send_much)
    stream = await client.open_stream(server.peer_id, "/test/much/1")
    received = b""
    for _ in range(4):
        received += await stream.receive(1000)
        await trio.sleep(300)
        assert not finished.is_set()
    await _echo_works(client, server)
    while chunk := await stream.receive():
        received += chunk
    assert received == data
    assert finished.is_set()


@simulated(nodes_on)
async def test_a_writer_that_gives_up_tells_the_reader(nodes: Nodes):
    client, server = await _pair(nodes)
    gave_up_after_s: list[float] = []

    async def give_up(stream: Stream) -> None:
        began = trio.current_time()
        with trio.move_on_after(60):
            await stream.send(bytes(10_000_000))
        gave_up_after_s.append(trio.current_time() - began)
        await trio.sleep_forever()

    server.set_stream_handler("/test/give-up/1", give_up)
    stream = await client.open_stream(server.peer_id, "/test/give-up/1")
    await trio.sleep(100)
    assert gave_up_after_s == [pytest.approx(60, abs=ROUND_TRIP_S)]
    with trio.fail_after(1), pytest.raises(ConnectionLostError):
        await _drain(stream)
    await _echo_works(client, server)


@simulated(nodes_on)
async def test_buffered_bytes_are_bounded_by_the_window(nodes: Nodes):
    client, server = await _pair(nodes)
    sent = 0

    async def count(stream: Stream) -> None:
        nonlocal sent
        while True:
            await stream.send(bytes(1024))
            sent += 1024

    server.set_stream_handler("/test/count/1", count)
    await client.open_stream(server.peer_id, "/test/count/1")
    await trio.sleep(60)
    assert sent <= 256 * 1024


@simulated(nodes_on)
async def test_a_silent_peer_is_missed_within_a_minute(nodes: Nodes):
    client, server = await _pair(nodes)
    stream = await client.open_stream(server.peer_id, ECHO)
    await trio.sleep(600)
    assert client.is_connected(server.peer_id), "pings keep an idle connection"
    nodes.machine_of(server).power_off()
    began = trio.current_time()
    with pytest.raises(ConnectionLostError):
        await stream.receive()
    heard_s = max(event.time_s for event in nodes.net.trace if event.target == nodes.machine_of(client).name)
    assert heard_s < began < heard_s + 30, "it was the last ping"
    assert SILENCE_S <= trio.current_time() - heard_s < 60


@simulated(nodes_on)
async def test_streams_that_the_peer_never_closes_are_dropped(nodes: Nodes):
    client, server = await _pair(nodes)

    async def leave(stream: Stream) -> None:
        await stream.receive(1)

    server.set_stream_handler("/test/leave/1", leave)
    await trio.sleep(1)
    streams = []
    for _ in range(20):
        stream = await client.open_stream(server.peer_id, "/test/leave/1")
        await stream.send(b"more than is read")
        streams.append(stream)
    await trio.sleep(5)
    (connection,) = server._pool.of(client.peer_id)
    assert connection.muxer.yamux.inbound_streams == 20
    await trio.sleep(60)
    assert connection.muxer.yamux.inbound_streams == 0
    assert connection.streams == set()
    assert connection.muxer.yamux.unread_bytes == 0
    assert await streams[0].receive() == b""
    with pytest.raises(ConnectionLostError):
        await streams[0].send(b"nobody reads this")


@simulated(nodes_on)
async def test_a_peer_that_sends_past_the_window_is_dropped(nodes: Nodes, caplog):
    client, server = await _pair(nodes)

    async def never_read(stream: Stream) -> None:
        await trio.sleep_forever()

    server.set_stream_handler("/test/never/1", never_read)
    stream = await client.open_stream(server.peer_id, "/test/never/1")
    stream._yamux_stream.send_window = 10_000_000
    with trio.fail_after(5), pytest.raises(ConnectionLostError):
        await stream.send(bytes(10_000_000))
    await server.wait_disconnected(client.peer_id)
    assert "data over the window" in caplog.text


@simulated(nodes_on)
async def test_a_peer_that_reads_nothing_cannot_fill_the_queue(nodes: Nodes):
    """A flood of pings whose answers nobody reads: the queue of answers is bounded, then the peer is dropped."""
    server = await nodes.start()
    line = await nodes.net.machine("peer").network.dial(nodes.machine_of(server).address, 4001)
    peer = await WirePeer.dial(link_over(line, None), server.peer_id)
    await trio.sleep(1)
    (connection,) = server._pool
    most = 0

    async def flood() -> None:
        nonlocal most
        for number in range(100_000):
            await peer.send(ping(number) * 100)
            await trio.sleep(0.01)
            most = max(most, connection.muxer.unsent_bytes)

    with trio.fail_after(60), pytest.raises(LinkBrokenError):
        await flood()
    assert 200_000 < most < 300_000
    assert server.connected_peers() == ()


@simulated(nodes_on)
async def test_a_call_that_times_out_on_a_dead_line_takes_the_connection_with_it(nodes: Nodes):
    client, server = await _pair(nodes)
    await trio.sleep(1)
    nodes.net.stall(nodes.machine_of(client), nodes.machine_of(server))
    server.set_stream_handler("/test/unspoken/1", _drain)
    with pytest.raises(ConnectionLostError) as caught:
        await client.open_stream(server.peer_id, "/test/unspoken/1", timeout_s=10)
    assert not caught.value.may_have_executed
    nodes.net.heal()
    await _echo_works(client, server)
    assert nodes.dials(client) == 2


@simulated(nodes_on)
async def test_a_name_that_strangers_gave_is_resolved_and_checked(nodes: Nodes):
    server = await nodes.start()
    client = await nodes.start(listen_addresses=())
    nodes.net.names["good.example"] = (nodes.machine_of(server).address,)
    nodes.net.names["evil.example"] = ("127.0.0.1", "169.254.169.254")
    with pytest.raises(DialError) as caught:
        await client.connect(server.peer_id, ["/dns4/evil.example/tcp/4001"], origin=REMOTE)
    assert caught.value.stage == "dns"
    assert nodes.dials(client) == 0
    await client.connect(server.peer_id, ["/dns4/evil.example/tcp/4001", "/dns4/good.example/tcp/4001"], origin=REMOTE)
    assert nodes.dials(client) == 1


@simulated(nodes_on)
async def test_black_holes_are_left_behind(nodes: Nodes):
    server = await nodes.start()
    client = await nodes.start(listen_addresses=())
    addresses = ["/ip4/9.9.9.1/tcp/1", "/ip4/9.9.9.2/tcp/1", *server.listen_addresses()]
    began = trio.current_time()
    await client.connect(server.peer_id, addresses, origin=REMOTE)
    assert trio.current_time() - began == pytest.approx(0.5 + 2 * ROUND_TRIP_S), (
        "the dial and the handshake of the third"
    )
    assert client.addresses_of(server.peer_id)[0] == server.listen_addresses()[0], "what worked is tried first"


@simulated(nodes_on)
async def test_own_scopes_follow_listeners_and_configured_peers(nodes: Nodes):
    router = nodes.net.machine("behind-a-router", nat=Nat.NO_INBOUND)
    everywhere = await nodes.start(on=router, listen_addresses=("/ip4/0.0.0.0/tcp/4001",))
    assert everywhere.own_scopes() == {AddressScope.LOOPBACK, AddressScope.PRIVATE}
    private_address = f"/ip4/{router.interface_address}/tcp/4002"
    private = await nodes.start(on=router, key=make_peer_key("private"), listen_addresses=(private_address,))
    client = await nodes.start(on=router, key=make_peer_key("client"), listen_addresses=())
    with pytest.raises(DialError):
        await client.connect(private.peer_id, private.listen_addresses(), origin=REMOTE)
    await client.connect(private.peer_id, private.listen_addresses(), origin=CONFIGURED)
    assert client.own_scopes() == {AddressScope.PRIVATE}
    await client.disconnect(private.peer_id)
    assert client.own_scopes() == frozenset()


@simulated(nodes_on)
async def test_a_node_that_is_stopped_as_soon_as_it_runs_stops_in_order(nodes: Nodes):
    absent = make_peer_key("absent").peer_id
    bootstrap = (f"/ip4/127.0.0.1/tcp/1/p2p/{absent}",)
    machine = nodes.net.machine("one")
    # The order in which trio runs the tasks of a node is random: of 20 starts, some meet the bad one.
    for _ in range(20):
        config = NodeConfig(bootstrap_addresses=bootstrap)
        node = Node(config, PeerKey.generate(machine.system.random_bytes), network=machine.network)
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            await node.stop()
        assert not node.is_running
