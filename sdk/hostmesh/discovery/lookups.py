"""Lookups between the manager and the searcher: equal ones share one search, and there is a limit to how many begin.

A search runs in a task of the manager's nursery, so that no caller's cancellation takes it from the others; it is
cancelled when nobody waits for it any more. A caller joins a search that ends no later than he would wait himself; what
ends without a match before his time is over is no answer to him: he searches on with the time that is left.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio

from hostmesh.discovery.supervise import first_leaf
from hostmesh.errors import NodeNotRunningError, TooManyLookupsError
from hostmesh.net.token_bucket import TokenBucket

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupLimit:
    """How many searches may begin.

    Chosen here: no program that waits for answers comes near it; a loop that runs away is stopped before it keeps hosts
    and machine busy with nothing else.
    """

    per_s: float = 100.0
    burst: int = 1000

    def __post_init__(self) -> None:
        if not (math.isfinite(self.per_s) and self.per_s > 0 and self.burst >= 1):
            raise ValueError("at least one lookup in some time")


class _Flight(Generic[ResultT]):
    """One search that runs, and whoever waits for it."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.waiting = 0
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.result: ResultT | None = None
        self.error: Exception | None = None


class Lookups(Generic[ResultT]):
    """Runs searches, shared and counted.

    Args:
        nursery: owns the searches.
        is_answer: whether a result is worth having for who could wait longer.
        limit: how many searches may begin.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        is_answer: Callable[[ResultT], bool],
        limit: LookupLimit | None = None,
    ) -> None:
        self._nursery = nursery
        self._is_answer = is_answer
        limit = limit or LookupLimit()
        self._bucket = TokenBucket(per_s=limit.per_s, burst=limit.burst)
        self._flights: dict[Hashable, _Flight[ResultT]] = {}
        """Those that may be joined."""
        self._running: set[_Flight[ResultT]] = set()
        self.joined = 0
        """How many lookups took part in a search that ran."""
        self.refused = 0

    async def find(
        self, key: Hashable | None, search: Callable[[float], Awaitable[ResultT]], *, timeout_s: float
    ) -> ResultT:
        """Search, or wait for an equal search that runs.

        Args:
            key: equal for equal searches; None = shared with nobody.
            search: takes the seconds for everything.
            timeout_s: > 0.

        Raises:
            TooManyLookupsError: too many begin; ``retry_after_ms`` says when one may. Joining costs nothing.
            NodeNotRunningError: the node was stopped meanwhile.
            Whatever the search raises, to everybody who waits for it.

        Cancellation: safe; the search ends if nobody else waits for it.
        """
        deadline = trio.current_time() + timeout_s
        while True:
            flight = None if key is None else self._flights.get(key)
            joins = flight is not None and flight.deadline <= deadline and not flight.scope.cancel_called
            if flight is None or not joins:
                flight = self._start(key, search, deadline)
            else:
                self.joined += 1
            result = await self._wait(key, flight)
            was_cut_off = flight.deadline <= trio.current_time() < deadline
            if not joins or self._is_answer(result) or not was_cut_off:
                return result

    def end(self) -> None:
        """End every search; who waits gets NodeNotRunningError."""
        self._flights.clear()
        for flight in self._running:
            flight.scope.cancel()

    def _start(
        self, key: Hashable | None, search: Callable[[float], Awaitable[ResultT]], deadline: float
    ) -> _Flight[ResultT]:
        wait_s = self._bucket.take(trio.current_time())
        if wait_s > 0:
            self.refused += 1
            raise TooManyLookupsError(
                "too many searches begin", retry_after_ms=math.ceil(wait_s * 1000), remedy="wait, then try again"
            )
        flight: _Flight[ResultT] = _Flight(deadline)
        if key is not None:
            # One that ends too late for a caller stays with those who wait for it.
            self._flights[key] = flight
        self._running.add(flight)
        self._nursery.start_soon(self._run, key, flight, search)
        return flight

    async def _run(
        self, key: Hashable | None, flight: _Flight[ResultT], search: Callable[[float], Awaitable[ResultT]]
    ) -> None:
        try:
            with flight.scope:
                flight.result = await search(max(0.001, flight.deadline - trio.current_time()))
        except* Exception as group:  # noqa: BLE001 - raised again in those who wait
            # The first of them; a cancellation beside them goes on.
            flight.error = first_leaf(group)
        finally:
            self._forget(key, flight)
            self._running.discard(flight)
            flight.ended.set()

    async def _wait(self, key: Hashable | None, flight: _Flight[ResultT]) -> ResultT:
        flight.waiting += 1
        try:
            await flight.ended.wait()
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.ended.is_set():
                self._forget(key, flight)
                flight.scope.cancel()
        if flight.error is not None:
            raise flight.error
        if flight.result is None:
            raise NodeNotRunningError("the node was stopped during the search", remedy="await create_node() first")
        return flight.result

    def _forget(self, key: Hashable | None, flight: _Flight[ResultT]) -> None:
        if key is not None and self._flights.get(key) is flight:
            del self._flights[key]
