"""What a .proto states of limits and deadlines holds between two simulated nodes that were generated from it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from google.protobuf.empty_pb2 import Empty
from tests.support.simulated import simulated
from tests.unit.protoc.kit import GOLDEN, POLL, run_protoc

from hostmesh import CallContext, DeadlineExceededError, RpcError
from hostmesh.rpc.frames import encode_request
from hostmesh.testing import LinkProfile, SimNetwork, SimNode, SimOptions, open_nodes

LINK = SimOptions(link=LinkProfile(latency_s=0.01))


class World:
    """A node that serves the golden poll, and one that calls it."""

    def __init__(self, poll: Any, near: SimNode, far: SimNode) -> None:
        self.pb = poll.poll_pb2
        self.near, self.far = near, far
        self.contexts: list[CallContext] = []
        self.ended_at: list[float] = []
        far.sdk.serve(handler_of(poll, self))
        self.client = poll.PollServiceClient(near.sdk.get_rpc_client(), far.peer_id)
        self.vote = poll.poll_pb2.Vote(choice="tea")


def handler_of(poll: Any, world: World) -> Any:
    pb = poll.poll_pb2

    class Poll(poll.PollServiceBase):  # type: ignore[misc, name-defined]
        async def cast(self, request: Any, context: CallContext) -> Any:
            await self._wait(request, context)
            return pb.Result(votes=[request])

        async def watch(self, request: Empty, context: CallContext, send: Any) -> None:
            await send(pb.Vote(choice="tea"))
            await self._wait(pb.Vote(choice="slow"), context)

        async def cast_many(self, requests: AsyncIterator[Any], context: CallContext) -> Any:
            await self._wait(pb.Vote(choice="slow"), context)

        async def discuss(self, requests: AsyncIterator[Any], context: CallContext, send: Any) -> None:
            await self._wait(pb.Vote(choice="slow"), context)

        async def _wait(self, vote: Any, context: CallContext) -> None:
            world.contexts.append(context)
            try:
                await trio.sleep(500 if vote.choice == "slow" else 0)
            finally:
                world.ended_at.append(trio.current_time())

    return Poll()


@pytest.fixture(scope="module")
def poll(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """What is generated for the golden .proto with all options, imported."""
    folder = tmp_path_factory.mktemp("poll_modules")
    result = run_protoc(GOLDEN, folder, POLL)
    assert result.returncode == 0, result.stderr
    sys.path.insert(0, str(folder))
    try:
        from poll.v1 import poll_hostmesh

        yield poll_hostmesh
    finally:
        sys.path.remove(str(folder))


@asynccontextmanager
async def nodes_on(network: SimNetwork) -> AsyncIterator[tuple[SimNode, SimNode]]:
    async with open_nodes(network, 3) as (_, far, near):
        await near.sdk.get_discovery_manager().connect_to_peer(far.address, 5)
        yield near, far


@simulated(nodes_on, network=LINK)
async def test_calls_beyond_what_the_service_states_are_refused(nodes: Any, poll: Any) -> None:
    world = World(poll, *nodes)
    slow = world.pb.Vote(choice="slow")
    async with trio.open_nursery() as nursery:

        async def hold() -> None:
            with pytest.raises(DeadlineExceededError):
                await world.client.cast(slow)

        for _ in range(2):
            nursery.start_soon(hold)
        await trio.sleep(1)
        began = trio.current_time()
        with pytest.raises(RpcError) as refused:
            await world.client.cast(world.vote)
        assert (refused.value.reason, refused.value.may_have_executed) == ("BUSY", False)
        assert trio.current_time() - began < 0.1
    await trio.sleep(10)  # what the two took is there again, and no more than the burst
    for _ in range(4):
        await world.client.cast(world.vote)
    with pytest.raises(RpcError) as refused:
        await world.client.cast(world.vote)
    assert refused.value.reason == "RATE_LIMITED"
    assert refused.value.retry_after_ms is not None
    assert 1500 < refused.value.retry_after_ms <= 2000
    await trio.sleep(refused.value.retry_after_ms / 1000)
    await world.client.cast(world.vote)
    assert len(world.contexts) == 7


@simulated(nodes_on, network=LINK)
async def test_a_refused_call_is_answered_before_it_has_said_anything(nodes: Any, poll: Any) -> None:
    world = World(poll, *nodes)
    node = world.near.sdk._running().node
    held = [await node.open_stream(world.far.peer_id, "/hostmesh/poll/1.2.0") for _ in range(2)]
    for stream in held:
        await stream.send(b"\x05")  # a frame's length, and no more of it
    await trio.sleep(1)
    late = await node.open_stream(world.far.peer_id, "/hostmesh/poll/1.2.0")
    await late.send(b"\x05")
    answer = await late.receive()
    assert b"BUSY" in answer
    for stream in (*held, late):
        await stream.reset()
    assert world.contexts == []


@simulated(nodes_on, network=LINK)
async def test_a_generated_client_names_the_default_deadline(nodes: Any, poll: Any) -> None:
    world = World(poll, *nodes)
    slow = world.pb.Vote(choice="slow")
    began = trio.current_time()
    with pytest.raises(DeadlineExceededError):
        await world.client.cast(slow)
    assert trio.current_time() - began == pytest.approx(5.0, abs=0.1)
    with pytest.raises(DeadlineExceededError):
        await world.client.cast(slow, timeout_s=20.0)
    assert trio.current_time() - began == pytest.approx(25.0, abs=0.2)
    await trio.sleep(1)
    assert [round(each - began) for each in world.ended_at] == [5, 25]


@simulated(nodes_on, network=LINK)
async def test_the_server_holds_a_call_that_names_none_to_the_default(nodes: Any, poll: Any) -> None:
    world = World(poll, *nodes)
    began = trio.current_time()
    stream = await world.near.sdk._running().node.open_stream(world.far.peer_id, "/hostmesh/poll/1.2.0")
    await stream.send(encode_request(b"\x0a\x04Cast", world.pb.Vote(choice="slow").SerializeToString()), end=True)
    answer = b""
    while data := await stream.receive():
        answer += data
    assert b"the deadline of the call has passed" in answer
    assert trio.current_time() - began == pytest.approx(5.0, abs=0.1)
    with pytest.raises(DeadlineExceededError):
        async with world.client.watch(Empty(), timeout_s=None) as votes:
            assert [vote.choice async for vote in votes] == ["tea"]
    assert trio.current_time() - began == pytest.approx(65.5, abs=0.2)
    # A deadline on the server's clock was known to the handler from the start.
    assert [round(context.deadline - began, 1) for context in world.contexts if context.deadline] == [5.0, 65.5]
