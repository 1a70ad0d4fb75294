"""Slots: bounded, and the slow do not hold the quick up."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from hostmesh.discovery.slots import Slots
from hostmesh.discovery.supervise import plain_errors
from hostmesh.errors import StoreError


def make(quick: int = 2, most: int = 3) -> tuple[Slots, list[float]]:
    changes: list[float] = []
    return Slots(quick=quick, most=most, slow_after_s=1, on_change=lambda: changes.append(trio.current_time())), changes


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
