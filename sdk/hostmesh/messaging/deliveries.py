"""Which messages were delivered, so that none is delivered twice. Pure.

A sender repeats a message under the same id until it is acknowledged. The table knows an id from its first sight until
it is forgotten: ``ttl_s`` after delivery, or earlier when its sender or all senders together have sent so many others
that it is the oldest. A message whose delivery is still going on is never forgotten; their number is bounded apart, and
further messages are refused.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from enum import Enum

MessageKey = tuple[str, bytes]
"""Sender and message id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryLimits:
    """Bounds of the table. Chosen here: a sender's retries span 30 s by default, ten minutes are far beyond."""

    ttl_s: float = 600.0
    max_per_sender: int = 1024
    max_total: int = 16384
    max_in_progress: int = 64
    max_in_progress_per_sender: int = 32
    """One sender to slow handlers does not keep the others out."""


class Claim(Enum):
    """What to do with a message that came in."""

    NEW = "new"
    """Deliver it; :meth:`DeliveryTable.delivered` or :meth:`DeliveryTable.dropped` must follow."""
    IN_PROGRESS = "in progress"
    """Its delivery is going on: acknowledge it when that is over."""
    DELIVERED = "delivered"
    """Acknowledge it, and nothing else."""
    FULL = "full"
    """Too many deliveries are going on: refuse it."""


class DeliveryTable:
    """Message ids by sender. ``now`` is monotonic seconds."""

    def __init__(self, limits: DeliveryLimits) -> None:
        self._limits = limits
        self._in_progress: set[MessageKey] = set()
        self._in_progress_of: Counter[str] = Counter()
        # Oldest first, each with the time of its delivery.
        self._delivered: OrderedDict[MessageKey, float] = OrderedDict()
        self._of_sender: dict[str, OrderedDict[bytes, None]] = {}

    def __len__(self) -> int:
        return len(self._delivered)

    def claim(self, key: MessageKey, now: float) -> Claim:
        """Decide about a message that came in.

        Cost: O(1), amortised.
        """
        while self._delivered:
            oldest, at = next(iter(self._delivered.items()))
            if now - at < self._limits.ttl_s:
                break
            self._forget(oldest)
        if key in self._delivered:
            return Claim.DELIVERED
        if key in self._in_progress:
            return Claim.IN_PROGRESS
        if (
            len(self._in_progress) >= self._limits.max_in_progress
            or self._in_progress_of[key[0]] >= self._limits.max_in_progress_per_sender
        ):
            return Claim.FULL
        self._in_progress.add(key)
        self._in_progress_of[key[0]] += 1
        return Claim.NEW

    def delivered(self, key: MessageKey, now: float) -> None:
        """Note that a claimed message was delivered."""
        sender, message_id = key
        self._end(key)
        self._delivered[key] = now
        own = self._of_sender.setdefault(sender, OrderedDict())
        own[message_id] = None
        if len(own) > self._limits.max_per_sender:
            self._forget((sender, next(iter(own))))
        if len(self._delivered) > self._limits.max_total:
            self._forget(next(iter(self._delivered)))

    def dropped(self, key: MessageKey) -> None:
        """Note that a claimed message was not delivered; it may come again."""
        self._end(key)

    def _end(self, key: MessageKey) -> None:
        if key in self._in_progress:
            self._in_progress.remove(key)
            self._in_progress_of[key[0]] -= 1
            if not self._in_progress_of[key[0]]:
                del self._in_progress_of[key[0]]

    def _forget(self, key: MessageKey) -> None:
        sender, message_id = key
        del self._delivered[key]
        own = self._of_sender[sender]
        del own[message_id]
        if not own:
            del self._of_sender[sender]
