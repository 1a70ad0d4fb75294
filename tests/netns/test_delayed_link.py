"""The delayed link's arithmetic, and how a simulated link is set to what was measured on it."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.netns.comparison import profile_of
from tests.netns.delayed_link import DelayLine


@given(
    delay_s=st.floats(0, 5),
    jitter_s=st.floats(0, 5),
    gaps_s=st.lists(st.floats(0, 2), max_size=30),
    seed=st.integers(0, 2**32),
)
def test_frames_keep_their_order_and_leave_neither_early_nor_late(
    delay_s: float, jitter_s: float, gaps_s: list[float], seed: int
) -> None:
    line = DelayLine(delay_s, jitter_s, random.Random(seed).random)
    came_s = list(itertools.accumulate(gaps_s))
    for number, now in enumerate(came_s):
        line.put(now, bytes([number]))
    left_s = 0.0
    for number, put_s in enumerate(came_s):
        due_s = line.next_due_s
        assert due_s is not None
        assert max(left_s, put_s + delay_s) <= due_s <= put_s + delay_s + jitter_s
        assert line.take(due_s - 1e-6) is None
        assert line.take(due_s) == (due_s, bytes([number]))
        left_s = due_s
    assert line.next_due_s is None


@given(
    latency_s=st.floats(0.001, 1),
    jitter_part=st.floats(0, 1),
    endpoint_s=st.floats(0, 0.01),
    seed=st.integers(0, 2**32),
)
def test_a_simulated_link_is_set_to_the_distribution_that_was_measured(
    latency_s: float, jitter_part: float, endpoint_s: float, seed: int
) -> None:
    jitter_s = jitter_part * latency_s
    dice = random.Random(seed)
    samples_s = [
        2 * latency_s + jitter_s * (dice.random() + dice.random()) + endpoint_s + 5 * (number % 50 == 0)
        for number in range(2000)
    ]  # one of fifty waits for a CPU
    profile = profile_of(samples_s, endpoint_s)
    assert profile.jitter_s == pytest.approx(jitter_s, rel=0.15, abs=1e-9)
    assert 2 * profile.latency_s + profile.jitter_s == pytest.approx(2 * latency_s + jitter_s, rel=0.05)
