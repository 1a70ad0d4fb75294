"""How the criteria narrowed the hosts down, and the smallest change that would have let one through. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.matching import CRITERIA, failing
from hostmesh.discovery.relaxation import Relaxation as Relaxation
from hostmesh.discovery.relaxation import smallest_relaxation as smallest_relaxation
from hostmesh.discovery.view import HostView
from hostmesh.net.peer_id import PeerId

RECORD = "record"
"""Before all criteria: the host's record is not of now by this machine's clock, so that nothing it says counts."""
_NOBODY: Mapping[PeerId, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why one host was turned away."""

    peer_id: PeerId
    criterion: str
    detail: str
    """For people, such as ``price 300 > 200``. May hold text of the host's: escape it before a terminal sees it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Funnel:
    """How many hosts were seen, what turned them away and how many are left."""

    seen: int
    rejected: dict[str, int]
    """Per criterion, ``record`` before all, that turned someone away, in the order of asking.

    With ``matched`` they add up to ``seen``.
    """
    matched: int
    rejections: tuple[Rejection, ...]
    relaxation: Relaxation | None
    """Only when nobody matched."""
    retry_after_ms: int | None = None
    """When the first of those may be asked again that were turned away as *throttled*; None = none said it."""

    def describe(self) -> str:
        """Return one line in which each number is how many hosts were left.

        >>> funnel = Funnel(seen=41, rejected={"model": 29, "price": 12}, matched=0, rejections=(), relaxation=None)
        >>> funnel.describe()
        'seen 41 -> model 12 -> price 0'
        """
        left = self.seen
        parts = [f"seen {left}"]
        for criterion, count in self.rejected.items():
            left -= count
            parts.append(f"{criterion} {left}")
        return " -> ".join(parts)

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {
            "seen": self.seen,
            "rejected": dict(self.rejected),
            "matched": self.matched,
            "relaxation": "" if self.relaxation is None else self.relaxation.text,
            "retry_after_ms": self.retry_after_ms,
            "hosts": [
                {"peer_id": each.peer_id, "criterion": each.criterion, "detail": each.detail}
                for each in self.rejections
            ],
        }


def sift(
    views: Sequence[HostView], criteria: HostCriteria, *, untimely: Mapping[PeerId, str] = _NOBODY
) -> tuple[list[HostView], Funnel]:
    """Ask every criterion of every host; the first that says no counts the host.

    Args:
        views: the hosts.
        criteria: what they must meet.
        untimely: other hosts, whose records were refused for their times, and how far these are off.

    Returns:
        The hosts that meet all, in the order given, and the funnel.

    Cost: O(hosts * criteria).
    """
    matched: list[HostView] = []
    rejections = [Rejection(peer_id=peer_id, criterion=RECORD, detail=detail) for peer_id, detail in untimely.items()]
    counts = {RECORD: len(untimely), **dict.fromkeys(CRITERIA, 0)}
    waits_ms: list[int] = []
    for view in views:
        failures = failing(view, criteria, first_only=True)
        if failures:
            criterion, detail = failures[0]
            counts[criterion] += 1
            if criterion == "throttled" and view.throttling is not None and view.throttling.retry_after_ms is not None:
                waits_ms.append(view.throttling.retry_after_ms)
            rejections.append(Rejection(peer_id=view.info.peer_id, criterion=criterion, detail=detail))
        else:
            matched.append(view)
    return matched, Funnel(
        seen=len(views) + len(untimely),
        rejected={criterion: count for criterion, count in counts.items() if count},
        matched=len(matched),
        rejections=tuple(rejections),
        relaxation=None if matched else smallest_relaxation(views, criteria),
        retry_after_ms=min(waits_ms, default=None),
    )
