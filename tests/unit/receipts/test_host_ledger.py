"""What a session owes unacknowledged: the ceiling, the order of those who wait, silence, restarts."""

from __future__ import annotations

import pytest

from hostmesh.errors import ReceiptError, UsageError
from hostmesh.receipts.host_ledger import MAX_JOBS, HostLedger, check_slice

A, B, C = b"a", b"b", b"c"


def ledger_of(*job_ids: bytes, slice_micros: int = 100) -> HostLedger:
    ledger = HostLedger(slice_micros=slice_micros, timeout_s=30.0)
    for job_id in job_ids:
        ledger.begin(job_id)
    return ledger


def test_a_receipt_is_due_at_half_a_slice_and_the_host_waits_at_the_ceiling() -> None:
    ledger = ledger_of(A)
    assert ledger.may_serve(A, 49, 0.0)
    assert not ledger.wants_receipt(A)
    assert ledger.may_serve(A, 50, 0.0)
    assert ledger.wants_receipt(A)
    ledger.issued(A, 50, 0.0)
    assert not ledger.wants_receipt(A)
    assert ledger.may_serve(A, 100, 0.0)
    assert not ledger.may_serve(A, 101, 0.0)
    assert ledger.unacknowledged_micros == 100
    assert ledger.acknowledged(A, 50, 1.0) == (A,)
    assert ledger.unacknowledged_micros == 51


def test_one_slice_for_all_jobs_together() -> None:
    ledger = ledger_of(A, B)
    assert ledger.may_serve(A, 60, 0.0)
    assert ledger.may_serve(B, 40, 0.0)
    assert not ledger.may_serve(B, 41, 0.0)
    assert ledger.unacknowledged_micros == 100


def test_who_waits_makes_every_job_write_its_receipt() -> None:
    ledger = ledger_of(A, B)
    assert ledger.may_serve(A, 40, 0.0)
    assert not ledger.may_serve(B, 70, 0.0)
    # Below half a slice, but B waits for what A owes.
    assert ledger.wants_receipt(A)
    ledger.issued(A, 40, 0.0)
    assert ledger.acknowledged(A, 40, 0.0) == (B,)


def test_those_who_wait_go_on_in_the_order_in_which_they_asked() -> None:
    ledger = ledger_of(A, B, C)
    assert ledger.may_serve(A, 90, 0.0)
    ledger.issued(A, 90, 0.0)
    assert not ledger.may_serve(B, 50, 0.0)
    # It would fit, and yet B asked first.
    assert not ledger.may_serve(C, 5, 0.0)
    assert ledger.acknowledged(A, 30, 0.0) == ()
    assert ledger.acknowledged(A, 60, 0.0) == (B, C)
    assert ledger.unacknowledged_micros == 85


def test_a_step_that_costs_nothing_never_waits() -> None:
    ledger = ledger_of(A, B)
    assert ledger.may_serve(A, 100, 0.0)
    assert not ledger.may_serve(B, 1, 0.0)
    assert ledger.may_serve(A, 100, 0.0)
    free = ledger_of(A, slice_micros=0)
    assert free.may_serve(A, 0, 0.0)
    assert not free.wants_receipt(A)


def test_a_step_above_the_slice_never_fits_and_the_remedy_says_what_would() -> None:
    ledger = ledger_of(A)
    with pytest.raises(ReceiptError) as raised:
        ledger.may_serve(A, 101, 0.0)
    assert raised.value.reason == "SLICE_TOO_SMALL"
    assert "101 or more" in raised.value.remedy
    with pytest.raises(ReceiptError):
        check_slice(0, 1)
    # What was served before does not count: it can be acknowledged.
    assert ledger.may_serve(A, 100, 0.0)
    assert not ledger.may_serve(A, 200, 0.0)


def test_only_what_a_receipt_covers_is_owed_at_the_end() -> None:
    ledger = ledger_of(A)
    assert ledger.may_serve(A, 30, 0.0)
    ledger.issued(A, 25, 0.0)
    ledger.end(A, 0.0)
    assert ledger.unacknowledged_micros == 25
    assert ledger.jobs == 1
    ledger.acknowledged(A, 25, 0.0)
    assert (ledger.unacknowledged_micros, ledger.jobs) == (0, 0)
    # Countersigned again: nothing more to do.
    assert ledger.acknowledged(A, 25, 0.0) == ()


def test_a_job_that_failed_here_is_written_off_and_makes_room() -> None:
    ledger = ledger_of(A, B)
    assert ledger.may_serve(A, 80, 0.0)
    ledger.issued(A, 60, 0.0)
    ledger.acknowledged(A, 10, 0.0)
    assert not ledger.may_serve(B, 50, 0.0)
    assert ledger.write_off(A, 0.0) == (B,)
    assert (ledger.unacknowledged_micros, ledger.jobs) == (50, 1)


