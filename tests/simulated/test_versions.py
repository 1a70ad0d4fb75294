"""Nodes that speak different versions of a protocol, on a line that takes 50 ms one way: what each call agrees on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.wrappers_pb2 import Int64Value
from tests.simulated.nodes import Nodes, nodes_on
from tests.support.simulated import eventually, simulated

from hostmesh.errors import ProtocolNotSupportedError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.identify import IDENTIFY_ID, PUSH_ID
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.method import AnyMethod, method
from hostmesh.rpc.retry import RetryPolicy
from hostmesh.rpc.server import CallContext, RpcServer
from hostmesh.testing import LinkProfile, SimNetwork, SimNode, SimOptions, make_peer_key, make_service, open_nodes
from hostmesh.v1.identify_pb2 import Identify
from hostmesh.wire.framing import encode_frame

DELAY_S = 0.05
ROUND_TRIP_S = 2 * DELAY_S
FAR = SimOptions(link=LinkProfile(latency_s=DELAY_S))
CHAT = "/hostmesh/chat"


def chat(version: str, min_version: str = "") -> ServiceDescriptor:
    return make_service(
        "chat",
        version=version,
        min_version=min_version,
        streams=["Listen", "Talk"],
        request_streams=["Tell", "Talk"],
        Say=(Int64Value, Int64Value),
        Listen=(Int64Value, Int64Value),
        Tell=(Int64Value, Int64Value),
        Talk=(Int64Value, Int64Value),
    )


def say(service: ServiceDescriptor) -> AnyMethod:
    return method(service, "Say", Int64Value, Int64Value)


class Journal:
    """Handles every method, and notes the version of each call that runs."""

    def __init__(self) -> None:
        self.versions: list[str] = []

    def take(self) -> list[str]:
        taken, self.versions = self.versions, []
        return taken

    async def say(self, request: Int64Value, context: CallContext) -> Int64Value:
        self.versions.append(context.version)
        return Int64Value(value=1)

    async def listen(self, request: Int64Value, context: CallContext, send: Any) -> None:
        self.versions.append(context.version)
        await send(Int64Value(value=1))

    async def tell(self, requests: Any, context: CallContext) -> Int64Value:
        self.versions.append(context.version)
        return Int64Value(value=len([request async for request in requests]))

    async def talk(self, requests: Any, context: CallContext, send: Any) -> None:
        self.versions.append(context.version)
        async for request in requests:
            await send(request)


Call = Callable[[RpcClient, PeerId, ServiceDescriptor], Awaitable[None]]


async def unary(client: RpcClient, peer_id: PeerId, service: ServiceDescriptor) -> None:
    await client.unary(peer_id, say(service), Int64Value(), timeout_s=5)


async def server_stream(client: RpcClient, peer_id: PeerId, service: ServiceDescriptor) -> None:
    listen = method(service, "Listen", Int64Value, Int64Value)
    async with client.server_stream(peer_id, listen, Int64Value(), timeout_s=5) as responses:
        assert len([response async for response in responses]) == 1


async def client_stream(client: RpcClient, peer_id: PeerId, service: ServiceDescriptor) -> None:
    async with client.client_stream(peer_id, method(service, "Tell", Int64Value, Int64Value), timeout_s=5) as call:
        await call.send(Int64Value(value=1))
        assert (await call.finish()).value == 1


async def bidi_stream(client: RpcClient, peer_id: PeerId, service: ServiceDescriptor) -> None:
    async with client.bidi_stream(peer_id, method(service, "Talk", Int64Value, Int64Value), timeout_s=5) as call:
        await call.send(Int64Value(value=1))
        await call.end()
        assert len([response async for response in call]) == 1


SHAPES = pytest.mark.parametrize("call", [unary, server_stream, client_stream, bidi_stream])


class Watch:
    """Counts the round trips since it was made."""

    def __init__(self) -> None:
        self._began_s = trio.current_time()

    @property
    def round_trips(self) -> float:
        return round((trio.current_time() - self._began_s) / ROUND_TRIP_S, 3)


# --- two applications ---


class World:
    """A node that serves, and one that calls it."""

    def __init__(self, near: SimNode, far: SimNode) -> None:
        self.near, self.far = near, far
        self.journal = Journal()
        self.client = near.sdk.get_rpc_client()

    def node(self, which: SimNode) -> Node:
        return which.sdk._running().node

    def serve(self, *services: ServiceDescriptor) -> None:
        for service in services:
            self.far.sdk.serve(service, self.journal)

    def told(self) -> set[str]:
        """Return the versions of which the caller was told."""
        ids = self.node(self.near).protocols_of(self.far.peer_id)
        return {each.rpartition("/")[2] for each in ids if each.startswith(f"{CHAT}/")}

    async def settle(self) -> None:
        await trio.sleep(3)


@asynccontextmanager
async def world_on(network: SimNetwork) -> AsyncIterator[World]:
    async with open_nodes(network, 2) as (far, near):
        world = World(near, far)
        await world.settle()
        yield world


@pytest.mark.parametrize(
    ("theirs", "ours", "agreed"),
    [
        (("1.2.0", "1.0.0"), ("1.2.0", "1.0.0"), "1.2.0"),
        (("1.2.0", "1.0.0"), ("1.4.0", "1.1.0"), "1.2.0"),
        (("1.7.0", "1.0.0"), ("1.1.0", "1.0.0"), "1.1.0"),
        (("1.7.0", "1.0.0"), ("1.0.0", ""), "1.0.0"),
        (("1.0.0", ""), ("1.7.0", "1.0.0"), "1.0.0"),
        (("1.3.0", "1.2.0"), ("1.2.0", "1.0.0"), "1.2.0"),
    ],
    ids=["same", "overlap", "older client", "oldest client", "older server", "edge"],
)
@SHAPES
@simulated(world_on, network=FAR)
async def test_the_highest_common_version_without_a_wait(world: World, theirs, ours, agreed, call: Call):
    world.serve(chat(*theirs))
    await world.settle()
    watch = Watch()
    await call(world.client, world.far.peer_id, chat(*ours))
    assert world.journal.take() == [agreed]
    assert watch.round_trips == 1, "as a call of one version"


NONE_IN_COMMON = pytest.mark.parametrize(
    ("theirs", "ours", "said", "remedy"),
    [
        (("1.2.0", "1.0.0"), ("2.1.0", "2.0.0"), "this node speaks 2.0.0 to 2.1.0, PEER speaks 1.0.0 to 1.2.0", "PEER"),
        (("1.5.0", "1.4.0"), ("1.3.0", "1.2.0"), "this node speaks 1.2.0 to 1.3.0, PEER speaks 1.4.0 to 1.5.0", "this"),
        (("1.0.0", ""), ("1.1.0", ""), "this node speaks 1.1.0, PEER speaks 1.0.0", "PEER"),
    ],
)


@NONE_IN_COMMON
@SHAPES
@simulated(world_on, network=FAR)
async def test_none_in_common_names_both_ranges_and_runs_nothing(world: World, theirs, ours, said, remedy, call: Call):
    world.serve(chat(*theirs))
    await world.settle()
    with pytest.raises(ProtocolNotSupportedError) as caught:
        await call(world.client, world.far.peer_id, chat(*ours))
    error = caught.value
    assert error.message == f"{CHAT}: {said}".replace("PEER", world.far.peer_id)
    assert error.remedy.startswith(remedy.replace("PEER", world.far.peer_id))
    assert error.needed == f"{CHAT}/{ours[0]}"
    assert f"{CHAT}/{theirs[0]}" in error.offered
    assert not error.may_have_executed
    assert not error.retry_safe
    assert world.journal.take() == []


@SHAPES
@simulated(world_on, network=FAR)
async def test_a_peer_without_the_protocol_is_told_as_that(world: World, call: Call):
    with pytest.raises(ProtocolNotSupportedError) as caught:
        await call(world.client, world.far.peer_id, chat("1.1.0", "1.0.0"))
    assert caught.value.message == (
        f"{CHAT}: this node speaks 1.0.0 to 1.1.0, {world.far.peer_id} speaks no version of it"
    )


@simulated(world_on, network=FAR)
async def test_gaps_and_nonsense_mislead_nobody(world: World):
    node = world.node(world.far)
    odd = ["1.0.0", "1.3.0", "1.03.0", "1.2", "one", "1.2.0 ", "1.2.0\u0661", *(f"9.{minor}.7" for minor in range(150))]
    for version in odd:
        node.set_stream_handler(f"{CHAT}/{version}", _unused)
    await world.settle()
    with pytest.raises(ProtocolNotSupportedError) as caught:
        await unary(world.client, world.far.peer_id, chat("1.2.0", "1.1.0"))
    assert caught.value.message == (
        f"{CHAT}: this node speaks 1.1.0 to 1.2.0, {world.far.peer_id} speaks 1.0.0, 1.3.0, 9.0.7, 9.1.7 and 148 more"
    )


async def _unused(stream: object) -> None:
    raise AssertionError("nobody agreed to this")


# --- versions that come and go ---


@SHAPES
@simulated(world_on, network=FAR)
async def test_a_version_that_is_added_is_used_and_one_that_is_withdrawn_is_not(world: World, call: Call):
    old, new, ours = chat("1.1.0", "1.0.0"), chat("1.3.0", "1.2.0"), chat("1.3.0", "1.0.0")
    peer_id = world.far.peer_id
    for change, told, agreed in [
        (lambda: world.serve(old), {"1.0.0", "1.1.0"}, "1.1.0"),
        (lambda: world.serve(new), {"1.0.0", "1.1.0", "1.2.0", "1.3.0"}, "1.3.0"),
        (lambda: world.far.sdk.withdraw(new), {"1.0.0", "1.1.0"}, "1.1.0"),
    ]:
        change()
        await eventually(lambda told=told: world.told() == told, within_s=2)
        watch = Watch()
        await call(world.client, peer_id, ours)
        assert watch.round_trips == 1
        assert world.journal.take() == [agreed]
    world.far.sdk.withdraw(old)
    await eventually(lambda: not world.told(), within_s=2)
    with pytest.raises(ProtocolNotSupportedError, match="speaks no version of it"):
        await call(world.client, peer_id, ours)
    assert world.journal.take() == []


@SHAPES
@simulated(world_on, network=FAR)
async def test_a_call_that_meets_the_withdrawal_ran_nowhere_and_may_be_made_again(world: World, call: Call):
    old, new, ours = chat("1.1.0", "1.0.0"), chat("1.2.0"), chat("1.2.0", "1.0.0")
    world.serve(old, new)
    await world.settle()
    world.far.sdk.withdraw(new)
    with pytest.raises(ProtocolNotSupportedError) as caught:
        await call(world.client, world.far.peer_id, ours)  # the news is on its way
    assert world.journal.take() == []
    assert caught.value.message == (
        f"{CHAT}: this node speaks 1.0.0 to 1.2.0, {world.far.peer_id} speaks 1.0.0 to 1.1.0, "
        "and refused 1.2.0, which it had told"
    )
    assert (caught.value.retry_safe, caught.value.may_have_executed) == (True, False)
    await call(world.client, world.far.peer_id, ours)
    assert world.journal.take() == ["1.1.0"]


@simulated(world_on, network=FAR)
async def test_a_retry_policy_takes_the_next_common_version(world: World):
    old, new, ours = chat("1.1.0", "1.0.0"), chat("1.2.0"), chat("1.2.0", "1.0.0")
    world.serve(old, new)
    await world.settle()
    world.far.sdk.withdraw(new)
    await world.client.unary(world.far.peer_id, say(ours), Int64Value(), timeout_s=5, retry=RetryPolicy())
    assert world.journal.take() == ["1.1.0"], "once"


@simulated(world_on, network=FAR)
async def test_all_that_is_withdrawn_while_a_call_is_under_way_is_named_by_the_refusal(world: World):
    served = chat("1.1.0", "1.0.0")
    world.serve(served)
    await world.settle()
    world.far.sdk.withdraw(served)
    with pytest.raises(ProtocolNotSupportedError) as caught:
        await unary(world.client, world.far.peer_id, chat("1.1.0"))
    assert caught.value.message == (f"{CHAT}: this node speaks 1.1.0, {world.far.peer_id} speaks no version of it"), (
        "by the peer's latest word"
    )
    assert not caught.value.retry_safe
    assert world.journal.take() == []


@simulated(world_on, network=FAR)
async def test_many_changes_at_once_are_told_together(world: World):
    node = world.node(world.far)
    pushes: list[float] = []
    taken = world.node(world.near).remove_stream_handler(PUSH_ID)
    assert taken is not None

    async def count(stream: Any) -> None:
        pushes.append(trio.current_time())
        await taken(stream)

    world.node(world.near).set_stream_handler(PUSH_ID, count)
    await world.settle()
    for number in range(100):
        node.set_stream_handler(f"/test/many{number}/1", _unused)
    await world.settle()
    assert len(pushes) == 1
    assert node.remove_stream_handler("/test/never/1") is None
    await world.settle()
    assert len(pushes) == 1, "nothing has changed"
    for number in range(100):
        node.remove_stream_handler(f"/test/many{number}/1")
        await trio.sleep(0.05)
    await world.settle()
    assert 1 < len(pushes) <= 1 + 7, "at most one a second"
    assert not any("/test/many" in each for each in world.node(world.near).protocols_of(world.far.peer_id))


# --- bare nodes: what is before identify, or without it ---


class Pair:
    """Starts servers of one key in turn, and calls them from one client."""

    def __init__(self, nodes: Nodes, client: Node) -> None:
        self.nodes, self.client = nodes, client
        self.rpc = RpcClient(client, prefix="/hostmesh", system=nodes.machine_of(client).system)
        self.journal = Journal()
        self.machine = nodes.net.machine("server")
        self.peer_id = make_peer_key("server").peer_id

    async def start(self, *ranges: tuple[str, str], without: tuple[str, ...] = ()) -> Node:
        server = await self.nodes.start(on=self.machine, key=make_peer_key("server"))
        rpc_server = RpcServer(prefix="/hostmesh", system=self.machine.system)
        for each in ranges:
            rpc_server.add_service(chat(*each), self.journal)
        for protocol_id, handler in rpc_server.stream_handlers().items():
            server.set_stream_handler(protocol_id, handler)
        for protocol_id in without:
            server.remove_stream_handler(protocol_id)
        self.client.add_addresses(self.peer_id, server.listen_addresses(), AddressOrigin.CONFIGURED)
        return server

    async def connect(self) -> Watch:
        """Connect, and return the watch of the first call's round trips: identify has just begun."""
        await self.client.connect(self.peer_id)
        return Watch()


