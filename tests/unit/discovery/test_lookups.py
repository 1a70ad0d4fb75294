"""Equal lookups share one search, whoever leaves when; too many are refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hostmesh.discovery.lookups import LookupLimit, Lookups
from hostmesh.errors import ConnectionLostError, NodeNotRunningError, TooManyLookupsError


class Searches:
    """Counts the searches, each of which takes a second and finds its number."""

    def __init__(self, takes_s: float = 1.0, finds: Callable[[int], str] = str) -> None:
        self.takes_s = takes_s
        self.finds = finds
        self.begun = self.ended = self.cancelled = 0
        self.timeouts_s: list[float] = []

    async def __call__(self, timeout_s: float) -> str:
        self.begun += 1
        self.timeouts_s.append(timeout_s)
        number = self.begun
        try:
            with trio.move_on_after(timeout_s):
                await trio.sleep(self.takes_s)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        self.ended += 1
        return self.finds(number)


def lookups_in(nursery: trio.Nursery, limit: LookupLimit | None = None) -> Lookups[str]:
    return Lookups(nursery, is_answer=bool, limit=limit)


async def test_equal_lookups_at_once_are_one_search(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    lookups, search, found = lookups_in(nursery), Searches(), []

    async def look(key: str) -> None:
        found.append((key, await lookups.find(key, search, timeout_s=10)))

    async with trio.open_nursery() as callers:
        for _ in range(3):
            callers.start_soon(look, "a")
        callers.start_soon(look, "b")
    assert search.begun == 2
    assert len({result for key, result in found if key == "a"}) == 1
    assert lookups.joined == 2
    await lookups.find("a", search, timeout_s=10)
    assert search.begun == 3  # nothing is kept of one that ended


@pytest.mark.parametrize("leaves_at_s", [0.0, 0.25, 0.5, 0.999])
@pytest.mark.parametrize("leaver", [0, 1])
async def test_one_who_leaves_takes_nothing_from_the_other(
    autojump_clock: MockClock, nursery: trio.Nursery, leaver: int, leaves_at_s: float
) -> None:
    """At every point: before the search's first step, during it, just before its end; the first or the second."""
    lookups, search, found = lookups_in(nursery), Searches(), []
    scopes = [trio.CancelScope(), trio.CancelScope()]

    async def look(number: int) -> None:
        with scopes[number]:
            found.append((number, await lookups.find("a", search, timeout_s=10), trio.current_time()))

    async with trio.open_nursery() as callers:
        callers.start_soon(look, 0)
        callers.start_soon(look, 1)
        if leaves_at_s:
            await trio.sleep(leaves_at_s)
        scopes[leaver].cancel()
    # A caller who is cancelled before the first step never asked.
    assert found == [(1 - leaver, "1", 1.0)]
    assert (search.begun, search.ended, search.cancelled) == (1, 1, 0)


@pytest.mark.parametrize("leaves_at_s", [0.0, 0.5])
async def test_a_search_nobody_waits_for_ends(
    autojump_clock: MockClock, nursery: trio.Nursery, leaves_at_s: float
) -> None:
    lookups, search = lookups_in(nursery), Searches()
    async with trio.open_nursery() as callers:
        for _ in range(2):
            callers.start_soon(_find, lookups, "a", search)
        await trio.sleep(leaves_at_s)
        await wait_all_tasks_blocked()
        callers.cancel_scope.cancel()
    await wait_all_tasks_blocked()
    assert (search.begun, search.cancelled) == (1, 1)
    assert await lookups.find("a", search, timeout_s=10) == "2"  # and who comes next begins anew


