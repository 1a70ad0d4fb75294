"""Matching and the funnel: every criterion, the counts, the smallest relaxation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from discovery_world import EPOCH, FakeReputation, make_description, make_info

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import HostDescription, HostState, ModelOffer
from hostmesh.discovery.funnel import sift
from hostmesh.discovery.matching import failing
from hostmesh.discovery.measurement import Measurement, Origin
from hostmesh.discovery.offers import chosen_offer, price_in_question
from hostmesh.discovery.terms import ModelKind, Price
from hostmesh.discovery.view import NO_STANDING, HostView, ProbeResult, Readiness, Standing


def usd(amount: int) -> Price:
    return Price(micros_per_mtok=amount, currency="USD")


def measured(latency_ms: float | None, readiness: Readiness | None = None) -> ProbeResult:
    latency = None
    if latency_ms is not None:
        latency = Measurement(value=latency_ms, unit="ms", at_unix_s=EPOCH, samples=3, origin=Origin.MEASURED)
    return ProbeResult(latency=latency, readiness=readiness)


def view(
    name: str = "host",
    description: HostDescription | None = None,
    *,
    points: int = 100,
    uptime_s: float | None = 7200,
    observed_s: float | None = None,
    standing: Standing = NO_STANDING,
    probe: ProbeResult | None = None,
    **options: Any,
) -> HostView:
    claimed = observed = None
    if uptime_s is not None:
        claimed = Measurement(value=uptime_s, unit="s", at_unix_s=EPOCH, samples=1, origin=Origin.CLAIMED)
    if observed_s is not None:
        observed = Measurement(value=observed_s, unit="s", at_unix_s=EPOCH, samples=2, origin=Origin.MEASURED)
    return HostView(
        info=make_info(name, description, **options),
        uptime=observed,
        claimed_uptime=claimed,
        standing=standing,
        reputation=FakeReputation(points=points),
        probe=probe if probe is not None else measured(20.0),
        sources=("dht",),
    )


def rejects(host: HostView, **criteria: Any) -> str:
    """Return the criterion that turns the host away, or nothing."""
    failures = failing(host, HostCriteria(**criteria), first_only=True)
    return failures[0][0] if failures else ""


def test_models_match_exactly_and_all_of_them() -> None:
    """D6."""
    host = view(description=make_description("m-30", "n"))
    assert rejects(host, required_models=["m-3"]) == "model"
    assert rejects(host, required_models=["M-30"]) == "model"
    assert rejects(host, required_models=["m-30"]) == ""
    assert rejects(host, required_models=["m-30", "n"]) == ""
    assert rejects(host, required_models=["m-30", "o"]) == "model"


def test_kind_is_asked_of_the_required_models_or_of_any() -> None:
    both = HostDescription(
        models=[ModelOffer(model_id="c", kind=ModelKind.CHAT), ModelOffer(model_id="e", kind=ModelKind.EMBEDDING)]
    )
    assert rejects(view(description=both), kind=ModelKind.EMBEDDING) == ""
    assert rejects(view(description=both), kind=ModelKind.EMBEDDING, required_models=["c"]) == "kind"
    undeclared = HostDescription(models=[ModelOffer(model_id="c")])
    assert rejects(view(description=undeclared), kind=ModelKind.CHAT) == "kind"


@pytest.mark.parametrize(
    ("price", "limit", "expected"),
    [
        (usd(100), usd(100), ""),
        (usd(101), usd(100), "price"),
        (usd(0), usd(0), ""),
        (usd(1), usd(0), "price"),
        (None, usd(10**9), "price"),
        (None, None, ""),
        (Price(micros_per_mtok=1, currency="EUR"), usd(100), "price"),
        (Price(micros_per_mtok=0, currency="EUR"), usd(100), ""),
    ],
)
def test_the_price_limit_is_inclusive_and_unpriced_is_not_free(
    price: Price | None, limit: Price | None, expected: str
) -> None:
    """D5: 0 is a price."""
    host = view(description=HostDescription(models=[ModelOffer(model_id="m", price=price)]))
    assert rejects(host, max_price=limit) == expected
    assert rejects(host, max_price=limit, required_models=["m"]) == expected


def test_every_required_model_must_be_affordable() -> None:
    two = HostDescription(
        models=[ModelOffer(model_id="cheap", price=usd(1)), ModelOffer(model_id="dear", price=usd(1000))]
    )
    host = view(description=two)
    assert rejects(host, max_price=usd(10)) == ""
    assert rejects(host, max_price=usd(10), required_models=["cheap", "dear"]) == "price"


@pytest.mark.parametrize(
    ("location", "wanted", "expected"),
    [("US", "US", ""), ("US", "DE", "location"), (None, "US", "location"), ("US/nevada", "US", "")],
)
def test_location(location: str | None, wanted: str, expected: str) -> None:
    assert rejects(view(description=make_description("m", location=location)), location=wanted) == expected


def test_numbers_are_compared_inclusively_and_unknown_fails() -> None:
    assert rejects(view(uptime_s=3600), min_uptime_s=3600) == ""
    assert rejects(view(uptime_s=3599.9), min_uptime_s=3600) == "uptime"
    assert rejects(view(uptime_s=None), min_uptime_s=0) == "uptime"
    assert rejects(view(points=100), min_reputation=100) == ""
    assert rejects(view(points=99), min_reputation=100) == "reputation"
    assert rejects(view(probe=measured(500)), max_latency_ms=500) == ""
    assert rejects(view(probe=measured(500.1)), max_latency_ms=500) == "latency"


def test_an_unmeasured_host_fails_a_latency_limit_unless_allowed() -> None:
    host = view(probe=measured(None))
    assert rejects(host, max_latency_ms=10_000) == "latency"
    assert rejects(host, max_latency_ms=10_000, accept_unmeasured=True) == ""
    assert rejects(host) == ""


def test_an_unreachable_host_never_matches() -> None:
    host = view(probe=ProbeResult(latency=None, readiness=None, unreachable="DIAL_FAILED: nobody there"))
    assert rejects(host) == "reachable"
    assert rejects(host, accept_unmeasured=True) == "reachable"


@pytest.mark.parametrize("state", [HostState.DRAINING, HostState.UNKNOWN])
def test_a_host_that_takes_no_jobs_never_matches(state: HostState) -> None:
    probe = measured(1.0, Readiness(state=state, ready_models=frozenset(["m-3"]), free_slots=1))
    assert rejects(view(probe=probe)) == "state"
    if state is HostState.DRAINING:
        assert rejects(view(state=state)) == "state"


def test_a_model_that_is_not_loaded_does_not_match() -> None:
    two = make_description("a", "b")
    ready = Readiness(state=HostState.AVAILABLE, ready_models=frozenset(["b"]), free_slots=1)
    host = view(description=two, probe=measured(1.0, ready))
    assert rejects(host, required_models=["a"]) == "ready"
    assert rejects(host, required_models=["b"]) == ""


def test_names_include_and_exclude() -> None:
    host = view()
    peer_id, wallet = str(host.info.peer_id), host.info.operator_address
    assert rejects(host, include=[peer_id]) == ""
    assert rejects(host, include=[wallet.upper().replace("0X", "0x")]) == ""
    assert rejects(host, include=["12D3KooWsomebodyelse"]) == "listed"
    assert rejects(host, exclude=[wallet], include=[peer_id]) == "listed"


def test_capabilities_are_all_of_and_exact() -> None:
    host = view(description=make_description("m", capabilities=["vision", "tools"]))
    assert rejects(host, capabilities=["tools"]) == ""
    assert rejects(host, capabilities=["tool"]) == "capabilities"
    assert rejects(host, capabilities=["tools", "audio"]) == "capabilities"


def test_counts_add_up_and_name_the_first_criterion_in_order() -> None:
    views = [
        view("a", make_description("other")),
        view("b", make_description("m", price=500)),
        view("c", make_description("m", price=500), points=0),
        view("d", make_description("m"), points=10),
        view("e", make_description("m"), probe=measured(612)),
        view("f", make_description("m"), probe=measured(20)),
    ]
    criteria = HostCriteria(required_models=["m"], max_price=usd(100), min_reputation=50, max_latency_ms=500)
    matched, funnel = sift(views, criteria)
    assert [match.info.peer_id for match in matched] == [views[5].info.peer_id]
    assert funnel.rejected == {"model": 1, "price": 2, "reputation": 1, "latency": 1}
    assert sum(funnel.rejected.values()) + funnel.matched == funnel.seen == 6
    assert funnel.describe() == "seen 6 -> model 5 -> price 3 -> reputation 2 -> latency 1"
    assert funnel.relaxation is None
    details = {each.criterion: each.detail for each in funnel.rejections}
    assert details["latency"] == "612.0 ms > 500 ms"
    assert details["price"] == "price 500 > 100 micro-USD/Mtok"


@pytest.mark.parametrize(
    ("host", "criteria", "text"),
    [
        (view(probe=measured(611.2)), {"max_latency_ms": 500}, "max_latency_ms 500 -> 612"),
        (view(points=50), {"min_reputation": 100}, "min_reputation 100 -> 50"),
        (
            view(description=make_description("m", price=300)),
            {"max_price": usd(200)},
            "max_price 200 -> 300 micro-USD/Mtok",
        ),
        (view(description=make_description("m", price=None)), {"max_price": usd(200)}, "no max_price"),
        (view(uptime_s=59.5), {"min_uptime_s": 60}, "min_uptime_s 60 -> 59"),
        (view(uptime_s=None), {"min_uptime_s": 60}, "no min_uptime_s"),
        (
            view(description=make_description("m", location="US/nevada")),
            {"location": "US/california"},
            "location US/california -> US",
        ),
        (view(description=make_description("m", location="DE")), {"location": "US"}, "no location"),
        (view(description=make_description("m")), {"required_models": ["m", "x"]}, "required_models without 'x'"),
        (view(description=make_description("m")), {"kind": ModelKind.EMBEDDING}, "any kind"),
        (
            view(description=make_description("m", capabilities=["a"])),
            {"capabilities": ["a", "b"]},
            "capabilities without 'b'",
        ),
        (view(probe=measured(None)), {"max_latency_ms": 5}, "accept_unmeasured"),
    ],
)
def test_the_relaxation_names_what_would_let_the_host_through(
    host: HostView, criteria: dict[str, Any], text: str
) -> None:
    matched, funnel = sift([host], HostCriteria(**criteria))
    assert matched == []
    assert funnel.relaxation is not None
    assert funnel.relaxation.text == text
    assert sift([host], funnel.relaxation.criteria)[0] == [host]


def test_the_smallest_change_is_named() -> None:
    views = [view("far", probe=measured(900)), view("near", probe=measured(550)), view("poor", points=10)]
    funnel = sift(views, HostCriteria(max_latency_ms=500, min_reputation=100))[1]
    assert funnel.relaxation is not None
    assert funnel.relaxation.text == "max_latency_ms 500 -> 550"


def test_a_host_that_fails_twice_offers_the_change_of_both() -> None:
    funnel = sift([view(points=1, probe=measured(900))], HostCriteria(max_latency_ms=500, min_reputation=100))[1]
    assert funnel.relaxation is not None
    assert funnel.relaxation.text == "min_reputation 100 -> 1, max_latency_ms 500 -> 900"


def test_a_change_that_another_criterion_would_undo_is_not_offered() -> None:
    """Without the model that it lacks, the host's only offer is in question, and that is too dear."""
    dear = view(description=make_description("m", price=900))
    matched, funnel = sift([dear], HostCriteria(required_models=["x"], max_price=usd(100)))
    assert (matched, funnel.rejected, funnel.relaxation) == ([], {"model": 1}, None)


