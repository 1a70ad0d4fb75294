"""Whether a host is under attack, and how much work it asks of strangers meanwhile. Pure; ``now`` is monotonic seconds.

What is watched is **calls that came to nothing**: every call that asks for a challenge or answers one counts 1 up, and
a session that was opened takes back what it took. An honest client nets nothing, however many there are; who asks and
never answers, or answers with what is refused, adds up. A table that fills is the other sign: sessions that nobody
needs were authorised properly, too.

Whether there is an attack has hysteresis: it begins above one bound at once, and ends below a lower one after a while,
so that an attacker who comes and goes does not switch it. How much work is asked follows from how much is *done*: noise
without work is refused for next to nothing whatever the price, which honest clients would pay. Who pays it and comes
all the same raises it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hostmesh.errors import ConfigError
from hostmesh.sessions.admission.work import MAX_BITS


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackLimits:
    """When a host takes itself to be under attack, and what it asks then. Chosen here.

    Raises:
        ConfigError: bounds that contradict each other.
    """

    start_per_s: float = 50.0
    """Calls a second that come to nothing, above which there is an attack: a tenth of a core, at about 1 ms each."""
    end_per_s: float = 10.0
    """Below this for ``quiet_s`` it is over."""
    start_fullness: float = 0.9
    """Of the challenges or sessions that there is room for."""
    end_fullness: float = 0.7
    quiet_s: float = 60.0
    first_bits: int = 14
    """What is asked when an attack begins: 16,384 hashes on average."""
    max_bits: int = 18
    """262,144 hashes on average. 0: no work is asked, whatever happens."""
    most_worked_per_s: float = 20.0
    """Strangers a second that did the work, above which the next are asked for more."""
    step_s: float = 5.0
    """Between two changes of the price."""

    def __post_init__(self) -> None:
        fits = (
            0 < self.end_per_s <= self.start_per_s
            and 0 < self.end_fullness <= self.start_fullness <= 1
            and min(self.quiet_s, self.step_s, self.most_worked_per_s) > 0
            and 1 <= self.first_bits <= MAX_BITS
            and (self.max_bits == 0 or self.first_bits <= self.max_bits <= MAX_BITS)
        )
        if not fits:
            raise ConfigError(
                "limits of attacks contradict each other",
                name="attack",
                source="argument",
                remedy="end bounds are not above start bounds; first_bits is 1 or more and not above max_bits",
            )


class Gauge:
    """How often something happened a second, of late: an exponential mean. 0 at first.

    >>> gauge = Gauge(window_s=5.0)
    >>> for tenth in range(1000): gauge.add(1.0, now=tenth / 10)
    >>> round(gauge.per_s(100.0)), round(gauge.per_s(160.0))
    (10, 0)

    Args:
        window_s: seconds after which an event counts 1/e.
    """

    __slots__ = ("_at_s", "_per_s", "_window_s")

    def __init__(self, *, window_s: float) -> None:
        self._window_s = window_s
        self._per_s = 0.0
        self._at_s = -math.inf

    def add(self, weight: float, now: float) -> None:
        """Count an event; a negative weight takes earlier ones back, down to none."""
        self._per_s = max(0.0, self.per_s(now) + weight / self._window_s)
        self._at_s = max(self._at_s, now)

    def per_s(self, now: float) -> float:
        """Return the rate."""
        if self._at_s == -math.inf:
            return 0.0
        return self._per_s * math.exp(-max(0.0, now - self._at_s) / self._window_s)

    def below_since(self, bound: float, now: float) -> float:
        """Return since when it has been below a bound, if nothing was added since; ``now`` when it is not below."""
        if self.per_s(now) >= bound:
            return now
        if self._per_s < bound:
            return self._at_s
        return min(now, self._at_s + self._window_s * math.log(self._per_s / bound))


_WINDOW_S = 5.0


class AttackDetector:
    """Watches the calls of a host's session service.

    >>> detector = AttackDetector()
    >>> detector.bits(0.0)
    0
    >>> for call in range(1000): detector.called(call / 100)
    >>> detector.bits(10.0)
    14
    """

    __slots__ = (
        "_bits",
        "_changed_at",
        "_full_at",
        "_fullness",
        "_limits",
        "_nothing",
        "_quiet_since",
        "_worked",
    )

    def __init__(self, limits: AttackLimits | None = None) -> None:
        self._limits = limits or AttackLimits()
        self._nothing = Gauge(window_s=_WINDOW_S)
        self._worked = Gauge(window_s=_WINDOW_S)
        self._fullness = 0.0
        self._bits = 0
        self._changed_at = 0.0
        self._full_at = -math.inf
        self._quiet_since: float | None = None

    def called(self, now: float, calls: int = 1) -> None:
        """Note calls that have come to nothing as yet."""
        self._nothing.add(calls, now)
        self._look(now)

    def came_to_something(self, now: float, *, calls: int) -> None:
        """Take back the calls that a session took, now that it is open."""
        self._nothing.add(-calls, now)
        self._look(now)

    def worked(self, now: float) -> None:
        """Note that a stranger did the work, whatever comes of it."""
        self._worked.add(1.0, now)
        self._look(now)

    def filled(self, share: float, now: float) -> None:
        """Note how full the fullest table is, 0 to 1."""
        self._fullness = share
        self._look(now)

    def bits(self, now: float) -> int:
        """Return what is asked of strangers now; 0 = there is no attack."""
        self._look(now)
        return self._bits

    def nothing_per_s(self, now: float) -> float:
        """Return how many calls a second come to nothing, of late."""
        return self._nothing.per_s(now)

    def replace(self, limits: AttackLimits) -> None:
        """Take other limits from now on; an attack that is on goes on by these."""
        self._limits = limits
        if self._bits:
            self._bits = min(max(self._bits, limits.first_bits), limits.max_bits)

    def _look(self, now: float) -> None:
        """Begin, end, or change the price. Cost: O(1)."""
        limits = self._limits
        per_s = self._nothing.per_s(now)
        if self._fullness >= limits.end_fullness:
            self._full_at = now
        if per_s > limits.start_per_s or self._fullness > limits.start_fullness:
            self._quiet_since = None
            if not self._bits and limits.max_bits:
                self._bits, self._changed_at = limits.first_bits, now
        elif not self._bits or per_s >= limits.end_per_s or self._fullness >= limits.end_fullness:
            self._quiet_since = None
        elif self._quiet_since is None:
            # Perhaps nobody called for an hour: it ended then, and not now.
            self._quiet_since = max(self._full_at, self._nothing.below_since(limits.end_per_s, now))
        if self._quiet_since is not None and now - self._quiet_since >= limits.quiet_s:
            self._bits, self._quiet_since = 0, None
        if self._bits and now - self._changed_at >= limits.step_s:
            self._change_price(now)

    def _change_price(self, now: float) -> None:
        limits = self._limits
        worked_per_s = self._worked.per_s(now)
        if worked_per_s > limits.most_worked_per_s and self._bits < limits.max_bits:
            self._bits, self._changed_at = self._bits + 1, now
        # A bit less is half the price, and may double who comes: a quarter leaves room for that.
        elif worked_per_s < limits.most_worked_per_s / 4 and self._bits > limits.first_bits:
            self._bits, self._changed_at = self._bits - 1, now
