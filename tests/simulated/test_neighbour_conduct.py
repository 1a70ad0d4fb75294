"""Who fails calls again and again is no neighbour any more; who is slow, or slandered, is one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from tests.simulated.nodes import Nodes, nodes_on
from tests.support.simulated import eventually, simulated

from hostmesh.errors import DeadlineExceededError, DialError, HostmeshError, MalformedMessageError
from hostmesh.neighbours import EVENT_S, PATIENCE_S, NeighbourWatch
from hostmesh.net.address import AddressOrigin
from hostmesh.net.node import Node
from hostmesh.net.stream import Stream, StreamHandler
from hostmesh.reputation.peer_score_book import PeerScoreBook
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.server import RpcServer
from hostmesh.status.server import StatusServer
from hostmesh.system import System
from hostmesh.v1 import status_pb2
from hostmesh.v1.status_hostmesh import StatusServiceClient

CONFIGURED = AddressOrigin.CONFIGURED
PING = "/hostmesh/status/1.0.0"
MAX_CALLS = 30


class Pair:
    """A client that keeps scores, and a server that does what a test asks for."""

    def __init__(self, client: Node, server: Node, scores: PeerScoreBook, system: System) -> None:
        self.client, self.server, self.scores = client, server, scores
        rpc = RpcClient(client, prefix="/hostmesh", system=system, watch=NeighbourWatch(scores, system))
        self.status = StatusServiceClient(rpc, server.peer_id)

    async def connect(self) -> None:
        await self.client.connect(self.server.peer_id, self.server.listen_addresses(), origin=CONFIGURED)

    async def part(self) -> None:
        """End the connection, and wait until the server knows."""
        await self.client.disconnect(self.server.peer_id)
        await eventually(lambda: not self.server.is_connected(self.client.peer_id))

    async def ping(self, timeout_s: float = 5.0) -> str:
        """Ping once; return how it ended, as a class's name."""
        try:
            await self.status.ping(status_pb2.PingRequest(), timeout_s=timeout_s)
        except HostmeshError as error:
            return type(error).__name__
        return "answered"

    @property
    def is_neighbour(self) -> bool:
        return self.scores.may_dial(self.server.peer_id)


async def pair(nodes: Nodes, handler: StreamHandler | None = None) -> Pair:
    machine = nodes.net.machine("client")
    scores = PeerScoreBook(system=machine.system)
    client, server = await nodes.start(on=machine, peer_scores=scores), await nodes.start()
    if handler is None:
        answers = RpcServer(prefix="/hostmesh", system=machine.system)
        answers.add_service(StatusServer(lambda: None, machine.system))  # type: ignore[arg-type, return-value]
        nodes.nursery.start_soon(answers.run)
        handler = answers.stream_handlers()[PING]
    server.set_stream_handler(PING, handler)
    made = Pair(client, server, scores, machine.system)
    await made.connect()
    return made


async def say_nothing(stream: Stream) -> None:
    """Read the call, and keep it."""
    while await stream.receive():
        pass
    await trio.sleep_forever()


async def talk_nonsense(stream: Stream) -> None:
    """Answer with a frame that is no frame."""
    await stream.send(b"\x05\xff\xff\xff\xff\xff")
    await stream.close()


@simulated(nodes_on)
@pytest.mark.parametrize(
    ("handler", "error", "calls"),
    [(say_nothing, DeadlineExceededError, 5), (talk_nonsense, MalformedMessageError, 5)],
)
async def test_a_fast_peer_that_fails_every_call_is_blacklisted_by_the_fifth(
    nodes: Nodes, handler: StreamHandler, error: type[HostmeshError], calls: int
):
    world = await pair(nodes, handler)
    await eventually(lambda: world.client.rtt_s(world.server.peer_id) is not None)
    for _ in range(calls):
        assert world.is_neighbour
        assert await world.ping() == error.__name__
        await trio.sleep(EVENT_S)
    assert not world.is_neighbour
    # The connection stays usable; another one is neither made nor taken.
    assert world.client.is_connected(world.server.peer_id)
    await world.client.disconnect(world.server.peer_id)
    with pytest.raises(DialError, match="blacklisted"):
        await world.connect()


@simulated(nodes_on)
async def test_who_is_blacklisted_is_not_taken_in_until_its_time_is_over(nodes: Nodes):
    world = await pair(nodes, say_nothing)
    while world.is_neighbour:
        await world.ping()
    await world.part()
    back = world.client.peer_id, world.client.listen_addresses()
    # A listener refuses when the handshake is done: the dialler learns of it by the connection's end.
    await world.server.connect(*back, origin=CONFIGURED)
    assert nodes.dials(world.server) == 1
    assert not world.client.is_connected(world.server.peer_id)
    await eventually(lambda: not world.server.is_connected(world.client.peer_id), within_s=1)
    other = await nodes.start()
    await other.connect(*back, origin=CONFIGURED)
    await trio.sleep(600)
    assert world.client.is_connected(other.peer_id)
    await world.server.connect(*back, origin=CONFIGURED)
    await trio.sleep(1)
    assert world.client.is_connected(world.server.peer_id)


