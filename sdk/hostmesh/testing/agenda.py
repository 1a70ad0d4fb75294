"""What a simulation does at which time: a heap of calls. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush


class Agenda:
    """Calls functions at their time, those of one moment in the order in which they were entered."""

    __slots__ = ("_entered", "_heap", "next_s")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._entered = 0
        self.next_s = math.inf
        """When the next call is due."""

    def at(self, time_s: float, call: Callable[..., None], *args: object) -> None:
        """Call ``call(*args)`` at a time, or as soon as all tasks wait if that is over. It must not raise nor wait."""
        self._entered += 1
        heappush(self._heap, (time_s, self._entered, call, args))
        if time_s < self.next_s:
            self.next_s = time_s

    def do_due(self, now: float) -> None:
        """Make the calls that are due, and those that they enter for this moment."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            _, _, call, args = heappop(heap)
            call(*args)
        self.next_s = heap[0][0] if heap else math.inf