@asynccontextmanager
async def pair_on(net: SimNetwork) -> AsyncIterator[Pair]:
    async with nodes_on(net, {}) as nodes:
        yield Pair(nodes, await nodes.start(listen_addresses=()))


@SHAPES
@simulated(pair_on, network=FAR)
async def test_the_first_call_of_a_connection_proposes_the_highest(pair: Pair, call: Call):
    await pair.start(("1.2.0", "1.0.0"))
    watch = await pair.connect()
    await call(pair.rpc, pair.peer_id, chat("1.2.0", "1.1.0"))
    assert pair.journal.take() == ["1.2.0"]
    assert watch.round_trips == 2, "agreement, then the call; as with one version"


@SHAPES
@simulated(pair_on, network=FAR)
async def test_the_first_call_of_a_connection_to_an_older_peer(pair: Pair, call: Call):
    await pair.start(("1.1.0", "1.0.0"))
    watch = await pair.connect()
    await call(pair.rpc, pair.peer_id, chat("1.3.0", "1.0.0"))
    assert pair.journal.take() == ["1.1.0"]
    assert watch.round_trips == 2, "the refusal comes with what the peer speaks"


@NONE_IN_COMMON
@SHAPES
@simulated(pair_on, network=FAR)
async def test_none_in_common_on_the_first_call_of_a_connection(pair: Pair, theirs, ours, said, remedy, call: Call):
    await pair.start(theirs)
    await pair.connect()
    with pytest.raises(ProtocolNotSupportedError) as caught:
        await call(pair.rpc, pair.peer_id, chat(*ours))
    assert caught.value.message.startswith(f"{CHAT}: {said}".replace("PEER", pair.peer_id))
    assert pair.journal.take() == []
    assert CHAT not in str(pair.client.usage().outbound_streams)


