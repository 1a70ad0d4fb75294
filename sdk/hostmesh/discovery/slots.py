"""Bounded parallel work in which those who do not answer do not hold the others up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVarTuple, Unpack

import trio

Ts = TypeVarTuple("Ts")


class Slots:
    """Counts works in progress.

    A work that takes longer than ``slow_after_s`` gives its slot to the next one and goes on: peers that fell silent
    cost each other's time, not everybody's.

    Args:
        quick: most works at once that are not slow yet.
        most: most works at once in all.
        slow_after_s: when a work counts as slow.
        on_change: called when there may be room again, or a work has ended.
    """

    def __init__(self, *, quick: int, most: int, slow_after_s: float, on_change: Callable[[], None]) -> None:
        self._max_quick = quick
        self._max_total = most
        self._slow_after_s = slow_after_s
        self._on_change = on_change
        self._quick = 0
        self._total = 0

    @property
    def has_room(self) -> bool:
        """Whether another work may start now."""
        return self._quick < self._max_quick and self._total < self._max_total

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in progress."""
        return self._total == 0

    def start(self, nursery: trio.Nursery, work: Callable[[Unpack[Ts]], Awaitable[None]], *args: *Ts) -> None:
        """Start a work; it counts from now on, not from when its task first runs."""
        self._quick += 1
        self._total += 1
        nursery.start_soon(self._run, lambda: work(*args))

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        is_quick = True

        async def watch() -> None:
            nonlocal is_quick
            await trio.sleep(self._slow_after_s)
            is_quick = False
            self._quick -= 1
            self._on_change()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                await work()
                nursery.cancel_scope.cancel()
        finally:
            self._quick -= is_quick
            self._total -= 1
            self._on_change()
