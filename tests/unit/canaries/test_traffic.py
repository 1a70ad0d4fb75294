"""What is remembered of real jobs, and when canaries are due among them."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.canaries.draws import Draws
from hostmesh.canaries.traffic import (
    MAX_JOBS,
    MAX_PAUSE_S,
    MAX_TURNS,
    MAX_WAIT_S,
    MIN_JOBS,
    JobShape,
    Traffic,
    blurred,
    time_of_hazard,
)

SHAPE = JobShape(length_bytes=40, max_output_tokens=256)
gap_lists = st.lists(st.tuples(st.floats(0.0, 1e6), st.booleans()), min_size=1, max_size=40)


def draws(number: int) -> Draws:
    return Draws(number.to_bytes(16, "big"))


def feed(traffic: Traffic, jobs: int, *, gap_s: float = 10.0, duration_s: float = 1.0) -> float:
    """Let a user ask and read, and return the time after the last answer."""
    now = 0.0
    for number in range(jobs):
        traffic.job_started(number.to_bytes(2, "big"), SHAPE, now_s=now, draws=draws(number))
        traffic.job_ended(number.to_bytes(2, "big"), now_s=now + duration_s, draws=draws(1000 + number))
        now += gap_s
    return now - gap_s + duration_s


@given(gaps=gap_lists, hazard=st.floats(0.0, 6.0), more=st.floats(0.0, 6.0))
def test_the_time_of_a_hazard_grows_with_it(gaps: list[tuple[float, bool]], hazard: float, more: float) -> None:
    earlier, later = time_of_hazard(gaps, hazard), time_of_hazard(gaps, hazard + more)
    if later is not None:
        assert earlier is not None
        assert 0.0 <= earlier <= later
    assert time_of_hazard(gaps, math.inf) is None


def test_beyond_the_longest_gap_the_time_grows_with_the_hazards_exponential() -> None:
    gaps = [(float(gap), True) for gap in range(1, 100)]
    ends = sum(1 / (count + 1) for count in range(1, 100))
    assert time_of_hazard(gaps, ends) == pytest.approx(99.0)
    assert time_of_hazard(gaps, ends + 0.4) == pytest.approx(99.0 * math.e)
    assert time_of_hazard([(5.0, False)], 0.1) is None
    assert time_of_hazard([(0.0, True)] * 9, 5.0) is None


def test_canaries_come_at_the_rate_of_real_jobs_at_each_age_of_a_gap() -> None:
    """The heart of it: among arrivals after gaps of any length the same part is canaries."""
    source = random.Random(3)
    traffic = Traffic(rate=0.2)
    seen: list[tuple[float, bool]] = []
    now = last = 0.0
    for number in range(4000):
        traffic.job_started(number.to_bytes(4, "big"), SHAPE, now_s=now, draws=draws(number))
        traffic.job_ended(number.to_bytes(4, "big"), now_s=now, draws=draws(10**6 + number))
        ends = now + source.lognormvariate(1.0, 1.2)
        canaries = 0
        while traffic.due_s is not None and traffic.due_s < ends:
            if number > MAX_JOBS:
                seen.append((traffic.due_s - now, True))
            last = traffic.due_s
            canaries += 1
            traffic.canary_began(draws(10**9 + number * 100 + canaries))
        if number > MAX_JOBS:
            seen.append((ends - now, False))
        now = ends
    assert last > 0.0
    seen.sort()
    part = sum(is_canary for _, is_canary in seen) / len(seen)
    assert part == pytest.approx(0.2 / 1.2, abs=0.02)
    fifth = len(seen) // 5
    for start in range(0, 5 * fifth, fifth):
        among = sum(is_canary for _, is_canary in seen[start : start + fifth]) / fifth
        assert among == pytest.approx(part, abs=0.035), start


def test_no_canary_is_due_before_there_is_traffic_to_be_like() -> None:
    traffic = Traffic(rate=1.0)
    feed(traffic, MIN_JOBS - 1)
    assert traffic.due_s is None


def test_none_is_due_while_a_user_waits_who_asks_one_thing_after_the_other() -> None:
    traffic = Traffic(rate=1.0)
    now = feed(traffic, 40)
    dues = []
    for number in range(50):
        key = number.to_bytes(3, "big")
        traffic.job_started(key, SHAPE, now_s=now + 9.0, draws=draws(number))
        assert traffic.due_s is None
        now += 11.0
        traffic.job_ended(key, now_s=now, draws=draws(number))
        if traffic.due_s is not None:
            dues.append(traffic.due_s - now)
    assert len(dues) > 40
    assert 0.0 < min(dues) <= sorted(dues)[len(dues) // 2] <= 9.0, "a gap from answer to question is 9 s"


def test_a_gap_is_known_by_when_the_user_asked_not_by_when_his_job_had_waited() -> None:
    traffic = Traffic(rate=1.0)
    now = 0.0
    for number in range(40):
        key = number.to_bytes(2, "big")
        traffic.job_started(key, SHAPE, now_s=now + 8.0, draws=draws(number), waited_s=8.0)
        now += 9.0
        traffic.job_ended(key, now_s=now, draws=draws(number))
        now += 0.25
    assert [traffic.pause_after_canary_s(draws(number)) for number in range(5)] == [0.25] * 5
    assert traffic.due_s is None or traffic.due_s <= now


@pytest.mark.parametrize(
    ("duration_s", "gap_s", "timeout_s", "leaves"),
    [
        pytest.param(5.0, 0.1, None, True, id="jobs can wait for an answer"),
        pytest.param(MAX_WAIT_S + 1, 0.1, None, False, id="answers take too long to be waited for"),
        pytest.param(MAX_WAIT_S + 1, 3600.0, None, True, id="and no job comes before they end"),
        pytest.param(5.0, 0.1, 8.0, False, id="jobs have no time to wait"),
        pytest.param(5.0, 60.0, 8.0, True, id="and need none"),
    ],
)
def test_no_canary_leaves_where_a_job_could_not_wait_for_its_end(
    duration_s: float, gap_s: float, timeout_s: float | None, leaves: bool
) -> None:
    traffic = Traffic(rate=1.0)
    shape = JobShape(length_bytes=40, max_output_tokens=256, timeout_s=timeout_s)
    now, dues = 0.0, 0
    for number in range(100):
        key = number.to_bytes(2, "big")
        traffic.job_started(key, shape, now_s=now, draws=draws(number))
        now += duration_s
        traffic.job_ended(key, now_s=now, draws=draws(1000 + number))
        dues += traffic.due_s is not None
        now += gap_s
    assert (dues > 40) is leaves
    assert leaves or dues == 0


@pytest.mark.parametrize(
    ("pause_s", "gap_s", "leaves"),
    [
        pytest.param(0.1, 0.5, True, id="a whole conversation can be waited for"),
        pytest.param(10.0, 15.0, False, id="with its pauses it takes too long"),
        pytest.param(10.0, 3600.0, True, id="and is over before the next one begins"),
    ],
)
def test_no_canary_leaves_where_its_conversation_would_have_to_be_cut(
    pause_s: float, gap_s: float, leaves: bool
) -> None:
    traffic = Traffic(rate=1.0)
    now, dues = 0.0, 0
    for number in range(60):
        for _ in range(3):
            key = number.to_bytes(2, "big")
            traffic.job_started(key, SHAPE, now_s=now, draws=draws(number))
            now += 3.0
            traffic.job_ended(key, now_s=now, draws=draws(1000 + number))
            now += pause_s
        dues += traffic.due_s is not None
        now += gap_s
    assert (dues > 20) is leaves
    assert leaves or dues == 0


def test_a_pause_after_a_canary_is_like_the_users_own_but_short() -> None:
    traffic = Traffic(rate=1.0)
    for number in range(60):
        key = number.to_bytes(2, "big")
        traffic.job_started(key, SHAPE, now_s=100.0 * number + (0.5, 0.9, 60.0)[number % 3], draws=draws(number))
        traffic.job_ended(key, now_s=100.0 * (number + 1), draws=draws(number))
    pauses = [traffic.pause_after_canary_s(draws(number)) for number in range(100)]
    assert 0.5 <= min(pauses) < max(pauses) <= 0.9 + 1e-6
    slow = Traffic(rate=1.0)
    feed(slow, 40, gap_s=60.0)
    assert slow.pause_after_canary_s(draws(1)) == MAX_PAUSE_S


def test_a_copys_deadline_is_shorter_as_often_as_real_ones_that_waited() -> None:
    traffic = Traffic(rate=1.0)
    for number in range(100):
        waited_s = 4.0 if number % 10 == 0 else 0.0
        traffic.job_started(
            number.to_bytes(2, "big"), SHAPE, now_s=float(number), draws=draws(number), waited_s=waited_s
        )
    seen = [traffic.timeout_like(20.0, draws(number)) for number in range(1000)]
    shorter = [timeout_s for timeout_s in seen if timeout_s != 20.0]
    assert len(shorter) / len(seen) == pytest.approx(0.1, abs=0.03)
    assert 12.0 <= min(shorter) < max(shorter) < 20.0
    assert len(set(shorter)) == len(shorter)
    assert min(traffic.timeout_like(5.0, draws(number)) for number in range(1000)) == 2.5


def test_gaps_of_jobs_that_overlap_are_counted_from_their_starts() -> None:
    traffic = Traffic(rate=1.0)
    for number in range(40):
        traffic.job_started(number.to_bytes(2, "big"), SHAPE, now_s=float(number), draws=draws(number))
    assert traffic.due_s is not None
    assert 39.0 <= traffic.due_s <= 40.0


def test_a_gap_that_a_further_turn_ended_makes_beginnings_rarer() -> None:
    turns = [(10.0, False)] * 30 + [(100.0, True)] * 10
    assert time_of_hazard(turns, 0.05) == pytest.approx(100.0 * 0.05 * 11, rel=0.01)


def test_conversations_are_copied_whole_and_the_latest_is_not() -> None:
    traffic = Traffic(rate=0.5)
    for number in range(20):
        for turn in range(3):
            shape = JobShape(length_bytes=10 * (turn + 1), max_output_tokens=None)
            key = number.to_bytes(2, "big")
            traffic.job_started(key, shape, now_s=100.0 * number + 10 * turn, draws=draws(number))
            traffic.job_ended(key, now_s=100.0 * number + 10 * turn + 4, draws=draws(number))
    traffic.job_started(b"now", SHAPE, now_s=9999.0, draws=draws(1))
    for number in range(50):
        copied = traffic.conversation(draws(number))
        assert [shape.length_bytes for shape in copied.shapes] == [10, 20, 30]
        assert traffic.pause_s(draws(number)) == pytest.approx(6.0)


def test_what_is_remembered_is_bounded() -> None:
    traffic = Traffic(rate=0.5)
    for number in range(5 * MAX_JOBS):
        traffic.job_started(b"one", SHAPE, now_s=float(number), draws=draws(number))
        traffic.job_ended(b"one", now_s=number + 0.5, draws=draws(number))
    assert len(traffic.shapes) == MAX_JOBS
    assert len(traffic.conversation(draws(1)).shapes) == MAX_TURNS
    feed(traffic, 3 * MAX_JOBS)
    lengths = [
        len(held) for held in (traffic._conversations, traffic._pauses_s, traffic._from_start, traffic._from_end)
    ]
    assert max(lengths) <= MAX_JOBS


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, math.nan])
def test_a_rate_is_more_than_nothing_and_at_most_one(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        Traffic(rate=rate)


@given(values=st.lists(st.integers(1, 10**6), min_size=1, max_size=100), entropy=st.binary(min_size=16, max_size=16))
def test_a_blurred_value_lies_among_the_values(values: list[int], entropy: bytes) -> None:
    chosen = values[0]
    found = blurred(values, Draws(entropy), chosen)
    assert min(values) <= found <= max(values)
    if 2 * len(set(values)) <= len(values):
        assert found == chosen


def test_shapes_out_of_range_are_refused() -> None:
    for wrong in ({"length_bytes": -1, "max_output_tokens": 1}, {"length_bytes": 1, "max_output_tokens": 0}):
        with pytest.raises(ValueError, match="lengths are 0 or more"):
            JobShape(**wrong)
