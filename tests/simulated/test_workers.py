"""Plain calls share the tasks that serve them: one after the other, and none sees anything of another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

import pytest
import trio
from google.protobuf.wrappers_pb2 import Int64Value
from tests.support.simulated import eventually, simulated

from hostmesh import DeadlineExceededError, RpcError, StatusCode, method
from hostmesh.rpc.call import CallEnded, ClientCall
from hostmesh.rpc.workers import MAX_WORKERS
from hostmesh.testing import LinkProfile, SimNetwork, SimNode, SimOptions, make_service, open_nodes

WORK = make_service("work", Do=(Int64Value, Int64Value))
DO = method(WORK, "Do", Int64Value, Int64Value)
LINK = SimOptions(link=LinkProfile(latency_s=0.01))
SEEN: ContextVar[str] = ContextVar("SEEN", default="nothing")

Handle = Callable[[int], Awaitable[int]]


class World:
    """A node whose handler a test gives, and one that calls it."""

    def __init__(self, far: SimNode, near: SimNode) -> None:
        self.far, self.near = far, near
        self.handle: Handle = self.echo
        self.tasks: set[trio.lowlevel.Task] = set()
        far.sdk.serve(WORK, self)

    @property
    def server(self) -> Any:
        return self.far.sdk._running().server

    async def echo(self, value: int) -> int:
        return value

    async def do(self, request: Int64Value, context: Any) -> Int64Value:
        self.tasks.add(trio.lowlevel.current_task())
        return Int64Value(value=await self.handle(request.value))

    async def ask(self, value: int, timeout_s: float = 30.0) -> int:
        client = self.near.sdk.get_rpc_client()
        return (await client.unary(self.far.peer_id, DO, Int64Value(value=value), timeout_s=timeout_s)).value

    async def settle(self) -> None:
        await trio.sleep(5)
        assert self.server.active_calls(self.near.peer_id) == 0
        for node in (self.near, self.far):
            usage = node.sdk.get_usage()
            assert not any("work" in name for name in (*usage.inbound_streams, *usage.outbound_streams))


@asynccontextmanager
async def world_on(network: SimNetwork) -> AsyncIterator[World]:
    async with open_nodes(network, 2) as (far, near):
        yield World(far, near)


@simulated(world_on, network=LINK)
async def test_one_task_serves_calls_that_come_one_after_the_other(world: World) -> None:
    assert [await world.ask(value) for value in range(50)] == [*range(50)]
    # The first has a task of its own, for which no worker was there; hostmesh's own calls may have one meanwhile.
    assert len(world.tasks) <= 3
    await world.settle()


@simulated(world_on, network=LINK)
async def test_so_many_tasks_are_kept_and_no_more(world: World) -> None:
    async def slow(value: int) -> int:
        await trio.sleep(1)
        return value

    world.handle = slow
    async with trio.open_nursery() as nursery:
        for value in range(MAX_WORKERS + 60):
            nursery.start_soon(world.ask, value)
    await world.settle()
    assert world.server.idle_workers <= MAX_WORKERS
    assert len(world.tasks) == MAX_WORKERS + 60
    await world.ask(0)  # the next are expected to be like it
    async with trio.open_nursery() as nursery:
        for value in range(MAX_WORKERS + 60):
            nursery.start_soon(world.ask, value)
    await world.settle()
    assert world.server.idle_workers == MAX_WORKERS


@simulated(world_on, network=LINK)
async def test_no_call_sees_the_context_variables_of_another(world: World) -> None:
    seen: list[str] = []

    async def note(value: int) -> int:
        seen.append(SEEN.get())
        SEEN.set(f"call {value}")
        await trio.sleep(0.01)
        assert SEEN.get() == f"call {value}"
        return value

    world.handle = note
    for value in range(5):
        await world.ask(value)
    async with trio.open_nursery() as nursery:
        for value in range(20):
            nursery.start_soon(world.ask, value)
    assert seen == ["nothing"] * 25


@simulated(world_on, network=LINK)
async def test_after_a_call_that_was_cancelled_the_next_are_served(world: World) -> None:
    cancelled: list[int] = []

    async def hang(value: int) -> int:
        if value % 2:
            try:
                await trio.sleep_forever()
            finally:
                cancelled.append(value)
        return value

    world.handle = hang
    for value in range(10):
        if value % 4 == 1:
            with trio.move_on_after(0.2):
                await world.ask(value)
            await eventually(lambda value=value: value in cancelled)
        elif value % 4 == 3:
            with pytest.raises(DeadlineExceededError):
                await world.ask(value, timeout_s=0.3)
        else:
            assert await world.ask(value) == value
    await world.settle()
    assert cancelled == [1, 3, 5, 7, 9]
    calls, abandoned = world.server.counters.calls, world.server.counters.abandoned
    # Whose deadline passes leaves at the same time: the answer may find it or not.
    late = calls["WorkService.Do", "DEADLINE_EXCEEDED"] + abandoned["WorkService.Do"]
    assert (calls["WorkService.Do", "OK"], late) == (5, 5)


@simulated(world_on, network=LINK)
async def test_a_handler_that_lets_no_cancellation_through_harms_no_other(world: World) -> None:
    async def stubborn(value: int) -> int:
        if value < 0:
            with suppress(trio.Cancelled):
                await trio.sleep_forever()
        return value

    world.handle = stubborn
    for value in (1, -1, 2, -1, 3):
        if value < 0:
            with trio.move_on_after(0.2):
                await world.ask(value)
        else:
            assert await world.ask(value) == value
    await world.settle()


@simulated(world_on, network=LINK)
async def test_a_handler_that_fails_harms_no_other(world: World) -> None:
    async def fail(value: int) -> int:
        if value % 3 == 1:
            raise ValueError("a bug")
        if value % 3 == 2:
            raise RpcError("no", status=StatusCode.NOT_FOUND)
        return value

    world.handle = fail
    for value in range(9):
        if value % 3:
            with pytest.raises(RpcError) as raised:
                await world.ask(value)
            assert raised.value.status is (StatusCode.INTERNAL if value % 3 == 1 else StatusCode.NOT_FOUND)
        else:
            assert await world.ask(value) == value
    await world.settle()
    assert world.server.counters.handler_failures["WorkService.Do"] == 3


@simulated(world_on, network=LINK)
async def test_a_deadline_is_that_of_its_own_call(world: World) -> None:
    """The task of a call with little time serves one with much, and the other way round."""

    async def wait(value: int) -> int:
        await trio.sleep(value / 1000)
        return value

    world.handle = wait
    for _ in range(2):
        await world.ask(0)  # from now on they share a task
    for timeout_s, value, comes in ((0.5, 100, True), (60, 5000, True), (0.5, 1000, False), (60, 5000, True)):
        if comes:
            assert await world.ask(value, timeout_s=timeout_s) == value
        else:
            with pytest.raises(DeadlineExceededError):
                await world.ask(value, timeout_s=timeout_s)
    await world.settle()


@simulated(world_on, network=LINK)
async def test_a_call_ends_by_its_deadline_where_its_caller_stays(world: World) -> None:
    """The server's own clock ends it, each time anew: this caller neither leaves nor resets its stream."""

    async def hang(value: int) -> int:
        if value:
            await trio.sleep_forever()
        return value

    world.handle = hang
    await world.ask(0)
    node = world.near.sdk._running().node
    for value in (0, 1, 1, 0, 1):
        stream, call = (
            await node.open_stream(world.far.peer_id, DO.ids("/hostmesh")),
            ClientCall(DO, None, Int64Value(value=value)),
        )
        await stream.send(call.start(0.5), end=True)
        with trio.fail_after(1):
            while data := await stream.receive():
                call.feed(data)
        while not isinstance(event := call.next_event(), CallEnded):
            assert event is not None
        assert event.outcome.status is (StatusCode.DEADLINE_EXCEEDED if value else StatusCode.OK)
        await stream.close()
        await world.ask(0)  # whatever it is expected to be like, the next is a plain call
    await world.settle()