def test_nobody_can_relax_being_unreachable_or_barred() -> None:
    gone = view(probe=ProbeResult(latency=None, readiness=None, unreachable="gone"))
    assert sift([gone], HostCriteria())[1].relaxation is None
    barred = replace(view(), standing=Standing(barred="blacklisted"))
    assert sift([barred], HostCriteria())[1].relaxation is None
    assert sift([barred], HostCriteria(exclude=[str(barred.info.peer_id)]))[1].relaxation is None


def test_an_empty_network_is_zero_seen() -> None:
    """D27."""
    matched, funnel = sift([], HostCriteria(required_models=["m"]))
    assert matched == []
    assert (funnel.seen, funnel.rejected, funnel.relaxation) == (0, {}, None)


def test_the_offer_in_question() -> None:
    offers = HostDescription(
        models=[
            ModelOffer(model_id="z-free", price=usd(0)),
            ModelOffer(model_id="cheap", price=usd(1)),
            ModelOffer(model_id="dear", price=usd(9)),
            ModelOffer(model_id="unpriced"),
        ]
    )
    host = view(description=offers)
    free = chosen_offer(host, HostCriteria())
    assert free is not None
    assert free.model_id == "z-free"
    named = chosen_offer(host, HostCriteria(required_models=["dear", "cheap"]))
    assert named is not None
    assert named.model_id == "dear"
    assert price_in_question(host, HostCriteria(required_models=["cheap", "dear"])) == usd(9)
    assert price_in_question(host, HostCriteria(required_models=["cheap", "unpriced"])) is None
