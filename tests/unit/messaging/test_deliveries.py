"""The table of delivered messages, with a clock in hand."""

from __future__ import annotations

from hostmesh.messaging.deliveries import Claim, DeliveryLimits, DeliveryTable


def identity(number: int) -> bytes:
    return number.to_bytes(16, "big")


def deliver(table: DeliveryTable, sender: str, number: int, now: float) -> Claim:
    claim = table.claim((sender, identity(number)), now)
    if claim is Claim.NEW:
        table.delivered((sender, identity(number)), now)
    return claim


def test_a_message_is_new_once() -> None:
    table = DeliveryTable(DeliveryLimits())
    key = ("a", identity(1))
    assert table.claim(key, 0.0) is Claim.NEW
    assert table.claim(key, 1.0) is Claim.IN_PROGRESS
    table.delivered(key, 2.0)
    assert table.claim(key, 3.0) is Claim.DELIVERED


def test_ids_are_per_sender() -> None:
    # W34: otherwise a stranger could make another's message vanish.
    table = DeliveryTable(DeliveryLimits())
    assert deliver(table, "a", 1, 0.0) is Claim.NEW
    assert deliver(table, "b", 1, 0.0) is Claim.NEW
    assert deliver(table, "a", 1, 0.0) is Claim.DELIVERED


def test_a_dropped_message_may_come_again() -> None:
    table = DeliveryTable(DeliveryLimits())
    key = ("a", identity(1))
    assert table.claim(key, 0.0) is Claim.NEW
    table.dropped(key)
    assert table.claim(key, 0.0) is Claim.NEW


def test_ids_are_forgotten_after_their_time() -> None:
    table = DeliveryTable(DeliveryLimits(ttl_s=10.0))
    assert deliver(table, "a", 1, 0.0) is Claim.NEW
    assert deliver(table, "a", 1, 9.9) is Claim.DELIVERED
    assert deliver(table, "a", 1, 10.0) is Claim.NEW
    assert len(table) == 1


def test_a_sender_has_a_bounded_number_of_ids() -> None:
    table = DeliveryTable(DeliveryLimits(max_per_sender=3))
    assert deliver(table, "b", 1, 0.0) is Claim.NEW
    for number in range(100):
        assert deliver(table, "a", number, 0.0) is Claim.NEW
    assert len(table) == 4
    assert [deliver(table, "a", number, 0.0) for number in (97, 98, 99)] == [Claim.DELIVERED] * 3
    # The flood of one sender pushes out nothing of another's.
    assert deliver(table, "b", 1, 0.0) is Claim.DELIVERED


def test_all_senders_have_a_bounded_number_of_ids() -> None:
    table = DeliveryTable(DeliveryLimits(max_total=10))
    for number in range(1000):
        assert deliver(table, f"sender {number}", 1, 0.0) is Claim.NEW
        assert len(table) <= 10
    assert deliver(table, "sender 999", 1, 0.0) is Claim.DELIVERED
    assert deliver(table, "sender 1", 1, 0.0) is Claim.NEW
    assert len(table._of_sender) == 10


def test_deliveries_in_progress_are_bounded_and_never_forgotten() -> None:
    table = DeliveryTable(DeliveryLimits(max_in_progress=2, ttl_s=1.0, max_total=1))
    assert table.claim(("a", identity(1)), 0.0) is Claim.NEW
    assert table.claim(("a", identity(2)), 0.0) is Claim.NEW
    assert table.claim(("a", identity(3)), 0.0) is Claim.FULL
    assert table.claim(("a", identity(1)), 1000.0) is Claim.IN_PROGRESS
    table.delivered(("a", identity(1)), 1000.0)
    assert table.claim(("a", identity(3)), 1000.0) is Claim.NEW


def test_deliveries_of_one_sender_leave_room_for_others() -> None:
    table = DeliveryTable(DeliveryLimits(max_in_progress=4, max_in_progress_per_sender=2))
    assert [table.claim(("a", identity(number)), 0.0) for number in range(3)] == [Claim.NEW, Claim.NEW, Claim.FULL]
    assert table.claim(("b", identity(0)), 0.0) is Claim.NEW
    table.dropped(("a", identity(0)))
    table.dropped(("a", identity(0)))
    assert table.claim(("a", identity(3)), 0.0) is Claim.NEW
    assert table.claim(("a", identity(4)), 0.0) is Claim.FULL
    table.delivered(("a", identity(3)), 0.0)
    assert table.claim(("a", identity(4)), 0.0) is Claim.NEW
