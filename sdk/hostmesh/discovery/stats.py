"""What each source did so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class SourceStats:
    """Counts of one source."""

    attempts: int = 0
    successes: int = 0
    failures: int = 0
    cut_short: int = 0
    """Ended by us: the time was over, or a host had been found."""
    candidates: int = 0
    total_s: float = 0.0
    """Time of the successes together."""
    last_ok_unix_s: float | None = None
    last_failure_unix_s: float | None = None
    last_error: str = ""

    @property
    def mean_s(self) -> float | None:
        """Mean time of a success; None before the first."""
        return self.total_s / self.successes if self.successes else None

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {
            "attempts": self.attempts,
            "successes": self.successes,
            "failures": self.failures,
            "cut_short": self.cut_short,
            "candidates": self.candidates,
            "mean_s": self.mean_s,
            "last_ok_unix_s": self.last_ok_unix_s,
            "last_failure_unix_s": self.last_failure_unix_s,
            "last_error": self.last_error,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryStats:
    """Counts of discovery since the manager was made."""

    sources: Mapping[str, SourceStats]
    fetches: Mapping[str, int]
    """How asking candidates for records ended: ``ok``, ``fresh``, ``not_a_host``, ``dropped``, ``gave_way`` (it was
    slow while others waited for a connection, and was perhaps asked again) or an error code."""
    records: Mapping[str, int]
    """What became of records; see :class:`hostmesh.discovery.records.RecordBook`."""
    probe_cache_hit_rate: float | None
    searches: Mapping[str, int] = field(default_factory=dict)
    """``warm`` (answered from memory and probes), ``swept`` (sources were asked)."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {
            "sources": {name: stats.to_dict() for name, stats in self.sources.items()},
            "fetches": dict(self.fetches),
            "records": dict(self.records),
            "probe_cache_hit_rate": self.probe_cache_hit_rate,
            "searches": dict(self.searches),
        }
