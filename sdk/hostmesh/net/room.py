"""Waiting for a connection of our own to be free."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from hostmesh.errors import DialError

T = TypeVar("T")

FIRST_WAIT_S = 0.25
"""Before the second try; before each further one twice as long. Chosen here: a call or two over a slow path."""


async def once_there_is_room(call: Callable[[float], Awaitable[T]], timeout_s: float) -> T:
    """Make a call that may need a connection; while all that this node may hold are in use, make it again.

    That we are busy says nothing about the peer: whoever judges peers by whether they can be reached should wait.

    Args:
        call: makes the call in so many seconds.
        timeout_s: seconds for everything.

    Returns:
        What the call returned.

    Raises:
        DialError: there was no room all the time; or another, as the call's.
        HostmeshError: as the call's.

    Cancellation: as the call's.

    Cost: a dial for each try, of which there are at most five in 5 s.
    """
    deadline = trio.current_time() + timeout_s
    wait_s = FIRST_WAIT_S
    while True:
        try:
            return await call(max(0.001, deadline - trio.current_time()))
        except DialError as error:
            # A dial that a rate limit forbade has the same stage, and tells of the attempt.
            is_room_short = error.stage == "limit" and not error.attempts
            if not is_room_short or trio.current_time() + wait_s >= deadline:
                raise
        await trio.sleep(wait_s)
        wait_s *= 2
