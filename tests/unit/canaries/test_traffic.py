"""What is remembered of real jobs and conversations, to be copied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.canaries.draws import Draws
from hostmesh.canaries.rhythm import MAX_JOBS, MIN_JOBS
from hostmesh.canaries.traffic import MAX_TURNS, JobShape, PastJob, Traffic, blurred, is_like, jittered

SHAPE = JobShape(length_bytes=40, max_output_tokens=256)


def draws(number: int) -> Draws:
    return Draws(number.to_bytes(16, "big"))


def ask(traffic: Traffic, key: bytes, shape: JobShape, *, asked_s: float, ended_s: float | None) -> None:
    """Let a job be asked for, leave at once, and end."""
    asked = traffic.job_asked(key, now_s=asked_s, draws=draws(1))
    traffic.job_started(key, shape, asked=asked, now_s=asked_s, draws=draws(2))
    if ended_s is not None:
        traffic.job_ended(key, now_s=ended_s, draws=draws(3))


def test_conversations_are_copied_whole_and_the_latest_is_not() -> None:
    traffic = Traffic(rate=0.5)
    for number in range(20):
        at = 100.0 * number
        for turn in range(3):
            shape = JobShape(length_bytes=10 * (turn + 1), max_output_tokens=None)
            ask(traffic, number.to_bytes(2, "big"), shape, asked_s=at, ended_s=at + 4)
            at += 10 + turn
    ask(traffic, b"now", SHAPE, asked_s=9999.0, ended_s=None)
    for number in range(50):
        copied = traffic.conversation(draws(number), now_s=9999.0)
        assert copied is not None
        assert [shape.length_bytes for shape in copied.shapes] == [10, 20, 30]
        assert copied.pauses_s == [6.0, 7.0]


def test_a_turn_before_the_answer_to_the_one_before_it_has_no_pause() -> None:
    traffic = Traffic(rate=0.5)
    ask(traffic, b"one", SHAPE, asked_s=0.0, ended_s=None)
    ask(traffic, b"one", SHAPE, asked_s=3.0, ended_s=None)
    copied = traffic.conversation(draws(1), now_s=99.0)
    assert copied is not None
    assert copied.pauses_s == [0.0]


def test_what_is_remembered_is_bounded() -> None:
    traffic = Traffic(rate=0.5)
    for number in range(5 * MAX_JOBS):
        ask(traffic, b"one", SHAPE, asked_s=float(number), ended_s=number + 0.5)
    assert len(traffic.shapes) == MAX_JOBS
    copied = traffic.conversation(draws(1), now_s=99.0)
    assert copied is not None
    assert (len(copied.shapes), len(copied.pauses_s)) == (MAX_TURNS, MAX_TURNS - 1)
    for number in range(3 * MAX_JOBS):
        at = 10_000.0 + number
        ask(traffic, number.to_bytes(2, "big"), SHAPE, asked_s=at, ended_s=at + 0.5)
    held = (traffic._conversations, traffic._durations_s, traffic.rhythm._starts)
    assert max(map(len, held)) == MAX_JOBS
    assert not traffic.rhythm._waiting


def test_earlier_jobs_are_taken_in_and_none_is_due_by_them() -> None:
    past = [
        PastJob(
            conversation=b"%d" % number,
            shape=SHAPE,
            system_prompt=None,
            started_s=-1000.0 + 10 * number,
            ended_s=None if number == 5 else -996.0 + 10 * number,
        )
        for number in range(MIN_JOBS)
    ]
    traffic = Traffic(rate=1.0)
    traffic.restore(past)
    assert traffic.rhythm.due_s is None
    assert traffic.rhythm.places == 1
    dues = 0
    for number in range(20):
        at = 1000.0 + 10 * number
        ask(traffic, b"new %d" % number, SHAPE, asked_s=at, ended_s=at + 4)
        dues += traffic.rhythm.due_s is not None
    assert dues > 10, "without another so many"


@given(value=st.floats(0.01, 1e6), entropy=st.binary(min_size=16, max_size=16))
def test_a_copy_is_within_a_tenth(value: float, entropy: bytes) -> None:
    found = jittered(value, Draws(entropy))
    assert 0.9 * value <= found <= 1.1 * value
    assert is_like(found, value)
    assert not is_like(1.2 * value, value)


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
