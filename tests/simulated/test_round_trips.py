"""How often a call waits for the line: on a network that takes 50 ms one way, so that every wait shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from tests.integration.transport import kit
from tests.integration.transport.kit import ACK, PING, SYN, RawPeer, frame, raw_peer
from tests.simulated.nodes import Nodes
from tests.simulated.transport import peers_on
from tests.support.jobs_unsigned import UnsignedJobs
from tests.support.simulated import simulated
from tests.support.yamux_wire import FrameReader

from hostmesh.net.address import AddressOrigin
from hostmesh.net.connection_keeper import TICK_S
from hostmesh.net.links import LinkBrokenError, link_over
from hostmesh.net.node import Node
from hostmesh.net.pinger import PING_S
from hostmesh.net.upgrade import Upgrader
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.server import CallContext, RpcServer, SendResponse
from hostmesh.testing import LinkProfile, SimNetwork, SimOptions, make_peer_key
from hostmesh.v1 import job_pb2

DELAY_S = 0.05
ROUND_TRIP_S = 2 * DELAY_S
CONFIGURED = AddressOrigin.CONFIGURED
FAR = SimOptions(link=LinkProfile(latency_s=DELAY_S))


class Jobs(UnsignedJobs):
    async def quote(self, request: job_pb2.QuoteRequest, context: CallContext) -> job_pb2.QuoteResponse:
        return job_pb2.QuoteResponse(quote=bytes(300))

    async def run(self, request: job_pb2.RunRequest, context: CallContext, send: SendResponse) -> None:
        for _ in range(100):
            await send(job_pb2.RunResponse(text=job_pb2.TextDelta(index=0, text="x")))


class World:
    """Two nodes at both ends of a line, which is quiet: identify is over, nothing is on its way."""

    def __init__(self, nodes: Nodes, client: Node, server: Node) -> None:
        self.client, self.server = client, server
        self.rpc = RpcClient(client, prefix="/hostmesh", system=nodes.machine_of(client).system)

    async def quote(self) -> None:
        await self.rpc.unary(self.server.peer_id, kit.QUOTE, kit.QUOTE_REQUEST, timeout_s=5)


class Watch:
    """Counts the round trips since it was made."""

    def __init__(self) -> None:
        self._began_s = trio.current_time()

    @property
    def round_trips(self) -> float:
        return round((trio.current_time() - self._began_s) / ROUND_TRIP_S, 3)


@asynccontextmanager
async def world_of(net: SimNetwork) -> AsyncIterator[World]:
    async with peers_on(net) as nodes:
        server, client = await nodes.start(), await nodes.start(listen_addresses=())
        rpc_server = RpcServer(prefix="/hostmesh", system=nodes.machine_of(server).system)
        rpc_server.add_service(kit.JOBS, Jobs())
        for protocol_id, handler in rpc_server.stream_handlers().items():
            server.set_stream_handler(protocol_id, handler)
        await kit.connect(client, server)
        await trio.sleep(1)
        yield World(nodes, client, server)


# --- what a call waits for ---


@simulated(world_of, network=FAR)
async def test_a_unary_call_takes_one_round_trip(world: World):
    for calls in range(1, 6):
        watch = Watch()
        for _ in range(calls):
            await world.quote()
        assert watch.round_trips == calls, "nothing before it, and nothing after its answer"


@simulated(world_of, network=FAR)
async def test_calls_at_once_take_one_round_trip_together(world: World):
    watch = Watch()
    async with trio.open_nursery() as nursery:
        # Their answers fit into the ten segments that TCP sends before it hears anything.
        for _ in range(30):
            nursery.start_soon(world.quote)
    assert watch.round_trips == 1


@simulated(world_of, network=FAR)
async def test_a_stream_of_responses_takes_one_round_trip_with_its_end(world: World):
    watch = Watch()
    async with world.rpc.server_stream(world.server.peer_id, kit.RUN, kit.RUN_REQUEST, timeout_s=5) as responses:
        assert watch.round_trips == 0
        assert len([response async for response in responses]) == 100
    assert watch.round_trips == 1


@simulated(world_of, network=FAR)
async def test_streams_are_opened_ended_and_left_without_a_wait(world: World):
    watch = Watch()
    stream = await world.client.open_stream(world.server.peer_id, kit.ECHO)
    await stream.send(b"hello")
    await stream.close_write()
    assert watch.round_trips == 0
    assert await stream.receive() == b"hello"
    assert await stream.receive() == b""
    assert watch.round_trips == 1
    await stream.close()
    abandoned = await world.client.open_stream(world.server.peer_id, kit.HANG)
    await abandoned.send(b"x")
    await abandoned.reset()
    assert watch.round_trips == 1


@simulated(world_of, network=FAR)
async def test_a_protocol_that_the_peer_did_not_tell_costs_one_round_trip_more(world: World):
    world.server.set_stream_handler(kit.UNTOLD, kit.HANDLERS[kit.ECHO])
    watch = Watch()
    stream = await world.client.open_stream(world.server.peer_id, kit.UNTOLD)
    assert watch.round_trips == 1
    await stream.send(b"hello", end=True)
    assert await stream.receive() == b"hello"
    assert watch.round_trips == 2


@simulated(peers_on, network=FAR)
async def test_first_contact(nodes: Nodes):
    server, client = await nodes.start(), await nodes.start(listen_addresses=())
    client.add_addresses(server.peer_id, server.listen_addresses(), CONFIGURED)
    watch = Watch()
    await client.connect(server.peer_id)
    assert watch.round_trips == 2, "one of TCP, one of Noise; the dialer's last words need no answer"
    stream = await client.open_stream(server.peer_id, kit.ECHO)
    assert watch.round_trips == 3, "what the server speaks is not known yet"
    await stream.send(b"hello", end=True)
    assert await stream.receive() == b"hello"
    assert watch.round_trips == 4


# --- the round trip of a connection ---


async def answer_pings(peer: RawPeer) -> None:
    """Speak Yamux and nothing else: no protocol, no answer to any stream."""
    reader = FrameReader()
    with suppress(LinkBrokenError):
        while received := await peer.receive():
            for came in reader.feed(received):
                if (came.kind, came.flags) == (PING, SYN):
                    await peer.send(frame(PING, ACK, 0, came.length))


async def listen_raw(nodes: Nodes) -> tuple[str, str]:
    """Listen for one connection, and answer its pings; return the listener's peer id and address."""
    key, machine = make_peer_key("raw"), nodes.net.machine("raw")
    bound = await machine.network.listen(machine.address, 0)

    async def serve() -> None:
        async with bound.listener:
            stream = await bound.listener.accept()
        link = link_over(stream, None)
        try:
            await answer_pings(RawPeer(await Upgrader(key).inbound(link)))
        finally:
            await link.close()

    nodes.nursery.start_soon(serve)
    return key.peer_id, f"/ip4/{machine.address}/tcp/{bound.port}"