def test_the_end_of_one_that_waits_lets_the_next_one_go() -> None:
    ledger = ledger_of(A, B, C)
    assert ledger.may_serve(A, 60, 0.0)
    ledger.issued(A, 60, 0.0)
    assert not ledger.may_serve(B, 50, 0.0)
    assert not ledger.may_serve(C, 40, 0.0)
    assert ledger.end(B, 0.0) == (C,)


def test_a_client_that_keeps_jobs_waiting_uses_up_the_sessions_patience() -> None:
    ledger = ledger_of(A, B, C)
    assert ledger.may_serve(A, 60, 0.0)
    ledger.issued(A, 60, 5.0)
    # A receipt is out, but nobody waits for it.
    assert ledger.patience.left_s(9.0) == 30.0
    assert not ledger.may_serve(B, 50, 10.0)
    assert ledger.may_serve(C, 0, 10.0)
    assert [ledger.awaits_client(each) for each in (A, B, C)] == [False, True, False]
    # Several that wait at once use up no more than one.
    assert not ledger.may_serve(C, 50, 15.0)
    assert ledger.patience.left_s(20.0) == 20.0
    # Ten of a slice of a hundred give a fifth back.
    assert ledger.acknowledged(A, 10, 25.0) == (B,)
    assert ledger.patience.left_s(25.0) == 21.0
    assert ledger.awaits_client(C)
    assert ledger.acknowledged(A, 60, 45.0) == (C,)
    # Nobody waits any more, and the whole patience is there again.
    assert ledger.patience.left_s(1000.0) == 30.0


@pytest.mark.parametrize("claimed_micros", [0, 1])
def test_patience_is_whole_again_when_nothing_is_unpaid(claimed_micros: int) -> None:
    """Also where what was held for a prompt came to hardly anything: there is nothing more to pay."""
    ledger = ledger_of(A, B)
    assert ledger.may_start(A, 0, 0.0, held_micros=90)
    ledger.cut(A, claimed_micros, 1.0, held_micros=90 - claimed_micros)
    assert (ledger.unacknowledged_micros, ledger.held_micros) == (90, 90 - claimed_micros)
    assert not ledger.may_start(B, 0, 1.0, held_micros=90)
    assert ledger.patience.left_s(31.0) == 0.0
    ledger.end(B, 31.0)
    ledger.issued(A, claimed_micros, 31.0, is_last=True)
    ledger.acknowledged(A, claimed_micros, 31.0)
    assert ledger.unacknowledged_micros == 0
    assert ledger.patience.left_s(31.0) == 30.0


def test_little_countersignatures_renew_little_patience() -> None:
    ledger = ledger_of(A)
    assert ledger.may_serve(A, 100, 0.0)
    ledger.issued(A, 100, 0.0)
    assert not ledger.may_serve(A, 101, 0.0)
    now = 0.0
    for paid in range(1, 50):
        # As late as it may be each time.
        now += ledger.patience.left_s(now)
        assert ledger.acknowledged(A, paid, now) == (A,)
        ledger.issued(A, 100 + paid, now)
        assert not ledger.may_serve(A, 101 + paid, now)
        assert now == pytest.approx(30 + 0.6 * (paid - 1))


def test_who_waits_for_another_jobs_receipt_waits_for_the_host() -> None:
    ledger = ledger_of(A, B)
    assert ledger.may_serve(A, 40, 0.0)
    assert not ledger.may_serve(B, 70, 0.0)
    assert not ledger.awaits_client(B), "the client has nothing that it could countersign"
    ledger.issued(A, 40, 100.0)
    assert ledger.awaits_client(B)
    assert ledger.patience.left_s(110.0) == 20.0, "its time begins with the receipt"


def test_who_waits_for_what_nobody_can_countersign_any_more_uses_up_patience() -> None:
    ledger = ledger_of(A, B)
    assert ledger.may_serve(A, 40, 0.0)
    assert not ledger.may_serve(B, 70, 7.0)
    ledger.cut(A, 40, 10.0)
    assert ledger.patience.left_s(37.0) == 3.0


def test_a_job_that_has_nothing_to_write_a_receipt_over_makes_no_room() -> None:
    ledger = ledger_of(A, B)
    ledger.carry(80)
    assert ledger.may_start(A, 0, 0.0)
    assert not ledger.may_start(B, 21, 0.0)
    assert ledger.awaits_client(B)


def test_what_was_not_sent_of_a_job_that_is_cut_is_nobodys_debt() -> None:
    ledger = ledger_of(A, B)
    assert ledger.may_serve(A, 60, 0.0)
    ledger.issued(A, 50, 0.0)
    assert not ledger.may_serve(B, 50, 0.0)
    for wrong in (49, 61):
        with pytest.raises(UsageError):
            ledger.cut(A, wrong, 0.0)
    assert ledger.cut(A, 50, 0.0) == (B,)
    assert ledger.unacknowledged_micros == 100
    assert ledger.wants_receipt(B)
    ledger.issued(B, 50, 0.0)
    assert ledger.acknowledged(A, 50, 0.0) == ()
    # Its last receipt, over what was countersigned before, adds nothing.
    ledger.issued(A, 50, 0.0)
    assert (ledger.unacknowledged_micros, ledger.jobs) == (50, 1)


