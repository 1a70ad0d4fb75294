"""What a simulation does at which time: a heap of calls and the one task that makes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush

import trio


class Agenda:
    """Calls functions at their time, those of one moment in the order in which they were entered.

    One task makes all the calls of a moment in one pass of the scheduler.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._entered = 0
        self._scope = trio.CancelScope()
        self._next_s = math.inf

    def at(self, time_s: float, call: Callable[..., None], *args: object) -> None:
        """Call ``call(*args)`` at a time, or in the next pass if that is over. It must not raise nor wait."""
        self._entered += 1
        heappush(self._heap, (time_s, self._entered, call, args))
        if time_s < self._next_s:
            self._next_s = self._scope.deadline = time_s

    async def run(self) -> None:
        """Make the calls until cancelled."""
        heap = self._heap
        while True:
            self._next_s = heap[0][0] if heap else math.inf
            # The deadline wakes the task as any timer does; that no Cancelled is raised and caught saves half the cost.
            with trio.CancelScope(deadline=self._next_s) as self._scope:
                await _wait_for_deadline()
            await trio.lowlevel.checkpoint_if_cancelled()
            now = trio.current_time()
            while heap and heap[0][0] <= now:
                _, _, call, args = heappop(heap)
                call(*args)


async def _wait_for_deadline() -> None:
    task = trio.lowlevel.current_task()

    def abort(_: object) -> trio.lowlevel.Abort:
        trio.lowlevel.reschedule(task)
        return trio.lowlevel.Abort.FAILED

    await trio.lowlevel.wait_task_rescheduled(abort)
