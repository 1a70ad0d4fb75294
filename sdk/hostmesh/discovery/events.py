"""What discovery tells about records, probes, searches and standings. Pure.

Times are seconds of trio's clock, as in :mod:`hostmesh.net.events`: they order the events of one node, those of its
connections among them, and mean nothing to another.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hostmesh.net.events import NodeEvent
from hostmesh.net.peer_id import PeerId


class RecordDecision(Enum):
    """What became of a host record, or of what proves two of them contradictory."""

    ADDED = "added"
    REPLACED = "replaced"
    """It is newer than the one that was there."""
    WITHDRAWN = "withdrawn"
    """It is a tombstone: the host left."""
    KNOWN = "known"
    """It is the one that was there."""
    OLDER = "older"
    EXPIRED = "expired"
    """It came too late."""
    BANNED = "banned"
    """Its key signed two records of one sequence, now or before."""
    REVOKED = "revoked"
    """Its operator took back the binding under which it is signed."""
    REFUSED = "refused"
    """It does not hold (``field`` or ``code`` says why), or there is no room for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDecided:
    """A record, or a proof of equivocation, came and was judged."""

    at_s: float
    decision: RecordDecision
    peer_id: PeerId | None
    """The host; None = a record that does not hold, pushed by a peer: nobody answers for what stands in it."""
    sequence: int | None = None
    """Of the record; None = not known, or it was a proof."""
    introducer: PeerId | None = None
    """Who handed it over; None = the host itself, or not known."""
    reason: str = ""
    """Of a refusal: the field that is wrong, or an error's code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRevoked:
    """An operator's bindings of a host's key are void from now on: by his word, or by a binding of a higher epoch."""

    at_s: float
    peer_id: PeerId
    operator: bytes
    """The wallet, 20 bytes."""
    least_epoch: int
    """The lowest epoch of a binding that holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostProbed:
    """A host was measured."""

    at_s: float
    peer_id: PeerId
    latency_ms: float | None
    """The median round trip; None = not measured."""
    unreachable: str
    """Why it did not answer; empty = it did."""
    throttled: str = ""
    """How it refused to be measured because this client asks too often; empty = it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchStarted:
    """Hosts are looked for. A :class:`SearchEnded` of the same number follows."""

    at_s: float
    number: int
    """Counts the searches of this manager, from 1."""
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchEnded:
    """A search is over."""

    at_s: float
    number: int
    took_s: float
    seen: int | None
    """Hosts that were looked at; None = it was cancelled, or failed."""
    matched: int | None
    best: PeerId | None
    """The best host; None = nobody met the criteria."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRecorded:
    """An outcome of a host was counted: it keeps or ends a row of failures."""

    at_s: float
    peer_id: PeerId
    good: bool


class ListingChange(Enum):
    """What a caller did to the lists."""

    BLACKLISTED = "blacklisted"
    UNBLACKLISTED = "unblacklisted"
    PREFERRED = "preferred"
    UNPREFERRED = "unpreferred"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingChanged:
    """The blacklist or the preferences changed."""

    at_s: float
    change: ListingChange
    name: str
    """A peer id or a wallet's address, as the caller gave it."""


DiscoveryEvent = (
    RecordDecided
    | HostRevoked
    | HostProbed
    | SearchStarted
    | SearchEnded
    | OutcomeRecorded
    | ListingChanged
    | NodeEvent
)
