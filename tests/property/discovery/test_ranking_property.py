"""Ranking and the funnel on arbitrary hosts: the rules that no weights may break."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from discovery_world import EPOCH, FakeReputation, make_description, make_info
from hypothesis import assume, given
from hypothesis import strategies as st

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import Gpu, Hardware, HostState
from hostmesh.discovery.funnel import sift
from hostmesh.discovery.measurement import Measurement, Origin, Path
from hostmesh.discovery.offers import OFFER_TESTS, chosen_offer
from hostmesh.discovery.ranking import (
    AUTO,
    CHEAPEST,
    FASTEST,
    RELIABLE,
    Strategy,
    WeightedStrategy,
    Weights,
    precedence,
    promise,
    rank,
)
from hostmesh.discovery.record import HostInfo
from hostmesh.discovery.terms import ModelKind, Price
from hostmesh.discovery.view import HostView, ProbeResult, Readiness, Standing

ANCHOR = 1_000_000


@cache
def base(name: str) -> HostInfo:
    return make_info(name)


def latency_of(value: float | None, path: Path | None = None) -> Measurement | None:
    if value is None:
        return None
    return Measurement(value=value, unit="ms", at_unix_s=EPOCH, samples=3, origin=Origin.MEASURED, path=path)


def uptime_of(value: int | None) -> Measurement | None:
    if value is None:
        return None
    return Measurement(value=value, unit="s", at_unix_s=EPOCH, samples=2, origin=Origin.MEASURED)


def claimed_of(value: int | None) -> Measurement | None:
    observed = uptime_of(value)
    return None if observed is None else replace(observed, origin=Origin.CLAIMED)


@st.composite
def views(draw: st.DrawFn, name: str = "host") -> HostView:
    price = draw(st.none() | st.integers(0, 10**8))
    description = make_description(
        *draw(st.sampled_from([("m",), ("m", "n"), ("n",)])),
        price=price,
        currency=draw(st.sampled_from(["USD", "USD", "EUR"])),
        kind=draw(st.sampled_from(ModelKind)),
        location=draw(st.sampled_from([None, "US", "US/nevada", "DE"])),
        capabilities=draw(st.sampled_from([(), ("gpu",), ("gpu", "tools")])),
    )
    offers = tuple(
        replace(
            offer,
            quantisation=draw(st.sampled_from([None, "Q4", "F16"])),
            context_tokens=draw(st.none() | st.integers(1, 10_000)),
        )
        for offer in description.models
    )
    gpus = st.lists(
        st.builds(Gpu, model=st.just("g"), memory_mib=st.none() | st.integers(1, 100), count=st.none() | st.just(2)),
        max_size=2,
    )
    info = replace(
        base(name),
        models=offers,
        place=description.place,
        capabilities=description.capabilities,
        hardware=draw(st.none() | st.builds(Hardware, gpus=gpus)),
        protocols=draw(st.sampled_from([(), ("/job/1.0.0",), ("/job/1.2.0", "/chat")])),
    )
    readiness = draw(
        st.none()
        | st.builds(
            Readiness,
            state=st.sampled_from([HostState.AVAILABLE, HostState.AVAILABLE, HostState.DRAINING]),
            ready_models=st.sampled_from([frozenset({"m", "n"}), frozenset({"n"})]),
            free_slots=st.none() | st.integers(0, 4),
        )
    )
    probe = draw(
        st.none()
        | st.builds(
            ProbeResult,
            latency=st.builds(
                latency_of, st.none() | st.floats(0, 5000), st.sampled_from([None, Path.DIRECT, Path.RELAYED])
            ),
            readiness=st.just(readiness),
            unreachable=st.sampled_from(["", "", "", "gone"]),
            refuted=st.sampled_from(["", "", "too near"]),
        )
    )
    return HostView(
        info=info,
        uptime=draw((st.none() | st.integers(0, 10**7)).map(uptime_of)),
        reputation=FakeReputation(points=draw(st.integers(0, 1000))),
        claimed_uptime=draw((st.none() | st.integers(0, 10**7)).map(claimed_of)),
        standing=draw(st.builds(Standing, barred=st.sampled_from(["", "", "", "out"]), priority=st.integers(-1, 1))),
        probe=probe,
        sources=(),
    )


def peer_name(info: HostInfo) -> str:
    return str(info.peer_id)


def wallet_name(info: HostInfo) -> str:
    return info.operator_address


crowds = st.integers(0, 6).flatmap(lambda count: st.tuples(*(views(f"host{index}") for index in range(count))))
weights = (
    st.lists(st.integers(0, 1000), min_size=3, max_size=3)
    .map(sorted)
    .map(
        lambda cuts: Weights(
            reputation=cuts[0], price=cuts[1] - cuts[0], uptime=cuts[2] - cuts[1], latency=1000 - cuts[2]
        )
    )
)
strategies = st.sampled_from([AUTO, CHEAPEST, FASTEST, RELIABLE]) | st.builds(WeightedStrategy, weights=weights)
seeds = st.binary(max_size=4)
names = st.lists(
    st.sampled_from([f(base(f"host{index}")) for index in range(6) for f in (peer_name, wallet_name)]),
    max_size=3,
    unique=True,
)


def build_criteria(models: tuple[tuple[str, ...], tuple[str, ...]], **others: Any) -> HostCriteria:
    return HostCriteria(required_models=models[0], any_models=models[1], **others)


criteria_sets = st.builds(
    build_criteria,
    models=st.sampled_from([((), ()), (("m",), ()), (("m", "n"), ()), ((), ("m", "x")), ((), ("n",))]),
    quantisation=st.sampled_from([(), (), ("q4",), ("Q8", "F16")]),
    min_context_tokens=st.none() | st.integers(0, 10_000),
    min_vram_mib=st.none() | st.integers(0, 300),
    strict_uptime=st.booleans(),
    protocols=st.sampled_from([(), (), ("/job/1.0.0",), ("/job/1.1.0", "/chat")]),
    min_free_slots=st.none() | st.integers(0, 4),
    path=st.sampled_from([None, Path.DIRECT]),
    preferred=names,
    kind=st.none() | st.sampled_from(ModelKind),
    max_price=st.none() | st.builds(Price, micros_per_mtok=st.integers(0, 10**8), currency=st.just("USD")),
    location=st.sampled_from([None, "US", "US/california"]),
    min_uptime_s=st.none() | st.integers(0, 10**6),
    capabilities=st.sampled_from([(), ("gpu",), ("gpu", "tools")]),
    min_reputation=st.none() | st.integers(0, 1000),
    max_latency_ms=st.none() | st.floats(0, 5000),
    accept_unmeasured=st.booleans(),
)


def order(crowd: tuple[HostView, ...], strategy: Strategy, seed: bytes, criteria: HostCriteria) -> list[str]:
    return [entry[0].info.peer_id for entry in rank(crowd, criteria, strategy, seed=seed)]


def improved(view: HostView, kind: str, data: st.DataObject) -> HostView:
    """Return the host with one number better."""
    if kind == "reputation":
        return replace(view, reputation=FakeReputation(points=data.draw(st.integers(view.reputation.points, 1000))))
    if kind == "uptime":
        least = 0 if view.uptime is None else int(view.uptime.value)
        return replace(view, uptime=uptime_of(data.draw(st.integers(least, 10**8))))
    if kind == "price":
        offers = [
            replace(
                offer,
                price=Price(
                    micros_per_mtok=data.draw(st.integers(0, offer.price.micros_per_mtok if offer.price else 10**8)),
                    currency="USD" if offer.price is None else offer.price.currency,
                ),
            )
            for offer in view.info.models
        ]
        return replace(view, info=replace(view.info, models=tuple(offers)))
    probe = view.probe or ProbeResult(latency=None, readiness=None)
    most = 5000.0 if probe.latency is None else probe.latency.value
    return replace(view, probe=replace(probe, latency=latency_of(data.draw(st.floats(0, most)))))


@given(
    crowd=crowds,
    strategy=strategies,
    seed=seeds,
    kind=st.sampled_from(["reputation", "price", "uptime", "latency"]),
    data=st.data(),
)
def test_a_better_number_never_lowers_a_rank(
    crowd: tuple[HostView, ...], strategy: Strategy, seed: bytes, kind: str, data: st.DataObject
) -> None:
    assume(crowd)
    index = data.draw(st.integers(0, len(crowd) - 1))
    better = improved(crowd[index], kind, data)
    peer_id = better.info.peer_id
    before = order(crowd, strategy, seed, HostCriteria()).index(peer_id)
    after = order((*crowd[:index], better, *crowd[index + 1 :]), strategy, seed, HostCriteria()).index(peer_id)
    assert after <= before


@given(crowd=crowds, strategy=strategies, seed=seeds, criteria=criteria_sets, data=st.data())
def test_removing_a_loser_keeps_the_order(
    crowd: tuple[HostView, ...], strategy: Strategy, seed: bytes, criteria: HostCriteria, data: st.DataObject
) -> None:
    assume(len(crowd) > 1)
    whole = order(crowd, strategy, seed, criteria)
    index = data.draw(st.integers(0, len(crowd) - 1))
    gone = crowd[index].info.peer_id
    rest = order((*crowd[:index], *crowd[index + 1 :]), strategy, seed, criteria)
    assert rest == [peer_id for peer_id in whole if peer_id != gone]


@given(crowd=crowds, strategy=strategies, seed=seeds, factor=st.integers(1, 10**6))
def test_scaling_every_price_with_the_anchor_keeps_the_order(
    crowd: tuple[HostView, ...], strategy: Strategy, seed: bytes, factor: int
) -> None:
    def scaled(view: HostView) -> HostView:
        offers = tuple(
            replace(
                offer,
                price=offer.price and replace(offer.price, micros_per_mtok=offer.price.micros_per_mtok * factor),
            )
            for offer in view.info.models
        )
        return replace(view, info=replace(view.info, models=offers))

    small = HostCriteria(max_price=Price(micros_per_mtok=ANCHOR, currency="USD"))
    large = HostCriteria(max_price=Price(micros_per_mtok=ANCHOR * factor, currency="USD"))
    assert order(crowd, strategy, seed, small) == order(tuple(scaled(view) for view in crowd), strategy, seed, large)


@given(crowd=crowds, strategy=strategies, seed=seeds, criteria=criteria_sets, data=st.data())
def test_the_order_of_arrival_does_not_matter(
    crowd: tuple[HostView, ...], strategy: Strategy, seed: bytes, criteria: HostCriteria, data: st.DataObject
) -> None:
    shuffled = tuple(data.draw(st.permutations(crowd)))
    assert order(crowd, strategy, seed, criteria) == order(shuffled, strategy, seed, criteria)


@given(view=views(), strategy=strategies, criteria=criteria_sets)
def test_scores_stay_on_their_scale_and_under_the_bound(
    view: HostView, strategy: Strategy, criteria: HostCriteria
) -> None:
    points = strategy.score(view, criteria)
    assert [part.name for part in points.parts] == ["reputation", "price", "uptime", "latency"]
    for part in points.parts:
        assert isinstance(part.points, int)
        assert 0 <= part.points <= 1_000_000
    assert 0 <= points.total <= strategy.best_possible(view, criteria) <= 1_000_000_000


@given(crowd=crowds, criteria=criteria_sets)
def test_the_counts_add_up(crowd: tuple[HostView, ...], criteria: HostCriteria) -> None:
    matched, funnel = sift(crowd, criteria)
    assert sum(funnel.rejected.values()) + len(matched) == funnel.seen == len(crowd)
    assert len(funnel.rejections) == sum(funnel.rejected.values())
    assert {each.peer_id for each in funnel.rejections}.isdisjoint(view.info.peer_id for view in matched)


@given(crowd=crowds, criteria=criteria_sets)
def test_the_relaxation_lets_somebody_through(crowd: tuple[HostView, ...], criteria: HostCriteria) -> None:
    matched, funnel = sift(crowd, criteria)
    if matched:
        assert funnel.relaxation is None
    elif funnel.relaxation is not None:
        assert sift(crowd, funnel.relaxation.criteria)[0]


@given(crowd=crowds, criteria=criteria_sets, data=st.data())
def test_asking_less_never_loses_a_host(
    crowd: tuple[HostView, ...], criteria: HostCriteria, data: st.DataObject
) -> None:
    # The kind and the models say of which offers the rest is asked: without them it may be asked of others.
    dropped = data.draw(
        st.sampled_from(
            [
                "max_price",
                "quantisation",
                "min_context_tokens",
                "min_vram_mib",
                "location",
                "min_uptime_s",
                "strict_uptime",
                "capabilities",
                "protocols",
                "min_reputation",
                "min_free_slots",
                "path",
                "max_latency_ms",
                "preferred",
            ]
        )
    )
    easier = replace(criteria, **{dropped: getattr(HostCriteria(), dropped)})
    before = {view.info.peer_id for view in sift(crowd, criteria)[0]}
    after = {view.info.peer_id for view in sift(crowd, easier)[0]}
    assert before <= after


@given(crowd=crowds, criteria=criteria_sets)
def test_accepting_the_unmeasured_never_loses_a_host(crowd: tuple[HostView, ...], criteria: HostCriteria) -> None:
    strict, lax = replace(criteria, accept_unmeasured=False), replace(criteria, accept_unmeasured=True)
    before = {view.info.peer_id for view in sift(crowd, strict)[0]}
    assert before <= {view.info.peer_id for view in sift(crowd, lax)[0]}


@given(crowd=crowds, criteria=criteria_sets)
def test_the_chosen_model_meets_every_criterion_of_a_model(crowd: tuple[HostView, ...], criteria: HostCriteria) -> None:
    for view in sift(crowd, criteria)[0]:
        offer = chosen_offer(view, criteria)
        assert offer is not None
        assert all(test(offer, criteria) for test in OFFER_TESTS.values())
        assert not criteria.any_models or offer.model_id in criteria.any_models
        assert view.readiness is None or offer.model_id in view.readiness.ready_models


@given(crowd=crowds, strategy=strategies, seed=seeds, criteria=criteria_sets, data=st.data())
def test_a_host_that_becomes_preferred_never_falls(
    crowd: tuple[HostView, ...], strategy: Strategy, seed: bytes, criteria: HostCriteria, data: st.DataObject
) -> None:
    assume(crowd)
    name = data.draw(st.sampled_from([view.info.peer_id for view in crowd]))
    liked = replace(criteria, preferred=(str(name), *(each for each in criteria.preferred if each != str(name))))
    before = order(crowd, strategy, seed, criteria).index(name)
    assert order(crowd, strategy, seed, liked).index(name) <= before
    # Before all but those of whom nothing was refuted, where something was of it.
    is_liar = next(view for view in crowd if view.info.peer_id == name).refuted
    honest = sum(not view.refuted for view in crowd)
    assert order(crowd, strategy, seed, liked).index(name) == (honest if is_liar else 0)


@given(crowd=crowds, strategy=strategies, seed=seeds, criteria=criteria_sets)
def test_who_was_caught_in_a_lie_is_behind_everybody_else(
    crowd: tuple[HostView, ...], strategy: Strategy, seed: bytes, criteria: HostCriteria
) -> None:
    liars = {view.info.peer_id for view in crowd if view.refuted}
    ranked = order(crowd, strategy, seed, criteria)
    assert [name in liars for name in ranked] == sorted(name in liars for name in ranked)


@given(crowd=crowds, strategy=strategies, seed=seeds, criteria=criteria_sets, data=st.data())
def test_what_a_host_claims_of_its_uptime_moves_nobody(
    crowd: tuple[HostView, ...], strategy: Strategy, seed: bytes, criteria: HostCriteria, data: st.DataObject
) -> None:
    claims = data.draw(st.lists(st.none() | st.integers(0, 10**9), min_size=len(crowd), max_size=len(crowd)))
    boasting = tuple(replace(view, claimed_uptime=claimed_of(claim)) for view, claim in zip(crowd, claims, strict=True))
    assert order(crowd, strategy, seed, criteria) == order(boasting, strategy, seed, criteria)


@given(view=views(), strategy=strategies, criteria=criteria_sets, probe=views())
def test_a_promise_holds_whatever_the_probe_says(
    view: HostView, strategy: Strategy, criteria: HostCriteria, probe: HostView
) -> None:
    """A search drops a host for its promise before it is probed."""
    before = replace(view, probe=None)
    after = replace(view, probe=probe.probe)
    assert precedence(after, criteria, strategy) <= promise(before, criteria, strategy)
