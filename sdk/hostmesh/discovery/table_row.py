"""A row of the host table: the newest record of one key, and what its earlier ones leave behind. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from hostmesh.discovery.description import HostState
from hostmesh.discovery.record import GRACE_S, MAX_LIFE_S, HostInfo
from hostmesh.discovery.room import Familiarity
from hostmesh.net.peer_id import PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHost:
    """A host as the table knows it."""

    info: HostInfo
    received_at_unix_s: float
    """When this record came."""
    heard_at_unix_s: float | None
    """When the host itself last handed its record over; None = others did."""
    started_at_unix_s: int | None
    """The latest start that the host ever claimed here: an earlier claim afterwards does not lengthen its uptime."""
    introducer: PeerId | None
    """Who handed the record over; None = the host itself."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A sequence that was seen: what a contradiction is known by."""

    digest: bytes
    until: float
    """When no record of it is accepted any more."""
    operator: bytes
    binding_epoch: int

    def contradicts(self, info: HostInfo) -> bool:
        """Whether a record of this sequence says something else, under one binding or two wallets."""
        return self.digest != info.digest and not info.is_of_another_epoch(self.operator, self.binding_epoch)


@dataclass(slots=True, eq=False)
class Row:
    """What the table keeps of one key."""

    info: HostInfo
    received_at: float
    introducer: PeerId | None
    started_at: int | None
    remember_until: float
    subnets: frozenset[str]
    heard_at: float | None = None
    useful: bool = False
    convicted_epoch: int = -1
    """Its key equivocated under bindings up to this epoch, and there was no room for the ban."""
    digests: dict[int, Seen] = field(default_factory=dict)

    @property
    def is_convicted(self) -> bool:
        """Whether its record does not count."""
        return self.is_convicted_under(self.info)

    def is_convicted_under(self, info: HostInfo) -> bool:
        """Whether a record of this key is of a binding under which it was convicted."""
        return info.binding_epoch <= self.convicted_epoch

    def outdoes(self, info: HostInfo) -> bool:
        """Whether a record of this key is of an earlier binding by the same wallet."""
        return info.operator == self.info.operator and info.binding_epoch < self.info.binding_epoch

    def is_outdone_by(self, info: HostInfo) -> bool:
        """Whether a record of this key wins whatever its sequence: by its epoch, or since this one does not count."""
        return self.is_convicted or self.is_of(info.operator, below=info.binding_epoch)

    def is_of(self, operator: bytes, *, below: int) -> bool:
        """Whether the record is of a binding by this wallet of a lower epoch."""
        return self.info.operator == operator and self.info.binding_epoch < below

    @property
    def familiarity(self) -> Familiarity:
        """How well the key is known."""
        if self.useful:
            return Familiarity.USED
        return Familiarity.SEEN if self.introducer is None else Familiarity.STRANGER


def seen_of(info: HostInfo) -> Seen:
    """Return what is remembered of a record's sequence."""
    return Seen(info.digest, info.expires_at_unix_s + GRACE_S, info.operator, info.binding_epoch)


def known_of(row: Row) -> KnownHost:
    """Return the host of a row."""
    return KnownHost(
        info=row.info,
        received_at_unix_s=row.received_at,
        heard_at_unix_s=row.heard_at,
        started_at_unix_s=row.started_at,
        introducer=row.introducer,
    )


def is_live(row: Row, now: float) -> bool:
    """Tell whether a row is of a host that is there, as far as its record says."""
    counts = row.info.state is not HostState.WITHDRAWN and not row.is_convicted
    return counts and row.info.is_acceptable(now)


def remember_until(info: HostInfo) -> float:
    """Return until when nothing that a record replaced may come back."""
    # A record that this one replaced was issued no later, so it cannot be accepted after a whole life from then.
    return max(info.expires_at_unix_s, info.issued_at_unix_s + MAX_LIFE_S) + GRACE_S
