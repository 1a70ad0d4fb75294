"""Limits, with a clock in hand."""

from __future__ import annotations

import dataclasses

import pytest

from hostmesh.rpc.limits import BUILT_IN_LIMITS, CallLimits, LimitTable, OverLimit, RpcLimits, ServiceLimits


def limits(**changes: object) -> RpcLimits:
    values: dict[str, object] = {
        "per_peer": CallLimits(max_concurrent=2, calls_per_s=10.0, burst=4),
        "per_service": CallLimits(max_concurrent=3, calls_per_s=100.0, burst=100),
        "max_tracked_peers": 5,
    }
    return RpcLimits(**(values | changes))  # type: ignore[arg-type]


def test_a_peer_has_so_many_calls_at_once() -> None:
    table = LimitTable(limits())
    job = table.service("job")
    assert table.admit("a", job, 0.0) is None
    assert table.admit("a", table.service("status"), 0.0) is None
    assert table.admit("a", job, 0.0) == OverLimit("BUSY", 250)
    assert table.active_calls("a") == 2
    assert table.admit("b", job, 0.0) is None
    table.release("a", job)
    assert table.admit("a", job, 0.0) is None


def test_a_service_has_so_many_calls_at_once() -> None:
    table = LimitTable(limits())
    job = table.service("job")
    assert [table.admit(peer, job, 0.0) for peer in "abc"] == [None] * 3
    assert table.admit("d", job, 0.0) == OverLimit("BUSY", 250)
    assert table.admit("d", table.service("status"), 0.0) is None


def test_a_peer_has_so_many_calls_a_second() -> None:
    table = LimitTable(limits())
    job = table.service("job")

    def call(now: float) -> OverLimit | None:
        over = table.admit("a", job, now)
        if over is None:
            table.release("a", job)
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
    job = table.service("job")
    assert table.admit("b", job, 0.0) is None
    for _ in range(20):
        assert table.admit("a", job, 0.0) == OverLimit("BUSY", 250)
    assert table.active_calls("a") == 0
    table.release("b", job)
    assert table.admit("a", job, 0.0) is None


def test_a_clock_that_stands_still_or_goes_back_gives_no_tokens() -> None:
    table = LimitTable(limits())
    job = table.service("job")
    for _ in range(4):
        assert table.admit("a", job, 50.0) is None
        table.release("a", job)
    assert table.admit("a", job, 1.0) is not None
    assert table.admit("a", job, 50.0) is not None
    assert table.admit("a", job, 50.1) is None


def test_idle_peers_are_bounded_and_active_ones_are_kept() -> None:
    table = LimitTable(limits())
    job = table.service("job")
    assert table.admit("busy", job, 0.0) is None
    for number in range(1000):
        peer = f"peer {number}"
        assert table.admit(peer, job, number * 1.0) is None
        table.release(peer, job)
        assert table.tracked_peers <= 6
    assert table.active_calls("busy") == 1
    assert table.admit("busy", job, 1000.0) is None
    assert table.admit("busy", job, 1000.0) == OverLimit("BUSY", 250)


def test_a_peer_that_was_seen_last_is_remembered_longest() -> None:
    table = LimitTable(limits(max_tracked_peers=2))
    job = table.service("job")

    def spend(peer: str, calls: int) -> None:
        for _ in range(calls):
            assert table.admit(peer, job, 0.0) is None
            table.release(peer, job)

    spend("a", 4)
    spend("b", 4)
    assert table.admit("a", job, 0.0) is not None  # refused, and seen by that
    spend("c", 4)
    assert table.tracked_peers == 2
    assert table.admit("a", job, 0.0) == OverLimit("RATE_LIMITED", 100)
    assert table.admit("c", job, 0.0) == OverLimit("RATE_LIMITED", 100)
    # Forgotten, and so as new.
    assert table.admit("b", job, 0.0) is None


