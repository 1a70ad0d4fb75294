"""The reputation of every host at one moment, and what each number is made of. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.decay import HALF_LIFE_DAYS, UNIT_MICROS
from hostmesh.reputation.evidence import EvidenceKind
from hostmesh.reputation.foreign import ForeignPart, ForeignWord, Reviews
from hostmesh.reputation.score import Reputation, Weights, points
from hostmesh.reputation.tally import NO_EVIDENCE, HostEvidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One piece of evidence against a host, as it was told."""

    kind: EvidenceKind
    at_unix_s: float
    weight_micros: int
    """On its day."""
    detail: str
    """May hold text of the host's: escape it before a terminal sees it."""
    false_positive_ppm: int | None

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {
            "kind": self.kind.value,
            "at_unix_s": self.at_unix_s,
            "weight_micros": self.weight_micros,
            "detail": self.detail,
            "false_positive_ppm": self.false_positive_ppm,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """All own evidence of one kind."""

    kind: EvidenceKind
    count: int
    weight_micros: int
    """Today, after its decay."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {
            "kind": self.kind.value,
            "is_good": self.kind.is_good,
            "count": self.count,
            "weight_micros": self.weight_micros,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a host's reputation is made of.

    ``points`` = floor(1000 * (1 + good) / (10 + good + bad)), of the weights of ``parts`` and ``foreign`` in jobs.
    """

    peer_id: PeerId
    reputation: Reputation
    parts: tuple[Part, ...]
    """In the order of :class:`~hostmesh.reputation.evidence.EvidenceKind`; only what there is."""
    foreign: ForeignPart
    reasons: tuple[Reason, ...]
    """The last 16 that speak against the host, the newest first."""

    @property
    def own_points(self) -> int:
        """What the reputation would be without the word of others."""
        own = self.reputation.own or Weights()
        return points(own.good_micros, own.bad_micros, unit=UNIT_MICROS)

    def to_dict(self) -> dict[str, object]:
        """Return everything as JSON takes it."""
        return {
            "peer_id": self.peer_id,
            **self.reputation.to_dict(),
            "own_points": self.own_points,
            "half_life_days": HALF_LIFE_DAYS,
            "parts": [part.to_dict() for part in self.parts],
            "foreign": self.foreign.to_dict(),
            "reasons": [reason.to_dict() for reason in self.reasons],
        }


class Reputations:
    """The reputations on one day.

    Args:
        evidence: our own, by host; not changed afterwards.
        reviews: what others say.
        today: the day.
    """

    def __init__(self, evidence: Mapping[PeerId, HostEvidence], reviews: Reviews, today: int) -> None:
        self._evidence = evidence
        self._today = today
        self._own: dict[PeerId, Weights] = {}
        self._word = ForeignWord(reviews, self._own_weights, self._recent_weights, evidence.keys(), today)

    def of(self, peer_id: PeerId) -> Reputation:
        """Return a host's reputation; 100 points with n=0 for one never used and of whom nobody trusted speaks."""
        return self._reputation(peer_id, self._word.part(peer_id))

    def explain(self, peer_id: PeerId, reasons: tuple[Reason, ...] = ()) -> Explanation:
        """Return what a host's reputation is made of."""
        evidence = self._evidence.get(peer_id, NO_EVIDENCE)
        entries, weights = evidence.entries, evidence.by_kind_on(self._today)
        foreign = self._word.part(peer_id)
        return Explanation(
            peer_id=peer_id,
            reputation=self._reputation(peer_id, foreign),
            parts=tuple(
                Part(kind=kind, count=entries[kind].count, weight_micros=weights[kind])
                for kind in EvidenceKind
                if kind in entries
            ),
            foreign=foreign,
            reasons=reasons,
        )

    def trust_micros(self, reviewer: str) -> int:
        """Return how much a reviewer is trusted, in millionths."""
        return self._word.trust_micros(reviewer)

    def _reputation(self, peer_id: PeerId, foreign: ForeignPart) -> Reputation:
        evidence = self._evidence.get(peer_id, NO_EVIDENCE)
        return Reputation(good=evidence.good, bad=evidence.bad, own=self._own_weights(peer_id), foreign=foreign.weights)

    def _own_weights(self, peer_id: PeerId) -> Weights:
        weights = self._own.get(peer_id)
        if weights is None:
            weights = self._own[peer_id] = self._evidence.get(peer_id, NO_EVIDENCE).weights_on(self._today)
        return weights

    def _recent_weights(self, peer_id: PeerId) -> Weights:
        return self._evidence.get(peer_id, NO_EVIDENCE).recent_on(self._today)
