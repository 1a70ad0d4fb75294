"""Which hosts meet the criteria, and why the others do not. Pure.

Every criterion is a question to one host, asked in a fixed order. What the answers add up to is in
:mod:`hostmesh.discovery.funnel`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import HostState, ModelOffer
from hostmesh.discovery.measurement import Measurement
from hostmesh.discovery.record import HostInfo
from hostmesh.discovery.terms import Price


class ReputationLike(Protocol):
    """A host's reputation with this client; :class:`hostmesh.reputation.score.Reputation` is one."""

    @property
    def points(self) -> int:
        """0 to 1000; 100 with no evidence."""
        ...

    @property
    def n(self) -> int:
        """How many outcomes stand behind it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What a host said of its load when it was probed."""

    state: HostState
    ready_models: frozenset[str]
    """Models that are loaded and answering."""
    free_slots: int | None
    """Jobs that would start at once; None = not said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What came of probing a host. ``None`` for the whole means that it was not tried."""

    latency: Measurement | None
    """None: reachable, but it could not be measured (the host serves no status protocol)."""
    readiness: Readiness | None
    unreachable: str = ""
    """Why it could not be reached; empty = it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """Everything known of one host at one moment."""

    info: HostInfo
    uptime: Measurement | None
    reputation: ReputationLike
    probe: ProbeResult | None
    sources: tuple[str, ...]
    """Who named it."""

    @property
    def latency(self) -> Measurement | None:
        """The measured round-trip time, if there is one."""
        return None if self.probe is None else self.probe.latency


STATIC_CRITERIA = ("listed", "state", "model", "kind", "price", "location", "uptime", "capabilities", "reputation")
"""Asked of the record; no probe is spent on a host that fails one."""
PROBED_CRITERIA = ("reachable", "ready", "latency")
"""Asked of the probe."""
CRITERIA = STATIC_CRITERIA + PROBED_CRITERIA


def failing(
    view: HostView,
    criteria: HostCriteria,
    *,
    questions: Sequence[str] = CRITERIA,
    first_only: bool = False,
) -> list[tuple[str, str]]:
    """Return the criteria that this host fails, each with why, in the order of asking."""
    failures: list[tuple[str, str]] = []
    for criterion in questions:
        detail = _QUESTIONS[criterion](view, criteria)
        if detail is not None:
            failures.append((criterion, detail))
            if first_only:
                break
    return failures


def offers_in_question(info: HostInfo, criteria: HostCriteria) -> list[ModelOffer]:
    """Return the offers that the kind and the price are asked of.

    The required models, or where none is required every offer of the wanted kind (every offer, if none is).
    """
    if criteria.required_models:
        return [offer for offer in info.models if offer.model_id in criteria.required_models]
    of_kind = [offer for offer in info.models if criteria.kind in (None, offer.kind)]
    return of_kind or list(info.models)


def chosen_offer(info: HostInfo, criteria: HostCriteria) -> ModelOffer | None:
    """Return the offer that a job under these criteria would use.

    The first required model; where none is required the cheapest in question, and an unpriced one only if all are.
    """
    if criteria.required_models:
        return info.offer(criteria.required_models[0])
    affordable = [offer for offer in offers_in_question(info, criteria) if _affordable(offer, criteria.max_price)]
    return min(
        affordable,
        key=lambda offer: (offer.price is None, offer.price.micros_per_mtok if offer.price else 0, offer.model_id),
        default=None,
    )


def price_in_question(info: HostInfo, criteria: HostCriteria) -> Price | None:
    """Return the price that ranking compares: the dearest of the required models, or that of the chosen offer.

    None: one of them is unpriced, or they are in different currencies.
    """
    if not criteria.required_models:
        offer = chosen_offer(info, criteria)
        return None if offer is None else offer.price
    prices = [offer.price for offer in offers_in_question(info, criteria)]
    priced = [price for price in prices if price is not None]
    if not priced or len(priced) < len(prices) or len({price.currency for price in priced}) > 1:
        return None
    return max(priced, key=lambda price: price.micros_per_mtok)


def _affordable(offer: ModelOffer, limit: Price | None) -> bool:
    if limit is None:
        return True
    price = offer.price
    if price is None:
        return False
    # Nothing costs nothing in every currency.
    return price.micros_per_mtok == 0 or (
        price.currency == limit.currency and price.micros_per_mtok <= limit.micros_per_mtok
    )


# --- the questions: None is yes, a string is why not ---


def _listed(view: HostView, criteria: HostCriteria) -> str | None:
    names = {str(view.info.peer_id), view.info.operator_address}
    if names & set(criteria.exclude):
        return "excluded by name"
    if criteria.include and not names & set(criteria.include):
        return "not among the hosts named"
    return None


def _state(view: HostView, _criteria: HostCriteria) -> str | None:
    states = [view.info.state]
    if view.probe is not None and view.probe.readiness is not None:
        states.append(view.probe.readiness.state)
    wrong = next((state for state in states if state is not HostState.AVAILABLE), None)
    return None if wrong is None else f"the host is {wrong.value}"


def _model(view: HostView, criteria: HostCriteria) -> str | None:
    missing = missing_models(view, criteria)
    return f"serves no {', '.join(repr(name) for name in missing)}" if missing else None


def missing_models(view: HostView, criteria: HostCriteria) -> list[str]:
    """Return the required models that the host does not serve."""
    return [model_id for model_id in criteria.required_models if view.info.offer(model_id) is None]


def _kind(view: HostView, criteria: HostCriteria) -> str | None:
    if criteria.kind is None:
        return None
    offers = offers_in_question(view.info, criteria)
    answers = [offer.kind is criteria.kind for offer in offers]
    good = all(answers) if criteria.required_models else any(answers)
    return None if good else f"serves no such model for {criteria.kind.value}"


def _price(view: HostView, criteria: HostCriteria) -> str | None:
    limit = criteria.max_price
    if limit is None:
        return None
    offers = offers_in_question(view.info, criteria)
    dear = [offer for offer in offers if not _affordable(offer, limit)]
    if not dear or (not criteria.required_models and len(dear) < len(offers)):
        return None
    priced = [offer.price for offer in dear if offer.price is not None]
    if not priced:
        return "unpriced"
    price = min(priced, key=lambda price: (price.currency != limit.currency, price.micros_per_mtok))
    if price.currency != limit.currency:
        return f"priced in {price.currency}, not {limit.currency}"
    return f"price {price.micros_per_mtok} > {limit.micros_per_mtok} micro-{limit.currency}/Mtok"


def _location(view: HostView, criteria: HostCriteria) -> str | None:
    wanted = criteria.place
    if wanted is None:
        return None
    place = view.info.place
    if place is None:
        return "says no location"
    return None if place.lies_in(wanted) else f"claims {place}, not {wanted}"


def _uptime(view: HostView, criteria: HostCriteria) -> str | None:
    if criteria.min_uptime_s is None:
        return None
    if view.uptime is None:
        return "says no start time"
    uptime_s = math.floor(view.uptime.value)
    return None if uptime_s >= criteria.min_uptime_s else f"up {uptime_s} s < {criteria.min_uptime_s} s"


def _capabilities(view: HostView, criteria: HostCriteria) -> str | None:
    missing = [name for name in criteria.capabilities if name not in view.info.capabilities]
    return f"lacks {', '.join(repr(name) for name in missing)}" if missing else None


def _reputation(view: HostView, criteria: HostCriteria) -> str | None:
    if criteria.min_reputation is None or view.reputation.points >= criteria.min_reputation:
        return None
    return f"reputation {view.reputation.points} (n={view.reputation.n}) < {criteria.min_reputation}"


def _reachable(view: HostView, _criteria: HostCriteria) -> str | None:
    return view.probe.unreachable or None if view.probe is not None else None


def _ready(view: HostView, criteria: HostCriteria) -> str | None:
    if view.probe is None or view.probe.readiness is None:
        return None
    ready = view.probe.readiness.ready_models
    if criteria.required_models:
        waiting = [name for name in criteria.required_models if name not in ready]
    else:
        offer = chosen_offer(view.info, criteria)
        waiting = [] if offer is None or offer.model_id in ready else [offer.model_id]
    return f"{', '.join(repr(name) for name in waiting)} is not loaded" if waiting else None


def _latency(view: HostView, criteria: HostCriteria) -> str | None:
    limit = criteria.max_latency_ms
    if limit is None:
        return None
    if view.latency is None:
        return None if criteria.accept_unmeasured else "not measured"
    return None if view.latency.value <= limit else f"{view.latency.value:.1f} ms > {limit:g} ms"


_QUESTIONS: dict[str, Callable[[HostView, HostCriteria], str | None]] = {
    "listed": _listed,
    "state": _state,
    "model": _model,
    "kind": _kind,
    "price": _price,
    "location": _location,
    "uptime": _uptime,
    "capabilities": _capabilities,
    "reputation": _reputation,
    "reachable": _reachable,
    "ready": _ready,
    "latency": _latency,
}
