"""How far our clock is from those of others. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_STRANGERS = 3
"""So many strangers must have answered before their median counts; one trusted peer is enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSample:
    """One peer's clock against ours."""

    skew_s: float
    """Their clock minus ours, at the middle of the call."""
    is_trusted: bool
    """The peer stands in our configuration."""


def clock_skew_s(samples: Sequence[ClockSample]) -> float | None:
    """Return how far others are ahead of us; None when too few answered to say.

    The median of the peers that we configured ourselves, if any answered; else that of at least three strangers.

    >>> clock_skew_s([ClockSample(skew_s=41.0, is_trusted=True), ClockSample(skew_s=0.0, is_trusted=False)])
    41.0
    >>> clock_skew_s([ClockSample(skew_s=41.0, is_trusted=False)]) is None
    True
    """
    trusted = [sample.skew_s for sample in samples if sample.is_trusted]
    if trusted:
        return statistics.median(trusted)
    if len(samples) < LEAST_STRANGERS:
        return None
    return statistics.median(sample.skew_s for sample in samples)
