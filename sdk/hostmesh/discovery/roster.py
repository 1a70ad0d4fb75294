"""Who meets some criteria now, against who was said to: the difference is told as joins, changes and leaves. Pure.

What is kept is the present and what was told, never the way between: a reader who is slow gets the latest of each host,
and nothing of one that came and went meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hostmesh.discovery.choice import HostChoice
from hostmesh.discovery.measurement import Measurement
from hostmesh.net.peer_id import PeerId

LATENCY_SHARE = 0.25
LATENCY_MS = 5.0
"""A latency is told anew when it moved by more than a quarter and by more than this."""


class LeaveReason(Enum):
    """Why a host is in a watch no more."""

    DRAINING = "draining"
    """It takes no new jobs."""
    WITHDRAWN = "withdrawn"
    """It took its record back."""
    EXPIRED = "expired"
    """Its record was not renewed."""
    UNREACHABLE = "unreachable"
    """It did not answer a probe."""
    UNFIT = "unfit"
    """It fails a criterion, which ``criterion`` names."""
    BANNED = "banned"
    """It signed two different records of one sequence."""
    REVOKED = "revoked"
    """Its operator took back the binding of its key."""
    FORGOTTEN = "forgotten"
    """There was no room for its record any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostJoined:
    """A host meets the criteria."""

    at_unix_s: float
    choice: HostChoice

    def to_dict(self) -> dict[str, object]:
        """Return what ``--json`` prints. Strings of the host's are raw."""
        return {"event": "joined", "at_unix_s": self.at_unix_s, "host": self.choice.to_dict()}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostChanged:
    """A host still meets the criteria, and is not as it was."""

    at_unix_s: float
    choice: HostChoice
    changes: tuple[str, ...]
    """What differs, by the keys of :meth:`HostChoice.to_dict`, at least one."""

    def to_dict(self) -> dict[str, object]:
        """Return what ``--json`` prints. Strings of the host's are raw."""
        host = self.choice.to_dict()
        return {"event": "changed", "at_unix_s": self.at_unix_s, "changes": list(self.changes), "host": host}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLeft:
    """A host meets the criteria no more."""

    at_unix_s: float
    choice: HostChoice
    """As it was told last."""
    reason: LeaveReason
    criterion: str = ""
    """The first that it fails, as the funnel calls it; empty = it has no record any more."""
    detail: str = ""
    """For people. May hold text of the host's: escape it before a terminal sees it."""

    def to_dict(self) -> dict[str, object]:
        """Return what ``--json`` prints. Strings of the host's are raw."""
        return {
            "event": "left",
            "at_unix_s": self.at_unix_s,
            "peer_id": self.choice.peer_id,
            "reason": self.reason.value,
            "criterion": self.criterion,
            "detail": self.detail,
        }


HostEvent = HostJoined | HostChanged | HostLeft


def changes_between(before: HostChoice, after: HostChoice) -> tuple[str, ...]:
    """Return what differs between two choices of one host, by the keys of :meth:`HostChoice.to_dict`.

    What always moves is left out: the age of numbers, uptimes, scores, sequence and times of the record.
    """
    pairs: dict[str, tuple[object, object]] = {
        "operator": (before.operator, after.operator),
        "model": (before.model_id, after.model_id),
        "models": (before.models, after.models),
        "price": (before.price, after.price),
        "reputation": (before.reputation.points, after.reputation.points),
        "location": (before.place, after.place),
        "location_refuted": (bool(before.place_refuted), bool(after.place_refuted)),
        "capabilities": (before.record.capabilities, after.record.capabilities),
        "protocols": (before.record.protocols, after.record.protocols),
        "hardware": (before.record.hardware, after.record.hardware),
        "free_slots": (before.free_slots, after.free_slots),
        "max_concurrent_jobs": (before.record.max_concurrent_jobs, after.record.max_concurrent_jobs),
        "addresses": (frozenset(before.record.addresses), frozenset(after.record.addresses)),
    }
    changed = [name for name, (one, other) in pairs.items() if one != other]
    if _has_moved(before.latency, after.latency):
        changed.append("latency_ms")
    return tuple(changed)


class Roster:
    """The hosts that meet the criteria now, and what a reader was told of them.

    Holds at most one choice a host that was told or is there.
    """

    def __init__(self) -> None:
        self._now: dict[PeerId, HostChoice] = {}
        self._told: dict[PeerId, HostChoice] = {}
        self._left: dict[PeerId, tuple[LeaveReason, str, str]] = {}
        """Why, of those that were told and are gone."""
        self._waiting: dict[PeerId, None] = {}
        """Of whom there may be something to tell, in the order in which it came up."""

    def __contains__(self, peer_id: object) -> bool:
        return peer_id in self._now

    def __len__(self) -> int:
        """Return how many hosts meet the criteria now."""
        return len(self._now)

    @property
    def choices(self) -> tuple[HostChoice, ...]:
        """The hosts that meet the criteria now, in the order in which they came."""
        return tuple(self._now.values())

    def fits(self, choice: HostChoice) -> None:
        """Note how a host is that meets the criteria."""
        self._now[choice.peer_id] = choice
        self._left.pop(choice.peer_id, None)
        self._waiting.setdefault(choice.peer_id)

    def leaves(self, peer_id: PeerId, reason: LeaveReason, criterion: str = "", detail: str = "") -> None:
        """Note that a host meets the criteria no more; nothing happens when it did not."""
        if self._now.pop(peer_id, None) is None:
            return
        if peer_id in self._told:
            self._left[peer_id] = (reason, criterion, detail)
            self._waiting.setdefault(peer_id)
        else:
            self._waiting.pop(peer_id, None)

    def next_event(self, now: float) -> HostEvent | None:
        """Return what to tell next, and take it as told; None = the reader knows all. ``now`` is in unix seconds."""
        while self._waiting:
            peer_id = next(iter(self._waiting))
            del self._waiting[peer_id]
            before, after = self._told.get(peer_id), self._now.get(peer_id)
            if after is None:
                if before is None:
                    continue
                reason, criterion, detail = self._left.pop(peer_id)
                del self._told[peer_id]
                return HostLeft(at_unix_s=now, choice=before, reason=reason, criterion=criterion, detail=detail)
            if before is None:
                self._told[peer_id] = after
                return HostJoined(at_unix_s=now, choice=after)
            changes = changes_between(before, after)
            if changes:
                self._told[peer_id] = after
                return HostChanged(at_unix_s=now, choice=after, changes=changes)
        return None


def _has_moved(before: Measurement | None, after: Measurement | None) -> bool:
    if before is None or after is None:
        return before is not after
    moved_ms = abs(after.value - before.value)
    return moved_ms > LATENCY_MS and moved_ms > LATENCY_SHARE * before.value
