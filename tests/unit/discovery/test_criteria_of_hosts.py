"""The criteria one by one: what each lets through, what it says of the others, and what would have let them through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from discovery_world import EPOCH, FakeReputation, make_info

from hostmesh.discovery.criteria import MAX_NAMES, HostCriteria
from hostmesh.discovery.description import Gpu, Hardware, HostDescription, HostState, ModelOffer
from hostmesh.discovery.funnel import sift
from hostmesh.discovery.matching import CRITERIA, failing
from hostmesh.discovery.measurement import Measurement, Origin, Path, Throttling
from hostmesh.discovery.offers import chosen_offer, price_in_question
from hostmesh.discovery.relaxation import smallest_relaxation
from hostmesh.discovery.terms import ModelKind, Price
from hostmesh.discovery.view import NO_STANDING, HostView, ProbeResult, Readiness, Standing

MODELS = (
    ModelOffer(model_id="small", kind=ModelKind.CHAT, quantisation="Q4_K_M", context_tokens=2048),
    ModelOffer(model_id="large", kind=ModelKind.CHAT, quantisation="F16", context_tokens=8192),
    ModelOffer(model_id="mute", kind=ModelKind.EMBEDDING),
)
PROTOCOLS = ("/hostmesh/job/1.0.0", "/hostmesh/job/1.2.0", "/hostmesh/status/1.0.0", "/chat")


def usd(amount: int) -> Price:
    return Price(micros_per_mtok=amount, currency="USD")


def seconds(value: float | None, origin: Origin) -> Measurement | None:
    return None if value is None else Measurement(value=value, unit="s", at_unix_s=EPOCH, samples=2, origin=origin)


def host(
    *models: ModelOffer,
    location: str | None = "US/nevada",
    hardware: Hardware | None = None,
    protocols: Sequence[str] = PROTOCOLS,
    claimed_s: float | None = 7200,
    observed_s: float | None = None,
    latency_ms: float | None = 20.0,
    path: Path | None = Path.DIRECT,
    ready: Sequence[str] | None = None,
    free_slots: int | None = None,
    refuted: str = "",
    standing: Standing = NO_STANDING,
    is_probed: bool = True,
) -> HostView:
    description = HostDescription(
        models=models or MODELS, location=location, hardware=hardware, protocols=protocols, max_concurrent_jobs=2
    )
    latency = None
    if latency_ms is not None:
        latency = Measurement(
            value=latency_ms, unit="ms", at_unix_s=EPOCH, samples=3, origin=Origin.MEASURED, path=path
        )
    readiness = None
    if ready is not None or free_slots is not None:
        names = frozenset(offer.model_id for offer in description.models) if ready is None else frozenset(ready)
        readiness = Readiness(state=HostState.AVAILABLE, ready_models=names, free_slots=free_slots)
    return HostView(
        info=make_info("host", description),
        uptime=seconds(observed_s, Origin.MEASURED),
        claimed_uptime=seconds(claimed_s, Origin.CLAIMED),
        reputation=FakeReputation(),
        probe=ProbeResult(latency=latency, readiness=readiness, refuted=refuted) if is_probed else None,
        sources=("dht",),
        standing=standing,
    )


def said(view: HostView, **criteria: Any) -> tuple[str, str] | None:
    """Return the criterion that turns the host away and why, or None."""
    failures = failing(view, HostCriteria(**criteria))
    assert len(failures) <= 1, failures
    return failures[0] if failures else None


GPUS = Hardware(gpus=[Gpu(model="a", memory_mib=8000, count=2), Gpu(model="b", memory_mib=4000)])
CASES: list[tuple[HostView, dict[str, Any], tuple[str, str] | None, str | None]] = [
    # any_models
    (host(), {"any_models": ["x", "large"]}, None, None),
    (host(), {"any_models": ["small"]}, None, None),
    (host(), {"any_models": ["x", "y"]}, ("model", "serves none of 'x', 'y'"), "any model"),
    (
        host(),
        {"required_models": ["small", "x", "y"]},
        ("model", "serves no 'x', 'y'"),
        "required_models without 'x', 'y'",
    ),
    (
        host(),
        {"any_models": ["small"], "kind": ModelKind.EMBEDDING},
        ("kind", "serves no such model for embedding"),
        "any kind",
    ),
    (host(), {"any_models": ["small", "mute"], "kind": ModelKind.EMBEDDING}, None, None),
    # quantisation
    (host(), {"quantisation": ["q4_k_m"]}, None, None),
    (host(), {"quantisation": ["F16", "F32"], "required_models": ["large"]}, None, None),
    (
        host(),
        {"quantisation": ["F16"], "required_models": ["small"]},
        ("quantisation", "quantised 'Q4_K_M', not 'F16'"),
        "quantisation also 'Q4_K_M'",
    ),
    (
        host(),
        {"quantisation": ["Q8"]},
        ("quantisation", "quantised 'Q4_K_M', 'F16', not 'Q8'"),
        "quantisation also 'F16'",
    ),
    (
        host(),
        {"quantisation": ["F16"], "required_models": ["large", "small"]},
        ("quantisation", "quantised 'Q4_K_M', not 'F16'"),
        "quantisation also 'Q4_K_M'",
    ),
    (host(MODELS[2]), {"quantisation": ["F16"]}, ("quantisation", "says no quantisation"), "any quantisation"),
    # context
    (host(), {"min_context_tokens": 8192}, None, None),
    (
        host(),
        {"min_context_tokens": 8193},
        ("context", "context 8192 < 8193 tokens"),
        "min_context_tokens 8193 -> 8192",
    ),
    (
        host(),
        {"min_context_tokens": 2049, "required_models": ["large", "small"]},
        ("context", "context 2048 < 2049 tokens"),
        "min_context_tokens 2049 -> 2048",
    ),
    (host(), {"min_context_tokens": 2048, "required_models": ["large", "small"]}, None, None),
    (host(MODELS[2]), {"min_context_tokens": 0}, ("context", "says no context length"), "no min_context_tokens"),
    (
        host(),
        {"min_context_tokens": 1, "required_models": ["large", "mute"]},
        ("context", "says no context length"),
        "no min_context_tokens",
    ),
    # hardware
    (host(hardware=GPUS), {"min_vram_mib": 20_000}, None, None),
    (
        host(hardware=GPUS),
        {"min_vram_mib": 20_001},
        ("hardware", "GPU memory 20000 < 20001 MiB"),
        "min_vram_mib 20001 -> 20000",
    ),
    (host(), {"min_vram_mib": 0}, ("hardware", "says no GPU memory"), "no min_vram_mib"),
    (host(hardware=Hardware()), {"min_vram_mib": 0}, None, None),
    (
        host(hardware=Hardware(gpus=[Gpu(model="a")])),
        {"min_vram_mib": 0},
        ("hardware", "says no GPU memory"),
        "no min_vram_mib",
    ),
    (host(hardware=Hardware(gpus=[Gpu(model="a"), Gpu(model="b", memory_mib=5)])), {"min_vram_mib": 5}, None, None),
    # location
    (host(), {"location": "US"}, None, None),
    (host(), {"location": "DE"}, ("location", "claims US/nevada, not DE"), "no location"),
    (host(), {"location": "US/texas"}, ("location", "claims US/nevada, not US/texas"), "location US/texas -> US"),
    (host(location=None), {"location": "US"}, ("location", "says no location"), "no location"),
    (host(refuted="2 ms away"), {"location": "US/nevada"}, ("location", "2 ms away"), "no location"),
    (host(refuted="2 ms away"), {}, None, None),
    # uptime
    (host(claimed_s=3600), {"min_uptime_s": 3600}, None, None),
    (host(claimed_s=10, observed_s=3600), {"min_uptime_s": 3600}, None, None),
    (host(claimed_s=None, observed_s=3600), {"min_uptime_s": 3600}, None, None),
    (host(claimed_s=None), {"min_uptime_s": 0}, ("uptime", "says no start time"), "no min_uptime_s"),
    (
        host(observed_s=59.9),
        {"min_uptime_s": 60, "strict_uptime": True},
        ("uptime", "up 59 s < 60 s"),
        "min_uptime_s 60 -> 59",
    ),
    (
        host(observed_s=1),
        {"min_uptime_s": 7200, "strict_uptime": True},
        ("uptime", "up 1 s < 7200 s"),
        "min_uptime_s 7200 -> 1",
    ),
    (host(), {"min_uptime_s": 60, "strict_uptime": True}, ("uptime", "not observed"), "without strict_uptime"),
    (host(claimed_s=5), {"min_uptime_s": 60, "strict_uptime": True}, ("uptime", "not observed"), "no min_uptime_s"),
    # protocols
    (host(), {"protocols": ["/hostmesh/job/1.1.0", "/chat"]}, None, None),
    (
        host(),
        {"protocols": ["/hostmesh/job/1.3.0", "/chat", "/x"]},
        ("protocols", "serves no '/hostmesh/job/1.3.0', '/x'"),
        "protocols without '/hostmesh/job/1.3.0', '/x'",
    ),
    # slots
    (host(free_slots=2), {"min_free_slots": 2}, None, None),
    (host(free_slots=1), {"min_free_slots": 2}, ("slots", "free slots 1 < 2"), "min_free_slots 2 -> 1"),
    (host(free_slots=0), {"min_free_slots": 0}, None, None),
    (host(), {"min_free_slots": 0}, ("slots", "says no free slots"), "accept_unmeasured"),
    (host(), {"min_free_slots": 0, "accept_unmeasured": True}, None, None),
    (
        host(free_slots=1),
        {"min_free_slots": 2, "accept_unmeasured": True},
        ("slots", "free slots 1 < 2"),
        "min_free_slots 2 -> 1",
    ),
    # path
    (host(), {"path": Path.DIRECT}, None, None),
    (host(path=Path.RELAYED), {"path": Path.DIRECT}, ("path", "the path is relayed"), "any path"),
    (host(path=Path.RELAYED), {}, None, None),
    (host(path=None), {"path": Path.DIRECT}, ("path", "path not known"), "accept_unmeasured"),
    (host(latency_ms=None), {"path": Path.DIRECT}, ("path", "path not known"), "accept_unmeasured"),
    (host(latency_ms=None), {"path": Path.DIRECT, "accept_unmeasured": True}, None, None),
    # ready
    (host(ready=["large"]), {}, None, None),
    (host(ready=["large"]), {"any_models": ["small", "mute"]}, ("ready", "'small', 'mute' is not loaded"), None),
    (host(ready=[]), {"required_models": ["large"]}, ("ready", "'large' is not loaded"), None),
    (host(ready=["large"]), {"required_models": ["large"]}, None, None),
    # standing
    (host(standing=Standing(barred="blacklisted: bills twice")), {}, ("listed", "blacklisted: bills twice"), None),
    (host(standing=Standing(priority=9)), {}, None, None),
]


@pytest.mark.parametrize(("view", "criteria", "expected", "relaxation"), CASES)
def test_each_criterion(
    view: HostView, criteria: dict[str, Any], expected: tuple[str, str] | None, relaxation: str | None
) -> None:
    assert said(view, **criteria) == expected
    matched, funnel = sift([view], HostCriteria(**criteria))
    assert matched == ([] if expected else [view])
    assert funnel.rejected == ({expected[0]: 1} if expected else {})
    assert (None if funnel.relaxation is None else funnel.relaxation.text) == relaxation
    if funnel.relaxation is not None:
        assert sift([view], funnel.relaxation.criteria)[0] == [view]


def test_every_criterion_has_a_case() -> None:
    asked = {expected[0] for _, _, expected, _ in CASES if expected is not None}
    elsewhere = {"state", "price", "capabilities", "reputation", "asked", "reachable", "throttled", "latency"}
    assert asked | elsewhere == set(CRITERIA)


def test_of_the_models_one_must_meet_everything() -> None:
    """The cheap one is of the wrong kind, the right one too dear, the third too short."""
    models = (
        ModelOffer(model_id="a", kind=ModelKind.EMBEDDING, price=usd(1), context_tokens=9000),
        ModelOffer(model_id="b", kind=ModelKind.CHAT, price=usd(900), context_tokens=9000),
        ModelOffer(model_id="c", kind=ModelKind.CHAT, price=usd(10), context_tokens=100),
    )
    criteria = {"kind": ModelKind.CHAT, "max_price": usd(100), "min_context_tokens": 4096}
    assert said(host(*models), **criteria) == ("context", "context 100 < 4096 tokens")
    assert said(host(*models[:2]), **criteria) == ("price", "price 900 > 100 micro-USD/Mtok")
    fits = ModelOffer(model_id="d", kind=ModelKind.CHAT, price=usd(50), context_tokens=4096)
    view = host(*models, fits)
    assert said(view, **criteria) is None
    assert chosen_offer(view, HostCriteria(**criteria)) == fits


def test_the_chosen_model_is_one_that_is_loaded() -> None:
    models = (ModelOffer(model_id="cheap", price=usd(1)), ModelOffer(model_id="dear", price=usd(9)))
    assert said(host(*models, ready=["dear"])) is None
    chosen = chosen_offer(host(*models, ready=["dear"]), HostCriteria())
    assert chosen is not None
    assert chosen.model_id == "dear"
    before = chosen_offer(host(*models, is_probed=False), HostCriteria())
    assert before is not None
    assert before.model_id == "cheap"


def test_any_models_narrow_the_choice() -> None:
    models = tuple(ModelOffer(model_id=name, price=usd(price)) for name, price in (("a", 1), ("b", 5), ("c", 3)))
    chosen = chosen_offer(host(*models), HostCriteria(any_models=["b", "c"]))
    assert chosen is not None
    assert chosen.model_id == "c"


def test_a_full_list_of_quantisations_is_not_added_to() -> None:
    criteria = HostCriteria(quantisation=[f"q{index}" for index in range(MAX_NAMES)])
    found = smallest_relaxation([host(MODELS[0])], criteria)
    assert found is not None
    assert found.text == "any quantisation"
    roomy = smallest_relaxation([host(MODELS[0])], replace(criteria, quantisation=criteria.quantisation[1:]))
    assert roomy is not None
    assert roomy.text == "quantisation also 'Q4_K_M'"


def test_a_standing_beats_being_named_and_exclusion_beats_all() -> None:
    barred = host(standing=Standing(barred="resting"))
    name = str(barred.info.peer_id)
    assert said(barred, include=[name], preferred=[name]) == ("listed", "resting")
    assert said(barred, include=[name], exclude=[name]) == ("listed", "excluded by name")
    assert said(host(), include=["12D3KooWsomebodyelse"]) == ("listed", "not among the hosts named")


@pytest.mark.parametrize(
    ("failed", "passed", "text"),
    [
        ({"min_reputation": 101}, {}, "min_reputation 101 -> 100"),
        ({"max_latency_ms": 0}, {}, "max_latency_ms 0 -> 20"),
    ],
)
def test_limits_change_to_what_the_host_has(failed: dict[str, Any], passed: dict[str, Any], text: str) -> None:
    found = smallest_relaxation([host()], HostCriteria(**failed, **passed))
    assert found is not None
    assert found.text == text


def test_of_equal_changes_that_of_the_later_criterion_is_told() -> None:
    wordless = host(MODELS[0], location="US/nevada", protocols=())
    unkind = host(MODELS[2], location="US/texas", protocols=("/x",))
    criteria = HostCriteria(kind=ModelKind.CHAT, protocols=["/x"])
    found = smallest_relaxation([unkind, wordless], criteria)
    assert found is not None
    assert found.text == "protocols without '/x'"


def test_half_a_limit_is_a_smaller_change_than_a_word() -> None:
    near, other = host(claimed_s=30), host(MODELS[2], claimed_s=60)
    criteria = HostCriteria(min_uptime_s=60, kind=ModelKind.CHAT)
    found = smallest_relaxation([other, near], criteria)
    assert found is not None
    assert found.text == "min_uptime_s 60 -> 30"


def test_the_nearest_price_in_the_wanted_currency_is_told() -> None:
    eur = ModelOffer(model_id="e", price=Price(micros_per_mtok=200, currency="EUR"))
    dollars = [ModelOffer(model_id=str(amount), price=usd(amount)) for amount in (900, 500)]
    detail = ("price", "price 500 > 100 micro-USD/Mtok")
    assert said(host(eur, *dollars), max_price=usd(100)) == detail
    assert said(host(*reversed(dollars), eur), max_price=usd(100)) == detail
    assert said(host(eur), max_price=usd(100)) == ("price", "priced in EUR, not USD")


def test_hosts_that_fail_twice_do_not_hide_those_that_fail_once() -> None:
    twice, dear, near = host(MODELS[2], claimed_s=1), host(claimed_s=1), host(claimed_s=50)
    criteria = HostCriteria(min_uptime_s=60, kind=ModelKind.CHAT)
    for views in ([twice, dear, near], [near, dear, twice]):
        found = smallest_relaxation(views, criteria)
        assert found is not None
        assert found.text == "min_uptime_s 60 -> 50"


def test_a_host_without_the_model_fails_for_that_alone() -> None:
    """What else is asked of the model is not held against those that it has instead, nor is it not asked at all."""
    short = ModelOffer(model_id="short", kind=ModelKind.CHAT, price=usd(900), context_tokens=10)
    assert said(host(short), required_models=["x"], max_price=usd(1)) == ("model", "serves no 'x'")
    assert said(host(short), any_models=["x"], kind=ModelKind.CHAT) == ("model", "serves none of 'x'")
    both = failing(host(short), HostCriteria(any_models=["x"], min_context_tokens=11))
    assert [criterion for criterion, _ in both] == ["model", "context"]


def test_prices_in_two_currencies_are_not_compared() -> None:
    offers = [ModelOffer(model_id="e", price=Price(micros_per_mtok=2, currency="EUR")), *TWO_PRICED]
    assert price_in_question(host(*offers), HostCriteria(required_models=["e", "d5"])) is None
    assert price_in_question(host(*offers), HostCriteria(required_models=["d5", "d9"])) == usd(9)
    assert price_in_question(host(*offers), HostCriteria()) == Price(micros_per_mtok=2, currency="EUR")


TWO_PRICED = [ModelOffer(model_id=f"d{amount}", price=usd(amount)) for amount in (5, 9)]


def test_a_host_that_offers_nothing_has_no_model_to_choose() -> None:
    """A tombstone, which no search gets that far with; the question is answered all the same."""
    gone = replace(host(), info=replace(host().info, models=()))
    for criteria in (HostCriteria(), HostCriteria(any_models=["m"]), HostCriteria(required_models=["m"])):
        assert chosen_offer(gone, criteria) is None
        assert price_in_question(gone, criteria) is None


def test_all_failures_are_told_unless_the_first_is_enough() -> None:
    criteria = HostCriteria(required_models=["x"], location="DE", min_uptime_s=9000)
    assert [name for name, _ in failing(host(), criteria)] == ["model", "location", "uptime"]
    assert [name for name, _ in failing(host(), criteria, first_only=True)] == ["model"]


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        (None, None),
        (ProbeResult(latency=None, readiness=None), None),
        (ProbeResult(latency=None, readiness=None, unasked="no time was left"), ("asked", "no time was left")),
        (ProbeResult(latency=None, readiness=None, unreachable="refused"), ("reachable", "refused")),
        (
            ProbeResult(latency=None, readiness=None, throttling=Throttling(reason="BUSY", retry_after_ms=40)),
            ("throttled", "allows this client no more calls now: BUSY; again in 40 ms"),
        ),
    ],
)
def test_what_came_of_a_probe_is_told(probe: ProbeResult | None, expected: tuple[str, str] | None) -> None:
    assert said(replace(host(), probe=probe)) == expected


def test_what_is_not_said_is_told_in_so_many_words() -> None:
    unpriced = host(ModelOffer(model_id="m"))
    assert said(unpriced, max_price=usd(1)) == ("price", "unpriced")
    assert said(host(latency_ms=None), max_latency_ms=10) == ("latency", "not measured")
