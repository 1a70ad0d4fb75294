"""Hosts caught in a lie about their place are chosen last; those that this node could not ask are no worse for it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from find_world import World
from trio.testing import MockClock

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.funnel import Funnel
from hostmesh.discovery.ranking import CHEAPEST
from hostmesh.discovery.terms import Place
from hostmesh.errors import DialError, NoHostFoundError


def world_in_germany() -> World:
    world = World()
    world.place = Place(country_code="DE")
    return world


# --- refuted ---


async def test_a_liar_is_behind_everybody_though_nobody_asked_where_it_is(autojump_clock: MockClock) -> None:
    world = world_in_germany()
    liar = world.host("liar", "m", price=1, location="AU", rtt_s=0.01)
    honest = world.host("honest", "m", price=900_000, location="AU", rtt_s=0.4)
    async with world.client() as discovery:
        for criteria in (HostCriteria(), HostCriteria(preferred=[str(liar.peer_id)])):
            assert (await discovery.find_host(criteria, strategy=CHEAPEST)).peer_id == honest.peer_id
        discovery.prefer(str(liar.peer_id), priority=9)
        found = (await discovery.explain(strategy=CHEAPEST)).choices
        assert [choice.peer_id for choice in found] == [honest.peer_id, liar.peer_id]
        # The score is what it would be; what put it behind stands beside it.
        assert found[1].score.total > found[0].score.total
        assert "claims AU" in found[1].place_refuted
        assert found[0].place_refuted == ""
        for _ in range(20):
            assert (await discovery.find_host(choose_among=2)).peer_id == honest.peer_id


async def test_a_liar_is_better_than_nobody(autojump_clock: MockClock) -> None:
    world = world_in_germany()
    liar = world.host("liar", "m", location="AU")
    async with world.client() as discovery:
        choice = await discovery.find_host()
        assert choice.peer_id == liar.peer_id
        assert choice.place_refuted


async def test_a_liar_ends_no_search_for_others(autojump_clock: MockClock) -> None:
    """Neither one that asks the sources, however late they name somebody, nor one that the table answers."""
    world = world_in_germany()
    world.host("liar", "m", price=1, location="AU")
    late = world.host("late", "m", price=9, after_s=1.5)
    async with world.client() as discovery:
        assert (await discovery.find_host()).peer_id == late.peer_id
    world = world_in_germany()
    liar = world.host("liar", "m", price=1, location="AU")
    async with world.client() as discovery:
        assert (await discovery.find_host()).peer_id == liar.peer_id
        newcomer = world.host("newcomer", "m", price=9)
        assert (await discovery.find_host()).peer_id == newcomer.peer_id


# --- not asked ---


async def explained(discovery: Any) -> Funnel:
    funnel: Funnel = (await discovery.explain()).funnel
    assert sum(funnel.rejected.values()) + funnel.matched == funnel.seen
    return funnel


@pytest.mark.parametrize("is_rate", [True, False], ids=["dialled too often", "no connection free"])
async def test_while_this_node_cannot_dial_no_host_is_held_to_be_gone(autojump_clock: MockClock, is_rate: bool) -> None:
    world = World()
    host = world.host("host", "m")
    attempts = {"/ip4/192.0.2.1/tcp/4001": "limit: dialled too often lately"} if is_rate else {}
    error = DialError("all 10 connections are in use", stage="limit", attempts=attempts)
    async with world.client() as discovery:
        first = await discovery.find_host()
        began_s = trio.current_time()
        ping = world.node.ping

        async def cannot(*_: Any, **__: Any) -> float:
            await trio.lowlevel.checkpoint()
            raise error

        await discovery.disconnect_peer(host.peer_id)
        world.node.ping = cannot  # type: ignore[method-assign]
        for _ in range(4):
            world.node.connected.clear()
            world.source.candidates.clear()
            with pytest.raises(NoHostFoundError) as caught:
                await discovery.find_host()
            assert caught.value.rejected == {"asked": 1}
        world.node.connected.clear()
        funnel = await explained(discovery)
        assert [each.detail for each in funnel.rejections] == ["DIAL_FAILED: all 10 connections are in use"]
        world.node.ping = ping  # type: ignore[method-assign]
        choice = await discovery.find_host()
        assert choice.peer_id == first.peer_id
        assert choice.uptime is not None
        assert choice.uptime.value >= trio.current_time() - began_s - 1, "its row of answers was not broken"
