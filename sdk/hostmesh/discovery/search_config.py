"""Times and bounds of a search."""

from __future__ import annotations

from dataclasses import dataclass, field

from hostmesh.discovery.sweep import SweepConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """Times and bounds of a search. Chosen here; see docs/discovery.md."""

    sweep: SweepConfig = field(default_factory=SweepConfig)
    warm_s: float = 60.0
    """So long after a sweep the table answers by itself, if it has a match. A miss always sweeps."""
    settle_s: float = 2.0
    """How long probes may go on, at most, once a measured host matched; with sources, see :meth:`settle_after`."""
    min_settle_s: float = 0.5
    """How long sources and probes may go on in any case."""

    def settle_after(self, passed_s: float) -> float:
        """Return how long a search goes on that had its first match after so many seconds: half as long again.

        What is near answers soon, and others that are as near as well; over slow paths they all take their time.

        >>> SearchConfig().settle_after(0.1), SearchConfig().settle_after(1.5), SearchConfig().settle_after(9.0)
        (0.5, 0.75, 2.0)
        """
        return min(self.settle_s, max(self.min_settle_s, passed_s / 2))
