"""Reputation points against the formula computed with exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from hostmesh.reputation.score import Reputation, points


@pytest.mark.parametrize(
    ("good", "bad", "expected"), [(0, 0, 100), (0, 10, 50), (1, 0, 181), (0, 1, 90), (90, 0, 910), (10**9, 0, 999)]
)
def test_known_values(good: int, bad: int, expected: int) -> None:
    assert points(good, bad) == expected


def test_it_is_the_mean_of_the_posterior_rounded_down() -> None:
    for good in range(60):
        for bad in range(60):
            assert points(good, bad) == math.floor(1000 * Fraction(1 + good, 10 + good + bad))


def test_a_fresh_key_never_passes_an_honest_veteran() -> None:
    for good in range(1, 200):
        assert points(good, good // 20) > points(0, 0)


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        points(-1, 5)
    with pytest.raises(ValueError, match="0 or more"):
        points(5, -1)


def test_a_reputation_shows_its_evidence() -> None:
    reputation = Reputation(good=3, bad=1)
    assert reputation.to_dict() == {"points": 285, "n": 4, "good": 3, "bad": 1}
