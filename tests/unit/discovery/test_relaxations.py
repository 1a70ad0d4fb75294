"""The smallest change that would have let a host through: what it costs, what it says, what criteria it makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from discovery_world import EPOCH, FakeReputation, make_info

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import HostDescription, HostState, ModelOffer
from hostmesh.discovery.measurement import Measurement, Origin, Path
from hostmesh.discovery.relaxation import Relaxation, smallest_relaxation
from hostmesh.discovery.terms import ModelKind, Price
from hostmesh.discovery.view import HostView, ProbeResult, Readiness

PLAIN = ModelOffer(model_id="m", kind=ModelKind.CHAT, quantisation="Q4")


def priced(model_id: str, amount: int | None, currency: str = "USD") -> ModelOffer:
    price = None if amount is None else Price(micros_per_mtok=amount, currency=currency)
    return ModelOffer(model_id=model_id, kind=ModelKind.CHAT, price=price)


def usd(amount: int) -> Price:
    return Price(micros_per_mtok=amount, currency="USD")


def host(
    *models: ModelOffer,
    claimed_s: float = 7200,
    observed_s: float | None = None,
    latency_ms: float = 20.0,
    path: Path = Path.DIRECT,
    free_slots: int | None = 2,
) -> HostView:
    description = HostDescription(models=models or (PLAIN,), max_concurrent_jobs=2)
    names = frozenset(offer.model_id for offer in description.models)

    def seconds(value: float, origin: Origin) -> Measurement:
        return Measurement(value=value, unit="s", at_unix_s=EPOCH, samples=2, origin=origin)

    latency = Measurement(value=latency_ms, unit="ms", at_unix_s=EPOCH, samples=3, origin=Origin.MEASURED, path=path)
    readiness = Readiness(state=HostState.AVAILABLE, ready_models=names, free_slots=free_slots)
    return HostView(
        info=make_info("host", description),
        uptime=None if observed_s is None else seconds(observed_s, Origin.MEASURED),
        claimed_uptime=seconds(claimed_s, Origin.CLAIMED),
        reputation=FakeReputation(),
        probe=ProbeResult(latency=latency, readiness=readiness),
        sources=(),
    )


def relaxed(*views: HostView, **criteria: Any) -> Relaxation:
    found = smallest_relaxation(views, HostCriteria(**criteria))
    assert found is not None
    return found


TWO = (priced("a", 200), priced("b", 300))


@pytest.mark.parametrize(
    ("models", "required", "text", "limit"),
    [
        (TWO, (), "max_price 100 -> 200 micro-USD/Mtok", usd(200)),
        (TWO, ("a", "b"), "max_price 100 -> 300 micro-USD/Mtok", usd(300)),
        ((priced("a", 200), priced("b", None)), ("a", "b"), "no max_price", None),
        ((priced("a", 200), priced("b", None)), (), "max_price 100 -> 200 micro-USD/Mtok", usd(200)),
        ((priced("a", 200), priced("b", 9, "EUR")), (), "max_price 100 -> 200 micro-USD/Mtok", usd(200)),
        ((priced("a", 200), priced("b", 9, "EUR")), ("a", "b"), "no max_price", None),
        ((priced("a", 9, "EUR"),), (), "no max_price", None),
    ],
)
def test_a_price_is_lifted_to_what_is_asked_or_altogether(
    models: Sequence[ModelOffer], required: Sequence[str], text: str, limit: Price | None
) -> None:
    found = relaxed(host(*models), max_price=usd(100), required_models=required)
    assert (found.text, found.criteria.max_price) == (text, limit)


def test_what_several_required_models_need_is_told_together() -> None:
    models = [ModelOffer(model_id=name, quantisation=name.upper()) for name in ("q4", "q6")]
    found = relaxed(host(*models), required_models=["q4", "q6"], quantisation=["Q8"])
    assert found.text == "any quantisation", "two words cost as much as lifting it, which is named first"
    assert relaxed(host(*models), quantisation=["Q8"]).criteria.quantisation == ("Q8", "Q4")


def test_the_criteria_that_come_with_it_hold_what_it_says() -> None:
    late = relaxed(host(latency_ms=19.2), max_latency_ms=10)
    assert (late.text, late.criteria.max_latency_ms) == ("max_latency_ms 10 -> 20", 20)
    busy = relaxed(host(free_slots=0), min_free_slots=1)
    assert (busy.text, busy.criteria.min_free_slots) == ("min_free_slots 1 -> 0", 0)
    far = relaxed(host(path=Path.RELAYED), path=Path.DIRECT)
    assert (far.text, far.criteria.path) == ("any path", None)


UNKIND = ModelOffer(model_id="m", kind=ModelKind.EMBEDDING, quantisation="Q4")
WANTED: dict[str, Any] = {"kind": ModelKind.CHAT, "min_uptime_s": 60}
YOUNG = host(claimed_s=24)
"""0.6 of its limit is missing."""


@pytest.mark.parametrize(
    ("views", "criteria", "text"),
    [
        # A word costs 1, lifting a limit 2, a number its part of the limit.
        ([host(ModelOffer(model_id="n", kind=ModelKind.CHAT)), host(UNKIND)], {"any_models": ["m"]}, "any kind"),
        ([host(priced("m", 9, "EUR")), host(priced("m", 100), claimed_s=24)], {"max_price": usd(100)}, "-> 24"),
        ([host(priced("m", 150)), host(priced("m", 100), claimed_s=24)], {"max_price": usd(100)}, "-> 150"),
        ([host(priced("m", 170)), host(priced("m", 100), claimed_s=24)], {"max_price": usd(100)}, "-> 24"),
        ([host(path=Path.RELAYED), YOUNG], {"path": Path.DIRECT}, "-> 24"),
        ([host(path=Path.RELAYED), host(UNKIND)], {"path": Path.DIRECT}, "any path"),
        ([host(free_slots=0), YOUNG], {"min_free_slots": 1}, "-> 24"),
        ([host(free_slots=1), YOUNG], {"min_free_slots": 2}, "min_free_slots 2 -> 1"),
        ([host(latency_ms=15), host(claimed_s=24, latency_ms=5)], {"max_latency_ms": 10}, "max_latency_ms 10 -> 15"),
        ([host(latency_ms=17), host(claimed_s=24, latency_ms=5)], {"max_latency_ms": 10}, "-> 24"),
    ],
)
def test_the_cheapest_change_is_told_in_either_order(
    views: Sequence[HostView], criteria: dict[str, Any], text: str
) -> None:
    for order in (views, views[::-1]):
        assert text in relaxed(*order, **WANTED, **criteria).text


def test_a_hosts_second_change_counts_where_its_first_is_too_dear() -> None:
    """Lifting the limit of the uptime costs as much as accepting what is not measured; claims cost a word."""
    silent, new = host(observed_s=100, free_slots=None), host()
    found = relaxed(silent, new, min_free_slots=1, min_uptime_s=60, strict_uptime=True)
    assert found.text == "without strict_uptime"
    assert found.criteria == HostCriteria(min_free_slots=1, min_uptime_s=60)


def test_two_are_changed_where_no_change_of_one_helps() -> None:
    far = relaxed(host(UNKIND, claimed_s=1), **WANTED)
    assert far.text == "any kind, min_uptime_s 60 -> 1"
    assert far.criteria == HostCriteria(min_uptime_s=1)
    # However dear, a single change is the smaller one.
    for hosts in ([host(UNKIND, claimed_s=59), host(claimed_s=1)], [host(claimed_s=1), host(UNKIND, claimed_s=59)]):
        assert relaxed(*hosts, **WANTED).text == "min_uptime_s 60 -> 1"
    # Of two pairs the smaller one.
    assert relaxed(host(UNKIND, claimed_s=1), host(UNKIND, claimed_s=30), **WANTED).text.endswith("60 -> 30")


def test_three_changes_are_never_offered() -> None:
    thrice = host(UNKIND, claimed_s=1)
    assert smallest_relaxation([thrice], HostCriteria(**WANTED, capabilities=["x"])) is None


def test_who_is_excluded_may_be_let_in_and_who_is_not_named_may_not() -> None:
    peer_id = str(host().info.peer_id)
    found = relaxed(host(), exclude=["someone else", peer_id])
    assert found.text == f"exclude without {peer_id!r}"
    assert found.criteria == HostCriteria(exclude=["someone else"])
    assert smallest_relaxation([host()], HostCriteria(include=["someone else"])) is None
    assert smallest_relaxation([host()], HostCriteria(include=["someone else"], exclude=[peer_id])) is None


def test_nothing_to_change_is_no_change() -> None:
    assert smallest_relaxation([], HostCriteria(**WANTED)) is None
    assert smallest_relaxation([host()], HostCriteria(**WANTED)) is None, "it matches as it is"
