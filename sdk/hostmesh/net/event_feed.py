"""Hands a node's events to whoever watches, each at his own pace."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import trio

from hostmesh.errors import UsageError
from hostmesh.net.events import NodeEvent

MAX_WAITING_EVENTS = 1024
"""Events that wait for a slow watcher, unless it says otherwise; then the oldest give way."""


class EventWatch:
    """A node's events as they come. For one reader.

    Args:
        max_waiting: events that wait, >= 1.
    """

    def __init__(self, max_waiting: int) -> None:
        self._events: deque[NodeEvent] = deque(maxlen=max_waiting)
        self._came = trio.Event()
        self.dropped = 0
        """Events that gave way because nobody read."""

    def note(self, event: NodeEvent) -> None:
        """Hand over an event. Never waits."""
        self.dropped += len(self._events) == self._events.maxlen
        self._events.append(event)
        self._came.set()

    def __aiter__(self) -> AsyncIterator[NodeEvent]:
        return self

    async def __anext__(self) -> NodeEvent:
        await trio.lowlevel.checkpoint()
        while not self._events:
            self._came = trio.Event()
            await self._came.wait()
        return self._events.popleft()


class EventFeed:
    """Tells every watcher every event from when it began to watch."""

    def __init__(self) -> None:
        self._watches: dict[EventWatch, None] = {}

    def tell(self, event: NodeEvent) -> None:
        """Hand an event to all watchers. Never waits or raises. Cost: linear in the watchers."""
        for watch in self._watches:
            watch.note(event)

    @contextmanager
    def watch(self, max_waiting: int = MAX_WAITING_EVENTS) -> Iterator[EventWatch]:
        """Yield the events from now on, as an async iterator.

        Args:
            max_waiting: events that wait for the reader, >= 1; older ones give way, and are counted.

        Raises:
            UsageError: ``max_waiting`` is below 1.
        """
        if max_waiting < 1:
            raise UsageError("max_waiting must be at least 1")
        watch = EventWatch(max_waiting)
        self._watches[watch] = None
        try:
            yield watch
        finally:
            del self._watches[watch]
