"""How good a neighbour a peer is: a number from 0 to 1, of this node's own experience. Pure.

Not a host's reputation: this is of connections, and decides which ones a node keeps and whom it dials.

``score = 0.3 L + 0.5 R + 0.2 H``, a new peer 0.5:

- R, reliability: ``(good + 1) / (good + bad + 2)`` of weights that halve in 10 minutes; after five bad events in a row
  or more, however long they took, never above ``1 / (row + 2)``;
- L, latency: 1 up to 100 ms, 0 from 1,000 ms, linear between, of the smoothed round trip; 0.5 without one; never above
  ``2 R``: how fast a peer fails is worth nothing;
- H, history: the share of good days, which counts in full from the seventh; 0.5 of whom nothing is known.

The two ceilings are the rule that the plain formula lacks: without them a peer that always fails fast keeps
``0.3 + 0.5 R``, one without a round trip 0.32, and neither ever falls below 0.3.

A peer below 0.3 is blacklisted (:mod:`hostmesh.reputation.probation`) after five events since it last did something
good and stood at 0.3 then: so two answers that are late after a quiet hour blacklist no slow but honest peer. On
probation it is rehabilitated at 0.4. Below 0.5 it is a poor neighbour, the first that makes room.

Source: docs/adr/0010-reputation.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from hostmesh.reputation.decay import day_of
from hostmesh.reputation.probation import Suspension

HALF_LIFE_S = 600.0
FAST_S, SLOW_S = 0.1, 1.0
POOR = 0.5
"""Below, a peer is a poor neighbour; a new one has exactly this."""
REHABILITATED = 0.4
BLACKLISTED = 0.3
MIN_EVENTS = 5
TENURE_DAYS = 7
"""Days after which the share of good ones counts in full."""
MAX_DAYS = 30
"""Of more days, the older ones weigh less."""
_LATENCY_SHARE, _RELIABILITY_SHARE, _HISTORY_SHARE = 0.3, 0.5, 0.2
_SMOOTHING = 0.25
"""Weight of a new round trip in the smoothed one."""


class PeerEvent(Enum):
    """What a peer did, on a connection on which it had proven its key; the value is the event's weight against it."""

    SERVED = 0.0
    """It answered, or kept a connection as long as it was wanted."""
    TIMED_OUT = 1.0
    """It answered nothing in time."""
    CORRUPT = 5.0
    """It sent what does not match its digest, or breaks a protocol."""
    FORGED = 10.0
    """It passed on, as somebody else's word, what that one never signed."""

    @property
    def is_good(self) -> bool:
        """Whether it speaks for the peer."""
        return self is PeerEvent.SERVED


def latency_part(rtt_s: float | None) -> float:
    """Return L before its ceiling.

    >>> [latency_part(rtt_s) for rtt_s in (None, 0.02, 0.1, 1.0, 9.0)]
    [0.5, 1.0, 1.0, 0.0, 0.0]
    """
    return 0.5 if rtt_s is None else min(1.0, max(0.0, (SLOW_S - rtt_s) / (SLOW_S - FAST_S)))


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerScore:
    """What this node lived through with one peer.

    >>> PeerScore(at_unix_s=0.0).score(0.0)
    0.5
    """

    at_unix_s: float
    """When the weights below were right."""
    good: float = 0.0
    bad: float = 0.0
    row: int = 0
    """Bad events since the last good one."""
    events: int = 0
    """Since the peer last did something good and stood at 0.3 then, or since probation began."""
    rtt_s: float | None = None
    """Smoothed; None = never measured."""
    good_days: float = 0.0
    bad_days: float = 0.0
    """Before ``day``."""
    day: int = 0
    """The day of the last event."""
    day_balance: float = 0.0
    """Weights of that day: good ones less bad ones."""
    suspension: Suspension | None = None

    def score(self, now: float) -> float:
        """Return the score at ``now``, 0 to 1."""
        good, bad = self._weights(now)
        reliability = (good + 1) / (good + bad + 2)
        if self.row >= MIN_EVENTS:
            reliability = min(reliability, 1 / (self.row + 2))
        latency = min(latency_part(self.rtt_s), 2 * reliability)
        score = _LATENCY_SHARE * latency + _RELIABILITY_SHARE * reliability + _HISTORY_SHARE * self._history()
        return min(1.0, max(0.0, score))

    def after(self, event: PeerEvent, now: float) -> PeerScore:
        """Return what an event makes of it, its blacklisting and rehabilitation included."""
        good, bad = self._weights(now)
        is_good = event.is_good
        counted = replace(
            self._on_day(day_of(now)),
            at_unix_s=max(now, self.at_unix_s),
            good=good + is_good,
            bad=bad + event.value,
            row=0 if is_good else self.row + 1,
            events=self.events + 1,
        )
        counted = replace(counted, day_balance=counted.day_balance + (1.0 if is_good else -event.value))
        return _judged(counted, event, now)

    def measured(self, rtt_s: float) -> PeerScore:
        """Return what a round trip makes of it."""
        smoothed = rtt_s if self.rtt_s is None else self.rtt_s + _SMOOTHING * (rtt_s - self.rtt_s)
        return replace(self, rtt_s=smoothed)

    def may_dial(self, now: float) -> bool:
        """Tell whether the peer may be dialled: it is not blacklisted, or its time is over."""
        return self.suspension is None or not self.suspension.holds(now)

    def _weights(self, now: float) -> tuple[float, float]:
        left = 0.5 ** (max(0.0, now - self.at_unix_s) / HALF_LIFE_S)
        return self.good * left, self.bad * left

    def _history(self) -> float:
        days = self.good_days + self.bad_days
        if not days:
            return 0.5
        return 0.5 + (self.good_days / days - 0.5) * min(1.0, days / TENURE_DAYS)

    def _on_day(self, day: int) -> PeerScore:
        """Return it with the days before ``day`` judged."""
        if day <= self.day:
            return self
        good_days = self.good_days + (self.day_balance > 0)
        bad_days = self.bad_days + (self.day_balance < 0)
        if good_days + bad_days > MAX_DAYS:
            good_days, bad_days = good_days / 2, bad_days / 2
        return replace(self, good_days=good_days, bad_days=bad_days, day=day, day_balance=0.0)


def _judged(counted: PeerScore, event: PeerEvent, now: float) -> PeerScore:
    """Return a score after an event, with what follows from it."""
    before, score = counted.suspension, counted.score(now)
    if before is not None and before.holds(now):
        return counted
    if event.is_good:
        if score < (BLACKLISTED if before is None else REHABILITATED):
            return counted
        return replace(counted, events=0, suspension=None)
    if before is not None:
        suspension = before.after_failure(now, f"on probation: {event.name.lower().replace('_', ' ')}")
    elif counted.events >= MIN_EVENTS and score < BLACKLISTED:
        suspension = Suspension(times=1, since_unix_s=now, reason=f"a score of {score:.2f} after bad events")
    else:
        return counted
    # Probation is judged by what happens in it; history stays.
    return replace(counted, suspension=suspension, good=0.0, bad=0.0, row=0, events=0)
