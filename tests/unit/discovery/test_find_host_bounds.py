"""How long a search takes, and how much it asks at once and in all: over a fake network under a mock clock."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from discovery_world import (
    FakePeer,
    FakeSource,
    make_description,
    make_key,
)
from find_world import World
from trio.testing import MockClock

from hostmesh.discovery.manager import DiscoveryConfig
from hostmesh.discovery.probe import ProbeConfig
from hostmesh.discovery.search import SearchConfig
from hostmesh.discovery.source import Candidate
from hostmesh.discovery.sweep import SweepConfig
from hostmesh.errors import ConfigError, DialError, NoHostFoundError
from hostmesh.net.address import AddressOrigin


async def test_dead_and_silent_candidates_cost_their_own_time_only(autojump_clock: MockClock) -> None:
    world = World()
    for index in range(3):
        world.host(f"silent{index}", "m").is_silent = True
    world.host("dead", "m").is_dead = True
    peer = world.host("host", "m")
    async with world.client() as discovery:
        began = trio.current_time()
        assert (await discovery.find_host(timeout_s=10)).peer_id == peer.peer_id
        # The sources have two more seconds after the first match; the silent ones would have taken five.
        assert trio.current_time() - began < 2.5


async def test_hosts_that_fell_silent_do_not_hold_the_answer_up(autojump_clock: MockClock) -> None:
    """Their records would rank first, so they are probed; nobody waits for twenty timeouts."""
    world = World()
    silent = [world.host(f"silent{index}", "m", price=0) for index in range(20)]
    peer = world.host("host", "m", price=10**9)
    async with world.client() as discovery:
        assert len(await discovery.find_all_hosts(limit=50)) == 21
        for each in silent:
            each.is_silent = True
        await trio.sleep(31)
        began = trio.current_time()
        assert (await discovery.find_host(timeout_s=60)).peer_id == peer.peer_id
        # Five begin every half second, then the one that answers is reached; two seconds later the answer is out.
        assert trio.current_time() - began < 4.5
        assert sum(each.asked for each in silent) == 20


async def test_candidates_that_are_long_gone_do_not_hold_the_living_up(autojump_clock: MockClock) -> None:
    """The DHT names hosts for half an hour after their death."""
    world = World()
    for index in range(60):
        world.host(f"gone{index}", "m").is_silent = True
    peer = world.host("host", "m")
    async with world.client() as discovery:
        began = trio.current_time()
        assert (await discovery.find_host()).peer_id == peer.peer_id
        assert trio.current_time() - began < 7


async def test_fetches_in_flight_are_bounded(autojump_clock: MockClock) -> None:
    world = World(
        DiscoveryConfig(
            search=SearchConfig(sweep=SweepConfig(max_parallel_fetches=2, max_fetches_in_flight=6, slow_after_s=0.1))
        )
    )
    for index in range(20):
        world.host(f"gone{index}", "m").is_silent = True
    async with world.client() as discovery:
        running = most = 0
        unary = world.node.unary

        async def counted(peer_id: Any, method: Any, request: Any, **options: Any) -> Any:
            nonlocal running, most
            running += 1
            most = max(most, running)
            try:
                return await unary(peer_id, method, request, **options)
            finally:
                running -= 1

        world.node.unary = counted  # type: ignore[method-assign]
        assert await discovery.find_all_hosts(timeout_s=30) == []
        assert most == 6
        assert discovery.stats().fetches["DEADLINE_EXCEEDED"] == 20


async def test_the_answer_does_not_wait_for_a_slow_source_for_ever(autojump_clock: MockClock) -> None:
    world = World()
    peer = world.host("host", "m")
    world.sources.append(FakeSource("slow", lasts_s=60))
    async with world.client() as discovery:
        began = trio.current_time()
        assert (await discovery.find_host(timeout_s=30)).peer_id == peer.peer_id
        assert trio.current_time() - began < 2.5
        assert discovery.stats().sources["slow"].cut_short == 1


@pytest.mark.parametrize(("first_s", "second_s"), [(0.0, 0.4), (2.0, 2.9), (7.0, 8.9)])
async def test_a_better_host_that_comes_soon_after_is_waited_for(
    autojump_clock: MockClock, first_s: float, second_s: float
) -> None:
    """Soon is half as long again, 0.5 s at least and 2 s at most."""
    world = World()
    world.host("dear", "m", price=5_000_000, after_s=first_s)
    cheap = world.host("cheap", "m", price=1, after_s=second_s)
    async with world.client() as discovery:
        assert (await discovery.find_host()).peer_id == cheap.peer_id


async def test_when_the_time_is_over_the_best_so_far_is_returned(autojump_clock: MockClock) -> None:
    world = World(DiscoveryConfig(search=SearchConfig(min_settle_s=100, settle_s=100)))
    peer = world.host("host", "m")
    world.sources.append(FakeSource("slow", lasts_s=60))
    async with world.client() as discovery:
        began = trio.current_time()
        assert (await discovery.find_host(timeout_s=4)).peer_id == peer.peer_id
        assert trio.current_time() - began == pytest.approx(4)


async def test_who_did_not_answer_in_time_is_not_returned(autojump_clock: MockClock) -> None:
    world = World()
    slow = world.host("slow", "m", rtt_s=1.0)
    async with world.client() as discovery:
        with pytest.raises(NoHostFoundError) as caught:
            await discovery.find_host(timeout_s=2.5)
        assert caught.value.rejected == {"reachable": 1}
        assert (await discovery.find_host(timeout_s=30)).peer_id == slow.peer_id


async def test_sources_that_end_early_end_the_search_early(autojump_clock: MockClock) -> None:
    world = World()
    async with world.client() as discovery:
        began = trio.current_time()
        with pytest.raises(NoHostFoundError):
            await discovery.find_host(timeout_s=10)
        assert trio.current_time() == began


async def test_a_hopeless_host_is_not_probed(autojump_clock: MockClock) -> None:
    """Its best possible score is below what was measured already."""
    world = World()
    best = world.host("best", "m", price=1, rtt_s=0.001)
    hopeless = world.host("hopeless", "m", price=10**12, after_s=0.4)
    world.reputation.known = {best.peer_id: 900}
    async with world.client() as discovery:
        assert (await discovery.find_host()).peer_id == best.peer_id
        assert hopeless.asked == 1
        assert hopeless.pinged == 0


@pytest.mark.parametrize(("is_connected", "at_once"), [(True, 7), (False, 3)])
async def test_probes_are_bounded_at_once_and_in_all(
    autojump_clock: MockClock, is_connected: bool, at_once: int
) -> None:
    """Those that have no connection yet at once, the others in all."""
    world = World(DiscoveryConfig(probe=ProbeConfig(max_probes=7, max_parallel=3)))
    running = most = 0
    for index in range(20):
        world.host(f"h{index}", "m", rtt_s=0.1)
    async with world.client() as discovery:
        probe = world.node.ping

        async def counted(peer_id: Any, *, timeout_s: float) -> float:
            nonlocal running, most
            running += 1
            most = max(most, running)
            try:
                return await probe(peer_id, timeout_s=timeout_s)
            finally:
                running -= 1

        world.node.ping = counted  # type: ignore[method-assign]
        world.node.is_connected = lambda peer_id: is_connected  # type: ignore[method-assign]
        choices = await discovery.find_all_hosts(limit=5)
        assert len(choices) == 5
        assert all(choice.latency is not None for choice in choices)
        assert most == at_once
        funnel = (await discovery.explain()).funnel
        assert (funnel.seen, funnel.rejected, funnel.matched) == (20, {"asked": 13}, 7)
        assert {each.detail for each in funnel.rejections} == {"others that looked better were asked first"}
        # Who wants more is given more, up to what is asked in vain at most.
        assert len(await discovery.find_all_hosts(limit=12)) == 12
        assert len(await discovery.find_all_hosts(limit=50)) == 20


async def test_candidates_are_bounded(autojump_clock: MockClock) -> None:
    world = World(DiscoveryConfig(search=SearchConfig(sweep=SweepConfig(max_candidates=10))))
    for index in range(30):
        world.host(f"h{index}", "m")
    async with world.client() as discovery:
        assert len(await discovery.find_all_hosts(limit=50)) == 10
        assert discovery.stats().fetches["dropped"] == 20


async def test_a_second_source_with_an_address_gives_a_candidate_a_second_chance(autojump_clock: MockClock) -> None:
    world = World()
    peer = world.network.add_host("host", make_description("m"))
    world.source.names(peer)
    world.sources.append(FakeSource("mdns").names(peer, after_s=1.0, addresses=("/ip4/10.0.0.5/tcp/1",)))
    async with world.client() as discovery:
        reach = world.network.reach

        def only_with_address(peer_id: Any) -> FakePeer:
            if peer_id not in world.node.addresses:
                raise DialError("no address", stage="address")
            return reach(peer_id)

        world.network.reach = only_with_address  # type: ignore[method-assign]
        assert (await discovery.find_host()).peer_id == peer.peer_id


async def test_a_host_is_asked_again_when_our_connections_were_all_in_use(autojump_clock: MockClock) -> None:
    """The source names it once; what others of this node do with its connections is over after a second."""
    world = World()
    peer = world.host("host", "m")
    async with world.client() as discovery:
        reach, busy_until_s = world.network.reach, trio.current_time() + 1.0

        def when_there_is_room(peer_id: Any) -> FakePeer:
            if trio.current_time() < busy_until_s:
                raise DialError("all 10 connections are in use", stage="limit")
            return reach(peer_id)

        world.network.reach = when_there_is_room  # type: ignore[method-assign]
        assert (await discovery.find_host()).peer_id == peer.peer_id


async def test_who_names_many_keeps_nobody_waiting_whom_others_name(autojump_clock: MockClock) -> None:
    """Two peers name 100 that fall silent, each costing a second of one place in eight, and then one names a host."""
    world = World()
    peer = world.network.add_host("host", make_description("m"))
    crowd = [world.network.add_host(f"silent{index}") for index in range(200)]
    for each in crowd:
        each.is_silent = True
    namers = [make_key(name).peer_id for name in ("one", "other", "honest")]
    world.source.candidates += [
        (0.0, Candidate(peer_id=named.peer_id, addresses=(), source="dht", origin=AddressOrigin.REMOTE, named_by=by))
        for by, named in [*((namers[index % 2], each) for index, each in enumerate(crowd)), (namers[2], peer)]
    ]
    async with world.client() as discovery:
        began_s = trio.current_time()
        assert (await discovery.find_host()).peer_id == peer.peer_id
        # The first eight, and at most two more of each of the others; then the time in which a better one may come.
        assert trio.current_time() - began_s < 3.5


async def test_a_cancelled_search_leaves_no_task_and_keeps_what_it_learnt(autojump_clock: MockClock) -> None:
    world = World()
    world.host("host", "m")
    world.sources.append(FakeSource("slow", lasts_s=60))
    async with world.client() as discovery:
        with trio.move_on_after(1) as scope:
            await discovery.find_all_hosts(timeout_s=60)
        assert scope.cancelled_caught
        assert len(world.records.live()) == 1
        assert len(await discovery.find_all_hosts(timeout_s=1)) == 1


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
async def test_a_search_needs_time(timeout_s: float, autojump_clock: MockClock) -> None:
    world = World()
    async with world.client() as discovery:
        with pytest.raises(ConfigError):
            await discovery.find_host(timeout_s=timeout_s)
