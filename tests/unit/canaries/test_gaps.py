"""How likely a conversation begins after a gap, from the gaps that are known."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.canaries.draws import Draws
from hostmesh.canaries.gaps import between, hazard_at, part_soon_after, time_of_hazard

gap_lists = st.lists(st.tuples(st.floats(0.0, 1e6), st.booleans()), min_size=1, max_size=40)


@given(gaps=gap_lists, hazard=st.floats(0.0, 6.0), more=st.floats(0.0, 6.0))
def test_the_time_of_a_hazard_grows_with_it(gaps: list[tuple[float, bool]], hazard: float, more: float) -> None:
    earlier, later = time_of_hazard(gaps, hazard), time_of_hazard(gaps, hazard + more)
    if later is not None:
        assert earlier is not None
        assert 0.0 <= earlier <= later
    assert time_of_hazard(gaps, math.inf) is None


@given(
    gaps=st.lists(st.tuples(st.floats(0.1, 1e4), st.booleans()), min_size=1, max_size=40), hazard=st.floats(0.01, 5.0)
)
def test_the_hazard_at_the_time_of_a_hazard_is_that_hazard(gaps: list[tuple[float, bool]], hazard: float) -> None:
    at = time_of_hazard(gaps, hazard)
    if at is not None and len({gap for gap, begins in gaps if begins}) == len(gaps) > 1:  # else it grows at one moment
        assert hazard_at(gaps, at) == pytest.approx(hazard, rel=1e-6)


def test_beyond_the_longest_gap_the_time_grows_with_the_hazards_exponential() -> None:
    gaps = [(float(gap), True) for gap in range(1, 100)]
    ends = math.log(100)
    assert time_of_hazard(gaps, ends) == pytest.approx(99.0)
    assert time_of_hazard(gaps, ends + 0.4) == pytest.approx(99.0 * math.e)
    assert time_of_hazard([(5.0, False)], 0.1) is None
    assert time_of_hazard([(0.0, True)] * 9, 5.0) is None


def test_before_the_shortest_gap_the_hazard_begins_as_far_away_as_the_third_is() -> None:
    gaps = [(100.0, True), (104.0, True), (110.0, True), (150.0, True)]
    assert time_of_hazard(gaps, 0.0) == 90.0
    assert hazard_at(gaps, 80.0) == 0.0
    assert time_of_hazard([(3.0, True), (50.0, True), (90.0, True)], 0.0) == 0.0


def test_a_gap_that_a_further_turn_ended_makes_beginnings_rarer() -> None:
    turns = [(10.0, False)] * 30 + [(100.0, True)] * 10
    assert time_of_hazard(turns, math.log(11 / 10)) == pytest.approx(100.0)
    assert hazard_at(turns, 99.0) == 0.0, "none began sooner"


@pytest.mark.parametrize("known", [8, 32, 128])
def test_canaries_at_a_part_of_the_hazard_come_as_new_gaps_do(known: int) -> None:
    """The heart of it: of those that come after a gap of any length the same part is canaries."""
    chance = random.Random(known)

    def gap() -> float:
        return 900.0 + chance.lognormvariate(8.0, 0.8)

    rate, seen = 0.2, []
    for _ in range(6000):
        gaps = [(gap(), True) for _ in range(known)]
        ends, hazard = gap(), 0.0
        seen.append((ends, False))
        while True:
            hazard += chance.expovariate(1.0) / rate
            at = time_of_hazard(gaps, hazard)
            if at is None or at >= ends:
                break
            seen.append((at, True))
    seen.sort()
    kept = seen[: len(seen) * (known - 1) // (known + 1)]  # beyond the longest that is known nobody can say
    tenth = len(kept) // 10
    for start in range(tenth, 10 * tenth, tenth):
        among = sum(is_canary for _, is_canary in kept[start : start + tenth]) / tenth
        assert among == pytest.approx(rate / (1 + rate), abs=0.045), start


def test_how_often_a_gap_ends_soon_that_has_lasted() -> None:
    memoryless = random.Random(4)
    gaps = [memoryless.expovariate(1 / 25.0) for _ in range(4000)]
    assert part_soon_after(gaps, 2.0) == pytest.approx(1 - math.exp(-2.0 / 25.0), abs=0.03)
    assert part_soon_after([5000.0, 9000.0, 20_000.0], 2.0) == 0.0
    assert part_soon_after([0.1] * 9, 2.0) == 0.0
    assert part_soon_after([], 2.0) == 0.0


@given(values=st.lists(st.floats(0.0, 1e6), min_size=1, max_size=30), entropy=st.binary(min_size=16, max_size=16))
def test_a_gap_like_others_lies_among_them(values: list[float], entropy: bytes) -> None:
    assert min(values) <= between(values, Draws(entropy)) <= max(values)