@simulated(peers_on, network=FAR)
async def test_the_round_trip_to_a_peer_that_speaks_nothing_but_yamux(nodes: Nodes):
    node = await nodes.start(listen_addresses=())
    peer_id, address = await listen_raw(nodes)
    assert node.rtt_s(peer_id) is None
    await node.connect(peer_id, [address], origin=CONFIGURED)
    assert node.rtt_s(peer_id) is None, "unknown is not zero"
    await trio.sleep(ROUND_TRIP_S + 0.001)
    assert node.rtt_s(peer_id) == pytest.approx(ROUND_TRIP_S)
    assert node.protocols_of(peer_id) == ()

    nodes.net.link("raw", nodes.machine_of(node)).latency_s = 0.2
    await trio.sleep(PING_S + TICK_S + 0.4)
    assert node.rtt_s(peer_id) == pytest.approx(0.4), "it is the line's as it is now"
    await trio.sleep(3600)
    assert node.rtt_s(peer_id) == pytest.approx(0.4)
    await node.disconnect(peer_id)
    assert node.rtt_s(peer_id) is None


@simulated(peers_on, network=FAR)
async def test_the_round_trip_to_a_raw_peer_that_dialled(nodes: Nodes):
    node = await nodes.start()
    async with raw_peer(node.peer_addresses()[0], nodes.net.machine("raw").network) as peer:
        nodes.nursery.start_soon(answer_pings, peer)
        await trio.sleep(1)
        (peer_id,) = node.connected_peers()
        assert node.rtt_s(peer_id) == pytest.approx(ROUND_TRIP_S)


@simulated(peers_on, network=FAR)
async def test_a_peer_that_answers_no_ping_has_no_round_trip(nodes: Nodes):
    node = await nodes.start()
    async with raw_peer(node.peer_addresses()[0], nodes.net.machine("raw").network) as peer:
        for value in range(30):
            await trio.sleep(10)
            # It is not silent, and its answers are to other questions.
            await peer.send(frame(PING, SYN, 0, value), frame(PING, ACK, 0, 0xFFFF0000 + value))
        (peer_id,) = node.connected_peers()
        assert node.rtt_s(peer_id) is None
