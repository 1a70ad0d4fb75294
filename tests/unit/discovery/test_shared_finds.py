"""Finds at once share a search only if they ask the same in every respect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from find_world import World
from trio.testing import MockClock

from hostmesh.discovery.manager import DiscoveryManager
from hostmesh.discovery.ranking import CHEAPEST, FASTEST, Strategy
from hostmesh.net.peer_id import PeerId


async def _find(discovery: DiscoveryManager, strategy: Strategy) -> PeerId:
    return (await discovery.find_host(strategy=strategy)).peer_id


async def _find_all(discovery: DiscoveryManager, strategy: Strategy) -> PeerId:
    return (await discovery.find_all_hosts(strategy=strategy))[0].peer_id


async def _explain(discovery: DiscoveryManager, strategy: Strategy) -> PeerId:
    return (await discovery.explain(strategy=strategy)).choices[0].peer_id


@pytest.mark.parametrize("best_of", [_find, _find_all, _explain])
@pytest.mark.parametrize("is_cheapest_first", [True, False])
async def test_finds_at_once_with_other_strategies_each_get_their_own_best(
    autojump_clock: MockClock,
    best_of: Callable[[DiscoveryManager, Strategy], Awaitable[PeerId]],
    is_cheapest_first: bool,
) -> None:
    world = World()
    cheap = world.host("cheap", "m", price=1, rtt_s=0.06)
    fast = world.host("fast", "m", price=5_000_000, rtt_s=0.002)
    best: dict[Strategy, PeerId] = {}
    async with world.client() as discovery:

        async def look(strategy: Strategy) -> None:
            best[strategy] = await best_of(discovery, strategy)

        async with trio.open_nursery() as nursery:
            for strategy in (CHEAPEST, FASTEST) if is_cheapest_first else (FASTEST, CHEAPEST):
                nursery.start_soon(look, strategy)
                await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() < 2, "both ran at once"
    assert best == {CHEAPEST: cheap.peer_id, FASTEST: fast.peer_id}
