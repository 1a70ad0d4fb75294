"""How the criteria narrowed the hosts down, and the smallest change that would have let one through. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.matching import CRITERIA, HostView, failing, missing_models, offers_in_question
from hostmesh.net.peer_id import PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why one host was turned away."""

    peer_id: PeerId
    criterion: str
    detail: str
    """For people, such as ``price 300 > 200``. May hold text of the host's: escape it before a terminal sees it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """The smallest change of one criterion that lets a host through."""

    text: str
    criteria: HostCriteria
    """The criteria so changed; they match at least one of the hosts seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Funnel:
    """How many hosts were seen, what turned them away and how many are left."""

    seen: int
    rejected: dict[str, int]
    """Per criterion that turned someone away, in the order of asking; with ``matched`` they add up to ``seen``."""
    matched: int
    rejections: tuple[Rejection, ...]
    relaxation: Relaxation | None
    """Only when nobody matched."""

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
            "hosts": [
                {"peer_id": each.peer_id, "criterion": each.criterion, "detail": each.detail}
                for each in self.rejections
            ],
        }


def sift(views: Sequence[HostView], criteria: HostCriteria) -> tuple[list[HostView], Funnel]:
    """Ask every criterion of every host; the first that says no counts the host.

    Returns:
        The hosts that meet all, in the order given, and the funnel.

    Cost: O(hosts * criteria).
    """
    matched: list[HostView] = []
    rejections: list[Rejection] = []
    counts = dict.fromkeys(CRITERIA, 0)
    for view in views:
        failures = failing(view, criteria, first_only=True)
        if failures:
            criterion, detail = failures[0]
            counts[criterion] += 1
            rejections.append(Rejection(peer_id=view.info.peer_id, criterion=criterion, detail=detail))
        else:
            matched.append(view)
    return matched, Funnel(
        seen=len(views),
        rejected={criterion: count for criterion, count in counts.items() if count},
        matched=len(matched),
        rejections=tuple(rejections),
        relaxation=None if matched else smallest_relaxation(views, criteria),
    )


def smallest_relaxation(views: Sequence[HostView], criteria: HostCriteria) -> Relaxation | None:
    """Return the smallest change of one criterion under which one of the hosts matches, or None.

    A change of a number costs its part of the limit (500 to 612 ms is 0.224); dropping a word costs 1 each, lifting a
    limit because the host's number is unknown 2. Equal costs go to the criterion that is asked later, since hosts that
    came further are nearer.
    """
    best: tuple[float, int, str, HostCriteria] | None = None
    for view in views:
        failures = failing(view, criteria)
        if len({criterion for criterion, _ in failures}) != 1:
            continue
        change = _change(view, criteria, failures[0][0])
        if change is None or failing(view, change[2], first_only=True):
            continue
        cost, text, relaxed = change
        candidate = (cost, -CRITERIA.index(failures[0][0]), text, relaxed)
        if best is None or candidate[:3] < best[:3]:
            best = candidate
    return None if best is None else Relaxation(text=best[2], criteria=best[3])


def _change(view: HostView, criteria: HostCriteria, criterion: str) -> tuple[float, str, HostCriteria] | None:
    """Return cost, words and criteria of the change that this host needs; None where no change can help."""
    match criterion:
        case "model":
            missing = missing_models(view, criteria)
            kept = [name for name in criteria.required_models if name not in missing]
            words = ", ".join(repr(name) for name in missing)
            return len(missing), f"required_models without {words}", replace(criteria, required_models=kept)
        case "kind":
            return 1, "any kind", replace(criteria, kind=None)
        case "price":
            return _price_change(view, criteria)
        case "location":
            return _location_change(view, criteria)
        case "uptime":
            return _uptime_change(view, criteria)
        case "capabilities":
            missing = [name for name in criteria.capabilities if name not in view.info.capabilities]
            kept = [name for name in criteria.capabilities if name not in missing]
            words = ", ".join(repr(name) for name in missing)
            return len(missing), f"capabilities without {words}", replace(criteria, capabilities=kept)
        case "reputation":
            assert criteria.min_reputation is not None
            points = view.reputation.points
            cost = _part(criteria.min_reputation - points, criteria.min_reputation)
            text = f"min_reputation {criteria.min_reputation} -> {points}"
            return cost, text, replace(criteria, min_reputation=points)
        case "latency":
            return _latency_change(view, criteria)
        case _:
            return None


def _price_change(view: HostView, criteria: HostCriteria) -> tuple[float, str, HostCriteria]:
    limit = criteria.max_price
    assert limit is not None
    prices = [offer.price for offer in offers_in_question(view.info, criteria)]
    usable = [price for price in prices if price is not None and price.currency == limit.currency]
    if not usable or (criteria.required_models and len(usable) < len(prices)):
        return 2, "no max_price", replace(criteria, max_price=None)
    amounts = [price.micros_per_mtok for price in usable]
    amount = max(amounts) if criteria.required_models else min(amounts)
    words = f"max_price {limit.micros_per_mtok} -> {amount} micro-{limit.currency}/Mtok"
    relaxed = replace(criteria, max_price=replace(limit, micros_per_mtok=amount))
    return _part(amount - limit.micros_per_mtok, limit.micros_per_mtok), words, relaxed


def _location_change(view: HostView, criteria: HostCriteria) -> tuple[float, str, HostCriteria]:
    wanted = criteria.place
    assert wanted is not None
    if view.info.place is not None and view.info.place.country_code == wanted.country_code:
        return 1, f"location {wanted} -> {wanted.country_code}", replace(criteria, location=wanted.country_code)
    return 2, "no location", replace(criteria, location=None)


def _uptime_change(view: HostView, criteria: HostCriteria) -> tuple[float, str, HostCriteria]:
    limit = criteria.min_uptime_s
    assert limit is not None
    if view.uptime is None:
        return 2, "no min_uptime_s", replace(criteria, min_uptime_s=None)
    uptime_s = max(0, math.floor(view.uptime.value))
    text = f"min_uptime_s {limit} -> {uptime_s}"
    return _part(limit - uptime_s, limit), text, replace(criteria, min_uptime_s=uptime_s)


def _latency_change(view: HostView, criteria: HostCriteria) -> tuple[float, str, HostCriteria]:
    limit = criteria.max_latency_ms
    assert limit is not None
    if view.latency is None:
        return 2, "accept_unmeasured", replace(criteria, accept_unmeasured=True)
    needed = math.ceil(view.latency.value)
    text = f"max_latency_ms {limit:g} -> {needed}"
    return _part(needed - limit, limit), text, replace(criteria, max_latency_ms=needed)


def _part(difference: float, limit: float) -> float:
    return difference / max(limit, 1)
