"""Who joins, changes and leaves while somebody watches; on a network that is a dictionary."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from discovery_world import EPOCH, make_description, make_key, make_record
from find_world import World
from trio.testing import MockClock

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import HostState
from hostmesh.discovery.ranking import AUTO
from hostmesh.discovery.roster import HostChanged, HostJoined, HostLeft, LeaveReason
from hostmesh.discovery.terms import Price
from hostmesh.discovery.view import ProbeResult
from hostmesh.discovery.watch import HostWatch
from hostmesh.errors import ConfigError, NodeNotRunningError

M = HostCriteria(required_models=["m-3"])


@asynccontextmanager
async def watching(world: World, criteria: HostCriteria = M, **options: Any) -> AsyncIterator[HostWatch]:
    async with world.client() as discovery, discovery.watch_hosts(criteria, **options) as watch:
        yield watch


def push(world: World, name: str, **options: Any) -> None:
    """A record comes by itself, as when a host pushes it."""
    now = EPOCH + trio.current_time()
    record = {"sequence": int(now * 1000) + 1, "issued": int(now), **options}
    world.records.accept(make_record(name, record.pop("description", make_description()), **record))


async def test_hosts_that_are_there_join_and_later_ones_too(autojump_clock: MockClock) -> None:
    world = World()
    near, wrong = world.host("near", "m-3"), world.host("wrong", "other")
    async with watching(world) as watch:
        event = await anext(watch)
        assert isinstance(event, HostJoined)
        assert event.choice.peer_id == near.peer_id
        assert event.choice.latency is not None
        late = world.host("late", "m-3", rtt_s=0.04)
        event = await anext(watch)
        assert isinstance(event, HostJoined)
        assert event.choice.peer_id == late.peer_id
        assert wrong.pinged == 0
        assert {choice.peer_id for choice in watch.choices} == {near.peer_id, late.peer_id}


async def test_a_newcomer_whose_record_comes_by_itself_needs_no_interval(autojump_clock: MockClock) -> None:
    world = World()
    world.host("here", "m-3")
    async with watching(world, interval_s=600.0) as watch:
        await anext(watch)
        await trio.sleep(10)
        late = world.network.add_host("late")
        push(world, "late")
        began = trio.current_time()
        event = await anext(watch)
        assert isinstance(event, HostJoined)
        assert event.choice.peer_id == late.peer_id
        assert trio.current_time() - began < 5


async def test_records_of_hosts_that_never_answer_do_not_keep_it_searching(autojump_clock: MockClock) -> None:
    world = World()
    world.host("here", "m-3")
    async with watching(world, interval_s=60.0) as watch:
        await anext(watch)
        for number in range(240):
            push(world, f"junk{number}")
            await trio.sleep(1)
        searches = sum(world.manager.stats().searches.values())
        assert searches <= 12  # every 2 s would be 120


async def test_one_that_drains_leaves_at_once(autojump_clock: MockClock) -> None:
    world = World()
    host = world.host("host", "m-3")
    async with watching(world, interval_s=600.0) as watch:
        await anext(watch)
        began = trio.current_time()
        push(world, "host", state=HostState.DRAINING)
        event = await anext(watch)
        assert isinstance(event, HostLeft)
        assert (event.choice.peer_id, event.reason, event.criterion) == (host.peer_id, LeaveReason.DRAINING, "state")
        assert trio.current_time() == began


async def test_one_that_withdraws_leaves_at_once(autojump_clock: MockClock) -> None:
    world = World()
    world.host("host", "m-3")
    async with watching(world, interval_s=600.0) as watch:
        await anext(watch)
        began = trio.current_time()
        push(world, "host", state=HostState.WITHDRAWN)
        event = await anext(watch)
        assert isinstance(event, HostLeft)
        assert event.reason is LeaveReason.WITHDRAWN
        assert trio.current_time() == began


@pytest.mark.parametrize("interval_s", [30.0, 3600.0])
async def test_a_killed_host_is_gone_within_three_minutes(autojump_clock: MockClock, interval_s: float) -> None:
    """By the next search that misses it; where none comes, by the end of its record."""
    world = World()
    host = world.host("host", "m-3")
    async with watching(world, interval_s=interval_s) as watch:
        await anext(watch)
        host.is_dead = True
        world.source.candidates.clear()
        began = trio.current_time()
        event = await anext(watch)
        assert isinstance(event, HostLeft)
        expected = LeaveReason.UNREACHABLE if interval_s == 30 else LeaveReason.EXPIRED
        assert event.reason is expected
        assert trio.current_time() - began <= (45 if interval_s == 30 else 181)


async def test_a_host_that_becomes_too_dear_leaves_and_says_why(autojump_clock: MockClock) -> None:
    world = World()
    world.host("host", "m-3", price=100)
    criteria = HostCriteria(required_models=["m-3"], max_price=Price(micros_per_mtok=150, currency="USD"))
    async with watching(world, criteria, interval_s=600.0) as watch:
        await anext(watch)
        push(world, "host", description=make_description(price=120))
        event = await anext(watch)
        assert isinstance(event, HostChanged)
        assert event.changes == ("models", "price")
        push(world, "host", description=make_description(price=200), sequence=2**50)
        event = await anext(watch)
        assert isinstance(event, HostLeft)
        assert (event.reason, event.criterion) == (LeaveReason.UNFIT, "price")
        assert event.detail == "price 200 > 150 micro-USD/Mtok"


async def test_one_that_signs_two_records_of_one_sequence_is_banned(autojump_clock: MockClock) -> None:
    world = World()
    world.host("host", "m-3")
    async with watching(world, interval_s=600.0) as watch:
        await anext(watch)
        push(world, "host", sequence=2**50)
        push(world, "host", sequence=2**50, description=make_description(price=1))
        event = await anext(watch)
        assert isinstance(event, HostLeft)
        assert event.reason is LeaveReason.BANNED


async def test_the_blacklist_and_a_failure_take_effect_at_once(autojump_clock: MockClock) -> None:
    world = World()
    one, two = world.host("one", "m-3"), world.host("two", "m-3")
    async with watching(world, interval_s=600.0) as watch:
        assert {(await anext(watch)).choice.peer_id for _ in range(2)} == {one.peer_id, two.peer_id}
        began = trio.current_time()
        world.manager.blacklist(one.peer_id, "slow")
        event = await anext(watch)
        assert isinstance(event, HostLeft)
        assert (event.choice.peer_id, event.criterion, event.detail) == (one.peer_id, "listed", "blacklisted: slow")
        world.manager.record_outcome(two.peer_id, two.operator_address, good=False)
        event = await anext(watch)
        assert isinstance(event, HostLeft)
        assert (event.choice.peer_id, event.criterion) == (two.peer_id, "listed")
        assert trio.current_time() == began
        event = await anext(watch)  # the pause is over
        assert isinstance(event, HostJoined)
        assert event.choice.peer_id == two.peer_id
        assert trio.current_time() - began <= 46


async def test_a_reader_who_sleeps_gets_the_latest(autojump_clock: MockClock) -> None:
    world = World()
    world.host("host", "m-3", price=1)
    async with watching(world, interval_s=600.0) as watch:
        await anext(watch)
        for number in range(500):
            push(world, "host", sequence=2**50 + number, description=make_description(price=number + 2))
            await trio.sleep(0.01)
        event = await anext(watch)
        assert isinstance(event, HostChanged)
        assert event.choice.price == Price(micros_per_mtok=501, currency="USD")
        with trio.move_on_after(1) as scope:
            await anext(watch)
        assert scope.cancelled_caught


async def test_a_watch_ends_when_the_node_does(autojump_clock: MockClock) -> None:
    world = World()
    world.host("host", "m-3")
    async with watching(world) as watch:
        await anext(watch)
        await world.manager.stop()
        began = trio.current_time()
        with pytest.raises(NodeNotRunningError):
            await anext(watch)
        assert trio.current_time() == began


async def test_without_a_node_there_is_no_watch(autojump_clock: MockClock) -> None:
    world = World()
    async with world.client() as discovery:
        await discovery.stop()
        with pytest.raises(NodeNotRunningError):
            async with discovery.watch_hosts():
                pass


async def test_the_bodys_own_error_passes_through_and_nothing_goes_on(autojump_clock: MockClock) -> None:
    world = World()
    host = world.host("host", "m-3")
    async with world.client() as discovery:

        async def watch_and_fail() -> None:
            async with discovery.watch_hosts(M) as watch:
                await anext(watch)
                raise KeyError("mine")

        with pytest.raises(KeyError):
            await watch_and_fail()
        pinged = host.pinged
        await trio.sleep(120)
        assert host.pinged == pinged
        assert not world.records.events


async def test_leaving_in_the_middle_of_the_first_search_is_clean(autojump_clock: MockClock) -> None:
    world = World()
    world.host("host", "m-3", rtt_s=0.5)
    async with world.client() as discovery:
        for after_s in (0.0, 0.3, 0.6, 1.1, 2.0):
            with trio.move_on_after(after_s):
                async with discovery.watch_hosts(M) as watch:
                    async for _ in watch:
                        pass
            assert not world.records.events


class Broken:
    """A strategy of the user's that fails."""

    def score(self, view: Any, criteria: Any) -> Any:
        raise ZeroDivisionError

    def best_possible(self, view: Any, criteria: Any) -> int:
        return AUTO.best_possible(view, criteria)


