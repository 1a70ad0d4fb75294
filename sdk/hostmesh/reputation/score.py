"""Reputation of a host: an integer from 0 to 1000, earned by evidence. Pure.

The mean of a Beta(1, 9) prior after weights s for a host and f against it, in per mille, rounded down: exactly 100 with
no evidence, 50 after ten failures. A fresh key starts at 100 again, which never passes an honest veteran.

Source: docs/reputation.md; A. Josang, R. Ismail, "The Beta Reputation System", 2002.
"""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.reputation.decay import UNIT_MICROS

MAX_POINTS = 1000


def points(good: int, bad: int, *, unit: int = 1) -> int:
    """Return ``floor(1000 * (1 + good) / (10 + good + bad))``.

    Args:
        good: the weight of what the host can be thanked for, >= 0.
        bad: the weight of what was the host's fault, >= 0.
        unit: the weight of one job, in the same measure, >= 1.

    >>> points(0, 0), points(0, 10), points(90, 0), points(500_000, 0, unit=1_000_000)
    (100, 50, 910, 142)
    """
    if good < 0 or bad < 0:
        raise ValueError("weights are 0 or more")
    return MAX_POINTS * (unit + good) // (10 * unit + good + bad)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How much speaks for a host and against it, in millionths of one job."""

    good_micros: int = 0
    bad_micros: int = 0

    def __add__(self, other: Weights) -> Weights:
        return Weights(good_micros=self.good_micros + other.good_micros, bad_micros=self.bad_micros + other.bad_micros)

    @property
    def total_micros(self) -> int:
        """Both together."""
        return self.good_micros + self.bad_micros


NO_WEIGHT = Weights()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reputation:
    """What this client thinks of a host, and how much evidence of its own stands behind it.

    >>> Reputation(good=0, bad=0)
    Reputation(good=0, bad=0, points=100, n=0)
    >>> Reputation(good=3, bad=0, own=Weights(good_micros=1_500_000)).points  # it grew old
    217
    """

    good: int
    """Pieces of own evidence for the host, however old."""
    bad: int
    """Pieces against it, those against its key under other wallets included."""
    own: Weights | None = None
    """What they weigh today; None = each weighs one job."""
    foreign: Weights = NO_WEIGHT
    """What is made of the word of others; never more than one job's weight."""

    @property
    def weights(self) -> Weights:
        """All that counts today."""
        own = self.own or Weights(good_micros=self.good * UNIT_MICROS, bad_micros=self.bad * UNIT_MICROS)
        return own + self.foreign

    @property
    def points(self) -> int:
        """0 to 1000; 100 with no evidence."""
        weights = self.weights
        return points(weights.good_micros, weights.bad_micros, unit=UNIT_MICROS)

    @property
    def n(self) -> int:
        """How many pieces of this client's own evidence stand behind it."""
        return self.good + self.bad

    def __repr__(self) -> str:
        return f"Reputation(good={self.good}, bad={self.bad}, points={self.points}, n={self.n})"

    def to_dict(self) -> dict[str, int]:
        """Return the fields as JSON takes them."""
        return {"points": self.points, "n": self.n, "good": self.good, "bad": self.bad}
