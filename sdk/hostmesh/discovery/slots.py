"""Bounded parallel work in which those who do not answer do not hold the others up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVarTuple, Unpack

import trio

Ts = TypeVarTuple("Ts")

CONNECTIONS_SHARE = 0.5
"""Part of a node's connections that works may hold at once: each may hold one, and other peers need some as well."""


def most_at_once(most: int, max_connections: int | None) -> int:
    """Return how many works may go on at once on a node with so many connections.

    >>> most_at_once(64, 10), most_at_once(64, 1000), most_at_once(64, 1), most_at_once(64, None)
    (5, 64, 1, 64)
    """
    return most if max_connections is None else min(most, max(1, int(max_connections * CONNECTIONS_SHARE)))


class Slots:
    """Counts works in progress.

    A work that takes longer than ``slow_after_s`` gives its slot to the next one and goes on: peers that fell silent
    cost each other's time, not everybody's. Where there is no room at all, :meth:`end_slowest` makes some.

    Args:
        quick: most works at once that are not slow yet.
        most: most works at once in all; may be changed.
        slow_after_s: when a work counts as slow.
        gives_way_after_s: when a work may be ended for another; not before it counts as slow.
        on_change: called when there may be room again, or a work has ended.
    """

    def __init__(
        self,
        *,
        quick: int,
        most: int,
        slow_after_s: float,
        gives_way_after_s: float,
        on_change: Callable[[], None],
    ) -> None:
        self.most = most
        self._max_quick = quick
        self._slow_after_s = slow_after_s
        self._gives_way_after_s = gives_way_after_s
        self._on_change = on_change
        self._quick = 0
        self._total = 0
        self._ending = 0
        self._may_end: dict[trio.CancelScope, object] = {}

    @property
    def has_room(self) -> bool:
        """Whether another work may start now."""
        return self._quick < self._max_quick and self._total < self.most

    @property
    def has_place(self) -> bool:
        """Whether there is room for a work that takes little of it, however many are quick."""
        return self._total < self.most

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in progress."""
        return self._total == 0

    def start(
        self,
        nursery: trio.Nursery,
        work: Callable[[Unpack[Ts]], Awaitable[None]],
        *args: *Ts,
        name: object = None,
    ) -> None:
        """Start a work; it counts from now on, not from when its task first runs.

        Args:
            nursery: runs it.
            work: an async function.
            args: of it.
            name: what :meth:`end_slowest` calls it.
        """
        self._quick += 1
        self._total += 1
        nursery.start_soon(self._run, lambda: work(*args), name)

    def end_slowest(self) -> object | None:
        """Cancel the work that has gone on for longest, if that is what it takes to make room.

        Returns:
            Its name; None when nothing was cancelled: there is room, or will be at once, or no work gives way yet.
        """
        if self._total - self._ending < self.most or not self._may_end:
            return None
        scope = next(iter(self._may_end))
        self._ending += 1
        scope.cancel()
        return self._may_end.pop(scope)

    async def _run(self, work: Callable[[], Awaitable[None]], name: object) -> None:
        is_quick, may_end = True, False

        async def watch() -> None:
            nonlocal is_quick, may_end
            await trio.sleep(self._slow_after_s)
            is_quick = False
            self._quick -= 1
            self._on_change()
            await trio.sleep(self._gives_way_after_s - self._slow_after_s)
            may_end = True
            self._may_end[nursery.cancel_scope] = name
            self._on_change()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                await work()
                nursery.cancel_scope.cancel()
        finally:
            self._quick -= is_quick
            if may_end and nursery.cancel_scope not in self._may_end:
                self._ending -= 1
            self._may_end.pop(nursery.cancel_scope, None)
            self._total -= 1
            self._on_change()