@simulated(nodes_on)
async def test_a_wanted_peer_is_taken_in_whatever_is_thought_of_it(nodes: Nodes):
    world = await pair(nodes, say_nothing)
    while world.is_neighbour:
        await world.ping()
    await world.part()
    with world.client.want(world.server.peer_id, (), origin=CONFIGURED):
        # Both dial at once: that of the server comes in.
        await world.server.connect(world.client.peer_id, world.client.listen_addresses(), origin=CONFIGURED)
        assert nodes.dials(world.server) == 1
        await trio.sleep(1)
        assert [each.peer_id for each in world.client.connections() if not each.is_outbound] == [world.server.peer_id]


@simulated(nodes_on)
@pytest.mark.parametrize("one_way_s", [0.02, 0.5, 1.4])
async def test_an_honest_peer_is_a_neighbour_however_slow_its_path_and_impatient_its_caller(
    nodes: Nodes, one_way_s: float
):
    world = await pair(nodes)
    nodes.net.link(nodes.machine_of(world.client), nodes.machine_of(world.server)).latency_s = one_way_s
    ends = [await world.ping(timeout_s) for timeout_s in (1.0, 2.0, PATIENCE_S) for _ in range(10)]
    assert ends.count("answered") >= 10, "the truth: it answers whoever waits"
    assert world.is_neighbour
    await trio.sleep(60)
    ends = [await world.ping(1.0) for _ in range(MAX_CALLS)]
    assert world.is_neighbour
    assert world.scores.score_of(world.server.peer_id) >= 0.5 or one_way_s > 0.5


@simulated(nodes_on)
async def test_calls_that_were_under_way_together_are_one_event(nodes: Nodes):
    world = await pair(nodes, say_nothing)
    async with trio.open_nursery() as nursery:
        for _ in range(MAX_CALLS):
            nursery.start_soon(world.ping)
    assert world.is_neighbour


@simulated(nodes_on)
async def test_round_trips_are_taken_while_the_connection_stands(nodes: Nodes):
    world = await pair(nodes)
    await trio.sleep(10)
    assert world.client.is_connected(world.server.peer_id)
    assert world.scores.score_of(world.server.peer_id) == pytest.approx(0.3 + 0.25 + 0.1), "40 ms there and back"


async def _answer_elsewhere(world: Pair, nodes: Nodes) -> None:
    """Somebody names an address at which another peer listens."""
    other = await nodes.start()
    await world.client.disconnect(world.server.peer_id)
    world.server.remove_stream_handler(PING)
    await nodes.machine_of(world.server).restart()
    with pytest.raises(DialError):
        await world.client.connect(world.server.peer_id, other.listen_addresses())


async def _cut_the_way(world: Pair, nodes: Nodes) -> None:
    """Somebody between the two ends the connection while calls are under way."""
    link = nodes.net.link(nodes.machine_of(world.client), nodes.machine_of(world.server))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.ping)
        await trio.sleep(0.01)
        link.is_cut = True
        await world.client.disconnect(world.server.peer_id)
    await world.ping()
    link.is_cut = False


@simulated(nodes_on)
@pytest.mark.parametrize("deed", [_answer_elsewhere, _cut_the_way])
async def test_what_others_can_bring_about_does_not_count(nodes: Nodes, deed: Callable[[Pair, Nodes], Awaitable[None]]):
    world = await pair(nodes)
    before = world.scores.score_of(world.server.peer_id)
    await deed(world, nodes)
    assert world.scores.score_of(world.server.peer_id) >= before
    assert world.is_neighbour


@simulated(nodes_on)
async def test_a_caller_that_gives_up_and_a_peer_that_lacks_the_protocol_tell_nothing(nodes: Nodes):
    world = await pair(nodes, say_nothing)
    before = world.scores.score_of(world.server.peer_id)
    for _ in range(10):
        with trio.move_on_after(PATIENCE_S + 1):
            await world.status.ping(status_pb2.PingRequest(), timeout_s=60)
    world.server.remove_stream_handler(PING)
    assert {await world.ping() for _ in range(10)} <= {"ProtocolNotSupportedError", "ConnectionLostError"}
    assert world.scores.score_of(world.server.peer_id) >= before
