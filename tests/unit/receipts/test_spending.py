"""What a client is ready to owe."""

from __future__ import annotations

import pytest

from hostmesh.errors import ReceiptError
from hostmesh.receipts.spending import SessionSpending


def test_steps_are_held_against_the_slice_and_sums_against_the_limit() -> None:
    spending = SessionSpending(limit_micros=30, slice_micros=10)
    spending.owe(b"a", 10)
    spending.owe(b"a", 20)
    for job_id, cost, reason in ((b"a", 31, "OVER_SLICE"), (b"b", 11, "OVER_SLICE")):
        with pytest.raises(ReceiptError) as raised:
            spending.owe(job_id, cost)
        assert raised.value.reason == reason
    spending.owe(b"b", 10)
    with pytest.raises(ReceiptError) as raised:
        spending.owe(b"a", 21)
    assert raised.value.reason == "OVER_LIMIT"
    assert spending.spent_micros == 30
    spending.end(b"a")
    assert spending.spent_micros == 30


def test_what_was_restored_counts_once() -> None:
    spending = SessionSpending(limit_micros=30, slice_micros=10)
    spending.restore(b"a", 15)
    spending.restore(b"a", 20)
    assert spending.spent_micros == 20
    spending.owe(b"a", 30)
    assert spending.spent_micros == 30
