"""The ranker: what the weights and anchors make of given numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from discovery_world import EPOCH, FakeReputation, make_description, make_info, make_key

from hostmesh.discovery.choice import choice_of
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import HostState
from hostmesh.discovery.measurement import Measurement, Origin, Path
from hostmesh.discovery.ranking import AUTO, SCALE, Weights, rank
from hostmesh.discovery.terms import Price
from hostmesh.discovery.view import HostView, ProbeResult, Readiness
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
