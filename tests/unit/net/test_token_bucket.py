"""Token buckets: what they let through, and how long they say to wait."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from hostmesh.net.token_bucket import TokenBucket


def test_a_bucket_lets_no_more_through_than_it_says() -> None:
    bucket = TokenBucket(per_s=7, burst=4)
    passed = [step * 0.037 for step in range(400) if bucket.take(step * 0.037) == 0]
    for first, since in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= 4 + 7 * (passed[last] - since) + 1e-6
    assert math.isclose(len(passed), 4 + 7 * 400 * 0.037, abs_tol=2)


@given(per_s=st.floats(0.01, 1000), burst=st.integers(1, 50), pauses=st.lists(st.floats(0, 10), max_size=60))
def test_waiting_as_long_as_was_said_is_enough_and_asking_takes_nothing(
    per_s: float, burst: int, pauses: list[float]
) -> None:
    bucket, now = TokenBucket(per_s=per_s, burst=burst), 0.0
    for pause in pauses:
        now += pause
        wait_s = bucket.wait_s(now)
        assert bucket.wait_s(now) == wait_s
        assert bucket.take(now) == wait_s
        if wait_s:
            now += wait_s
            assert bucket.take(now) == 0.0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(per_s=1, burst=1)
    assert bucket.take(100.0) == 0.0
    assert bucket.take(50.0) == 1.0
