"""Which hosts meet the criteria, and why the others do not. Pure.

Every criterion is a question to one host, asked in a fixed order. What the answers add up to is in
:mod:`hostmesh.discovery.funnel`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import HostState
from hostmesh.discovery.measurement import Path, QuoteRefusal
from hostmesh.discovery.offers import ask_offers, broken_price, missing_models
from hostmesh.discovery.view import HostView as HostView
from hostmesh.discovery.view import ProbeResult as ProbeResult
from hostmesh.discovery.view import Readiness as Readiness
from hostmesh.discovery.view import ReputationLike as ReputationLike

STATIC_CRITERIA = (
    "listed",
    "state",
    "model",
    "kind",
    "price",
    "quantisation",
    "context",
    "hardware",
    "location",
    "uptime",
    "capabilities",
    "protocols",
    "reputation",
)
"""Asked of the record; no probe is spent on a host that fails one."""
PROBED_CRITERIA = ("asked", "reachable", "throttled", "ready", "slots", "path", "latency")
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


def is_measured(view: HostView, criteria: HostCriteria) -> bool:
    """Tell whether everything is known that the criteria ask of a probe: other hosts rank after those."""
    return view.latency is not None and (criteria.min_free_slots is None or view.free_slots is not None)


def total_vram_mib(view: HostView) -> int | None:
    """Return the memory of all GPUs together, as the host claims it; None = not said. No GPU at all is 0."""
    hardware = view.info.hardware
    if hardware is None:
        return None
    sizes = [
        None if gpu.memory_mib is None else gpu.memory_mib * (1 if gpu.count is None else gpu.count)
        for gpu in hardware.gpus
    ]
    known = [size for size in sizes if size is not None]
    return None if sizes and not known else sum(known)


# --- the questions: None is yes, a string is why not ---


def _listed(view: HostView, criteria: HostCriteria) -> str | None:
    names = view.names
    if names & set(criteria.exclude):
        return "excluded by name"
    if criteria.include and not names & set(criteria.include):
        return "not among the hosts named"
    return view.standing.barred or None


def _state(view: HostView, _criteria: HostCriteria) -> str | None:
    states = [view.info.state]
    if view.readiness is not None:
        states.append(view.readiness.state)
    wrong = next((state for state in states if state is not HostState.AVAILABLE), None)
    return None if wrong is None else f"the host is {wrong.value}"


def _model(view: HostView, criteria: HostCriteria) -> str | None:
    missing = missing_models(view, criteria)
    if missing:
        return f"serves no {_quoted(missing)}"
    wanted = criteria.any_models
    if wanted and all(view.info.offer(model_id) is None for model_id in wanted):
        return f"serves none of {_quoted(wanted)}"
    return None


def _kind(view: HostView, criteria: HostCriteria) -> str | None:
    if criteria.kind is None or ask_offers(view, criteria, "kind").is_met:
        return None
    return f"serves no such model for {criteria.kind.value}"


def _price(view: HostView, criteria: HostCriteria) -> str | None:
    limit = criteria.max_price
    question = ask_offers(view, criteria, "price")
    if limit is None or question.is_met:
        return broken_price(view)
    dear = [offer.price for offer in question.asked if offer not in question.passed]
    priced = [price for price in dear if price is not None]
    if not priced:
        return "unpriced"
    price = min(priced, key=lambda price: (price.currency != limit.currency, price.micros_per_mtok))
    if price.currency != limit.currency:
        return f"priced in {price.currency}, not {limit.currency}"
    return f"price {price.micros_per_mtok} > {limit.micros_per_mtok} micro-{limit.currency}/Mtok"


def _quantisation(view: HostView, criteria: HostCriteria) -> str | None:
    question = ask_offers(view, criteria, "quantisation")
    if not criteria.quantisation or question.is_met:
        return None
    said = [offer.quantisation for offer in question.asked if offer not in question.passed]
    named = list(dict.fromkeys(name for name in said if name is not None))
    return f"quantised {_quoted(named)}, not {_quoted(criteria.quantisation)}" if named else "says no quantisation"


def _context(view: HostView, criteria: HostCriteria) -> str | None:
    question = ask_offers(view, criteria, "context")
    if criteria.min_context_tokens is None or question.is_met:
        return None
    lengths = [offer.context_tokens for offer in question.asked if offer not in question.passed]
    known = [length for length in lengths if length is not None]
    if not known:
        return "says no context length"
    return f"context {max(known)} < {criteria.min_context_tokens} tokens"


def _hardware(view: HostView, criteria: HostCriteria) -> str | None:
    least = criteria.min_vram_mib
    if least is None:
        return None
    claimed = total_vram_mib(view)
    if claimed is None:
        return "says no GPU memory"
    return None if claimed >= least else f"GPU memory {claimed} < {least} MiB"


def _location(view: HostView, criteria: HostCriteria) -> str | None:
    wanted = criteria.place
    if wanted is None:
        return None
    place = view.info.place
    if place is None:
        return "says no location"
    if not place.lies_in(wanted):
        return f"claims {place}, not {wanted}"
    return view.refuted or None


def _uptime(view: HostView, criteria: HostCriteria) -> str | None:
    least = criteria.min_uptime_s
    if least is None:
        return None
    uptime_s = uptime_that_counts_s(view, criteria)
    if uptime_s is None:
        return "not observed" if criteria.strict_uptime else "says no start time"
    return None if uptime_s >= least else f"up {uptime_s} s < {least} s"


def uptime_that_counts_s(view: HostView, criteria: HostCriteria) -> int | None:
    """Return the uptime that ``min_uptime_s`` is compared with: observed, or where claims count, the longer one."""
    numbers = [view.uptime] if criteria.strict_uptime else [view.uptime, view.claimed_uptime]
    return max((math.floor(number.value) for number in numbers if number is not None), default=None)


def _capabilities(view: HostView, criteria: HostCriteria) -> str | None:
    missing = [name for name in criteria.capabilities if name not in view.info.capabilities]
    return f"lacks {_quoted(missing)}" if missing else None


def _protocols(view: HostView, criteria: HostCriteria) -> str | None:
    missing = missing_protocols(view, criteria)
    return f"serves no {_quoted(missing)}" if missing else None


def missing_protocols(view: HostView, criteria: HostCriteria) -> list[str]:
    """Return the protocols of which the host serves no version that would do."""
    ranges = criteria.protocol_ranges
    return [str(wanted) for wanted in ranges if not wanted.is_served_by(view.info.protocols)]


def _reputation(view: HostView, criteria: HostCriteria) -> str | None:
    if criteria.min_reputation is None or view.reputation.points >= criteria.min_reputation:
        return None
    return f"reputation {view.reputation.points} (n={view.reputation.n}) < {criteria.min_reputation}"


def _asked(view: HostView, _criteria: HostCriteria) -> str | None:
    return view.probe.unasked or None if view.probe is not None else None


def _reachable(view: HostView, _criteria: HostCriteria) -> str | None:
    return view.probe.unreachable or None if view.probe is not None else None


def _throttled(view: HostView, _criteria: HostCriteria) -> str | None:
    return None if view.throttling is None else str(view.throttling)


def _ready(view: HostView, criteria: HostCriteria) -> str | None:
    refusal = view.unquoted
    if refusal is not None and refusal.reason not in (QuoteRefusal.NOT_SERVED, *QuoteRefusal.OF_PRICE):
        return f"takes no job now: {refusal.reason}"
    if view.readiness is None:
        return None
    question = ask_offers(view, criteria, "ready")
    if not question.asked or question.is_met:
        return None
    waiting = [offer.model_id for offer in question.asked if offer not in question.passed]
    return f"{_quoted(waiting)} is not loaded"


def _slots(view: HostView, criteria: HostCriteria) -> str | None:
    least = criteria.min_free_slots
    if least is None:
        return None
    if view.free_slots is None:
        return None if criteria.accept_unmeasured else "says no free slots"
    return None if view.free_slots >= least else f"free slots {view.free_slots} < {least}"


def _path(view: HostView, criteria: HostCriteria) -> str | None:
    if criteria.path is None:
        return None
    if view.latency is None or view.latency.path is None:
        return None if criteria.accept_unmeasured else "path not known"
    return None if view.latency.path is Path.DIRECT else f"the path is {view.latency.path.value}"


def _latency(view: HostView, criteria: HostCriteria) -> str | None:
    limit = criteria.max_latency_ms
    if limit is None:
        return None
    if view.latency is None:
        return None if criteria.accept_unmeasured else "not measured"
    return None if view.latency.value <= limit else f"{view.latency.value:.1f} ms > {limit:g} ms"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


_QUESTIONS: dict[str, Callable[[HostView, HostCriteria], str | None]] = {
    "listed": _listed,
    "state": _state,
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
    "asked": _asked,
    "reachable": _reachable,
    "throttled": _throttled,
    "ready": _ready,
    "slots": _slots,
    "path": _path,
    "latency": _latency,
}
