"""Token buckets by key."""

import pytest

from hostmesh.errors import ConfigError
from hostmesh.sessions.admission.rate import Rate, RateLimiter


def test_a_burst_then_a_steady_rate() -> None:
    limiter: RateLimiter[str] = RateLimiter(Rate(per_second=10.0, burst=3), max_keys=4)
    assert [limiter.take("a", 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, pytest.approx(0.1)]
    allowed = sum(limiter.take("a", tick / 100) == 0.0 for tick in range(1001))
    assert allowed == 100


def test_keys_do_not_share() -> None:
    limiter: RateLimiter[str] = RateLimiter(Rate(per_second=1.0, burst=1), max_keys=4)
    assert limiter.take("a", 0.0) == limiter.take("b", 0.0) == 0.0
    assert limiter.take("a", 0.25) == pytest.approx(0.75)


def test_a_clock_that_steps_back_gives_nothing() -> None:
    limiter: RateLimiter[str] = RateLimiter(Rate(per_second=1.0, burst=1), max_keys=4)
    limiter.take("a", 100.0)
    assert limiter.take("a", 50.0) == 1.0
    assert limiter.take("a", 100.5) == pytest.approx(0.5)
    assert limiter.take("a", 101.0) == 0.0


def test_so_many_keys_are_kept_and_the_oldest_goes() -> None:
    limiter: RateLimiter[int] = RateLimiter(Rate(per_second=0.001, burst=1), max_keys=3)
    for key in (1, 2, 3, 1, 4):
        limiter.take(key, 0.0)
    assert len(limiter) == 3
    assert limiter.take(1, 0.0) > 0  # used last of the first three: kept
    assert limiter.take(2, 0.0) == 0.0  # forgotten: full again


@pytest.mark.parametrize(("per_second", "burst"), [(0.0, 1), (-1.0, 1), (1.0, 0)])
def test_a_rate_lets_something_through(per_second: float, burst: int) -> None:
    with pytest.raises(ConfigError):
        Rate(per_second=per_second, burst=burst)


def test_a_limiter_has_room_for_a_key() -> None:
    with pytest.raises(ConfigError):
        RateLimiter(Rate(per_second=1.0, burst=1), max_keys=0)
