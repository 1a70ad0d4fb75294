"""Being blacklisted by what one did: for twice as long each time, and on probation afterwards. Pure.

The first time lasts 10 minutes, each further one twice as long as the one before, up to a day. It ends by itself,
judged whenever it is read. Afterwards comes probation: trials, one at a time. Three that go well, and all is forgotten;
one that fails, and the next time begins.

Source: M. Nygard, "Release It!", "Circuit Breaker", for the half-open state; docs/adr/0010-reputation.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

FIRST_SUSPENSION_S = 600.0
LAST_SUSPENSION_S = 86_400.0
PROBATION_TRIALS = 3
"""Successes in a row that end probation: one is what a cheat would pay for a clean slate."""

_DOUBLINGS = math.ceil(math.log2(LAST_SUSPENSION_S / FIRST_SUSPENSION_S))


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspension:
    """Why and since when somebody is blacklisted, or on probation.

    >>> [Suspension(times=n, since_unix_s=0.0, reason="").duration_s for n in (1, 2, 8, 9, 10_000)]
    [600.0, 1200.0, 76800.0, 86400.0, 86400.0]
    """

    times: int
    """In a row, >= 1: probation that was passed begins a new row."""
    since_unix_s: float
    reason: str
    """For people. May hold text of others: escape it before a terminal sees it."""
    passed: int = 0
    """Trials that went well since it ended, in a row."""

    @property
    def duration_s(self) -> float:
        """How long it lasts, without probation."""
        return min(LAST_SUSPENSION_S, FIRST_SUSPENSION_S * 2.0 ** min(self.times - 1, _DOUBLINGS))

    @property
    def until_unix_s(self) -> float:
        """When probation begins."""
        return self.since_unix_s + self.duration_s

    def left_s(self, now: float) -> float:
        """Return how much is left; a clock that was set back lengthens it to twice its time at most."""
        return max(0.0, self.duration_s - abs(now - self.since_unix_s))

    def holds(self, now: float) -> bool:
        """Tell whether it has not ended, so that this is not probation."""
        return self.left_s(now) > 0

    def after_success(self, now: float) -> Suspension | None:
        """Return what a success makes of it; None = probation is over.

        While it holds, a success is of what was begun before it, and changes nothing.
        """
        if self.holds(now):
            return self
        return None if self.passed + 1 >= PROBATION_TRIALS else replace(self, passed=self.passed + 1)

    def after_failure(self, now: float, reason: str) -> Suspension:
        """Return what a failure makes of it: the next time.

        While it holds, a failure is of what was begun before it, and changes nothing.
        """
        if self.holds(now):
            return self
        return Suspension(times=self.times + 1, since_unix_s=now, reason=reason)
