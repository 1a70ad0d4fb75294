"""What a session's ledger holds for prompts that nobody counted."""

from __future__ import annotations

import pytest

from hostmesh.errors import ReceiptError, UsageError
from hostmesh.receipts.host_ledger import HostLedger

A, B, C, D = b"a", b"b", b"c", b"d"


def ledger_of(*job_ids: bytes) -> HostLedger:
    """With a slice of 20."""
    ledger = HostLedger(slice_micros=20)
    for job_id in job_ids:
        ledger.begin(job_id)
    return ledger


def test_a_held_prompt_is_on_no_receipt_until_it_is_counted() -> None:
    ledger = ledger_of(A, B)
    assert ledger.may_start(A, 0, 0.0, held_micros=10)
    assert not ledger.wants_receipt(A)
    # Answers would have no room beside two of them.
    assert not ledger.may_start(B, 0, 0.0, held_micros=1)
    assert ledger.may_serve(A, 10, 1.0)
    with pytest.raises(UsageError):
        ledger.issued(A, 11, 1.0)
    ledger.issued(A, 10, 1.0)
    assert ledger.acknowledged(A, 10, 1.0) == ()
    ledger.hold(A, 14, 1.0)
    assert (ledger.unacknowledged_micros, ledger.wants_receipt(A)) == (4, True)
    ledger.issued(A, 14, 2.0, is_last=True)
    ledger.acknowledged(A, 14, 2.0)
    ledger.end(A, 0.0)
    assert (ledger.unacknowledged_micros, ledger.jobs) == (0, 1)
    assert ledger.may_start(B, 0, 3.0, held_micros=1)


def test_held_prompts_take_half_a_slice_together_and_are_apart_from_counted_ones() -> None:
    ledger = ledger_of(A, B, C, D)
    for job_id, micros, held_micros, starts in ((A, 0, 6, True), (B, 0, 5, False), (C, 0, 4, True), (D, 5, 0, True)):
        assert ledger.may_start(job_id, micros, 0.0, held_micros=held_micros) is starts


def test_one_starts_where_it_has_room_and_its_answer_can_begin() -> None:
    ledger = ledger_of(A, B, C)
    with pytest.raises(ReceiptError) as caught:
        ledger.may_start(A, 0, 0.0, held_micros=17, beside_micros=4)
    assert caught.value.reason == "SLICE_TOO_SMALL"
    assert ledger.may_start(B, 1, 0.0)
    assert not ledger.may_start(A, 0, 0.0, held_micros=16, beside_micros=4)
    assert ledger.may_start(C, 0, 0.0, held_micros=15, beside_micros=4)
    assert ledger.unacknowledged_micros == 16


def test_receipts_are_due_when_half_of_the_room_beside_it_is_used() -> None:
    ledger = ledger_of(A)
    ledger.may_start(A, 0, 0.0, held_micros=16)
    wanted = [ledger.may_serve(A, micros, 0.0) and ledger.wants_receipt(A) for micros in (1, 2)]
    assert wanted == [False, True]
    # What it holds makes no room, however long it waits.
    with pytest.raises(ReceiptError) as caught:
        ledger.may_serve(A, 7, 0.0)
    assert caught.value.reason == "SLICE_TOO_SMALL"


@pytest.mark.parametrize("is_cut", [True, False])
def test_what_is_held_of_a_job_that_was_never_counted_is_free_once_its_last_receipt_is_paid(is_cut: bool) -> None:
    ledger = ledger_of(A, B)
    ledger.may_start(A, 0, 0.0, held_micros=12)
    ledger.may_serve(A, 5, 0.0)
    ledger.issued(A, 5, 0.0)
    ledger.acknowledged(A, 5, 0.0)
    assert ledger.unacknowledged_micros == 12
    if is_cut:
        ledger.cut(A, 7, 0.0, held_micros=10)
        ledger.issued(A, 7, 0.0, is_last=True)
    else:
        ledger.hold(A, 7, 0.0, held_micros=10)
        ledger.issued(A, 7, 0.0, is_last=True)
        ledger.end(A, 0.0)
    # Again what was signed before frees nothing.
    ledger.acknowledged(A, 5, 0.0)
    assert (ledger.unacknowledged_micros, ledger.may_start(B, 9, 0.0)) == (12, False)
    ledger.acknowledged(A, 7, 0.0)
    assert (ledger.unacknowledged_micros, ledger.may_start(B, 9, 0.0)) == (0, True)


def test_pieces_that_its_last_receipt_leaves_out_stay_unacknowledged() -> None:
    ledger = ledger_of(A)
    ledger.may_start(A, 0, 0.0, held_micros=10)
    ledger.may_serve(A, 5, 0.0)
    ledger.cut(A, 6, 0.0, held_micros=9)
    ledger.issued(A, 2, 0.0, is_last=True)
    ledger.acknowledged(A, 2, 0.0)
    assert ledger.unacknowledged_micros == 4


def test_no_more_stays_held_than_was() -> None:
    ledger = ledger_of(A)
    ledger.may_start(A, 0, 0.0, held_micros=10)
    ledger.may_serve(A, 5, 0.0)
    for cost, held in ((4, 0), (5, 11), (16, 0), (6, 10)):
        with pytest.raises(UsageError):
            ledger.hold(A, cost, 0.0, held_micros=held)
    for cost, held in ((5, 11), (16, 0), (6, 10)):
        with pytest.raises(UsageError):
            ledger.cut(A, cost, 0.0, held_micros=held)


def test_who_waits_behind_a_held_prompt_waits_for_the_host() -> None:
    ledger = ledger_of(A, B)
    ledger.may_start(A, 0, 0.0, held_micros=15)
    assert not ledger.may_start(B, 0, 0.0, held_micros=15)
    assert not ledger.awaits_client(B)
    assert ledger.patience.left_s(100.0) == 30.0


def test_a_held_prompt_that_its_host_failed_is_written_off() -> None:
    ledger = ledger_of(A, B)
    assert ledger.may_start(A, 0, 0.0, held_micros=10)
    assert ledger.may_serve(A, 5, 0.0)
    ledger.write_off(A, 0.0)
    assert (ledger.unacknowledged_micros, ledger.jobs) == (0, 1)
    # Half a slice is due as ever.
    assert ledger.may_serve(B, 9, 1.0)
    assert not ledger.wants_receipt(B)
    assert ledger.may_serve(B, 10, 1.0)
    assert ledger.wants_receipt(B)
