"""When a connection is pinged, and how long the answer took. Pure."""

from __future__ import annotations

import math

PING_S = 20.0
"""A peer of which nothing was heard for so long is pinged by the side that dialled."""
PATIENCE_S = 5.0
"""The other side waits so much longer. The answer to a ping tells both sides that the other lives: one of them asks."""
MEASURE_S = 180.0
"""A busy connection is pinged this often, for the round-trip time."""


class Pinger:
    """The pings of one connection, of which one is under way at a time.

    Args:
        is_initiator: whether this side dialled.
    """

    def __init__(self, *, is_initiator: bool) -> None:
        self._after_s = PING_S if is_initiator else PING_S + PATIENCE_S
        self._value = 0
        self._last_s = -math.inf
        self.asked_at_s: float | None = None
        """Since when an answer is waited for; None: none is."""
        self.rtt_s: float | None = None
        """Round-trip time of the last ping; None before the first."""
        self._untold_s: float | None = None

    def is_due(self, now: float, last_heard_s: float) -> bool:
        """Whether it is time for one.

        Args:
            now: trio's clock.
            last_heard_s: when bytes of the peer came last.
        """
        return now - max(self._last_s, last_heard_s) >= self._after_s or now - self._last_s >= MEASURE_S

    def next_value(self, now: float) -> int:
        """Return the number to ask with. An unanswered one is sent again under its number: the first answer counts."""
        self._last_s = now
        if self.asked_at_s is None:
            self._value = (self._value + 1) & 0xFFFFFFFF
            self.asked_at_s = now
        return self._value

    def take_answer(self, value: int, now: float) -> None:
        """Take in what the peer answered; a number that was not asked with is nothing."""
        if self.asked_at_s is not None and value == self._value:
            self.rtt_s = self._untold_s = now - self.asked_at_s
            self.asked_at_s = None

    def take_measured(self) -> float | None:
        """Return the round-trip time of a ping that was answered since the last call; None: there was none."""
        measured_s, self._untold_s = self._untold_s, None
        return measured_s
