"""When a host has others dial it back, and what it says of itself then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from hostmesh.discovery.description import Reachability
from hostmesh.discovery.reach_watch import FIRST_PAUSE_S, KEEP_S, LAST_PAUSE_S, SETTLE_S, ReachWatch
from hostmesh.errors import NodeNotRunningError
from hostmesh.net.autonat_report import ReachabilityReport, ReachState
from hostmesh.system import System

CHECK_S = 2.0
SOON_S = SETTLE_S + CHECK_S + 0.1


class Node:
    """Answers as it is told to, and notes when it was asked."""

    def __init__(self) -> None:
        self.answer: ReachState | Exception | None = ReachState.PUBLIC
        self.asked_s: list[float] = []

    async def check_reachability(self, timeout_s: float = 60.0) -> ReachabilityReport:
        self.asked_s.append(trio.current_time())
        answer = self.answer
        await trio.sleep(CHECK_S)
        if isinstance(answer, Exception):
            raise answer
        return ReachabilityReport(state=answer, addresses=(), answers=(), at_unix_s=0)

    @property
    def pauses_s(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.asked_s, self.asked_s[1:], strict=False)]


class World:
    def __init__(self) -> None:
        self.node = Node()
        self.changes: list[Reachability | None] = []
        self.watch = ReachWatch(self.node, lambda: self.changes.append(self.watch.state), system=System())


@asynccontextmanager
async def a_world() -> AsyncIterator[World]:
    world = World()
    async with trio.open_nursery() as nursery:
        await nursery.start(world.watch.run)
        yield world
        nursery.cancel_scope.cancel()


async def test_who_is_no_host_asks_nobody(autojump_clock: MockClock) -> None:
    async with a_world() as world:
        world.watch.moved()
        await trio.sleep(20 * LAST_PAUSE_S)
        assert world.node.asked_s == []
        world.watch.begin()
        await trio.sleep(SOON_S)
        world.watch.end()
        await trio.sleep(20 * LAST_PAUSE_S)
        assert len(world.node.asked_s) == 1


async def test_a_host_asks_soon_and_then_about_once_an_hour(autojump_clock: MockClock) -> None:
    async with a_world() as world:
        world.watch.begin()
        assert world.watch.state is None
        await trio.sleep(SOON_S)
        assert (world.watch.state, world.changes) == (Reachability.PUBLIC, [Reachability.PUBLIC])
        await trio.sleep(24 * LAST_PAUSE_S)
        assert world.changes == [Reachability.PUBLIC]
        assert 24 <= len(world.node.asked_s) <= 48
        assert all(LAST_PAUSE_S / 2 <= pause_s <= LAST_PAUSE_S + CHECK_S for pause_s in world.node.pauses_s)


@pytest.mark.parametrize("answer", [None, ReachState.UNREACHABLE, NodeNotRunningError("planned")])
async def test_while_it_is_not_known_or_bad_the_pauses_double(
    answer: ReachState | Exception | None, autojump_clock: MockClock
) -> None:
    async with a_world() as world:
        world.node.answer = answer
        world.watch.begin()
        await trio.sleep(6 * LAST_PAUSE_S)
        assert world.watch.state is (Reachability.UNREACHABLE if answer is ReachState.UNREACHABLE else None)
        pauses_s = [pause_s - CHECK_S for pause_s in world.node.pauses_s]
        for number, pause_s in enumerate(pauses_s):
            most_s = min(LAST_PAUSE_S, 2 * FIRST_PAUSE_S * 2**number)
            assert most_s / 2 <= pause_s <= most_s
        assert len(world.node.asked_s) <= 6 + 12


async def test_after_a_change_of_the_network_what_was_found_is_void_and_found_anew(autojump_clock: MockClock) -> None:
    async with a_world() as world:
        world.watch.begin()
        await trio.sleep(60)
        world.node.answer = ReachState.UNREACHABLE
        world.watch.moved()
        assert world.watch.state is None
        await trio.sleep(SOON_S)
        assert world.changes == [Reachability.PUBLIC, Reachability.UNREACHABLE]


async def test_a_network_that_changes_all_the_time_does_not_set_the_pace(autojump_clock: MockClock) -> None:
    async with a_world() as world:
        world.watch.begin()
        for _ in range(1000):
            world.watch.moved()
            await trio.sleep(SETTLE_S + 1)
        assert len(world.node.asked_s) <= 1000 * (SETTLE_S + 1) / FIRST_PAUSE_S + 1
        assert min(world.node.pauses_s) >= FIRST_PAUSE_S


async def test_an_answer_from_before_the_change_does_not_count(autojump_clock: MockClock) -> None:
    async with a_world() as world:
        world.watch.begin()
        await trio.sleep(SETTLE_S + CHECK_S / 2)
        assert len(world.node.asked_s) == 1
        world.watch.moved()
        await trio.sleep(CHECK_S)
        assert (world.watch.state, world.changes) == (None, [])
        await trio.sleep(FIRST_PAUSE_S)
        assert world.watch.state is Reachability.PUBLIC


async def test_where_nobody_can_tell_any_more_a_finding_holds_for_so_long(autojump_clock: MockClock) -> None:
    async with a_world() as world:
        world.watch.begin()
        await trio.sleep(SOON_S)
        world.node.answer = None
        await trio.sleep(KEEP_S - 60)
        assert world.watch.state is Reachability.PUBLIC
        await trio.sleep(LAST_PAUSE_S + 120)
        assert (world.watch.state, world.changes) == (None, [Reachability.PUBLIC, None])
