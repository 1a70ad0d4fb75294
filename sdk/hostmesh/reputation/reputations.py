"""The reputation of every host at one moment, and what each number is made of. Pure.

What speaks for a host counts under the name that earned it: a key that somebody stole and bound to a wallet of his own
is a new host. What speaks against a key counts under all its names: a host does not get rid of it by another wallet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.decay import HALF_LIFE_DAYS, UNIT_MICROS
from hostmesh.reputation.evidence import EvidenceKind
from hostmesh.reputation.foreign import ForeignPart, ForeignWord, Reviews, foreign_cap_micros
from hostmesh.reputation.names import HostName
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
class Against:
    """What speaks against a key, of whatever kind."""

    count: int = 0
    """Pieces of own evidence, however old."""
    weight_micros: int = 0
    """Today, after their decay."""

    def to_dict(self) -> dict[str, int]:
        """Return the fields as JSON takes them."""
        return {"count": self.count, "weight_micros": self.weight_micros}


_NOTHING = Against()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a host's reputation is made of.

    ``points`` = floor(1000 * (1 + good) / (10 + good + bad)), of the weights of ``parts``, ``elsewhere`` and
    ``foreign`` in jobs.
    """

    name: HostName
    reputation: Reputation
    parts: tuple[Part, ...]
    """In the order of :class:`~hostmesh.reputation.evidence.EvidenceKind`; only what there is."""
    elsewhere: Against
    """What the same key did under other wallets."""
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
            "peer_id": self.name.peer_id,
            "operator": self.name.operator,
            **self.reputation.to_dict(),
            "own_points": self.own_points,
            "half_life_days": HALF_LIFE_DAYS,
            "parts": [part.to_dict() for part in self.parts],
            "elsewhere": self.elsewhere.to_dict(),
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

    def __init__(self, evidence: Mapping[HostName, HostEvidence], reviews: Reviews, today: int) -> None:
        self._evidence = evidence
        self._reviews = reviews
        self._today = today
        self._own: dict[HostName, Weights] = {}
        self._against: dict[PeerId, Against] = {}
        """By whatever name of the key."""
        self._word = ForeignWord(reviews, self._cap_micros, self._recent_weights, evidence.keys(), today)

    def of(self, peer_id: PeerId, operator_address: str) -> Reputation:
        """Return a host's reputation; 100 points with n=0 for one never used and of whom nobody trusted speaks.

        Args:
            peer_id: the host.
            operator_address: its wallet, ``0x`` and lower case.
        """
        name = HostName(peer_id, operator_address)
        return self._reputation(name, self._word.part(name))

    def explain(self, name: HostName, reasons: tuple[Reason, ...] = ()) -> Explanation:
        """Return what a host's reputation is made of."""
        evidence = self._evidence.get(name, NO_EVIDENCE)
        entries, weights = evidence.entries, evidence.by_kind_on(self._today)
        foreign = self._word.part(name)
        return Explanation(
            name=name,
            reputation=self._reputation(name, foreign),
            parts=tuple(
                Part(kind=kind, count=entries[kind].count, weight_micros=weights[kind])
                for kind in EvidenceKind
                if kind in entries
            ),
            elsewhere=self._elsewhere(name),
            foreign=foreign,
            reasons=reasons,
        )

    def names(self, peer_id: PeerId) -> tuple[HostName, ...]:
        """Return the names of a key about which there is evidence of ours, or the word of others."""
        said = (name for name in self._reviews.hosts() if name.peer_id == peer_id)
        return tuple(sorted({*self._names.get(peer_id, ()), *said}))

    def knows(self, peer_id: PeerId) -> bool:
        """Tell whether there is evidence of ours about a key, under whatever wallet."""
        return peer_id in self._names

    def trust_micros(self, reviewer: str) -> int:
        """Return how much a reviewer is trusted, in millionths."""
        return self._word.trust_micros(reviewer)

    @cached_property
    def _names(self) -> dict[PeerId, list[HostName]]:
        names: dict[PeerId, list[HostName]] = {}
        for name in self._evidence:
            names.setdefault(name.peer_id, []).append(name)
        return names

    def _reputation(self, name: HostName, foreign: ForeignPart) -> Reputation:
        evidence = self._evidence.get(name, NO_EVIDENCE)
        return Reputation(
            good=evidence.good,
            bad=evidence.bad + self._elsewhere(name).count,
            own=self._weights(name),
            foreign=foreign.weights,
        )

    def _weights(self, name: HostName) -> Weights:
        """Return all that counts of our own evidence, that against the key's other names included."""
        own, elsewhere = self._own_weights(name), self._elsewhere(name)
        return own + Weights(bad_micros=elsewhere.weight_micros) if elsewhere.weight_micros else own

    def _elsewhere(self, name: HostName) -> Against:
        if self._names.get(name.peer_id, [name]) == [name]:
            return _NOTHING
        against = self._against.get(name.peer_id)
        if against is None:
            names = self._names[name.peer_id]
            against = self._against[name.peer_id] = Against(
                count=sum(self._evidence[each].bad for each in names),
                weight_micros=sum(self._own_weights(each).bad_micros for each in names),
            )
        return Against(
            count=against.count - self._evidence.get(name, NO_EVIDENCE).bad,
            weight_micros=against.weight_micros - self._own_weights(name).bad_micros,
        )

    def _cap_micros(self, name: HostName) -> int:
        """Return how much others' word counts: that on a new name of a key that we know under another, not at all."""
        if name not in self._evidence and any(each.operator for each in self._names.get(name.peer_id, ())):
            return 0
        return foreign_cap_micros(self._weights(name))

    def _own_weights(self, name: HostName) -> Weights:
        weights = self._own.get(name)
        if weights is None:
            weights = self._own[name] = self._evidence.get(name, NO_EVIDENCE).weights_on(self._today)
        return weights

    def _recent_weights(self, name: HostName) -> Weights:
        return self._evidence.get(name, NO_EVIDENCE).recent_on(self._today)
