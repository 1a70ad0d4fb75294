"""Prices: cumulative, whole numbers, rounded up once."""

from __future__ import annotations

import pytest

from hostmesh.errors import UsageError
from hostmesh.receipts.pricing import cost_micros, due_micros


@pytest.mark.parametrize(
    ("tokens", "price", "cost"),
    [
        (0, 0, 0),
        (0, 10**12, 0),
        (1, 1, 1),
        (999_999, 1, 1),
        (1_000_000, 1, 1),
        (1_000_001, 1, 2),
        (4, 250_000, 1),
        (5, 250_000, 2),
        (123_456_789, 0, 0),
        (2**32, 2**63, 39_614_081_257_132_168_796_772),
    ],
)
def test_cost_is_rounded_up_once(tokens: int, price: int, cost: int) -> None:
    assert cost_micros(tokens, price) == cost


@pytest.mark.parametrize("wrong", [1.0, True, None, "1", -1])
def test_what_is_no_count_is_refused(wrong: object) -> None:
    with pytest.raises(UsageError):
        cost_micros(wrong, 1)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        cost_micros(1, wrong)  # type: ignore[arg-type]


def test_slices_of_a_thousand_single_tokens_cost_what_the_whole_does() -> None:
    slices = [due_micros(n, n + 1, 250) for n in range(1000)]
    assert sum(slices) == cost_micros(1000, 250) == 1
    assert 5 * sum(slices) == 5, "upstream M17: a cumulative count taken for a delta overcharged five times"


def test_a_count_never_goes_back() -> None:
    assert due_micros(5, 5, 10**6) == 0
    with pytest.raises(UsageError):
        due_micros(5, 4, 1)
