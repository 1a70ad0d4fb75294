"""How long one side lets the other keep it waiting: all waits together, and once where they overlap."""

from __future__ import annotations

from hostmesh.receipts.patience import Patience


def patience_of(slice_micros: int = 100) -> Patience:
    return Patience(slice_micros=slice_micros, timeout_s=30.0)


def test_only_waiting_uses_it_up() -> None:
    patience = patience_of()
    assert patience.left_s(1_000.0) == 30.0
    patience.wait(True, 1_000.0)
    patience.wait(False, 1_010.0)
    assert patience.left_s(2_000.0) == 20.0


def test_it_ends_at_nothing_also_where_a_clock_is_inexact() -> None:
    patience = patience_of()
    patience.wait(True, 0.0)
    assert patience.left_s(29.999_999_9) == patience.left_s(60.0) == 0.0


def test_half_a_slice_gives_all_of_it_back_and_never_more() -> None:
    patience = patience_of()
    patience.wait(True, 0.0)
    patience.paid(25, 20.0)
    assert patience.left_s(20.0) == 25.0
    patience.paid(50, 20.0)
    assert patience.left_s(20.0) == 30.0


def test_without_a_slice_there_is_nothing_to_pay_with() -> None:
    patience = patience_of(slice_micros=0)
    patience.wait(True, 0.0)
    patience.paid(9, 10.0)
    assert patience.left_s(10.0) == 20.0


def test_what_overlaps_is_waited_for_once_and_not_before_its_time() -> None:
    patience = patience_of()
    patience.begin(5.0, 0.0)
    patience.begin(7.0, 1.0)
    assert patience.left_s(4.0) == 30.0
    patience.end(5.0, 10.0)
    assert patience.left_s(12.0) == 23.0
    patience.end(7.0, 12.0)
    assert patience.left_s(90.0) == 23.0