@pytest.mark.parametrize(
    ("before", "after"),
    [(("1.1.0", "1.0.0"), ("1.4.0", "1.2.0")), (("1.4.0", "1.2.0"), ("1.1.0", "1.0.0"))],
    ids=["upgraded", "downgraded"],
)
@pytest.mark.parametrize("is_warm", [True, False], ids=["after identify", "at once"])
@SHAPES
@simulated(pair_on, network=FAR)
async def test_a_peer_that_changed_between_two_connections(pair: Pair, before, after, is_warm, call: Call):
    ours = chat("1.3.0", "1.0.0")
    for versions in (before, after):
        server = await pair.start(versions)
        await pair.connect()
        if is_warm:
            await trio.sleep(1)
        for _ in range(2):
            await call(pair.rpc, pair.peer_id, ours)
            assert pair.journal.take() == [min(versions[0], "1.3.0")]
        await server.stop()
        await pair.client.wait_disconnected(pair.peer_id)


@SHAPES
@simulated(pair_on, network=FAR)
async def test_a_peer_that_tells_nothing_is_asked_for_each_version(pair: Pair, call: Call):
    await pair.start(("1.0.0", ""), without=(IDENTIFY_ID, PUSH_ID))
    await pair.connect()
    await call(pair.rpc, pair.peer_id, chat("1.2.0", "1.0.0"))
    assert pair.journal.take() == ["1.0.0"]
    with pytest.raises(ProtocolNotSupportedError) as caught:
        await call(pair.rpc, pair.peer_id, chat("1.2.0", "1.1.0"))
    assert caught.value.message == (
        f"{CHAT}: this node speaks 1.1.0 to 1.2.0, {pair.peer_id} speaks none of these and has not told what it speaks"
    )
    assert caught.value.offered == ()


