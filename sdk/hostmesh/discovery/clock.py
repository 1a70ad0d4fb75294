"""How far our clock is from those of others. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from hostmesh.net.peer_id import PeerId

LEAST_STRANGERS = 3
"""So many strangers, each of another network, must have answered before their median is told; one trusted peer is
enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSample:
    """One peer's clock against ours."""

    skew_s: float
    """Their clock minus ours, at the middle of the call."""
    is_trusted: bool
    """The peer stands in our configuration."""
    peer_id: PeerId | None = None
    error_s: float = 0.0
    """Half of the time that the call took: the true skew lies at most this far from ``skew_s``."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {
            "skew_s": round(self.skew_s, 3),
            "is_trusted": self.is_trusted,
            "peer_id": self.peer_id,
            "error_s": round(self.error_s, 3),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockReading:
    """One comparison of our clock with those of peers."""

    skew_s: float | None
    """How far others are ahead of us; None = too few answered to say. See :func:`clock_skew_s`."""
    samples: tuple[ClockSample, ...]
    """Every peer that answered; of strangers one of each network was asked."""
    measured_at_unix_s: float

    @property
    def is_trusted(self) -> bool:
        """Whether peers of our configuration say so. What strangers say is for people: they may be one liar."""
        return any(sample.is_trusted for sample in self.samples)

    @property
    def voters(self) -> int:
        """How many peers ``skew_s`` is the median of."""
        return sum(sample.is_trusted for sample in self.samples) or len(self.samples)

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {
            "skew_s": None if self.skew_s is None else round(self.skew_s, 3),
            "is_trusted": self.is_trusted,
            "samples": [sample.to_dict() for sample in self.samples],
            "measured_at_unix_s": self.measured_at_unix_s,
        }


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
