"""How evidence grows old: its weight halves every 32 days, in whole days and whole numbers. Pure.

Weights are integers, in millionths of one job, so that the same history is the same score on every machine: no float
is rounded differently anywhere. An evidence of today weighs in full; after 640 days nothing is left of one job.

Source: docs/adr/0010-reputation.md for the half-life.
"""

from __future__ import annotations

from math import isqrt

UNIT_MICROS = 1_000_000
"""The weight of one job of today."""
HALF_LIFE_DAYS = 32
DAY_S = 86_400

_PRECISION_BITS = 64


def _day_factors() -> tuple[int, ...]:
    """Return ``2 ** (-day / 32)`` for the days of one half-life, as fixed-point numbers: five square roots of 1/2."""
    one_day = 1 << (_PRECISION_BITS - 1)
    for _ in range(5):
        one_day = isqrt(one_day << _PRECISION_BITS)
    factors = [1 << _PRECISION_BITS]
    while len(factors) < HALF_LIFE_DAYS:
        factors.append(factors[-1] * one_day >> _PRECISION_BITS)
    return tuple(factors)


_FACTORS = _day_factors()


def day_of(unix_s: float) -> int:
    """Return the number of a moment's day.

    >>> day_of(0.0), day_of(86_399.9), day_of(86_400.0)
    (0, 0, 1)
    """
    return int(unix_s // DAY_S)


def decayed(weight_micros: int, days: int) -> int:
    """Return what is left of a weight after whole days, rounded down.

    All of it after negative days, as when a clock was set back.

    >>> decayed(1_000_000, 0), decayed(1_000_000, 16), decayed(1_000_000, 32), decayed(1_000_000, 640)
    (1000000, 707106, 500000, 0)
    """
    halvings, rest = divmod(max(0, days), HALF_LIFE_DAYS)
    return weight_micros * _FACTORS[rest] >> (_PRECISION_BITS + min(halvings, _PRECISION_BITS))
