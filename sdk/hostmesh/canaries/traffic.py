"""What is remembered of the real jobs that a host got: their shapes and their times. Pure.

A canary copies both. Shapes are numbers and settings; of the user's words only a system prompt is kept, which the host
has had already, and which goes to no other host (:mod:`hostmesh.canaries.canary`).

Time is copied by rate: whatever the host knows, the rate at which canaries come is at each moment the same small
multiple of the rate at which real jobs come. The chance that an arriving job is a canary is then the same number at
each arrival, so that times tell nothing. The rate of real jobs is estimated from the recent gaps between them, given
how long the last one is ago: if S(t) is the part of gaps longer than t, the canaries of a gap are a Poisson process in
the time -log S(t), whose rate there is the multiple.

Source: D. Cox, D. Oakes, "Analysis of Survival Data", 1984, chapter 2 (hazards, and their proportionality).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from hostmesh.canaries.draws import Draws

MAX_JOBS = 128
"""Real jobs that are remembered of a host; what came before them no longer counts."""
MIN_JOBS = 8
"""A host that has had fewer gets no canary: there is no traffic to be like."""
LENGTH_JITTER = 0.1
"""A canary's length is that of a real job, by up to this part more or less."""
_OVERLAPPING_PART = 0.1
_TAIL_PART = 0.1

Setting = tuple[str, float | int | str | tuple[str, ...]]
"""A parameter of a job and its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobShape:
    """What a job looks like from outside, without its words.

    >>> JobShape(length_bytes=40, max_output_tokens=256, parameters=(("temperature", 0.7),)).temperature
    0.7
    """

    length_bytes: int
    """Of the last message, in UTF-8."""
    max_output_tokens: int | None
    """None = the host's own limit."""
    parameters: tuple[Setting, ...] = ()
    """As the user gave them, ``seed`` only if he gave it."""
    turn: int = 1
    """1 = the first message of a conversation."""

    def __post_init__(self) -> None:
        if (
            self.length_bytes < 0
            or self.turn < 1
            or (self.max_output_tokens is not None and self.max_output_tokens < 1)
        ):
            raise ValueError("lengths are 0 or more, turns and tokens 1 or more")

    @property
    def temperature(self) -> float | None:
        """None = the engine's default."""
        value = dict(self.parameters).get("temperature")
        return float(value) if isinstance(value, (int, float)) else None


class Traffic:
    """The recent real jobs of one host, and when canaries are due among them.

    Args:
        rate: canaries for each real job, > 0 and <= 1.
    """

    def __init__(self, *, rate: float) -> None:
        if not 0.0 < rate <= 1.0:
            raise ValueError("a rate is more than 0 and at most 1")
        self._rate = rate
        self.shapes: deque[JobShape] = deque(maxlen=MAX_JOBS)
        self._from_start: deque[float] = deque(maxlen=MAX_JOBS)
        self._from_end: deque[float] = deque(maxlen=MAX_JOBS)
        self._overlaps: deque[bool] = deque(maxlen=MAX_JOBS)
        self._running = 0
        self._last_start_s: float | None = None
        self._last_end_s: float | None = None
        self._hazard = 0.0
        self._due_s: float | None = None

    def job_started(self, shape: JobShape, *, now_s: float, draws: Draws) -> None:
        """Note that a real job leaves for the host."""
        if self._last_start_s is not None:
            self._from_start.append(max(now_s - self._last_start_s, 0.0))
            self._overlaps.append(self._running > 0)
            if self._running == 0 and self._last_end_s is not None:
                self._from_end.append(max(now_s - self._last_end_s, 0.0))
        self.shapes.append(shape)
        self._running += 1
        self._last_start_s = now_s
        self._begin_gap(draws)

    def job_ended(self, *, now_s: float, draws: Draws) -> None:
        """Note that a real job is over, however it ended."""
        self._running = max(self._running - 1, 0)
        self._last_end_s = now_s
        if self._is_sequential:
            self._begin_gap(draws)

    def canary_sent(self, draws: Draws) -> None:
        """Note that the canary that was due has left: the next one is due later in the same gap, or not at all."""
        self._hazard += draws.exponential() / self._rate
        self._set_due()

    @property
    def due_s(self) -> float | None:
        """When the next canary is due, in the time of ``now_s``; None = not before the next real job."""
        return self._due_s

    @property
    def _is_sequential(self) -> bool:
        """The user waits for an answer before he asks again, so that gaps are counted from the answer's end."""
        return sum(self._overlaps) < _OVERLAPPING_PART * max(len(self._overlaps), 1)

    def _begin_gap(self, draws: Draws) -> None:
        self._hazard = draws.exponential() / self._rate
        self._set_due()

    def _set_due(self) -> None:
        self._due_s = None
        if self._is_sequential:
            began, gaps = (self._last_end_s if self._running == 0 else None), self._from_end
        else:
            began, gaps = self._last_start_s, self._from_start
        if began is not None and len(gaps) >= MIN_JOBS - 1 and len(self.shapes) >= MIN_JOBS:
            self._due_s = began + time_of_hazard(gaps, self._hazard)


def time_of_hazard(gaps: Sequence[float], hazard: float) -> float:
    """Return the time t at which ``-log S(t)`` reaches the hazard.

    S falls by 1/(n+1) at each of the n gaps, linearly between them; beyond the longest it falls exponentially, as fast
    as the longest tenth of the gaps says.

    Args:
        gaps: seconds, one or more.
        hazard: 0 or more.

    >>> time_of_hazard([1.0, 2.0, 3.0], 0.0), round(time_of_hazard([1.0, 2.0, 3.0], math.log(2)), 6)
    (0.0, 2.0)
    """
    ordered = (0.0, *sorted(gaps))
    count = len(ordered)  # gaps and one
    passed = -math.expm1(-hazard) * count
    place = math.floor(passed)
    if place < count - 1:
        return ordered[place] + (passed - place) * (ordered[place + 1] - ordered[place])
    tail = ordered[-max(2, math.ceil(_TAIL_PART * count)) :]
    scale = (sum(tail) - len(tail) * tail[0]) / (len(tail) - 1)
    return ordered[-1] + (hazard - math.log(count)) * max(scale, 0.0)


def blurred(values: Sequence[int], draws: Draws, chosen: int) -> int:
    """Return a value like the chosen one of the values, which are all of one setting.

    Where values come back again and again the chosen one is right as it is. Where hardly one does, a copy would stand
    out by coming twice, and a value between the chosen one and its neighbour is returned.

    >>> blurred([256] * 9 + [512], Draws(bytes(32)), 256)
    256
    >>> blurred(list(range(100, 900, 50)), Draws(bytes(32)), 400) in range(400, 451)
    True
    """
    distinct = sorted(set(values))
    if 2 * len(distinct) <= len(values) or len(distinct) < 2:
        return chosen
    place = min(bisect_left(distinct, chosen), len(distinct) - 2)
    low, high = distinct[place], distinct[place + 1]
    return low + draws.below(high - low + 1)