@simulated(pair_on, network=FAR)
async def test_a_peer_that_takes_no_news_is_asked_anew_where_it_counts(pair: Pair):
    server = await pair.start()
    pair.client.remove_stream_handler(PUSH_ID)
    await pair.connect()
    await trio.sleep(1)
    rpc_server = RpcServer(prefix="/hostmesh", system=pair.machine.system)
    rpc_server.add_service(chat("1.1.0", "1.0.0"), pair.journal)
    for protocol_id, handler in rpc_server.stream_handlers().items():
        server.set_stream_handler(protocol_id, handler)
    await trio.sleep(3)
    assert not any(CHAT in each for each in pair.client.protocols_of(pair.peer_id)), "it was not told"
    watch = Watch()
    await unary(pair.rpc, pair.peer_id, chat("1.2.0", "1.0.0"))
    assert pair.journal.take() == ["1.1.0"]
    assert watch.round_trips == 3, "a refusal, a question, the call"
    await unary(pair.rpc, pair.peer_id, chat("1.2.0", "1.0.0"))
    assert watch.round_trips == 4


@simulated(pair_on, network=FAR)
async def test_anybody_may_open_one_version_directly(pair: Pair):
    await pair.start(("1.2.0", "1.0.0"))
    for version in ("1.0.0", "1.2.0"):
        stream = await pair.client.open_stream(pair.peer_id, f"{CHAT}/{version}")
        # A header with the method, and an empty request.
        await stream.send(bytes.fromhex("09 0a05 0a03536179 1200"), end=True)
        assert (await stream.receive()).hex() == "06120208011a00", "a response with 1, and OK"
        await stream.close()
        assert stream.protocol_id == f"{CHAT}/{version}"
    assert pair.journal.take() == ["1.0.0", "1.2.0"]


@simulated(pair_on, network=FAR)
async def test_news_that_are_nonsense_or_leave_the_protocols_out_change_nothing(pair: Pair, caplog):
    server = await pair.start(("1.0.0", ""))
    await pair.connect()
    await trio.sleep(1)
    known = server.protocols_of(pair.client.peer_id)
    assert known
    for nonsense in (b"\xff" * 100, b"\x05abc", b"", b"\x02\x08\x01", bytes(70_000)):
        stream = await pair.client.open_stream(pair.peer_id, PUSH_ID)
        await stream.send(nonsense, end=True)
        await trio.sleep(1)
        await stream.reset()
    partial = await pair.client.open_stream(pair.peer_id, PUSH_ID)
    await partial.send(encode_frame(Identify(agent_version="another").SerializeToString()), end=True)
    silent = await pair.client.open_stream(pair.peer_id, PUSH_ID)
    await silent.send(b"\x05a")
    await trio.sleep(20)
    assert server.protocols_of(pair.client.peer_id) == known
    assert server.usage().inbound_streams.get(PUSH_ID, 0) == 0
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]
