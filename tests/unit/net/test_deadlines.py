"""Deadlines of many waits, on trio's test clock."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from hostmesh.net.deadlines import STEP_S, Deadlines


class Waiter:
    def __init__(self) -> None:
        self.told_at_s: list[float] = []

    def expire(self) -> None:
        self.told_at_s.append(trio.current_time())


@pytest.fixture
async def deadlines(autojump_clock: MockClock, nursery: trio.Nursery) -> Deadlines:
    deadlines = Deadlines()
    await nursery.start(deadlines.run)
    return deadlines


async def test_each_is_told_once_and_in_time(autojump_clock: MockClock, deadlines: Deadlines) -> None:
    begun_s = trio.current_time()
    waiters = {after_s: Waiter() for after_s in (5.0, 0.5, 0.504, 2.0, 0.0, -1.0)}
    for after_s, waiter in waiters.items():
        deadlines.add(waiter, begun_s + after_s)
    assert len(deadlines) == 6
    await trio.sleep(10)
    for after_s, waiter in waiters.items():
        (told_at_s,) = waiter.told_at_s
        assert max(after_s, 0.0) <= told_at_s - begun_s <= max(after_s, 0.0) + STEP_S + 1e-9
    assert len(deadlines) == 0


async def test_an_earlier_one_that_comes_later_is_not_missed(autojump_clock: MockClock, deadlines: Deadlines) -> None:
    begun_s = trio.current_time()
    late, early = Waiter(), Waiter()
    deadlines.add(late, begun_s + 100)
    await trio.sleep(1)
    deadlines.add(early, begun_s + 2)
    await trio.sleep(2)
    assert (len(early.told_at_s), len(late.told_at_s)) == (1, 0)


async def test_what_was_removed_is_not_told(autojump_clock: MockClock, deadlines: Deadlines) -> None:
    gone, stays = Waiter(), Waiter()
    at = trio.current_time() + 1
    key = deadlines.add(gone, at)
    deadlines.add(stays, at)
    deadlines.remove(gone, key)
    deadlines.remove(gone, key)
    await trio.sleep(2)
    assert (gone.told_at_s, len(stays.told_at_s)) == ([], 1)
    deadlines.remove(stays, key)


async def test_one_may_come_again_while_it_is_told(autojump_clock: MockClock, deadlines: Deadlines) -> None:
    told: list[str] = []
    at = trio.current_time() + 1

    class Again:
        def expire(self) -> None:
            told.append("again")
            if len(told) < 3:
                deadlines.add(self, trio.current_time() + 1)

    deadlines.add(Again(), at)
    await trio.sleep(10)
    assert told == ["again"] * 3


class Idle(trio.abc.Instrument):
    """Counts how often anything wakes."""

    def __init__(self) -> None:
        self.wakes = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.wakes += task.name.endswith("Deadlines.run")


async def test_waits_that_end_before_cost_no_wakes(autojump_clock: MockClock, deadlines: Deadlines) -> None:
    idle = Idle()
    trio.lowlevel.add_instrument(idle)
    for _ in range(1000):
        waiter = Waiter()
        key = deadlines.add(waiter, trio.current_time() + 30)
        await trio.sleep(0.05)
        deadlines.remove(waiter, key)
    trio.lowlevel.remove_instrument(idle)
    # The task wakes where a slot once was: 50 s of waits of 30 s are two such, and some for the beginning.
    assert idle.wakes <= 5
    assert len(deadlines) == 0


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 20), st.booleans()), max_size=30))
def test_any_order_of_coming_and_going(plan: list[tuple[float, float, bool]]) -> None:
    """Each: comes at a time, has so long, and is perhaps taken back in the middle."""

    async def main() -> None:
        deadlines = Deadlines()
        begun_s = trio.current_time()

        async def live(comes_s: float, has_s: float, goes: bool) -> None:
            await trio.sleep_until(begun_s + comes_s)
            waiter = Waiter()
            key = deadlines.add(waiter, begun_s + comes_s + has_s)
            if goes:
                await trio.sleep_until(begun_s + comes_s + has_s / 2)
                deadlines.remove(waiter, key)
            await trio.sleep_until(begun_s + 50)
            told = [each - begun_s - comes_s for each in waiter.told_at_s]
            if goes and has_s > 4 * STEP_S:
                assert told == []
            elif not goes:
                assert len(told) == 1
                assert has_s - 1e-6 <= told[0] <= has_s + STEP_S + 1e-6

        async with trio.open_nursery() as nursery:
            await nursery.start(deadlines.run)
            async with trio.open_nursery() as lives:
                for each in plan:
                    lives.start_soon(live, *each)
            assert len(deadlines) == 0
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