def test_peers_that_are_busy_do_not_hide_one_to_forget() -> None:
    table = LimitTable(limits(per_service=CallLimits(max_concurrent=100, calls_per_s=1e6, burst=10**6)))
    job = table.service("job")
    for number in range(50):
        assert table.admit(f"busy {number}", job, 0.0) is None
    for number in range(50):
        assert table.admit(f"idle {number}", job, 0.0) is None
        table.release(f"idle {number}", job)
        assert table.tracked_peers == 50 + min(number + 1, 5)
    for number in range(50):
        assert table.active_calls(f"busy {number}") == 1
        table.release(f"busy {number}", job)
        assert table.active_calls(f"busy {number}") == 0
    assert table.tracked_peers == 5


# --- services with limits of their own ---


def spent(table: LimitTable, services: list[str], own: ServiceLimits | None) -> int:
    """Return how many calls one peer can make at one moment, in turn to each service."""
    count = 0
    while table.admit("a", service := table.service(services[count % len(services)], own), 0.0) is None:
        table.release("a", service)
        count += 1
    return count


def test_services_with_equal_limits_share_what_a_peer_may_do() -> None:
    own = ServiceLimits(
        group="own",
        per_peer=CallLimits(max_concurrent=2, calls_per_s=1.0, burst=7),
        per_service=CallLimits(max_concurrent=9, calls_per_s=1.0, burst=100),
    )
    table = LimitTable(limits())
    assert spent(table, ["x", "y"], own) == 7
    # A group of its own, and the general limits, are not touched by that.
    assert spent(table, ["z"], dataclasses.replace(own, group="other")) == 7
    assert spent(table, ["job"], None) == 4
    x, y, job = table.service("x", own), table.service("y", own), table.service("job")
    assert [table.admit("a", service, 60.0) for service in (x, y, x)] == [None, None, OverLimit("BUSY", 250)]
    assert table.admit("a", job, 60.0) is None
    assert table.active_calls("a") == 3


def test_a_service_that_comes_again_is_the_same() -> None:
    table = LimitTable(limits())
    assert table.service("job") is table.service("job")
    assert table.service("job", BUILT_IN_LIMITS) is table.service("job", BUILT_IN_LIMITS)
    assert table.service("job") is not table.service("job", BUILT_IN_LIMITS)


def test_the_built_in_services_keep_their_limits_together() -> None:
    # 200 a second and 1000 at once of one peer over all of them; 2000 a second, 4000 at once, 2048 in progress each.
    table = LimitTable(RpcLimits())
    names = ["StatusService", "DiscoveryService", "SessionService", "JobService", "MessageService"]
    services = [table.service(name, BUILT_IN_LIMITS) for name in names]
    assert spent(table, names, BUILT_IN_LIMITS) == 1000
    assert table.admit("a", services[0], 0.0) == OverLimit("RATE_LIMITED", 5)
    assert sum(table.admit("b", services[number % 5], 0.0) is None for number in range(200)) == 128
    assert table.admit("b", services[0], 0.0) == OverLimit("BUSY", 250)
    taken = sum(table.admit(f"peer {number // 100}", services[3], 100.0) is None for number in range(4000))
    assert taken + 25 == 2048  # 25 of b's 128 are there
    for number in range(taken):
        table.release(f"peer {number // 100}", services[3])
    calls = 0
    while table.admit(f"other {calls // 100}", services[4], 100.0) is None:
        table.release(f"other {calls // 100}", services[4])
        calls += 1
    assert calls == 4000
    assert table.admit("late", services[4], 100.0) == OverLimit("RATE_LIMITED", 1)


def test_the_general_limits_let_a_fast_caller_through() -> None:
    table = LimitTable(RpcLimits())
    assert spent(table, ["x"], None) == 50_000
    x = table.service("x")
    # 6250 calls every eighth of a second, for as long as it likes.
    for eighth in range(1, 9):
        for _ in range(6250):
            assert table.admit("a", x, eighth / 8) is None
            table.release("a", x)
    assert table.admit("a", x, 1.0) == OverLimit("RATE_LIMITED", 1)
    assert sum(table.admit("b", x, 1.0) is None for _ in range(300)) == 256


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