def test_what_a_cut_job_was_sent_makes_no_other_job_write() -> None:
    ledger = ledger_of(A, B)
    assert ledger.may_serve(A, 60, 0.0)
    ledger.cut(A, 60, 0.0)
    assert ledger.may_serve(B, 10, 0.0)
    assert not ledger.wants_receipt(B)
    ledger.issued(A, 30, 0.0)
    assert ledger.may_serve(B, 40, 0.0)
    assert not ledger.wants_receipt(B), "40 of 100"


def test_an_old_countersignature_gives_no_patience_back() -> None:
    ledger = ledger_of(A)
    assert ledger.may_serve(A, 100, 0.0)
    ledger.issued(A, 30, 0.0)
    ledger.acknowledged(A, 30, 1.0)
    ledger.issued(A, 100, 2.0)
    assert not ledger.may_serve(A, 150, 2.0)
    ledger.acknowledged(A, 30, 31.0)
    assert ledger.patience.left_s(31.0) == 1.0


def test_what_was_not_acknowledged_before_a_restart_still_is_not() -> None:
    ledger = HostLedger(slice_micros=100)
    ledger.restore(A, issued_micros=70, acknowledged_micros=20)
    ledger.restore(B, issued_micros=70, acknowledged_micros=70)
    assert (ledger.unacknowledged_micros, ledger.jobs) == (50, 1)
    ledger.begin(C)
    assert not ledger.may_serve(C, 51, 0.0)
    assert ledger.acknowledged(A, 70, 0.0) == (C,)
    assert ledger.jobs == 1


def test_no_more_jobs_than_the_bound() -> None:
    ledger = ledger_of(*(bytes([n >> 8, n & 255]) for n in range(MAX_JOBS)))
    for more in (lambda: ledger.begin(A), lambda: ledger.restore(A, issued_micros=1, acknowledged_micros=0)):
        with pytest.raises(ReceiptError) as raised:
            more()
        assert raised.value.reason == "TOO_MANY_JOBS"


def test_wrong_use() -> None:
    ledger = ledger_of(A, B)
    assert ledger.may_serve(A, 50, 0.0)
    ledger.issued(A, 50, 0.0)
    assert not ledger.may_serve(B, 60, 0.0)
    for wrong in (
        lambda: ledger.begin(A),
        lambda: ledger.may_serve(A, 49, 0.0),
        lambda: ledger.may_serve(B, 60, 0.0),
        lambda: ledger.may_serve(C, 1, 0.0),
        lambda: ledger.issued(A, 51, 0.0),
        lambda: ledger.issued(A, 49, 0.0),
        lambda: ledger.acknowledged(A, 51, 0.0),
        lambda: ledger.restore(C, issued_micros=1, acknowledged_micros=2),
        lambda: ledger.restore(A, issued_micros=1, acknowledged_micros=0),
        lambda: ledger.end(C, 0.0),
    ):
        with pytest.raises(UsageError):
            wrong()
    assert ledger.unacknowledged_micros == 50


def test_a_job_that_cannot_start_takes_nothing_and_is_overtaken() -> None:
    ledger = HostLedger(slice_micros=10)
    for job_id in (b"a", b"b", b"c"):
        ledger.begin(job_id)
    assert ledger.may_start(b"a", 6, 0.0)
    assert not ledger.may_start(b"b", 5, 1.0)
    assert ledger.unacknowledged_micros == 6
    # Whoever runs writes a receipt with its next step, and is not held up.
    assert ledger.wants_receipt(b"a")
    assert ledger.may_serve(b"a", 7, 2.0)
    # The first one writes its receipt when it comes so far: that is no fault of the client.
    assert not ledger.awaits_client(b"b")
    ledger.issued(b"a", 7, 3.0)
    assert ledger.awaits_client(b"b")
    assert ledger.may_start(b"c", 3, 4.0)
    ledger.acknowledged(b"a", 7, 5.0)
    assert ledger.may_start(b"b", 5, 5.0)
    assert ledger.unacknowledged_micros == 8


def test_a_job_that_was_written_off_after_a_receipt_counts_for_no_other_receipt() -> None:
    ledger = ledger_of(A, B)
    assert ledger.may_serve(A, 60, 0.0)
    ledger.issued(A, 30, 0.0)
    ledger.write_off(A, 0.0)
    assert [ledger.may_serve(B, micros, 0.0) and ledger.wants_receipt(B) for micros in (49, 50)] == [False, True]


def test_what_no_receipt_claims_is_carried_over() -> None:
    ledger = HostLedger(slice_micros=20)
    ledger.carry(15)
    ledger.begin(b"a")
    assert not ledger.may_start(b"a", 6, 0.0)
    assert ledger.may_start(b"a", 5, 0.0)
    with pytest.raises(UsageError):
        ledger.carry(-1)
