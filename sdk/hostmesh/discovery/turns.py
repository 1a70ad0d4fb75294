"""A queue in which many wait for few. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """What waits, one of each who brought it in turn: who brings many keeps nobody waiting whom others brought.

    It has no bound of its own; who fills it has.

    >>> turns = Turns()
    >>> for item in (1, 2, 3):
    ...     turns.add("many", item)
    >>> turns.add("few", 9)
    >>> [turns.next() for _ in range(4)], len(turns)
    ([1, 9, 2, 3], 0)
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[Hashable, deque[T]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        """Return how many wait."""
        return self._size

    def add(self, brought_by: Hashable, item: T) -> None:
        """Let an item wait, behind the others of who brought it."""
        self._waiting.setdefault(brought_by, deque()).append(item)
        self._size += 1

    def next(self) -> T:
        """Return whose turn it is, and let it wait no longer.

        Raises:
            KeyError: nothing waits.
        """
        brought_by, items = self._waiting.popitem(last=False)
        item = items.popleft()
        self._size -= 1
        if items:
            self._waiting[brought_by] = items
        return item
