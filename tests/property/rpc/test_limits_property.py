"""Limits against a naive model that keeps every admission."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hostmesh.rpc.limits import CallLimits, LimitTable, RpcLimits

RATE, BURST, CONCURRENT = 4.0, 3, 2


@given(
    steps=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["call", "end"]), st.integers(0, 8)), max_size=60)
)
def test_no_peer_ever_exceeds_its_rate_or_its_places(steps: list[tuple[str, str, int]]) -> None:
    table = LimitTable(
        RpcLimits(
            per_peer=CallLimits(max_concurrent=CONCURRENT, calls_per_s=RATE, burst=BURST),
            per_service=CallLimits(max_concurrent=1000, calls_per_s=1e6, burst=10**6),
        )
    )
    job = table.service("job")
    now = 0.0
    active = dict.fromkeys("abc", 0)
    admitted: dict[str, list[float]] = {peer: [] for peer in "abc"}
    for peer, action, eighths in steps:
        now += eighths / 8
        if action == "end":
            if active[peer]:
                table.release(peer, job)
                active[peer] -= 1
            continue
        over = table.admit(peer, job, now)
        if over is None:
            active[peer] += 1
            admitted[peer].append(now)
        elif over.reason == "BUSY":
            assert active[peer] == CONCURRENT
        else:
            assert over.reason == "RATE_LIMITED"
            assert 0 < over.retry_after_ms <= 1000 / RATE
    for peer in "abc":
        assert table.active_calls(peer) == active[peer] <= CONCURRENT
        times = admitted[peer]
        for first in range(len(times)):
            for last in range(first, len(times)):
                # In any window, no more than its burst and what the window refilled.
                assert last - first + 1 <= BURST + (times[last] - times[first]) * RATE + 1e-9
