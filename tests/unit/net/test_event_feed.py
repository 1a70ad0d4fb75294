"""Watchers get every event, or are told how many they missed."""

from __future__ import annotations

import pytest
import trio

from hostmesh.errors import UsageError
from hostmesh.net.event_feed import EventFeed
from hostmesh.net.events import DialStarted
from hostmesh.net.peer_id import PeerId


def event(number: int) -> DialStarted:
    return DialStarted(at_s=float(number), peer_id=PeerId("peer"), addresses=())


async def test_each_watcher_gets_all_since_it_began_in_order():
    feed = EventFeed()
    feed.tell(event(0))
    with feed.watch() as early:
        feed.tell(event(1))
        with feed.watch() as late:
            feed.tell(event(2))
            assert await anext(late) == event(2)
        feed.tell(event(3))
        assert [await anext(early) for _ in range(3)] == [event(1), event(2), event(3)]
        assert early.dropped == late.dropped == 0


async def test_a_slow_watcher_loses_the_oldest_and_knows_how_many():
    feed = EventFeed()
    with feed.watch(2) as slow, feed.watch() as other:
        for number in range(5):
            feed.tell(event(number))
        assert slow.dropped == 3
        assert [await anext(slow) for _ in range(2)] == [event(3), event(4)]
        assert other.dropped == 0
        assert [(await anext(other)).at_s for _ in range(5)] == [0, 1, 2, 3, 4]


async def test_a_reader_that_waits_is_woken(autojump_clock, nursery):
    feed = EventFeed()
    read: list[object] = []
    with feed.watch() as watch:

        async def reader() -> None:
            while True:
                read.append(await anext(watch))

        nursery.start_soon(reader)
        for number in range(3):
            await trio.sleep(1)
            feed.tell(event(number))
        await trio.testing.wait_all_tasks_blocked()
        assert read == [event(0), event(1), event(2)]


async def test_who_left_gets_nothing_more():
    feed = EventFeed()
    with feed.watch(1) as gone:
        pass
    feed.tell(event(1))
    feed.tell(event(2))
    assert gone.dropped == 0


def test_a_watcher_has_room_for_one_at_least():
    with pytest.raises(UsageError), EventFeed().watch(0):
        pass
