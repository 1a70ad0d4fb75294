"""Deadlines of many waits that nearly always end before: one task for all, and next to nothing for each."""

from __future__ import annotations

import math
from collections.abc import Hashable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from trio_typing import TaskStatus

STEP_S = 0.01
"""A deadline is noticed up to this much late."""


class Waiter(Hashable, Protocol):
    """What has a deadline."""

    def expire(self) -> None:
        """Know that the deadline has passed. Runs in the deadlines' task: it must neither raise nor block."""
        ...


class Deadlines:
    """Tells waiters when their time is up: what a cancel scope around each wait does at ten times the cost.

    Waiters whose time is up within the same :data:`STEP_S` stand in one slot. Bounded by the waiters, and by a number
    for each step of time to come that ever had one.
    """

    def __init__(self) -> None:
        self._slots: dict[int, dict[Waiter, None]] = {}
        self._order: list[int] = []
        """A heap of the slots' times, each once; of some, all waiters have gone meanwhile."""
        self._ordered: set[int] = set()
        self._sleep = trio.CancelScope()
        self._wakes_at = math.inf

    def __len__(self) -> int:
        """Return how many have a deadline."""
        return sum(len(slot) for slot in self._slots.values())

    def add(self, waiter: Waiter, deadline: float) -> int:
        """Tell a waiter once when a time has passed; trio's clock. Returns what :meth:`remove` wants."""
        key = math.ceil(deadline / STEP_S)
        if key * STEP_S < deadline:
            key += 1  # rounded: nobody is told before its time
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = {}
            if key not in self._ordered:
                self._ordered.add(key)
                heappush(self._order, key)
            if key * STEP_S < self._wakes_at:
                self._wakes_at = self._sleep.deadline = key * STEP_S
        slot[waiter] = None
        return key

    def remove(self, waiter: Waiter, key: int) -> None:
        """Tell it no more. Harmless where it was told."""
        slot = self._slots.get(key)
        if slot is not None:
            slot.pop(waiter, None)
            if not slot:
                del self._slots[key]

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell waiters until cancelled."""
        task_status.started()
        while True:
            while self._order and self._order[0] not in self._slots:
                self._pop()
            self._wakes_at = self._order[0] * STEP_S if self._order else math.inf
            with trio.CancelScope(deadline=self._wakes_at) as self._sleep:
                await trio.sleep_forever()
            now = trio.current_time()
            while self._order and self._order[0] * STEP_S <= now:
                for waiter in self._slots.pop(self._pop(), ()):
                    waiter.expire()

    def _pop(self) -> int:
        key = heappop(self._order)
        self._ordered.discard(key)
        return key
