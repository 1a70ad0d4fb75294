"""Calls with idempotency keys, between nodes of a simulated network: the effect happens once, and is answered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from google.protobuf.wrappers_pb2 import Int64Value
from tests.support.simulated import eventually, simulated

from hostmesh import ConnectionLostError, RetryPolicy, RpcError, StatusCode
from hostmesh.errors import DeadlineExceededError
from hostmesh.rpc.method import method
from hostmesh.testing import LinkProfile, SimNetwork, SimNode, SimOptions, make_service, open_nodes

COUNT = make_service("counting", Add=(Int64Value, Int64Value))
ADD = method(COUNT, "Add", Int64Value, Int64Value)
LINK = SimOptions(link=LinkProfile(latency_s=0.01))
KEY = b"a key of a caller"


class Counter:
    """Adds what it is told to a sum, which is the effect."""

    def __init__(self) -> None:
        self.effects: list[int] = []
        self.before: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        self.after: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        self.cancelled = 0

    async def add(self, request: Int64Value, context: Any) -> Int64Value:
        try:
            await self.before()
            self.effects.append(request.value)
            await self.after()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        return Int64Value(value=sum(self.effects))


class World:
    def __init__(self, network: SimNetwork, near: SimNode, far: SimNode, other: SimNode) -> None:
        self.network = network
        self.near, self.far, self.other = near, far, other
        self.counter = Counter()
        far.sdk.serve(COUNT, self.counter)

    async def add(
        self, value: int = 7, *, by: SimNode | None = None, key: bytes = KEY, timeout_s: float = 60.0, **more: Any
    ) -> int:
        rpc = (by or self.near).sdk.get_rpc_client()
        request = Int64Value(value=value)
        response = await rpc.unary(
            self.far.peer_id, ADD, request, timeout_s=timeout_s, idempotency_key=key, **more
        )
        return response.value


@asynccontextmanager
async def world_on(network: SimNetwork) -> AsyncIterator[World]:
    async with open_nodes(network, 3) as (far, near, other):
        yield World(network, near, far, other)


@simulated(world_on, network=LINK)
async def test_a_second_call_gets_the_answer_of_the_first(world: World) -> None:
    assert [await world.add() for _ in range(3)] == [7, 7, 7]
    assert world.counter.effects == [7]
    assert await world.add(key=b"another") == 14
