"""What a client is ready to owe."""

from __future__ import annotations

import pytest

from hostmesh.errors import ReceiptError
from hostmesh.receipts.spending import SessionSpending


def test_steps_are_held_against_the_slice_and_sums_against_the_limit() -> None:
    spending = SessionSpending(limit_micros=30, slice_micros=10)
    spending.owe(b"a", 10, is_answered=True)
    spending.owe(b"a", 20, is_answered=True)
    for job_id, cost, reason in ((b"a", 31, "OVER_SLICE"), (b"b", 11, "OVER_SLICE")):
        with pytest.raises(ReceiptError) as raised:
            spending.owe(job_id, cost, is_answered=True)
        assert raised.value.reason == reason
    spending.owe(b"b", 10, is_answered=True)
    with pytest.raises(ReceiptError) as raised:
        spending.owe(b"a", 21, is_answered=True)
    assert raised.value.reason == "OVER_LIMIT"
    assert spending.spent_micros == 30
    spending.end(b"a")
    assert spending.spent_micros == 30


def test_what_was_restored_counts_once() -> None:
    spending = SessionSpending(limit_micros=30, slice_micros=10)
    spending.restore(b"a", 15, is_answered=True)
    spending.restore(b"a", 20, is_answered=True)
    assert spending.spent_micros == 20
    spending.owe(b"a", 30, is_answered=True)
    assert spending.spent_micros == 30


def test_prompts_without_an_answer_are_remembered_over_a_restart() -> None:
    spending = SessionSpending(limit_micros=100, slice_micros=10)
    spending.restore(b"a", 3, is_answered=False)
    spending.restore(b"b", 40, is_answered=True)
    spending.restore(b"c", 3, is_answered=False)
    assert spending.spent_micros == 46
    assert not spending.owe(b"d", 5, is_answered=False)
    assert spending.spent_micros == 46
    assert spending.owe(b"d", 4, is_answered=False)
    assert [spending.can_ever_fit(micros) for micros in (4, 5)] == [True, False]


def test_jobs_without_an_answer_come_to_one_slice() -> None:
    spending = SessionSpending(limit_micros=100, slice_micros=10)
    spending.owe(b"a", 4, is_answered=False)
    spending.owe(b"b", 6, is_answered=False)
    assert not spending.owe(b"c", 1, is_answered=False)
    spending.answered(b"b")
    # A job's own receipts count once.
    spending.owe(b"a", 5, is_answered=False)
    spending.owe(b"c", 5, is_answered=False)
    for job_id in (b"a", b"b"):
        spending.end(job_id)
    assert not spending.owe(b"c", 6, is_answered=False)
    # What is answered is another matter.
    spending.owe(b"c", 9, is_answered=True)
    spending.end(b"c")
    assert not spending.owe(b"d", 6, is_answered=False)
    spending.owe(b"d", 5, is_answered=False)
    spending.owe(b"d", 10, is_answered=True)
    spending.owe(b"e", 0, is_answered=False)
    assert spending.spent_micros == 30


def test_prompts_leave_while_all_without_an_answer_come_to_a_slice() -> None:
    spending = SessionSpending(limit_micros=100, slice_micros=10)
    rooms = []
    spending.on_room = lambda: rooms.append(spending.may_send(7))
    assert spending.may_send(99), "alone it goes; the host refuses one that is too large"
    spending.send(b"a", 4)
    assert (spending.may_send(6), spending.may_send(7)) == (True, False)
    spending.send(b"b", 6)
    assert not spending.may_send(1)
    spending.owe(b"a", 3, is_answered=False)
    spending.end(b"a")
    # Three were paid for nothing.
    assert (spending.may_send(1), spending.may_send(2)) == (True, False)
    spending.answered(b"b")
    assert spending.is_busy, "it still runs"
    assert spending.may_send(99)
    spending.end(b"b")
    assert (spending.is_busy, rooms) == (False, [False, True, True])


def test_where_a_session_can_cost_no_more_than_a_slice_no_prompt_waits() -> None:
    spending = SessionSpending(limit_micros=15, slice_micros=10)
    spending.send(b"a", 10)
    assert not spending.may_send(1)
    spending.owe(b"a", 4, is_answered=True)
    spending.answered(b"a")
    spending.send(b"b", 10)
    assert not spending.may_send(1), "11 are left, and can be claimed for prompts"
    spending.owe(b"a", 5, is_answered=True)
    assert spending.may_send(1)
    spending.owe(b"b", 10, is_answered=False)
    assert spending.may_send(1), "what was paid for the second prompt may be lost, and nothing beside it"


def test_prompts_of_a_free_model_never_wait() -> None:
    spending = SessionSpending(limit_micros=0, slice_micros=0)
    for job_id in (b"a", b"b", b"c"):
        assert spending.may_send(0)
        spending.send(job_id, 0)


def test_a_prompt_that_alone_is_too_dear_is_for_the_host_to_refuse() -> None:
    spending = SessionSpending(limit_micros=100, slice_micros=10)
    assert spending.can_ever_fit(99)
    spending.owe(b"a", 1, is_answered=False)
    assert spending.can_ever_fit(99), "it may still be answered"
    spending.end(b"a")
    assert [spending.can_ever_fit(micros) for micros in (9, 10)] == [True, False]


def test_more_than_a_slice_at_once_or_than_the_limit_is_a_lie_also_without_an_answer() -> None:
    spending = SessionSpending(limit_micros=5, slice_micros=10)
    for cost, reason in ((11, "OVER_SLICE"), (6, "OVER_LIMIT")):
        with pytest.raises(ReceiptError) as raised:
            spending.owe(b"a", cost, is_answered=False)
        assert raised.value.reason == reason
