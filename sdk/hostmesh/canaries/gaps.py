"""Gaps between jobs: how likely a conversation begins after one, and gaps like those that are known. Pure.

Source: D. Cox, D. Oakes, "Analysis of Survival Data", 1984, chapters 2 and 4. E. Kaplan, P. Meier,
"Nonparametric Estimation from Incomplete Observations", 1958.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from hostmesh.canaries.draws import Draws

_LONG_PART = 0.9
_MAX_EXPONENT = 12.0
_TIE = 1e-9
"""Gaps that differ by less are the same one: what is over at that time is over for all of them."""
_TAIL_POWER = 0.4
"""Beyond the longest gap that is known, gaps longer than t are as many as t to the minus this. Chosen here: users who
pause have far longer gaps than they had so far, others have hardly any."""

Gap = tuple[float, bool]
"""Seconds before a job, and whether it began a conversation."""


def time_of_hazard(gaps: Iterable[Gap], hazard: float) -> float | None:
    """Return the time at which the cumulative hazard of a beginning reaches a value.

    A new gap is as likely to fall between any two neighbours of those that are known, or beyond either end. So of k
    gaps at least as long as one that ended with a beginning one in k + 1 is over by then; in between the hazard is
    constant. Beyond the longest it falls with time, and before the shortest it begins as far away as the third is.

    Args:
        gaps: seconds, and whether a conversation began at the end.
        hazard: 0 or more.

    Returns:
        None = at no time: no gap is known that ended with a beginning after a while.

    >>> gaps = [(1.0, True), (2.0, False), (3.0, True)]
    >>> round(time_of_hazard(gaps, math.log(4 / 3)), 6), round(time_of_hazard(gaps, math.log(8 / 3)), 6)
    (1.0, 3.0)
    """
    passed, at = 0.0, 0.0
    for began, gap, step in _steps(gaps):
        if passed + step >= hazard:
            return began + (hazard - passed) / step * (gap - began)
        passed, at = passed + step, gap
    exponent = (hazard - passed) / _TAIL_POWER
    return at * math.exp(exponent) if at > 0.0 and exponent < _MAX_EXPONENT else None


def hazard_at(gaps: Iterable[Gap], time_s: float) -> float:
    """Return the cumulative hazard of a beginning up to a time: the inverse of :func:`time_of_hazard`.

    >>> gaps = [(1.0, True), (2.0, False), (3.0, True)]
    >>> round(time_of_hazard(gaps, hazard_at(gaps, 2.5)), 6)
    2.5
    """
    passed, at = 0.0, 0.0
    for began, gap, step in _steps(gaps):
        if gap > time_s * (1 + _TIE):
            return passed + (step * max(time_s - began, 0.0) / (gap - began) if gap > began else 0.0)
        passed, at = passed + step, gap
    return passed + (_TAIL_POWER * max(math.log(time_s / at), 0.0) if at > 0.0 else 0.0)


def part_soon_after(gaps_s: Collection[float], soon_s: float) -> float:
    """Return how often a gap that has lasted as long as another one, longer than a while, is over in that while.

    >>> part_soon_after([1.0, 2.0, 10.0, 11.0, 30.0], 2.0)
    0.25
    """
    ordered = sorted(gaps_s)
    parts = []
    for place, gap_s in enumerate(ordered, 1):
        longer = len(ordered) - place
        if gap_s > soon_s and longer:
            parts.append((bisect_right(ordered, gap_s + soon_s) - place) / longer)
    return sum(parts) / max(len(parts), 1)


def _steps(gaps: Iterable[Gap]) -> Iterator[tuple[float, float, float]]:
    """Yield the times between which the hazard grows, and by how much."""
    ordered = sorted(gaps)
    alike = Counter(gap for gap, begins in ordered if begins)
    # Where many are the same to the bit, what comes at that moment comes with them and not before.
    begun = [
        (gap, math.log1p(1 / (len(ordered) - place)) if count == 1 else count / (len(ordered) - place + 1))
        for gap, count in alike.items()
        for place in [bisect_left(ordered, (gap, False))]
    ]
    began = max(2 * begun[0][0] - begun[min(2, len(begun) - 1)][0], 0.0) if begun else 0.0
    for gap, step in begun:
        yield began, gap, step
        began = gap


def most(values: Collection[float]) -> float:
    """Return what nine in ten of the values do not exceed; 0.0 = there are none.

    >>> most([5.0, 1.0, 2.0]), most([])
    (2.0, 0.0)
    """
    return sorted(values)[int(_LONG_PART * (len(values) - 1))] if values else 0.0


def spread(values: Collection[float]) -> float:
    """Return how far those apart are between which four in five of the values lie; there is one.

    >>> spread([5.0, 1.0, 2.0, 3.0, 4.0, 99.0])
    3.0
    """
    return most(values) + most([-value for value in values])


def between(values: Iterable[float], draws: Draws) -> float:
    """Return a number like those given, one or more: somewhere between two that are neighbours.

    >>> 1.0 <= between([3.0, 1.0, 2.0], Draws(bytes(32))) <= 3.0
    True
    """
    ordered: Sequence[float] = sorted(values)
    place = draws.unit() * (len(ordered) - 1)
    low = ordered[int(place)]
    return low + (place - int(place)) * (ordered[math.ceil(place)] - low)
