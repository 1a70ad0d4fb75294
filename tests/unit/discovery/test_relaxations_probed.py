"""What is said of relaxing criteria is tried first; what a host said binds it, whatever it refuses afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from discovery_world import FakeNode, FakePeer
from find_world import FakeQuotes, World
from trio.testing import MockClock

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.terms import Price
from hostmesh.errors import NoHostFoundError, RpcError, StatusCode

M = HostCriteria(required_models=["m"])


@pytest.mark.parametrize("answer", [900, "BUSY"])
@pytest.mark.parametrize("wanted", [["x"], ["x", "m"]])
async def test_no_relaxation_leads_to_a_host_that_would_not_do(
    autojump_clock: MockClock, wanted: list[str], answer: int | str
) -> None:
    world = World()
    world.host("host", "m", price=100)
    world.quotes = FakeQuotes(lambda _: answer)
    async with world.client() as discovery:
        with pytest.raises(NoHostFoundError) as error:
            await discovery.find_host(HostCriteria(required_models=wanted))
    assert error.value.relaxation == ""


@pytest.mark.parametrize(
    "criteria", [{"required_models": ["x", "m"]}, {"required_models": ["m"], "max_price": 50, "max_latency_ms": 1}]
)
async def test_a_relaxation_that_is_offered_finds_a_host(autojump_clock: MockClock, criteria: dict[str, Any]) -> None:
    if "max_price" in criteria:
        criteria = {**criteria, "max_price": Price(micros_per_mtok=criteria["max_price"], currency="USD")}
    world = World()
    peer = world.host("host", "m", price=100)
    world.quotes = FakeQuotes(lambda _: 100)
    async with world.client() as discovery:
        relaxation = (await discovery.explain(HostCriteria(**criteria))).funnel.relaxation
        assert relaxation is not None
        assert (await discovery.find_host(relaxation.criteria)).peer_id == peer.peer_id


def refuse_pings(world: World, peer: FakePeer) -> None:
    """Serve no ping once there is a connection."""
    node, ping = world.node, FakeNode.ping

    async def refusing(peer_id: Any, *, timeout_s: float) -> float:
        if peer_id == peer.peer_id and node.is_connected(peer_id):
            raise RpcError("no pings here", status=StatusCode.UNIMPLEMENTED)
        return await ping(node, peer_id, timeout_s=timeout_s)

    node.ping = refusing  # type: ignore[method-assign]


@pytest.mark.parametrize(("answer", "criterion"), [(900, "price"), ("BUSY", "ready")])
async def test_who_refuses_pings_is_held_to_what_it_said(
    autojump_clock: MockClock, answer: int | str, criterion: str
) -> None:
    world = World()
    peer = world.host("liar", "m", price=100)
    world.quotes = FakeQuotes(lambda _: answer)
    async with world.client() as discovery:
        await world.node.connect(peer.peer_id)
        refuse_pings(world, peer)
        with pytest.raises(NoHostFoundError) as error:
            await discovery.find_host(M)
    assert error.value.rejected == {criterion: 1}


async def test_a_match_that_was_not_measured_ends_no_search_for_others(autojump_clock: MockClock) -> None:
    world = World()
    shy = world.host("shy", "m", price=1)
    async with world.client() as discovery:
        await world.node.connect(shy.peer_id)
        refuse_pings(world, shy)
        assert (await discovery.find_host(M)).peer_id == shy.peer_id
        other = world.host("other", "m", price=100)
        assert (await discovery.find_host(M)).peer_id == other.peer_id
