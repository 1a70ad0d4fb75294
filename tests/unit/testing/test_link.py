"""The arithmetic of links."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.testing.link import FRAME_BYTES, Link, LinkProfile, Path


def path_of(*, seed: int = 0, **profile: float) -> Path:
    return Path(Link(LinkProfile(**profile)), random.Random(seed).random)


def test_a_segment_takes_the_latency() -> None:
    assert path_of(latency_s=0.25).arrival_s(4.0, 10**9) == 4.25


def test_segments_of_all_streams_queue_for_the_capacity_and_a_quiet_link_owes_nothing() -> None:
    path = path_of(latency_s=1.0, bytes_per_s=100)
    assert [path.arrival_s(0.0, 50), path.arrival_s(0.0, 50), path.arrival_s(10.0, 50)] == [1.5, 2.0, 11.5]


def test_settings_hold_for_what_is_sent_from_then_on() -> None:
    link = Link(LinkProfile(latency_s=1.0))
    path = Path(link, random.Random(0).random)
    first = path.arrival_s(0.0, 1)
    link.latency_s = 0.1
    assert (first, path.arrival_s(0.0, 1)) == (1.0, 0.1)


@given(
    jitter_s=st.floats(0, 5),
    gaps_s=st.lists(st.floats(0, 2), max_size=30),
    seed=st.integers(0, 2**32),
    size=st.integers(0, 10_000),
)
def test_jitter_stays_within_its_bounds_and_never_overtakes(
    jitter_s: float, gaps_s: list[float], seed: int, size: int
) -> None:
    path = path_of(seed=seed, latency_s=0.5, jitter_s=jitter_s)
    now = last_s = latest_sent_s = 0.0
    for gap_s in gaps_s:
        now += gap_s
        arrival_s = path.arrival_s(now, size, not_before=last_s)
        latest_sent_s = max(latest_sent_s, now)
        assert arrival_s >= last_s
        assert now + 0.5 <= arrival_s <= latest_sent_s + 0.5 + jitter_s
        last_s = arrival_s


def test_of_several_frames_the_latest_counts() -> None:
    path = path_of(latency_s=0.0, jitter_s=1.0)
    arrivals_s = [path.arrival_s(0.0, 9 * FRAME_BYTES) for _ in range(2000)]
    # Of the largest of nine numbers that are uniform between 0 and 1.
    assert sum(arrivals_s) / 2000 == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize(
    "wrong", [{"latency_s": -1}, {"jitter_s": -0.1}, {"bytes_per_s": 0}, {"latency_s": float("nan")}]
)
def test_a_link_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="link"):
        LinkProfile(**wrong)
