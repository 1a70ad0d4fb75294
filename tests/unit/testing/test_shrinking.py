"""Shrinking: what is left still fails, nothing of it can go, and it takes a bounded number of runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hostmesh.testing import shrink


@dataclass(frozen=True)
class Step:
    at_s: float
    kind: str = "a"
    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError("a size is positive")


STEPS = st.lists(
    st.builds(Step, at_s=st.floats(0, 100), kind=st.sampled_from("abc"), size=st.integers(1, 10**6)), max_size=20
)


@given(STEPS, st.lists(st.sampled_from("abc"), max_size=4), st.integers(1, 1000))
def test_what_is_left_fails_and_no_step_of_it_can_go(steps: list[Step], wanted: list[str], size: int) -> None:
    def fails(tried: tuple[Any, ...]) -> bool:
        left = iter(tried)
        return all(any(step.kind == kind and step.size >= size for step in left) for kind in wanted)

    if not fails(tuple(steps)):
        return
    found = shrink(steps, fails, max_runs=10_000)
    assert fails(found.schedule)
    assert found.is_minimal
    assert len(found.schedule) == len(wanted)
    for index in range(len(found.schedule)):
        assert not fails(found.schedule[:index] + found.schedule[index + 1 :])
    assert shrink(steps, fails, max_runs=10_000) == found


def test_values_become_simple() -> None:
    found = shrink([Step(at_s=3.14159, size=77_777)], lambda tried: bool(tried) and tried[0].size >= 20)
    assert found.schedule == (Step(at_s=3.0, size=10_000),)
    found = shrink([Step(at_s=3.14159, size=77_777)], lambda tried: bool(tried) and 3.1 <= tried[0].at_s < 3.5)
    assert found.schedule == (Step(at_s=3.1, size=1),)


def test_the_first_of_many_steps_is_found_in_few_runs() -> None:
    steps = [Step(at_s=float(number), kind="b" if number == 40 else "a") for number in range(128)]
    found = shrink(steps, lambda tried: any(step.kind == "b" for step in tried))
    assert found.schedule == (steps[40],)
    assert found.runs < 40


def test_runs_end_where_they_are_told_to() -> None:
    calls: list[int] = []

    def fails(tried: tuple[Any, ...]) -> bool:
        calls.append(len(tried))
        return sum(step.size for step in tried) >= 15

    found = shrink([Step(at_s=number + 0.5) for number in range(20)], fails, max_runs=7)
    assert found.runs == len(calls) == 7
    assert not found.is_minimal
    assert sum(step.size for step in found.schedule) >= 15


def test_what_fails_without_any_step_is_no_schedule_at_all() -> None:
    assert shrink([Step(at_s=1.0), Step(at_s=2.0)], lambda tried: True).schedule == ()
