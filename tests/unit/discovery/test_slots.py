"""Slots: bounded, and the slow do not hold the quick up."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from hostmesh.discovery.slots import Slots
from hostmesh.discovery.supervise import plain_errors
from hostmesh.errors import StoreError


def make(quick: int = 2, most: int = 3, gives_way_after_s: float = 100) -> tuple[Slots, list[float]]:
    changes: list[float] = []
    slots = Slots(
        quick=quick,
        most=most,
        slow_after_s=1,
        gives_way_after_s=gives_way_after_s,
        on_change=lambda: changes.append(trio.current_time()),
    )
    return slots, changes


async def test_a_slow_work_gives_its_slot_away_and_goes_on(autojump_clock: MockClock) -> None:
    slots, changes = make()
    ended: list[float] = []

    async def work(duration_s: float) -> None:
        await trio.sleep(duration_s)
        ended.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        slots.start(nursery, work, 5.0)
        assert slots.has_room
        slots.start(nursery, work, 0.5)
        assert not slots.has_room, "two quick ones"
        await trio.sleep(0.6)
        slots.start(nursery, work, 9.0)
        assert not slots.has_room
        await trio.sleep(0.5)
        assert slots.has_room, "the first is slow by now"
        slots.start(nursery, work, 3.0)
        assert not slots.has_room, "three in all"
        assert not slots.is_idle
    assert slots.is_idle
    assert slots.has_room
    assert ended == pytest.approx([0.5, 4.1, 5.0, 9.6])
    assert changes == pytest.approx([0.5, 1.0, 1.6, 2.1, 4.1, 5.0, 9.6])


async def test_a_failed_or_cancelled_work_leaves_its_slot(autojump_clock: MockClock) -> None:
    slots, _ = make(quick=1, most=1)

    async def fail() -> None:
        await trio.sleep(2)
        raise StoreError("full", path="x")

    with pytest.raises(StoreError), plain_errors():
        async with trio.open_nursery() as nursery:
            slots.start(nursery, fail)
    assert slots.has_room
    with trio.move_on_after(0.5):
        async with trio.open_nursery() as nursery:
            slots.start(nursery, trio.sleep_forever)
    assert slots.has_room
    assert slots.is_idle


async def test_where_there_is_no_room_the_one_that_has_been_slow_for_longest_makes_it(
    autojump_clock: MockClock,
) -> None:
    slots, changes = make(gives_way_after_s=1.5)
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await trio.sleep(60)
        finally:
            ended.append(name)

    async with trio.open_nursery() as nursery:
        for name in ("one", "two"):
            slots.start(nursery, work, name, name=name)
            await trio.sleep(0.1)
        assert slots.end_slowest() is None, "both are quick, and there is room in all"
        await trio.sleep(2)
        assert slots.end_slowest() is None, "there is room"
        slots.start(nursery, work, "three", name="three")
        assert not slots.has_room
        assert slots.end_slowest() == "one"
        assert slots.end_slowest() is None, "one is enough: there will be room at once"
        assert not slots.has_room
        changes.clear()
        await trio.sleep(0.1)
        assert changes
        assert ended == ["one"]
        assert slots.has_room
        slots.start(nursery, work, "four", name="four")
        assert slots.end_slowest() == "two"
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert ended[:2] == ["one", "two"]
    assert slots.is_idle


async def test_a_work_that_ends_as_it_is_ended_leaves_the_count_right(autojump_clock: MockClock) -> None:
    slots, _ = make(quick=1, most=1, gives_way_after_s=1.5)

    async def stubborn() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(3)

    async with trio.open_nursery() as nursery:
        slots.start(nursery, stubborn, name="it")
        await trio.sleep(2)
        assert slots.end_slowest() == "it"
        await trio.sleep(2)
        assert slots.is_idle
        slots.start(nursery, stubborn, name="again")
        assert not slots.has_room
        await trio.sleep(1.2)
        assert slots.end_slowest() is None, "it is slow, and does not give way yet"
        await trio.sleep(0.5)
        assert slots.end_slowest() == "again"