async def test_a_strategy_that_fails_fails_the_reader(autojump_clock: MockClock) -> None:
    world = World()
    world.host("host", "m-3")
    async with watching(world, strategy=Broken()) as watch:
        with pytest.raises(ZeroDivisionError):
            await anext(watch)


@pytest.mark.parametrize("options", [{"interval_s": 1.9}, {"interval_s": float("nan")}, {"timeout_s": 0.0}])
async def test_times_out_of_range_are_refused(autojump_clock: MockClock, options: dict[str, float]) -> None:
    world = World()
    async with world.client() as discovery:
        with pytest.raises(ConfigError):
            async with discovery.watch_hosts(M, **options):
                pass


async def test_an_own_record_is_no_host(autojump_clock: MockClock) -> None:
    world = World()
    async with watching(world, interval_s=2.0) as watch:
        await trio.sleep(5)
        push(world, "client")
        own = make_key("client").peer_id
        assert own in {known.info.peer_id for known in world.records.live()}
        watch.probed(own, ProbeResult(latency=None, readiness=None, unreachable="itself"))
        await trio.sleep(5)
        assert world.network.peers[own].pinged == 0
        assert watch.choices == ()


async def test_a_host_that_came_nearer_or_filled_up_is_told_at_the_next_search(autojump_clock: MockClock) -> None:
    world = World()
    host = world.host("host", "m-3", rtt_s=0.1)
    async with watching(world) as watch:
        await anext(watch)
        host.rtt_s, host.active_jobs = 0.01, 1
        event = await anext(watch)
        assert isinstance(event, HostChanged)
        assert event.changes == ("free_slots", "latency_ms")
        assert event.choice.latency is not None
        assert event.choice.latency.value == pytest.approx(10)
        assert event.choice.free_slots == 1
        assert trio.current_time() < 40


async def test_connections_to_watched_hosts_are_retained_while_they_fit_and_the_watch_runs(
    autojump_clock: MockClock,
) -> None:
    world = World()
    one, two = world.host("one", "m-3"), world.host("two", "m-3")
    world.host("wrong", "other")

    def retained() -> set[str]:
        return {peer_id for peers in world.node.retained.values() for peer_id in peers()}

    async with watching(world, interval_s=600.0) as watch:
        assert retained() == set()
        await anext(watch)
        await anext(watch)
        assert retained() == {one.peer_id, two.peer_id}
        push(world, "one", state=HostState.DRAINING)
        assert isinstance(await anext(watch), HostLeft)
        assert retained() == {two.peer_id}
    assert not world.node.retained
