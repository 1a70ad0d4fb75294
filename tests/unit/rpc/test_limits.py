"""Limits, with a clock in hand."""

from __future__ import annotations

import pytest

from hostmesh.rpc.limits import CallLimits, LimitTable, OverLimit, RpcLimits


def limits(**changes: object) -> RpcLimits:
    values: dict[str, object] = {
        "per_peer": CallLimits(max_concurrent=2, calls_per_s=10.0, burst=4),
        "per_service": CallLimits(max_concurrent=3, calls_per_s=100.0, burst=100),
        "max_tracked_peers": 5,
    }
    return RpcLimits(**(values | changes))  # type: ignore[arg-type]


def test_a_peer_has_so_many_calls_at_once() -> None:
    table = LimitTable(limits())
    assert table.admit("a", "job", 0.0) is None
    assert table.admit("a", "status", 0.0) is None
    assert table.admit("a", "job", 0.0) == OverLimit("BUSY", 250)
    assert table.active_calls("a") == 2
    assert table.admit("b", "job", 0.0) is None
    table.release("a", "job")
    assert table.admit("a", "job", 0.0) is None


def test_a_service_has_so_many_calls_at_once() -> None:
    table = LimitTable(limits())
    assert [table.admit(peer, "job", 0.0) for peer in "abc"] == [None] * 3
    assert table.admit("d", "job", 0.0) == OverLimit("BUSY", 250)
    assert table.admit("d", "status", 0.0) is None


def test_a_peer_has_so_many_calls_a_second() -> None:
    table = LimitTable(limits())

    def call(now: float) -> OverLimit | None:
        over = table.admit("a", "job", now)
        if over is None:
            table.release("a", "job")
        return over

    assert [call(0.0) for _ in range(4)] == [None] * 4
    assert call(0.0) == OverLimit("RATE_LIMITED", 100)
    # The hint is true: earlier there is no token, then there is one.
    assert call(0.0625) == OverLimit("RATE_LIMITED", 38)
    assert call(0.125) is None
    assert call(0.125) == OverLimit("RATE_LIMITED", 75)
    # A pause fills the bucket up to its burst and no further.
    assert [call(100.0) for _ in range(5)] == [None] * 4 + [OverLimit("RATE_LIMITED", 100)]


def test_a_refused_call_costs_no_token_and_no_place() -> None:
    table = LimitTable(limits(per_service=CallLimits(max_concurrent=1, calls_per_s=1.0, burst=10)))
    assert table.admit("b", "job", 0.0) is None
    for _ in range(20):
        assert table.admit("a", "job", 0.0) == OverLimit("BUSY", 250)
    assert table.active_calls("a") == 0
    table.release("b", "job")
    assert table.admit("a", "job", 0.0) is None


def test_a_clock_that_stands_still_or_goes_back_gives_no_tokens() -> None:
    table = LimitTable(limits())
    for _ in range(4):
        assert table.admit("a", "job", 50.0) is None
        table.release("a", "job")
    assert table.admit("a", "job", 1.0) is not None
    assert table.admit("a", "job", 50.0) is not None
    assert table.admit("a", "job", 50.1) is None


def test_idle_peers_are_bounded_and_active_ones_are_kept() -> None:
    table = LimitTable(limits())
    assert table.admit("busy", "job", 0.0) is None
    for number in range(1000):
        peer = f"peer {number}"
        assert table.admit(peer, "job", number * 1.0) is None
        table.release(peer, "job")
        assert table.tracked_peers <= 6
    assert table.active_calls("busy") == 1
    assert table.admit("busy", "job", 1000.0) is None
    assert table.admit("busy", "job", 1000.0) == OverLimit("BUSY", 250)


@pytest.mark.parametrize(
    "values",
    [
        {"max_concurrent": 0, "calls_per_s": 1.0, "burst": 1},
        {"max_concurrent": 1, "calls_per_s": 0.0, "burst": 1},
        {"max_concurrent": 1, "calls_per_s": 1.0, "burst": 0},
    ],
)
def test_limits_that_let_nothing_through_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least one call"):
        CallLimits(**values)  # type: ignore[arg-type]
