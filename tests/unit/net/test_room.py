"""Calls that need a connection, on a node that holds as many as it may: which of them are made again, and when."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from hostmesh.errors import DialError
from hostmesh.net.room import once_there_is_room

NO_ROOM = DialError("all 10 connections are in use", stage="limit")
RATE_LIMITED = DialError("no address answered", stage="limit", attempts={"/ip4/192.0.2.1/tcp/1": "limit: too often"})
DEAD = DialError("no address answered", stage="timeout", attempts={"/ip4/192.0.2.1/tcp/1": "timeout: no answer"})


class Calls:
    """Fail as told, one error after another, and then return."""

    def __init__(self, *errors: DialError, take_s: float = 0.0) -> None:
        self.errors = list(errors)
        self.take_s = take_s
        self.made: list[tuple[float, float]] = []
        """When, and with how much time left."""

    async def __call__(self, left_s: float) -> str:
        self.made.append((trio.current_time(), left_s))
        await trio.sleep(self.take_s)
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


async def test_a_call_that_found_no_room_is_made_again(autojump_clock: MockClock) -> None:
    calls = Calls(NO_ROOM, NO_ROOM, take_s=0.125)
    began_s = trio.current_time()
    assert await once_there_is_room(calls, 5.0) == "answer"
    assert [(at_s - began_s, left_s) for at_s, left_s in calls.made] == [(0, 5.0), (0.375, 4.625), (1.0, 4.0)]


async def test_without_room_it_ends_in_time_and_says_so(autojump_clock: MockClock) -> None:
    calls = Calls(*[NO_ROOM] * 100)
    began_s = trio.current_time()
    with pytest.raises(DialError, match="in use"):
        await once_there_is_room(calls, 5.0)
    assert trio.current_time() - began_s <= 5.0
    assert len(calls.made) == 5


@pytest.mark.parametrize("error", [RATE_LIMITED, DEAD])
async def test_what_is_not_for_want_of_room_is_not_tried_again(error: DialError, autojump_clock: MockClock) -> None:
    calls = Calls(error)
    with pytest.raises(DialError):
        await once_there_is_room(calls, 5.0)
    assert len(calls.made) == 1
