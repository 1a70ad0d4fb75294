"""Calls on a connection that is full: what they say when they end, and that their silence is not taken for death."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from google.protobuf.wrappers_pb2 import Int64Value
from tests.support.simulated import simulated

from hostmesh import DeadlineExceededError, DialError, method
from hostmesh.testing import LinkProfile, SimNetwork, SimNode, SimOptions, make_service, open_nodes
from hostmesh.v1 import job_pb2

Part = job_pb2.RunResponse
SERVICE = make_service(
    "parts",
    streams=["Pour", "Wait"],
    request_streams=["Fill"],
    Ask=(Int64Value, Int64Value),
    Keep=(job_pb2.ChatInput, Int64Value),
    Fill=(Part, Part),
    Pour=(Part, Part),
    Wait=(Int64Value, Int64Value),
)
ASK, WAIT = (method(SERVICE, name, Int64Value, Int64Value) for name in ("Ask", "Wait"))
KEEP = method(SERVICE, "Keep", job_pb2.ChatInput, Int64Value)
FILL, POUR = (method(SERVICE, name, Part, Part) for name in ("Fill", "Pour"))
PART = Part(text=job_pb2.TextDelta(text="x" * 60_000))
SLOW = SimOptions(link=LinkProfile(latency_s=0.02, bytes_per_s=50_000.0))
LONG_S = 200


class Handler:
    def __init__(self) -> None:
        self.asked = 0

    async def ask(self, request: Int64Value, context: Any) -> Int64Value:
        self.asked += 1
        await trio.sleep(request.value)
        return request

    async def keep(self, request: job_pb2.ChatInput, context: Any) -> Int64Value:
        return Int64Value(value=len(request.messages))

    async def fill(self, requests: Any, context: Any) -> Part:
        async for _ in requests:
            pass
        return Part()

    async def wait(self, request: Int64Value, context: Any, send: Any) -> None:
        await trio.sleep(request.value)
        await send(request)

    async def pour(self, request: Part, context: Any, send: Any) -> None:
        while True:
            await send(PART)


class World:
    def __init__(self, network: SimNetwork, far: SimNode, near: SimNode) -> None:
        self.network, self.far, self.near = network, far, near
        self.handler = Handler()
        far.sdk.serve(SERVICE, self.handler)
        self.client = near.sdk.get_rpc_client()

    async def ask(self, value: int = 0, *, timeout_s: float) -> int:
        request = Int64Value(value=value)
        return (await self.client.unary(self.far.peer_id, ASK, request, timeout_s=timeout_s)).value

    async def wait(self, value: int, *, timeout_s: float) -> int:
        request = Int64Value(value=value)
        async with self.client.server_stream(self.far.peer_id, WAIT, request, timeout_s=timeout_s) as answers:
            return sum([each.value async for each in answers])

    async def fill(self) -> None:
        async with self.client.client_stream(self.far.peer_id, FILL, timeout_s=None) as call:
            while True:
                await call.send(PART)

    async def pour(self, *, timeout_s: float | None = None) -> None:
        async with self.client.server_stream(self.far.peer_id, POUR, Part(), timeout_s=timeout_s) as parts:
            async for _ in parts:
                pass

    async def hold_stream(self) -> None:
        with suppress(DialError):
            await self.pour()


@asynccontextmanager
async def world_on(network: SimNetwork) -> AsyncIterator[World]:
    async with open_nodes(network, 2) as (far, near):
        world = World(network, far, near)
        await world.ask(timeout_s=5)  # what the peer speaks is known from here on
        yield world


@pytest.mark.parametrize("shape", ["unary", "server stream"])
@simulated(world_on)
async def test_a_call_that_found_no_room_in_time_did_not_run(world: World, shape: str) -> None:
    link = world.network.link(world.far.machine, world.near.machine)
    make = {"unary": world.ask, "server stream": world.pour}[shape]
    async with trio.open_nursery() as nursery:
        link.is_stalled = True
        for _ in range(60):
            nursery.start_soon(world.fill)
            await trio.sleep(0.01)
        with pytest.raises(DeadlineExceededError) as caught:
            await make(timeout_s=5)
        assert (caught.value.may_have_executed, caught.value.retry_safe) == (False, True)
        link.is_stalled = False
        await trio.sleep(5)
        assert world.handler.asked == 1
        nursery.cancel_scope.cancel()


@simulated(world_on)
async def test_a_call_of_which_a_part_found_room_in_time_may_have_run(world: World) -> None:
    """Its request is longer than a window, and no word comes back that would make room for the rest."""
    world.network.link(world.far.machine, world.near.machine).is_stalled = True
    request = job_pb2.ChatInput(messages=[job_pb2.ChatMessage(role="user", content="x" * 200_000)] * 4)
    with pytest.raises(DeadlineExceededError) as caught:
        await world.client.unary(world.far.peer_id, KEEP, request, timeout_s=5)
    assert (caught.value.may_have_executed, caught.value.retry_safe) == (True, False)


@pytest.mark.parametrize("shape", ["unary", "server stream"])
@pytest.mark.parametrize("others", [1, 4])
@simulated(world_on, network=SLOW)
async def test_a_long_call_is_told_of_also_where_the_line_is_full(world: World, others: int, shape: str) -> None:
    make = {"unary": world.ask, "server stream": world.wait}[shape]
    async with trio.open_nursery() as nursery:
        for _ in range(others):
            nursery.start_soon(world.pour)
        await trio.sleep(1)
        assert await make(LONG_S, timeout_s=10 * LONG_S) == LONG_S
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("shape", ["unary", "server stream"])
@simulated(world_on)
async def test_calls_that_fail_at_once_starve_nobody(world: World, shape: str) -> None:
    """The loop waits for what it keeps from happening: a stream that ends."""
    make = {"unary": world.ask, "server stream": world.pour}[shape]
    async with trio.open_nursery() as nursery:
        for _ in range(257):
            nursery.start_soon(world.hold_stream)
        await trio.testing.wait_all_tasks_blocked()
        refused, passes = 0, 0

        async def count() -> None:
            nonlocal passes
            while True:
                passes += 1
                await trio.lowlevel.checkpoint()

        nursery.start_soon(count)
        for _ in range(100):
            try:
                await make(timeout_s=5)
            except DialError:
                refused += 1
        # Each call lets everybody have one turn, and in the last round it may have come before the counter.
        assert (refused, passes >= 99) == (100, True)
        nursery.cancel_scope.cancel()


@simulated(world_on, network=SimOptions(link=LinkProfile(latency_s=0.02, bytes_per_s=20_000.0)))
async def test_streams_on_a_full_line_are_held_back_and_none_is_given_up(world: World) -> None:
    """Half a megabyte in line is 26 s of this line, and each has its turn after the others'."""
    longest_s = 0.0

    async def pour() -> None:
        nonlocal longest_s
        async with world.client.server_stream(world.far.peer_id, POUR, Part(), timeout_s=None) as parts:
            last_s = trio.current_time()
            async for _ in parts:
                longest_s, last_s = max(longest_s, trio.current_time() - last_s), trio.current_time()

    with trio.move_on_after(600):
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(pour)
    assert longest_s > 45, "or nothing was tried here"
