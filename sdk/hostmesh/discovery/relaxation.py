"""The smallest change of the criteria that would have let a host through. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hostmesh.discovery.criteria import MAX_NAMES, HostCriteria
from hostmesh.discovery.matching import CRITERIA, failing, missing_protocols, total_vram_mib, uptime_that_counts_s
from hostmesh.discovery.offers import ask_offers, missing_models
from hostmesh.discovery.view import HostView

WORD_COST = 1.0
"""Of leaving out or adding one word."""
LIFT_COST = 2.0
"""Of lifting a limit as a whole, because the host's number is unknown or nothing less helps."""

MOST_CHANGES = 2
"""Criteria changed at once. Chosen here: more would be other criteria."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """The smallest change of one criterion that lets a host through, or of two where no change of one does."""

    text: str
    criteria: HostCriteria
    """The criteria so changed; they match at least one of the hosts seen."""


@dataclass(frozen=True, slots=True)
class _Way:
    cost: float
    order: tuple[int, ...]
    text: str
    criteria: HostCriteria


@dataclass(frozen=True, slots=True)
class _Change:
    cost: float
    text: str
    criteria: HostCriteria


def smallest_relaxation(views: Sequence[HostView], criteria: HostCriteria) -> Relaxation | None:
    """Return the smallest change under which one of the hosts matches, or None.

    A change of one criterion comes before each of two; of three none is looked for. A change of a number costs its
    part of the limit (500 to 612 ms is 0.224); leaving out or adding a word costs 1 each, lifting a limit 2; two
    changes cost their sum. Equal costs go to the criterion that is asked later: hosts that came further are nearer.
    """
    failed: dict[int, list[HostView]] = {}
    for view in views:
        failures = failing(view, criteria)
        if all(criterion in _CHANGES for criterion, _ in failures):
            failed.setdefault(len(failures), []).append(view)
    for count in range(1, MOST_CHANGES + 1):
        ways = [way for view in failed.get(count, ()) for way in _ways(view, criteria, count)]
        if ways:
            best = min(ways, key=lambda way: (way.cost, way.order, way.text))
            return Relaxation(text=best.text, criteria=best.criteria)
    return None


def _ways(view: HostView, criteria: HostCriteria, count: int) -> Iterator[_Way]:
    """Yield the changes of so many criteria, each enough to let the host through."""
    failures = failing(view, criteria)
    # What one criterion gives way to, another may not: it is offered only if it is enough.
    criterion = failures[0][0] if failures else ""
    if not count or len(failures) != count or criterion not in _CHANGES:
        return
    order = -CRITERIA.index(criterion)
    for change in _CHANGES[criterion](view, criteria):
        if not failing(view, change.criteria, first_only=True):
            yield _Way(change.cost, (order,), change.text, change.criteria)
            continue
        for rest in _ways(view, change.criteria, count - 1):
            yield _Way(change.cost + rest.cost, (order, *rest.order), f"{change.text}, {rest.text}", rest.criteria)


# --- by criterion, the changes that this host needs: any of them would do ---


def _listed(view: HostView, criteria: HostCriteria) -> Iterator[_Change]:
    excluded = sorted(view.names & set(criteria.exclude))
    if excluded:
        yield _without(criteria, "exclude", excluded)


def _model(view: HostView, criteria: HostCriteria) -> Iterator[_Change]:
    if criteria.any_models:
        yield _Change(LIFT_COST, "any model", replace(criteria, any_models=()))
    else:
        yield _without(criteria, "required_models", missing_models(view, criteria))


def _kind(_view: HostView, criteria: HostCriteria) -> Iterator[_Change]:
    yield _Change(WORD_COST, "any kind", replace(criteria, kind=None))


def _price(view: HostView, criteria: HostCriteria) -> Iterator[_Change]:
    limit = criteria.max_price
    if limit is None:
        return  # it quotes more than its record says, and no limit is to blame
    question = ask_offers(view, criteria, "price")
    prices = [offer.price for offer in question.asked if offer not in question.passed]
    usable = [price for price in prices if price is not None and price.currency == limit.currency]
    if not usable or (question.needs_all and len(usable) < len(prices)):
        yield _Change(LIFT_COST, "no max_price", replace(criteria, max_price=None))
        return
    amounts = [price.micros_per_mtok for price in usable]
    amount = max(amounts) if question.needs_all else min(amounts)
    text = f"max_price {limit.micros_per_mtok} -> {amount} micro-{limit.currency}/Mtok"
    relaxed = replace(criteria, max_price=replace(limit, micros_per_mtok=amount))
    yield _Change(_part(amount - limit.micros_per_mtok, limit.micros_per_mtok), text, relaxed)


def _quantisation(view: HostView, criteria: HostCriteria) -> Iterator[_Change]:
    question = ask_offers(view, criteria, "quantisation")
    said = {offer.quantisation for offer in question.asked if offer not in question.passed}
    yield _Change(LIFT_COST, "any quantisation", replace(criteria, quantisation=()))
    names = sorted(name for name in said if name is not None)
    for added in [names] if question.needs_all else [[name] for name in names]:
        if not added or len(criteria.quantisation) + len(added) > MAX_NAMES:
            continue
        text = f"quantisation also {_quoted(added)}"
        yield _Change(len(added) * WORD_COST, text, replace(criteria, quantisation=(*criteria.quantisation, *added)))


def _context(view: HostView, criteria: HostCriteria) -> Iterator[_Change]:
    question = ask_offers(view, criteria, "context")
    known = [offer.context_tokens for offer in question.asked if offer.context_tokens is not None]
    enough = bool(known) and not (question.needs_all and len(known) < len(question.asked))
    has = (min(known) if question.needs_all else max(known)) if enough else None
    yield _lowered(criteria, "min_context_tokens", has)


def _hardware(view: HostView, criteria: HostCriteria) -> Iterator[_Change]:
    yield _lowered(criteria, "min_vram_mib", total_vram_mib(view))


def _location(_view: HostView, criteria: HostCriteria) -> Iterator[_Change]:
    wanted = criteria.place
    assert wanted is not None
    if wanted.region is not None:
        relaxed = replace(criteria, location=wanted.country_code)
        yield _Change(WORD_COST, f"location {wanted} -> {wanted.country_code}", relaxed)
    yield _Change(LIFT_COST, "no location", replace(criteria, location=None))


def _uptime(view: HostView, criteria: HostCriteria) -> Iterator[_Change]:
    yield _lowered(criteria, "min_uptime_s", uptime_that_counts_s(view, criteria))
    if criteria.strict_uptime:
        yield _Change(WORD_COST, "without strict_uptime", replace(criteria, strict_uptime=False))


def _capabilities(view: HostView, criteria: HostCriteria) -> Iterator[_Change]:
    missing = [name for name in criteria.capabilities if name not in view.info.capabilities]
    yield _without(criteria, "capabilities", missing)


def _protocols(view: HostView, criteria: HostCriteria) -> Iterator[_Change]:
    yield _without(criteria, "protocols", missing_protocols(view, criteria))


def _reputation(view: HostView, criteria: HostCriteria) -> Iterator[_Change]:
    yield _lowered(criteria, "min_reputation", view.reputation.points)


def _slots(view: HostView, criteria: HostCriteria) -> Iterator[_Change]:
    if view.free_slots is None:
        yield _unmeasured(criteria)
    else:
        yield _lowered(criteria, "min_free_slots", view.free_slots)


def _path(view: HostView, criteria: HostCriteria) -> Iterator[_Change]:
    if view.latency is None or view.latency.path is None:
        yield _unmeasured(criteria)
    else:
        yield _Change(WORD_COST, "any path", replace(criteria, path=None))


def _latency(view: HostView, criteria: HostCriteria) -> Iterator[_Change]:
    limit = criteria.max_latency_ms
    assert limit is not None
    if view.latency is None:
        yield _unmeasured(criteria)
        return
    needed = math.ceil(view.latency.value)
    text = f"max_latency_ms {limit:g} -> {needed}"
    yield _Change(_part(needed - limit, limit), text, replace(criteria, max_latency_ms=needed))


def _unmeasured(criteria: HostCriteria) -> _Change:
    return _Change(LIFT_COST, "accept_unmeasured", replace(criteria, accept_unmeasured=True))


def _lowered(criteria: HostCriteria, name: str, has: int | None) -> _Change:
    """Return the change of a lower limit to what the host has; None = it is not known, and the limit is lifted."""
    limit = getattr(criteria, name)
    changed: dict[str, Any] = {name: None if has is None else max(0, has)}
    relaxed = replace(criteria, **changed)
    if has is None:
        return _Change(LIFT_COST, f"no {name}", relaxed)
    return _Change(_part(limit - changed[name], limit), f"{name} {limit} -> {changed[name]}", relaxed)


def _without(criteria: HostCriteria, name: str, missing: Sequence[str]) -> _Change:
    kept: dict[str, Any] = {name: [word for word in getattr(criteria, name) if word not in missing]}
    return _Change(len(missing) * WORD_COST, f"{name} without {_quoted(missing)}", replace(criteria, **kept))


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _part(difference: float, limit: float) -> float:
    return difference / max(limit, 1)


_CHANGES: dict[str, Callable[[HostView, HostCriteria], Iterator[_Change]]] = {
    "listed": _listed,
    "model": _model,
    "kind": _kind,
    "price": _price,
    "quantisation": _quantisation,
    "context": _context,
    "hardware": _hardware,
    "location": _location,
    "uptime": _uptime,
    "capabilities": _capabilities,
    "protocols": _protocols,
    "reputation": _reputation,
    "slots": _slots,
    "path": _path,
    "latency": _latency,
}
"""Nobody can relax draining, being unreachable or without a loaded model, nor a blacklist. Who is named in ``include``
is wanted and nobody else."""
