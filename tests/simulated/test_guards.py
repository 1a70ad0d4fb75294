"""Who may call a service and how often, as interceptors say, between nodes of a simulated network."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from google.protobuf.wrappers_pb2 import Int64Value
from tests.support.simulated import eventually, simulated

from hostmesh import (
    BearerToken,
    CallLimits,
    RateLimit,
    RequirePeers,
    RequireToken,
    RpcError,
    StatusCode,
    UsageError,
    method,
)
from hostmesh.rpc.guards import MAX_TOKEN_BYTES
from hostmesh.testing import LinkProfile, SimNetwork, SimNode, SimOptions, make_service, open_nodes

CLUB = make_service("club", Enter=(Int64Value, Int64Value), Leave=(Int64Value, Int64Value))
ENTER = method(CLUB, "Enter", Int64Value, Int64Value)
LEAVE = method(CLUB, "Leave", Int64Value, Int64Value)
LINK = SimOptions(link=LinkProfile(latency_s=0.01))
MANY = CallLimits(max_concurrent=1000, calls_per_s=1000, burst=1000)


class Club:
    """Counts who is in; one may stay."""

    def __init__(self) -> None:
        self.inside = 0
        self.calls = 0

    async def enter(self, request: Int64Value, context: Any) -> Int64Value:
        self.calls += 1
        self.inside += 1
        try:
            await trio.sleep(request.value)
        finally:
            self.inside -= 1
        return request

    async def leave(self, request: Int64Value, context: Any) -> Int64Value:
        self.calls += 1
        return request


class World:
    """A node with a club, and two others."""

    def __init__(self, door: SimNode, alice: SimNode, bob: SimNode) -> None:
        self.door, self.alice, self.bob = door, alice, bob
        self.club = Club()

    def open(self, *interceptors: Any) -> None:
        self.door.sdk.serve(CLUB, self.club, interceptors=interceptors)

    async def call(self, who: SimNode, *interceptors: Any, what: Any = ENTER, stay_s: int = 0) -> None:
        client = who.sdk.get_rpc_client().with_interceptors(*interceptors)
        await client.unary(self.door.peer_id, what, Int64Value(value=stay_s), timeout_s=600)

    async def refusal(self, who: SimNode, *interceptors: Any, **more: Any) -> RpcError:
        with pytest.raises(RpcError) as raised:
            await self.call(who, *interceptors, **more)
        return raised.value


@asynccontextmanager
async def world_on(network: SimNetwork) -> AsyncIterator[World]:
    async with open_nodes(network, 3) as nodes:
        yield World(*nodes)


@simulated(world_on, network=LINK)
async def test_peers_that_are_not_named_are_refused(world: World) -> None:
    world.open(RequirePeers({world.alice.peer_id}))
    await world.call(world.alice)
    error = await world.refusal(world.bob)
    assert (error.status, error.reason) == (StatusCode.PERMISSION_DENIED, "PEER_UNKNOWN")
    assert not error.may_have_executed
    assert world.club.calls == 1


@simulated(world_on, network=LINK)
async def test_a_token_opens(world: World) -> None:
    good, also_good = secrets.token_urlsafe(32), "x" * MAX_TOKEN_BYTES
    world.open(RequireToken([good, also_good]))
    await world.call(world.alice, BearerToken(good))
    await world.call(world.bob, BearerToken(also_good))
    assert world.club.calls == 2
    error = await world.refusal(world.alice)
    assert (error.status, error.reason) == (StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
    for wrong in (good[:-1], good + "x", "é", good.upper()):
        error = await world.refusal(world.alice, BearerToken(wrong))
        assert (error.status, error.reason) == (StatusCode.UNAUTHENTICATED, "TOKEN_UNKNOWN")
        assert wrong not in str(error)
    assert world.club.calls == 2


@pytest.mark.parametrize("token", ["", "x" * (MAX_TOKEN_BYTES + 1), "é" * 600])
def test_a_token_that_cannot_travel_is_refused_at_once(token: str) -> None:
    with pytest.raises(UsageError, match="token"):
        BearerToken(token)
    with pytest.raises(UsageError, match="token"):
        RequireToken([token])
    with pytest.raises(UsageError, match="needs one"):
        RequireToken([])


def test_a_token_is_in_no_representation() -> None:
    for each in (BearerToken("abcdef"), RequireToken(["abcdef"])):
        assert "abcdef" not in repr(each) + str(each)


@simulated(world_on, network=LINK)
async def test_places_are_by_peer_and_of_all(world: World) -> None:
    two = CallLimits(max_concurrent=2, calls_per_s=1000, burst=1000)
    three = CallLimits(max_concurrent=3, calls_per_s=1000, burst=1000)
    world.open(RateLimit(per_peer=two, of_all=three, methods={"ClubService.Enter"}, system=world.door.machine.system))
    async with trio.open_nursery() as nursery:

        async def stay(who: SimNode) -> None:
            await world.call(who, stay_s=60)

        nursery.start_soon(stay, world.alice)
        nursery.start_soon(stay, world.alice)
        await eventually(lambda: world.club.inside == 2)
        error = await world.refusal(world.alice)
        assert (error.status, error.reason) == (StatusCode.RESOURCE_EXHAUSTED, "BUSY")
        assert error.retry_after_ms is not None
        nursery.start_soon(stay, world.bob)
        await eventually(lambda: world.club.inside == 3)
        assert (await world.refusal(world.bob)).reason == "BUSY"
        # Another method is none of its business.
        await world.call(world.alice, what=LEAVE)
    await world.call(world.alice)
    assert world.club.inside == 0


@simulated(world_on, network=LINK)
async def test_the_rate_is_by_peer_and_method_and_refills(world: World) -> None:
    slow = CallLimits(max_concurrent=10, calls_per_s=0.5, burst=2)
    world.open(RateLimit(per_peer=slow, of_all=MANY, system=world.door.machine.system))
    for _ in range(2):
        await world.call(world.alice)
    error = await world.refusal(world.alice)
    assert (error.status, error.reason) == (StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert error.retry_after_ms is not None
    assert 1000 < error.retry_after_ms <= 2000
    await world.call(world.bob)
    await world.call(world.alice, what=LEAVE)
    await trio.sleep(error.retry_after_ms / 1000)
    await world.call(world.alice)


@simulated(world_on, network=LINK)
async def test_what_is_refused_gives_its_place_back(world: World) -> None:
    one = CallLimits(max_concurrent=1, calls_per_s=1000, burst=1000)
    limit = RateLimit(per_peer=one, of_all=one, system=world.door.machine.system)
    world.open(limit, RequirePeers({world.alice.peer_id}))
    for _ in range(5):
        assert (await world.refusal(world.bob)).reason == "PEER_UNKNOWN"
    with trio.move_on_after(1):
        await world.call(world.alice, stay_s=60)
    await eventually(lambda: world.club.inside == 0)
    await world.call(world.alice)
