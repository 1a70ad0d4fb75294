"""Finds when records and connections are known: each host is probed anew, and nothing else is done twice."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pytest
import trio
from find_world import World
from trio.testing import MockClock

from hostmesh.discovery.choice import HostChoice
from hostmesh.discovery.search import SearchConfig
from hostmesh.reputation.book import ReputationBook
from hostmesh.store import Store


async def test_a_host_that_froze_or_moved_a_moment_ago_is_not_chosen(autojump_clock: MockClock) -> None:
    """Though it was measured a second ago, its record holds and its connection stands."""
    world = World()
    best = world.host("best", "m", price=1)
    other = world.host("other", "m", price=5_000_000)
    async with world.client() as discovery:
        assert (await discovery.find_host()).peer_id == best.peer_id
        await trio.sleep(1)
        best.is_silent = True
        took_s = []
        for _ in range(4):
            began = trio.current_time()
            assert (await discovery.find_host()).peer_id == other.peer_id
            took_s.append(trio.current_time() - began)
        # Two searches wait for it; then it is left alone, though neither waited until the end of its probe.
        assert max(took_s[:2]) <= SearchConfig().settle_s + 0.1
        assert max(took_s[2:]) == pytest.approx(4 * other.rtt_s)
        explained = await discovery.explain()
        why = {each.peer_id: each.detail for each in explained.funnel.rejections}[best.peer_id]
        assert "no answer 2 times in a row" in why


async def test_a_slow_host_that_was_not_waited_for_has_missed_nothing(autojump_clock: MockClock) -> None:
    world = World()
    world.host("near", "m", price=10)
    slow = world.host("slow", "m", price=1)
    async with world.client() as discovery:
        await discovery.find_host()
        slow.rtt_s = 0.9
        for _ in range(3):
            pinged = slow.pinged
            await discovery.find_host()
            assert slow.pinged > pinged, "it is asked again each time"


async def test_searches_that_run_at_once_share_their_probes(autojump_clock: MockClock) -> None:
    """Each draws for itself, so that they are not one search."""
    world = World()
    peer = world.host("host", "m", rtt_s=0.1)
    async with world.client() as discovery:
        await discovery.find_host()
        pings = peer.pinged
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(partial(discovery.find_host, choose_among=2 + number % 2))
        assert peer.pinged == pings + 3
        assert discovery.stats().searches.get("shared", 0) == 0


async def test_a_probe_that_is_shared_outlives_the_search_that_sent_it(autojump_clock: MockClock) -> None:
    world = World()
    peer = world.host("host", "m", rtt_s=0.1)
    async with world.client() as discovery:
        await discovery.find_host()
        found: list[HostChoice] = []

        async def look(scope: trio.CancelScope) -> None:
            with scope:
                found.append(await discovery.find_host(choose_among=2))

        first, second = trio.CancelScope(), trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look, first)
            await trio.sleep(0.05)
            nursery.start_soon(look, second)
            await trio.sleep(0.05)
            first.cancel()
        assert [choice.peer_id for choice in found] == [peer.peer_id]


async def test_reputation_and_standings_are_looked_up_a_few_times_a_search_however_many_hosts(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[str] = Counter()
    reading = Store.reading

    def counted(self: Store) -> AbstractContextManager[Any]:
        reads[self._what] += 1
        return reading(self)

    async def reads_of_a_warm_search(hosts: int) -> dict[str, int]:
        world = World()
        world.reputation = ReputationBook()  # type: ignore[assignment]
        for index in range(hosts):
            world.host(f"h{index}", "m")
        async with world.client() as discovery:
            await discovery.find_host()
            reads.clear()
            found = await discovery.find_all_hosts(limit=hosts)
            assert len(found) == hosts
        return dict(reads)

    monkeypatch.setattr(Store, "reading", counted)
    few, many = await reads_of_a_warm_search(2), await reads_of_a_warm_search(100)
    assert few == many
    # When it begins, when it has looked, and for its result.
    assert max(many.values()) <= 3
    assert len(many) == 2
