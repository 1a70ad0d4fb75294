"""Reputation of a host: an integer from 0 to 1000, earned by outcomes. Pure.

The mean of a Beta(1, 9) prior after s good and f bad outcomes, in per mille, rounded down: exactly 100 with no
evidence, 50 after ten failures. A fresh key starts at 100 again, which never passes an honest veteran.

Source: docs/discovery.md; A. Josang, R. Ismail, "The Beta Reputation System", 2002.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_POINTS = 1000


def points(good: int, bad: int) -> int:
    """Return ``floor(1000 * (1 + good) / (10 + good + bad))``.

    Args:
        good: outcomes that the host can be thanked for, >= 0.
        bad: outcomes that were the host's fault, >= 0.

    >>> points(0, 0), points(0, 10), points(90, 0)
    (100, 50, 910)
    """
    if good < 0 or bad < 0:
        raise ValueError("counts are 0 or more")
    return MAX_POINTS * (1 + good) // (10 + good + bad)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reputation:
    """What this client has seen of a host.

    >>> Reputation(good=0, bad=0)
    Reputation(good=0, bad=0, points=100, n=0)
    """

    good: int
    bad: int

    @property
    def points(self) -> int:
        """0 to 1000; 100 with no evidence."""
        return points(self.good, self.bad)

    @property
    def n(self) -> int:
        """How many outcomes stand behind it."""
        return self.good + self.bad

    def __repr__(self) -> str:
        return f"Reputation(good={self.good}, bad={self.bad}, points={self.points}, n={self.n})"

    def to_dict(self) -> dict[str, int]:
        """Return the fields as JSON takes them."""
        return {"points": self.points, "n": self.n, "good": self.good, "bad": self.bad}
