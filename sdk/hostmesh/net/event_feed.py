"""Hands events to whoever watches, each at his own pace."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import trio

from hostmesh.errors import UsageError

MAX_WAITING_EVENTS = 1024
"""Events that wait for a slow watcher, unless it says otherwise; then the oldest give way."""

EventT = TypeVar("EventT")
KindT = TypeVar("KindT")


class EventWatch(Generic[EventT]):
    """Events as they come. For one reader.

    Args:
        max_waiting: events that wait, >= 1.
    """

    def __init__(self, max_waiting: int) -> None:
        self._events: deque[EventT] = deque(maxlen=max_waiting)
        self._came = trio.Event()
        self.dropped = 0
        """Events that gave way because nobody read."""

    def note(self, event: EventT) -> None:
        """Hand over an event. Never waits."""
        self.dropped += len(self._events) == self._events.maxlen
        self._events.append(event)
        self._came.set()

    def __aiter__(self) -> AsyncIterator[EventT]:
        return self

    async def __anext__(self) -> EventT:
        await trio.lowlevel.checkpoint()
        while not self._events:
            self._came = trio.Event()
            await self._came.wait()
        return self._events.popleft()


class EventFeed(Generic[EventT]):
    """Tells every watcher every event from when it began to watch. True while somebody listens."""

    def __init__(self) -> None:
        self._listeners: dict[object, Callable[[EventT], None]] = {}

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def tell(self, event: EventT) -> None:
        """Hand an event to everybody. Never waits or raises. Cost: linear in the listeners."""
        for listener in tuple(self._listeners.values()):
            listener(event)

    def listen(self, listener: Callable[[EventT], None]) -> Callable[[], None]:
        """Call a function with each event from now on; return what ends that, once or more often.

        The function must neither wait nor raise.
        """
        token = object()
        self._listeners[token] = listener

        def remove() -> None:
            self._listeners.pop(token, None)

        return remove

    def listen_for(self, kind: type[KindT], listener: Callable[[KindT], None]) -> Callable[[], None]:
        """Call a function with each event of one kind; see :meth:`listen`."""

        def hear(event: EventT) -> None:
            if isinstance(event, kind):
                listener(event)

        return self.listen(hear)

    @contextmanager
    def watch(self, max_waiting: int = MAX_WAITING_EVENTS) -> Iterator[EventWatch[EventT]]:
        """Yield the events from now on, as an async iterator.

        Args:
            max_waiting: events that wait for the reader, >= 1; older ones give way, and are counted.

        Raises:
            UsageError: ``max_waiting`` is below 1.
        """
        if max_waiting < 1:
            raise UsageError("max_waiting must be at least 1")
        watch: EventWatch[EventT] = EventWatch(max_waiting)
        remove = self.listen(watch.note)
        try:
            yield watch
        finally:
            remove()
