"""The evidence about one host: how often each kind, and what it weighs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hostmesh.reputation.decay import UNIT_MICROS, decayed
from hostmesh.reputation.evidence import Evidence, EvidenceKind
from hostmesh.reputation.score import Weights

MAX_COUNT = 1_000_000
"""More of one kind is not told apart from this many."""
MAX_WEIGHT_MICROS = MAX_COUNT * UNIT_MICROS
LEAST_KEPT_MICROS = 2 * UNIT_MICROS
"""Evidence that speaks for a host weighs no less together, however old, if ever it weighed as much: or a new identity
that others praise would pass an honest veteran that only waits."""
_PRIOR_ODDS = 9
"""Bad jobs for each good one that leave a host where it began: see :mod:`hostmesh.reputation.score`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """All evidence of one kind about one host."""

    count: int
    """However old, 1 to 1,000,000."""
    weight_micros: int
    """As of ``day``."""
    day: int

    def weight_on(self, day: int) -> int:
        """Return what it weighs on a day."""
        return decayed(self.weight_micros, day - self.day)


@dataclass(frozen=True, slots=True)
class HostEvidence:
    """What this client knows about one host, by kind.

    >>> finished = Evidence(kind=EvidenceKind.JOB_FINISHED)
    >>> HostEvidence().after(finished, 7).weights_on(7)
    Weights(good_micros=1000000, bad_micros=0)
    """

    entries: Mapping[EvidenceKind, Entry]

    def __init__(self, entries: Mapping[EvidenceKind, Entry] | None = None) -> None:
        object.__setattr__(self, "entries", dict(entries or {}))

    def after(self, evidence: Evidence, day: int) -> HostEvidence:
        """Return what one more piece of evidence makes of it.

        A proven lie leaves nothing of what spoke for the host before: that was earned to be spent.

        Args:
            evidence: what happened.
            day: when; one before the last, as after a clock was set back, counts as the last.
        """
        entries = dict(self.entries)
        # What is kept of old evidence stays so: else one more good job would lower the score.
        for kind, weight_micros in (self._kept(day) or {}).items():
            entries[kind] = replace(entries[kind], weight_micros=weight_micros, day=day)
        before = entries.get(evidence.kind, Entry(count=0, weight_micros=0, day=day))
        last = max(day, before.day)
        entries[evidence.kind] = Entry(
            count=min(MAX_COUNT, before.count + 1),
            weight_micros=min(MAX_WEIGHT_MICROS, before.weight_on(last) + evidence.weight_micros),
            day=last,
        )
        if evidence.kind.is_proof:
            entries = {
                kind: replace(entry, weight_micros=0) if kind.is_good else entry for kind, entry in entries.items()
            }
        return HostEvidence(entries)

    def weights_on(self, day: int) -> Weights:
        """Return what speaks for the host and against it on a day."""
        return _sum_of(self.by_kind_on(day))

    def recent_on(self, day: int) -> Weights:
        """Return what is left of it on a day by decay alone: how sure we are that the host is still the same."""
        return _sum_of(self._decayed(day))

    def by_kind_on(self, day: int) -> dict[EvidenceKind, int]:
        """Return what each kind of evidence weighs on a day.

        >>> old = HostEvidence().after(Evidence(kind=EvidenceKind.JOB_FINISHED), 0)
        >>> old.weights_on(32), old.recent_on(32)
        (Weights(good_micros=1000000, bad_micros=0), Weights(good_micros=500000, bad_micros=0))
        """
        return self._kept(day) or self._decayed(day)

    def _decayed(self, day: int) -> dict[EvidenceKind, int]:
        return {kind: entry.weight_on(day) for kind, entry in self.entries.items()}

    def _kept(self, day: int) -> dict[EvidenceKind, int] | None:
        """Return what is kept by kind, where decay would leave less; None = decay leaves enough, or nothing is kept."""
        last = max((entry.day for entry in self.entries.values()), default=day)
        then = self._decayed(last)
        weights = _sum_of(then)
        least = min(LEAST_KEPT_MICROS, weights.total_micros)
        speaks_for = _PRIOR_ODDS * weights.good_micros > weights.bad_micros
        if not speaks_for or self.recent_on(day).total_micros >= least:
            return None
        return {kind: weight * least // weights.total_micros for kind, weight in then.items()}

    @property
    def good(self) -> int:
        """Pieces of evidence for the host, however old."""
        return sum(entry.count for kind, entry in self.entries.items() if kind.is_good)

    @property
    def bad(self) -> int:
        """Pieces of evidence against the host, however old."""
        return sum(entry.count for kind, entry in self.entries.items() if not kind.is_good)


def _sum_of(by_kind: Mapping[EvidenceKind, int]) -> Weights:
    return Weights(
        good_micros=sum(weight for kind, weight in by_kind.items() if kind.is_good),
        bad_micros=sum(weight for kind, weight in by_kind.items() if not kind.is_good),
    )


NO_EVIDENCE = HostEvidence()