async def test_a_caller_joins_only_what_ends_in_his_own_time(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    lookups, search = lookups_in(nursery), Searches(takes_s=5)
    ended: dict[str, float] = {}

    async def look(name: str, timeout_s: float) -> None:
        await lookups.find("a", search, timeout_s=timeout_s)
        ended[name] = trio.current_time()

    async with trio.open_nursery() as callers:
        callers.start_soon(look, "patient", 10.0)
        await wait_all_tasks_blocked()
        callers.start_soon(look, "hasty", 2.0)
    assert ended == {"hasty": 2.0, "patient": 5.0}
    assert search.begun == 2


async def test_who_could_wait_longer_searches_on_when_time_ran_out_with_nothing(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    lookups = lookups_in(nursery)
    search = Searches(takes_s=9, finds=lambda number: "" if number == 1 else "found")
    found: dict[str, tuple[str, float]] = {}

    async def look(name: str, timeout_s: float) -> None:
        found[name] = (await lookups.find("a", search, timeout_s=timeout_s), trio.current_time())

    async with trio.open_nursery() as callers:
        callers.start_soon(look, "first", 3.0)
        await trio.sleep(1)
        callers.start_soon(look, "second", 30.0)
    assert found == {"first": ("", 3.0), "second": ("found", 12.0)}
    assert search.timeouts_s == [3.0, 28.0]


async def test_nothing_found_before_the_time_is_over_is_the_answer_to_all(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    lookups, search = lookups_in(nursery), Searches(finds=lambda number: "")
    found: list[str] = []

    async def look(timeout_s: float) -> None:
        found.append(await lookups.find("a", search, timeout_s=timeout_s))

    async with trio.open_nursery() as callers:
        callers.start_soon(look, 3.0)
        await wait_all_tasks_blocked()
        callers.start_soon(look, 30.0)
    assert (found, search.begun) == (["", ""], 1)


async def test_a_failure_reaches_everybody_and_harms_nobody_else(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    lookups = lookups_in(nursery)
    failed = 0

    async def search(timeout_s: float) -> str:
        await trio.sleep(1)
        raise ConnectionLostError("gone")

    async def look() -> None:
        nonlocal failed
        with pytest.raises(ConnectionLostError):
            await lookups.find("a", search, timeout_s=10)
        failed += 1

    async with trio.open_nursery() as callers:
        callers.start_soon(look)
        callers.start_soon(look)
    assert failed == 2
    assert await lookups.find("a", Searches(), timeout_s=10) == "1"


@pytest.mark.parametrize("key", ["a", None])
async def test_when_the_node_ends_searches_end(
    autojump_clock: MockClock, nursery: trio.Nursery, key: str | None
) -> None:
    lookups, search = lookups_in(nursery), Searches()

    async def look() -> None:
        with pytest.raises(NodeNotRunningError):
            await lookups.find(key, search, timeout_s=10)

    async with trio.open_nursery() as callers:
        callers.start_soon(look)
        await trio.sleep(0.5)
        lookups.end()
    assert search.cancelled == 1


async def test_lookups_without_a_key_share_nothing(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    lookups, search = lookups_in(nursery), Searches()
    async with trio.open_nursery() as callers:
        for _ in range(2):
            callers.start_soon(_find, lookups, None, search)
    assert search.begun == 2


async def test_too_many_are_refused_and_told_when_to_try_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    lookups, search = lookups_in(nursery, LookupLimit(per_s=2, burst=3)), Searches(takes_s=0.001)
    for number in range(3):
        await lookups.find(str(number), search, timeout_s=1)
    with pytest.raises(TooManyLookupsError) as caught:
        await lookups.find("x", search, timeout_s=1)
    assert search.begun == 3
    assert lookups.refused == 1
    assert caught.value.retry_safe
    # Half a second for a token, of which three searches took a millisecond each; rounded up.
    assert caught.value.retry_after_ms in (497, 498)
    await trio.sleep(caught.value.retry_after_ms / 1000)
    await lookups.find("x", search, timeout_s=1)


async def test_joining_costs_no_token(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    lookups, search = lookups_in(nursery, LookupLimit(per_s=0.001, burst=1)), Searches()
    async with trio.open_nursery() as callers:
        for _ in range(5):
            callers.start_soon(_find, lookups, "a", search)
    assert search.begun == 1


async def _find(lookups: Lookups[str], key: str | None, search: Callable[[float], Awaitable[str]]) -> None:
    await lookups.find(key, search, timeout_s=10)
