"""The ranker: what the weights and anchors make of given numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from discovery_world import EPOCH, FakeReputation, make_description, make_info, make_key

from hostmesh.discovery.choice import choice_of
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import HostState
from hostmesh.discovery.measurement import Measurement, Origin, Path
from hostmesh.discovery.ranking import (
    AUTO,
    CHEAPEST,
    FASTEST,
    RELIABLE,
    SCALE,
    SPECIFIC,
    Anchors,
    Score,
    ScorePart,
    Strategy,
    WeightedStrategy,
    Weights,
    group_of,
    precedence,
    preference,
    promise,
    rank,
)
from hostmesh.discovery.terms import Price
from hostmesh.discovery.view import HostView, ProbeResult, Readiness, Standing
from hostmesh.errors import ConfigError

ANY = HostCriteria()


def view(
    name: str = "host",
    *,
    price: int | None = 100,
    points: int = 100,
    uptime_s: float | None = 86_400,
    latency_ms: float | None = 100.0,
    free_slots: int | None = None,
) -> HostView:
    latency = uptime = readiness = None
    if latency_ms is not None:
        latency = Measurement(
            value=latency_ms, unit="ms", at_unix_s=EPOCH, samples=3, origin=Origin.MEASURED, path=Path.DIRECT
        )
    if uptime_s is not None:
        uptime = Measurement(value=uptime_s, unit="s", at_unix_s=EPOCH, samples=2, origin=Origin.MEASURED)
    if free_slots is not None:
        readiness = Readiness(state=HostState.AVAILABLE, ready_models=frozenset(["m"]), free_slots=free_slots)
    return HostView(
        info=make_info(name, make_description("m", price=price)),
        uptime=uptime,
        reputation=FakeReputation(points=points),
        probe=ProbeResult(latency=latency, readiness=readiness),
        sources=("dht",),
    )


def winner(*views: HostView, criteria: HostCriteria = ANY, seed: bytes = b"") -> HostView:
    return rank(views, criteria, seed=seed)[0][0]


def test_the_points_at_the_anchors() -> None:
    points = AUTO.score(
        view(price=200, points=1000, uptime_s=86_400, latency_ms=100),
        HostCriteria(max_price=Price(micros_per_mtok=200, currency="USD")),
    )
    assert {part.name: part.points for part in points.parts} == {
        "reputation": SCALE,
        "price": SCALE // 2,
        "uptime": SCALE // 2,
        "latency": SCALE // 2,
    }
    # 350 of reputation, half of 300, 200 and 150.
    assert points.total == 350 * SCALE + (300 + 200 + 150) * SCALE // 2


def test_a_free_host_is_best_on_price_and_an_unpriced_one_worst() -> None:
    """D5."""
    free, paid, unpriced = view("a", price=0), view("b", price=1), view("c", price=None)
    ranked = [entry[0] for entry in rank([unpriced, paid, free], ANY, seed=b"")]
    assert ranked == [free, paid, unpriced]
    only_free = HostCriteria(max_price=Price(micros_per_mtok=0, currency="USD"))
    assert AUTO.score(free, only_free).points("price") == SCALE


def test_a_slower_host_does_not_win_by_being_slow() -> None:
    """D13: cost divided by time is no score."""
    assert winner(view("slow", latency_ms=900), view("fast", latency_ms=9)).info.peer_id == make_key("fast").peer_id


def test_a_host_that_became_slow_drops() -> None:
    """D4."""
    first, second = view("first", latency_ms=10), view("second", latency_ms=20)
    assert winner(first, second) is first
    assert winner(replace(first, probe=view(latency_ms=400).probe), second) is second


def test_zero_latency_is_the_best_latency() -> None:
    assert winner(view("a", latency_ms=0.0), view("b", latency_ms=0.01)).latency is not None
    assert AUTO.score(view(latency_ms=0.0), ANY).points("latency") == SCALE


def test_an_unmeasured_host_ranks_after_every_measured_one() -> None:
    perfect = view("a", price=0, points=1000, uptime_s=1e9, latency_ms=None)
    poor = view("b", price=None, points=0, uptime_s=None, latency_ms=60_000)
    assert winner(perfect, poor) is poor


def test_ties_go_to_free_slots_then_to_the_seed() -> None:
    busy, idle = view("a", free_slots=0), view("b", free_slots=3)
    assert winner(busy, idle) is idle
    one, other = view("a"), view("b")
    winners = {winner(one, other, seed=bytes([i])).info.peer_id for i in range(32)}
    assert len(winners) == 2, "different clients choose differently"
    assert winner(one, other, seed=b"x") is winner(other, one, seed=b"x")


def test_the_best_possible_is_a_bound() -> None:
    host = view(latency_ms=300)
    assert AUTO.score(host, ANY).total <= AUTO.best_possible(host, ANY)
    assert AUTO.score(view(latency_ms=0.0), ANY).total == AUTO.best_possible(host, ANY)


@pytest.mark.parametrize("weights", [(1, 2, 3, 4), (1001, -1, 0, 0)])
def test_weights_are_per_mille(weights: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match="1000"):
        Weights(reputation=weights[0], price=weights[1], uptime=weights[2], latency=weights[3])


def test_a_choice_carries_every_number_with_its_origin() -> None:
    host = view(latency_ms=38.2, free_slots=2)
    points = AUTO.score(host, ANY)
    choice = choice_of(host, points, ANY).to_dict()
    assert choice["peer_id"] == make_key("host").peer_id
    assert choice["model"] == "m"
    assert choice["latency_ms"] == 38.2
    assert choice["latency"] == {
        "value": 38.2,
        "unit": "ms",
        "at_unix_s": EPOCH,
        "samples": 3,
        "origin": "measured",
        "spread": None,
        "path": "direct",
    }
    assert choice["reputation"] == {"points": 100, "n": 0}
    assert choice["price"] == {"price_micros_per_mtok": 100, "currency": "USD"}
    assert choice["sources"] == ["dht"]
    assert choice["free_slots"] == 2
    assert choice["score"] == {
        "reputation": 100_000,
        "price": SCALE * 1_000_000 // 1_000_100,
        "uptime": SCALE // 2,
        "latency": SCALE * 100_000 // 138_200,
        "total": points.total,
        "parts": [{"name": part.name, "points": part.points, "weight": part.weight} for part in points.parts],
    }
    assert choice["origins"] == {
        "model": "claimed",
        "models": "claimed",
        "price": "claimed",
        "latency_ms": "measured",
        "uptime_s": "measured",
        "reputation": "outcomes",
        "capabilities": "claimed",
        "protocols": "claimed",
        "free_slots": "claimed",
        "max_concurrent_jobs": "claimed",
    }
    assert set(choice["origins"]) <= set(choice)


def test_a_choice_keeps_claims_and_measurements_apart() -> None:
    claimed = Measurement(value=9000.5, unit="s", at_unix_s=EPOCH, samples=1, origin=Origin.CLAIMED)
    host = replace(view(uptime_s=12.7), claimed_uptime=claimed)
    assert host.probe is not None
    host = replace(host, probe=replace(host.probe, refuted="3 ms away", address="/ip4/192.0.2.1/tcp/9"))
    choice = choice_of(host, AUTO.score(host, ANY), ANY)
    told = choice.to_dict()
    assert (told["uptime_s"], told["claimed_uptime_s"]) == (12, 9000)
    assert told["claimed_uptime"] == claimed.to_dict()
    assert (told["location_refuted"], told["address"]) == ("3 ms away", "/ip4/192.0.2.1/tcp/9")
    assert choice.origins["claimed_uptime_s"] is Origin.CLAIMED
    assert choice.origins["address"] is Origin.MEASURED
    assert told["max_concurrent_jobs"] == 2


# --- strategies ---


@pytest.mark.parametrize(
    ("strategy", "weights"),
    [
        (AUTO, (350, 300, 200, 150)),
        (CHEAPEST, (150, 700, 100, 50)),
        (RELIABLE, (500, 50, 400, 50)),
        (FASTEST, (100, 200, 100, 600)),
    ],
)
def test_the_shipped_weights(strategy: WeightedStrategy, weights: tuple[int, ...]) -> None:
    parts = strategy.score(view(), ANY).parts
    assert [(part.name, part.weight) for part in parts] == list(
        zip(("reputation", "price", "uptime", "latency"), weights, strict=True)
    )


def test_each_strategy_has_its_winner() -> None:
    hosts = {
        CHEAPEST: view("cheap", price=0, points=100, uptime_s=None, latency_ms=300),
        FASTEST: view("fast", price=900_000, points=100, uptime_s=None, latency_ms=1),
        RELIABLE: view("proven", price=900_000, points=950, uptime_s=10**7, latency_ms=300),
    }
    for strategy, wanted in hosts.items():
        assert rank(list(hosts.values()), ANY, strategy, seed=b"")[0][0] is wanted


def test_what_a_host_claims_of_its_uptime_earns_nothing() -> None:
    claim = Measurement(value=1e9, unit="s", at_unix_s=EPOCH, samples=1, origin=Origin.CLAIMED)
    liar = replace(view(uptime_s=None), claimed_uptime=claim)
    assert AUTO.score(liar, ANY) == AUTO.score(view(uptime_s=None), ANY)
    assert AUTO.score(replace(liar, uptime=claim), ANY) == AUTO.score(liar, ANY)
    assert AUTO.score(view(uptime_s=1), ANY).points("uptime") == SCALE // 86_401


@pytest.mark.parametrize(
    ("number", "value", "points"),
    [
        ("price", 0, SCALE),
        ("price", 1, SCALE * 1_000_000 // 1_000_001),
        ("price", 1_000_000, SCALE // 2),
        ("price", None, 0),
        ("latency_ms", 0.0, SCALE),
        ("latency_ms", -1.0, SCALE),
        ("latency_ms", 0.0014, SCALE * 100_000 // 100_001),
        ("latency_ms", 100.0, SCALE // 2),
        ("latency_ms", None, 0),
        ("uptime_s", 0, 0),
        ("uptime_s", -5, 0),
        ("uptime_s", 86_400, SCALE // 2),
        ("uptime_s", 86_400.9, SCALE // 2),
        ("uptime_s", None, 0),
        ("points", 0, 0),
        ("points", -1, 0),
        ("points", 1, 1000),
        ("points", 1000, SCALE),
        ("points", 1001, SCALE),
    ],
)
def test_points_of_each_number(number: str, value: float | None, points: int) -> None:
    names = {"price": "price", "latency_ms": "latency", "uptime_s": "uptime", "points": "reputation"}
    assert AUTO.score(view(**{number: value}), ANY).points(names[number]) == points  # type: ignore[arg-type]


def test_anchors_can_be_moved() -> None:
    anchors = Anchors(price_micros_per_mtok=100, uptime_s=10, latency_us=1000)
    moved = WeightedStrategy(weights=AUTO.weights, anchors=anchors)
    score = moved.score(view(price=100, uptime_s=10, latency_ms=1), ANY)
    assert [score.points(name) for name in ("price", "uptime", "latency")] == [SCALE // 2] * 3
    limited = HostCriteria(max_price=Price(micros_per_mtok=300, currency="USD"))
    assert moved.score(view(price=100), limited).points("price") == SCALE * 3 // 4


@pytest.mark.parametrize("field", ["price_micros_per_mtok", "uptime_s", "latency_us"])
def test_an_anchor_is_positive(field: str) -> None:
    assert getattr(Anchors(**{field: 1}), field) == 1
    with pytest.raises(ConfigError) as caught:
        Anchors(**{field: 0})
    assert caught.value.name == "anchors"


def test_weights_may_be_all_on_one_number() -> None:
    assert Weights(reputation=0, price=1000, uptime=0, latency=0).price == 1000
    with pytest.raises(ConfigError) as caught:
        Weights(reputation=0, price=999, uptime=0, latency=0)
    assert caught.value.name == "weights"


@pytest.mark.parametrize(("points", "weight"), [(1.5, 1), (1, 0.5), (True, 1), (1, False)])
def test_a_scores_parts_are_integers(points: float, weight: float) -> None:
    with pytest.raises(ConfigError, match="'slots' is not of integers") as caught:
        ScorePart(name="slots", points=points, weight=weight)  # type: ignore[arg-type]
    assert caught.value.name == "strategy"


@pytest.mark.parametrize("names", [("a", "a"), ("total",), ("a", "parts")])
def test_a_scores_parts_have_names_of_their_own(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        Score(parts=tuple(ScorePart(name=name, points=1, weight=1) for name in names))
    assert caught.value.name == "strategy"


def test_a_score_is_the_sum_of_its_parts() -> None:
    score = Score(parts=(ScorePart(name="a", points=3, weight=10), ScorePart(name="b", points=-2, weight=4)))
    assert score.total == 22
    assert (score.points("a"), score.points("b")) == (3, -2)
    with pytest.raises(KeyError):
        score.points("c")
    assert Score(parts=()).total == 0


def test_the_specific_host_is_one_peer() -> None:
    peer_id = str(view().info.peer_id)
    assert SPECIFIC.host_named(HostCriteria(include=[peer_id])) == peer_id
    for wrong in ([], [peer_id, str(view("b").info.peer_id)], [view().info.operator_address]):
        with pytest.raises(ConfigError) as caught:
            SPECIFIC.host_named(HostCriteria(include=wrong))
        assert caught.value.name == "include"
        assert "one peer id" in caught.value.remedy
    assert SPECIFIC.score(view(), ANY).total == SPECIFIC.best_possible(view(), ANY) == 0


# --- what comes before the score ---


def test_preferred_hosts_come_first_in_the_order_named() -> None:
    best, second, third = view("best", price=0), view("second", price=500_000), view("third", price=900_000)
    criteria = HostCriteria(preferred=[str(third.info.peer_id), second.info.operator_address])
    assert [each for each, _ in rank([best, second, third], criteria, seed=b"")] == [third, second, best]
    assert [preference(each, criteria) for each in (third, second, best)] == [2, 1, 0]
    both = HostCriteria(preferred=[third.info.operator_address, str(third.info.peer_id)])
    assert preference(third, both) == 2


def test_a_preferred_host_comes_first_also_unmeasured() -> None:
    unknown, known = view("unknown", latency_ms=None), view("known")
    assert winner(unknown, known) is known
    assert winner(unknown, known, criteria=HostCriteria(preferred=[str(unknown.info.peer_id)])) is unknown


def test_the_standings_priority_sorts_after_the_criterias_preference() -> None:
    plain, liked = view("plain", price=0), replace(view("liked", price=900_000), standing=Standing(priority=1))
    disliked = replace(view("disliked", price=0), standing=Standing(priority=-1))
    assert [each for each, _ in rank([disliked, plain, liked], ANY, seed=b"")] == [liked, plain, disliked]
    assert winner(plain, liked, criteria=HostCriteria(preferred=[str(plain.info.peer_id)])) is plain


def test_unknown_slots_rank_last_where_slots_are_asked_for() -> None:
    mute, busy = view("mute", price=0), view("busy", price=900_000, free_slots=1)
    assert winner(mute, busy) is mute
    assert winner(mute, busy, criteria=HostCriteria(min_free_slots=1, accept_unmeasured=True)) is busy
    asked = HostCriteria(min_free_slots=1, accept_unmeasured=True)
    assert group_of(mute, asked) > group_of(busy, asked)


def test_no_free_slot_is_better_than_an_unknown_number() -> None:
    unknown, full = view("a"), view("b", free_slots=0)
    assert all(winner(unknown, full, seed=bytes([seed])) is full for seed in range(8))


@pytest.mark.parametrize("strategy", [AUTO, CHEAPEST, FASTEST, RELIABLE, SPECIFIC])
def test_a_promise_is_at_least_the_precedence_that_comes_of_it(strategy: Strategy) -> None:
    criteria = HostCriteria(preferred=[str(view().info.peer_id)])
    host = replace(view(), standing=Standing(priority=3))
    assert promise(replace(host, probe=None), criteria, strategy) >= precedence(host, criteria, strategy)
    assert precedence(host, criteria, strategy) == (1, 1, 3, strategy.score(host, criteria).total)
    perfect = replace(host, probe=view(latency_ms=0.0).probe)
    assert promise(host, criteria, strategy) == precedence(perfect, criteria, strategy)
