"""When a call is made again, as arithmetic."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    DialError,
    HostmeshError,
    RpcError,
    StatusCode,
    UsageError,
)
from hostmesh.rpc import retry
from hostmesh.rpc.retry import RetryBudget, RetryPolicy


def test_docstring_examples() -> None:
    assert doctest.testmod(retry) == (0, 4)


@pytest.mark.parametrize(
    ("error", "is_retried"),
    [
        (DialError("nobody", stage="dial"), True),
        (ConnectionLostError("before", may_have_executed=False), True),
        (ConnectionLostError("perhaps"), False),
        (DeadlineExceededError("late"), False),
        (RpcError("busy", status=StatusCode.RESOURCE_EXHAUSTED), True),
        (RpcError("down", status=StatusCode.UNAVAILABLE), True),
        (RpcError("broken", status=StatusCode.INTERNAL), False),
        (RpcError("no", status=StatusCode.PERMISSION_DENIED), False),
        (RpcError("late", status=StatusCode.DEADLINE_EXCEEDED), False),
        (UsageError("wrong"), False),
    ],
)
def test_only_what_surely_did_not_run_is_tried_again(error: HostmeshError, is_retried: bool) -> None:
    assert (RetryPolicy().pause_s(1, error, 0.5) is not None) is is_retried


def test_what_is_safe_under_its_key_is_tried_again() -> None:
    lost = ConnectionLostError("perhaps")
    lost.retry_safe = True
    assert RetryPolicy().pause_s(1, lost, 0.5) is not None


def test_an_unknown_outcome_may_have_executed_and_is_not_tried_again() -> None:
    unknown = RpcError("?", status=StatusCode.ABORTED, reason="OUTCOME_UNKNOWN")
    assert (unknown.may_have_executed, unknown.retry_safe) == (True, False)
    assert not RpcError("conflict", status=StatusCode.ABORTED, reason="CONFLICT").may_have_executed
    assert RetryPolicy().pause_s(1, unknown, 0.5) is None


def test_the_peers_word_on_when_to_come_back_counts() -> None:
    error = RpcError("busy", status=StatusCode.RESOURCE_EXHAUSTED, retry_after_ms=2500)
    assert RetryPolicy(first_backoff_s=0.1).pause_s(1, error, 1.0) == 2.5
    assert RetryPolicy(first_backoff_s=4.0).pause_s(1, error, 1.0) == 4.0


@given(st.integers(1, 20), st.integers(1, 25), st.floats(0.001, 5.0), st.floats(0, 1))
def test_pauses_double_up_to_the_longest_and_end(attempts: int, made: int, first_s: float, draw: float) -> None:
    policy = RetryPolicy(max_attempts=attempts, first_backoff_s=first_s, max_backoff_s=5.0)
    pause_s = policy.pause_s(made, DialError("nobody", stage="dial"), draw)
    if made >= attempts:
        assert pause_s is None
    else:
        full_s = min(5.0, first_s * 2 ** (made - 1))
        assert pause_s is not None
        assert full_s / 2 <= pause_s <= full_s


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"max_attempts": 21},
        {"first_backoff_s": 0},
        {"first_backoff_s": 6.0},
        {"max_backoff_s": 3601},
        {"first_backoff_s": float("nan")},
    ],
)
def test_a_policy_out_of_bounds_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        RetryPolicy(**wrong)  # type: ignore[arg-type]


def test_a_budget_ends_retries_of_a_network_in_trouble_and_comes_back() -> None:
    budget = RetryBudget(20)
    for _ in range(9):
        budget.on_failure()
        assert budget.allows_retry
    budget.on_failure()
    assert not budget.allows_retry
    for _ in range(100):
        budget.on_failure()
    for _ in range(100):
        budget.on_success()
    assert not budget.allows_retry, "a hundred good calls give ten back"
    for _ in range(2):
        budget.on_success()
    assert budget.allows_retry
    for _ in range(1000):
        budget.on_success()
    for _ in range(9):
        budget.on_failure()
    assert budget.allows_retry, "no more is saved than the size"
    budget.on_failure()
    assert not budget.allows_retry
    with pytest.raises(UsageError):
        RetryBudget(0)
