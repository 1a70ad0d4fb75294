"""What a wrong strategy is refused with, word for word; and whom no score helps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from discovery_world import EPOCH, FakeReputation, make_description, make_info

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.measurement import Measurement, Origin
from hostmesh.discovery.ranking import AUTO, SPECIFIC, Anchors, Score, ScorePart, Weights, group_of, rank
from hostmesh.discovery.view import HostView, ProbeResult, Standing
from hostmesh.errors import ConfigError

PART = ScorePart(name="a", points=1, weight=1)
REFUSALS: dict[str, tuple[Callable[[], object], str, str, str]] = {
    "points": (
        lambda: ScorePart(name="a", points=0.5, weight=1),  # type: ignore[arg-type]
        "strategy",
        "the score's part 'a' is not of integers",
        "scale and round: two hosts of one score shall have it on every machine",
    ),
    "names": (lambda: Score(parts=(PART, PART)), "strategy", "a score's parts are called ['a', 'a']", ""),
    "weights": (
        lambda: Weights(reputation=1, price=1, uptime=1, latency=1),
        "weights",
        "weights are 0 or more and add up to 1000",
        "",
    ),
    "anchors": (lambda: Anchors(uptime_s=0), "anchors", "anchors are 1 or more", ""),
    "nobody named": (
        lambda: SPECIFIC.host_named(HostCriteria()),
        "include",
        "the strategy SPECIFIC needs one host",
        "name exactly one peer id in include",
    ),
}


@pytest.mark.parametrize(("make", "name", "says", "remedy"), REFUSALS.values(), ids=REFUSALS)
def test_a_wrong_strategy_is_refused_with_what_to_do(
    make: Callable[[], object], name: str, says: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    error = caught.value
    assert (error.message, error.name, error.source, error.remedy) == (says, name, "argument", remedy)


def view(name: str, *, latency_ms: float | None = 10.0, refuted: str = "", priority: int = 0) -> HostView:
    latency = None
    if latency_ms is not None:
        latency = Measurement(value=latency_ms, unit="ms", at_unix_s=EPOCH, samples=3, origin=Origin.MEASURED)
    return HostView(
        info=make_info(name, make_description("m")),
        uptime=None,
        reputation=FakeReputation(),
        probe=ProbeResult(latency=latency, readiness=None, refuted=refuted),
        sources=(),
        standing=Standing(priority=priority),
    )


def test_nothing_helps_a_host_that_was_caught() -> None:
    """Neither being preferred, nor a priority, nor being nearest; nor is one that could not be measured behind it."""
    liar, far, silent = view("a", latency_ms=1, refuted="3 ms away", priority=9), view("b"), view("c", latency_ms=None)
    criteria = HostCriteria(preferred=[str(liar.info.peer_id)])
    assert [each for each, _ in rank([liar, silent, far], criteria, seed=b"")] == [far, silent, liar]
    honest = replace(liar, probe=view("a", latency_ms=1).probe)
    assert [each for each, _ in rank([silent, far, honest], criteria, seed=b"")] == [honest, far, silent]


def test_what_sorts_before_any_score() -> None:
    """Lower comes first: whether caught, how far preferred, its priority, whether measured."""
    first, second = view("a", priority=2), view("b", latency_ms=None, refuted="3 ms away")
    names = [str(first.info.peer_id), str(second.info.peer_id)]
    criteria = HostCriteria(preferred=names)
    assert group_of(first, criteria) == (-1, -2, -2, False)
    assert group_of(second, criteria) == (0, -1, 0, True)
    assert group_of(first, HostCriteria()) == (-1, 0, -2, False)


def test_a_latency_below_zero_counts_as_none() -> None:
    """Points never leave their scale, whatever a broken clock says."""
    best = AUTO.score(view("a", latency_ms=0.0), HostCriteria()).points("latency")
    assert AUTO.score(view("a", latency_ms=-5.0), HostCriteria()).points("latency") == best == 1_000_000
