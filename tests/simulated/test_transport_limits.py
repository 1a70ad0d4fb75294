"""Limits of connections, streams by peer and protocol, and memory: they hold, they are told, and others go on."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress

import pytest
import trio
import trio.testing
from tests.integration.transport import kit
from tests.integration.transport.kit import MIB, RST, RawPeer, data_frame, frame, open_frame, raw_peer
from tests.simulated.nodes import Nodes
from tests.simulated.transport import peers_on
from tests.support.jobs_unsigned import UnsignedJobs
from tests.support.simulated import eventually, simulated
from tests.support.yamux_wire import FrameReader

from hostmesh.errors import DialError, RpcError, StatusCode
from hostmesh.net.ledger import NodeUsage
from hostmesh.net.stream import Stream
from hostmesh.net.upgrade import HandshakeError
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.limits import CallLimits, RpcLimits, ServiceLimits
from hostmesh.rpc.server import CallContext, RpcServer, SendResponse
from hostmesh.testing import make_peer_key
from hostmesh.v1 import job_pb2, message_pb2

GENEROUS = CallLimits(max_concurrent=1000, calls_per_s=1e6, burst=100_000)


async def resets(peer: RawPeer) -> set[int]:
    """Return the streams that the node has reset; it has taken everything before that."""
    marker = 0x5EED
    await peer.send(frame(kit.PING, kit.SYN, 0, marker))
    reader, reset, is_answered = FrameReader(), set(), False
    while not is_answered:
        for came in reader.feed(await peer.receive()):
            if came.flags & RST:
                reset.add(came.stream_id)
            is_answered |= (came.kind, came.flags, came.length) == (kit.PING, kit.ACK, marker)
    return reset


@simulated(peers_on)
async def test_streams_of_a_peer_with_a_protocol_are_counted_over_all_its_connections(nodes: Nodes):
    """Else a peer had as many times its limit as it has connections."""
    server = await nodes.start(max_streams=10)
    (address,) = server.peer_addresses()
    key, strangers = make_peer_key("stranger"), nodes.net.machine("strangers").network
    async with (
        raw_peer(address, strangers, key) as first,
        raw_peer(address, strangers, key) as second,
        raw_peer(address, strangers) as other,
    ):
        for number in range(7):
            await first.send(open_frame(2 * number + 1, kit.HANG))
        assert await resets(first) == set()
        for number in range(7):
            await second.send(open_frame(2 * number + 1, kit.HANG))
        assert await resets(second) == {7, 9, 11, 13}, "the eleventh of this peer, and those after it"
        await second.send(open_frame(15, kit.ECHO))
        assert await resets(second) == set(), "of another protocol there is room"
        await other.send(open_frame(1, kit.HANG))
        assert await resets(other) == set(), "and for another peer"
        usage = server.usage()
        assert usage.inbound_streams == {kit.HANG: 11, kit.ECHO: 1}
        assert (usage.refused_streams, usage.connections, usage.inbound_connections) == (4, 3, 3)
        await first.send(frame(kit.WINDOW_UPDATE, RST, 1, 0))
        assert await resets(first) == set()
        await trio.sleep(0.2)
        await second.send(open_frame(17, kit.HANG), open_frame(19, kit.HANG))
        assert await resets(second) == {19}, "a place that was given back is taken once"
    await trio.sleep(0.2)
    assert server.usage().inbound_streams == {}


@simulated(peers_on)
async def test_calls_over_the_limit_of_streams_are_refused_before_they_are_made(nodes: Nodes):
    """With the error of the node, through the client of calls, and nothing of the call was sent."""
    limit = 20
    server, client = await nodes.start(max_streams=1000), await nodes.start(max_streams=limit)
    await kit.connect(client, server)
    streams = [await client.open_stream(server.peer_id, kit.ECHO) for _ in range(limit)]
    rpc = RpcClient(client, prefix="/hostmesh", system=nodes.machine_of(client).system)
    with pytest.raises(DialError) as caught:
        await rpc.unary(server.peer_id, kit.QUOTE, kit.QUOTE_REQUEST, timeout_s=5)
    assert (caught.value.stage, caught.value.may_have_executed, caught.value.retry_safe) == ("limit", False, True)
    assert "max_streams" in caught.value.remedy
    with pytest.raises(DialError):
        async with rpc.server_stream(server.peer_id, kit.RUN, kit.RUN_REQUEST, timeout_s=5):
            pass
    assert client.usage().outbound_streams == {kit.ECHO: limit}
    for stream in streams:
        await stream.send(b"x")
        assert await stream.receive() == b"x"
    assert server.usage().refused_streams == 0, "nothing of it reached the server"


class Hanging(UnsignedJobs):
    """Calls that do not end."""

    async def quote(self, request: job_pb2.QuoteRequest, context: CallContext) -> job_pb2.QuoteResponse:
        await trio.sleep_forever()
        raise AssertionError

    async def run(self, request: job_pb2.RunRequest, context: CallContext, send: SendResponse) -> None:
        await trio.sleep_forever()

    async def send(self, request: message_pb2.SendRequest, context: CallContext) -> message_pb2.SendResponse:
        await trio.sleep_forever()
        raise AssertionError


@simulated(peers_on)
async def test_calls_are_limited_by_peer_and_by_service(nodes: Nodes):
    """Ten of a peer, and fifteen of a service whoever calls; another service has room of its own."""

    def of(group: str) -> ServiceLimits:
        return ServiceLimits(
            group=group,
            per_peer=CallLimits(max_concurrent=10, calls_per_s=1e6, burst=100_000),
            per_service=CallLimits(max_concurrent=15, calls_per_s=1e6, burst=100_000),
        )

    server = await nodes.start()
    rpc_server = RpcServer(
        prefix="/hostmesh",
        system=nodes.machine_of(server).system,
        limits=RpcLimits(per_peer=GENEROUS, per_service=GENEROUS),
    )
    rpc_server.add_service(kit.JOBS, Hanging(), limits=of("jobs"))
    rpc_server.add_service(kit.MESSAGE_SERVICE, Hanging(), limits=of("messages"))
    for protocol_id, handler in rpc_server.stream_handlers().items():
        server.set_stream_handler(protocol_id, handler)
    clients = [await nodes.start(listen_addresses=()) for _ in range(2)]
    refused: list[list[RpcError]] = [[], []]

    async def call(number: int, make) -> None:  # type: ignore[no-untyped-def]
        rpc = RpcClient(clients[number], prefix="/hostmesh", system=nodes.machine_of(clients[number]).system)
        try:
            await make(rpc)
        except RpcError as error:
            refused[number].append(error)

    def quote(rpc: RpcClient):  # type: ignore[no-untyped-def]
        return rpc.unary(server.peer_id, kit.QUOTE, kit.QUOTE_REQUEST, timeout_s=60)

    def message(rpc: RpcClient):  # type: ignore[no-untyped-def]
        return rpc.unary(server.peer_id, kit.SEND, kit.LARGE_REQUEST, timeout_s=60)

    for client in clients:
        await kit.connect(client, server)
    async with trio.open_nursery() as nursery:
        for number, expected in ((0, 2), (1, 7)):
            for _ in range(12):
                nursery.start_soon(call, number, quote)
            await trio.sleep(1)
            assert len(refused[number]) == expected
            assert {(error.status, error.reason) for error in refused[number]} == {
                (StatusCode.RESOURCE_EXHAUSTED, "BUSY")
            }
            assert all(error.retry_after_ms for error in refused[number])
        assert [rpc_server.active_calls(client.peer_id) for client in clients] == [10, 5]
        nursery.start_soon(call, 1, message)
        await trio.sleep(1)
        assert len(refused[1]) == 7, "another service has places of its own"
        assert rpc_server.counters.calls["JobService", "RESOURCE_EXHAUSTED"] == 9
        assert server.usage().inbound_streams == {kit.JOB_PROTOCOL: 15, kit.MESSAGE_PROTOCOL: 1}
        nursery.cancel_scope.cancel()
    await trio.sleep(0.2)
    assert [rpc_server.active_calls(client.peer_id) for client in clients] == [0, 0]
    assert server.usage().inbound_streams == {}


@simulated(peers_on)
async def test_connections_are_limited_and_counted(nodes: Nodes):
    server = await nodes.start(max_connections=5, max_inbound_share=1.0)
    (address,) = server.peer_addresses()
    strangers = nodes.net.machine("strangers").network
    async with AsyncExitStack() as stack:
        for number in range(5):
            peer = await stack.enter_async_context(raw_peer(address, strangers))
            await peer.wait_answered()
            assert server.usage().connections == server.usage().inbound_connections == number + 1
        with trio.fail_after(10), suppress(HandshakeError):
            # Closed at once, whether or not there was time to shake hands.
            sixth = await stack.enter_async_context(raw_peer(address, strangers))
            await sixth.wait_ended()
        assert server.usage().connections == 5
        await peer.wait_answered()
    await eventually(lambda: not server.usage().connections, within_s=10)


@simulated(peers_on)
async def test_what_a_node_uses_is_told_to_the_byte(nodes: Nodes, narrow):
    """Streams in both directions, bytes that came and were not read, bytes that wait for the line; and zero after."""
    server, client = await nodes.start(), await nodes.start(listen_addresses=())
    await kit.connect(client, server)
    await trio.sleep(0.2)
    assert server.usage() == NodeUsage(
        connections=1,
        inbound_connections=1,
        inbound_streams={},
        outbound_streams={},
        unread_bytes=0,
        unsent_bytes=0,
        refused_streams=0,
        overflowed_streams=0,
    )
    hanging = [await client.open_stream(server.peer_id, kit.HANG) for _ in range(3)]
    for size, stream in enumerate(hanging, 1000):
        await stream.send(bytes(size))
    echoed = await client.open_stream(server.peer_id, kit.ECHO)
    await echoed.send(bytes(500))
    await trio.sleep(0.2)
    assert server.usage().inbound_streams == client.usage().outbound_streams == {kit.HANG: 3, kit.ECHO: 1}
    assert server.usage().unread_bytes == 3003
    assert client.usage().unread_bytes == 500
    assert client.usage().outbound_streams == {kit.HANG: 3, kit.ECHO: 1}
    assert (await echoed.receive(200), client.usage().unread_bytes) == (bytes(200), 300)

    # The line takes nothing more: what is sent waits here, in the open.
    nodes.machine_of(server).freeze()
    fill = 0
    while not client.usage().unsent_bytes:
        await hanging[1].send(bytes(1000))
        await trio.sleep(0.2)
        fill += 1000
    before = client.usage().unsent_bytes
    await hanging[0].send(bytes(10_000))
    await trio.sleep(0.2)
    assert 10_000 <= client.usage().unsent_bytes - before <= 10_000 + 100
    nodes.machine_of(server).resume()
    await trio.sleep(0.2)
    assert (client.usage().unsent_bytes, server.usage().unread_bytes) == (0, 13_003 + fill)
    await hanging[0].reset()
    await trio.sleep(0.2)
    assert server.usage().unread_bytes == 2003 + fill, "what nobody will read is not kept"
    await client.stop()
    await trio.sleep(0.2)
    usage = server.usage()
    assert (usage.connections, usage.inbound_streams, usage.unread_bytes, usage.unsent_bytes) == (0, {}, 0, 0)


@simulated(peers_on)
async def test_memory_over_the_limit_is_taken_from_those_who_hold_most(nodes: Nodes):
    server = await nodes.start(max_unread_bytes=MIB, max_connections=10)
    (address,) = server.peer_addresses()
    strangers = nodes.net.machine("strangers").network
    async with raw_peer(address, strangers) as modest, raw_peer(address, strangers) as greedy:
        await modest.send(open_frame(1, kit.HANG), data_frame(0, 1, bytes(60_000)))
        assert await resets(modest) == set()
        for stream_id in range(1, 41, 2):
            await greedy.send(open_frame(stream_id, kit.HANG), data_frame(0, stream_id, bytes(60_000)))
        over = -(-(21 * 60_000 - MIB) // 60_000)
        assert len(await resets(greedy)) == over
        assert await resets(modest) == set()
        usage = server.usage()
        assert (usage.overflowed_streams, usage.unread_bytes) == (over, (21 - over) * 60_000)


@simulated(peers_on)
async def test_a_handler_over_the_limit_of_memory_is_told(nodes: Nodes):
    """The reader of a stream that was reset for what is unread does not wait for ever."""
    ended = trio.Event()

    async def idle(stream: Stream) -> None:
        await stream.wait_reset()
        ended.set()

    server = await nodes.start(max_unread_bytes=MIB)
    server.set_stream_handler("/test/idle/1", idle)
    async with raw_peer(server.peer_addresses()[0], nodes.net.machine("stranger").network) as peer:
        for stream_id in range(1, 41, 2):
            await peer.send(open_frame(stream_id, "/test/idle/1"), data_frame(0, stream_id, bytes(60_000)))
        with trio.fail_after(5):
            await ended.wait()
