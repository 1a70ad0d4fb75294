"""When a call is made again: where that does no harm, with pauses, and within a budget. Pure.

Source: gRPC, "gRPC Retry Design" (A6: backoff with jitter, pushback by the server, throttling by a token bucket).
"""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.errors import HostmeshError, RpcError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and after what pauses a call is made again.

    Only one whose error has ``retry_safe`` is: a call that surely did not run; and one with an idempotency key, which
    the peer executes once, also where the connection was lost while it may have run. All attempts together keep the
    call's deadline.

    Raises:
        UsageError: a value out of its bounds.

    Example::

        policy = RetryPolicy(max_attempts=5)
        response = await rpc.unary(peer_id, PING, request, timeout_s=10, retry=policy)
        key = os.urandom(16)
        response = await rpc.unary(peer_id, PAY, payment, timeout_s=60, retry=policy, idempotency_key=key)
    """

    max_attempts: int = 3
    """The first one included, 1 to 20."""
    first_backoff_s: float = 0.1
    """The pause after the first attempt; each later one is twice as long."""
    max_backoff_s: float = 5.0

    def __post_init__(self) -> None:
        if not 1 <= self.max_attempts <= 20 or not 0 < self.first_backoff_s <= self.max_backoff_s <= 3600:
            raise UsageError(
                "a retry policy has 1 to 20 attempts, and pauses above 0 s, the first no longer than the longest",
                remedy="see hostmesh.RetryPolicy",
            )

    def pause_s(self, attempt: int, error: HostmeshError, draw: float) -> float | None:
        """Return how long to wait before the next attempt, or None when there is none.

        Args:
            attempt: how many were made, >= 1.
            error: how the last one ended.
            draw: uniform between 0 and 1; the pause is between half and all of what the backoff says, so that callers
                who failed together do not come back together.

        >>> from hostmesh.errors import DialError
        >>> refused = DialError("nobody listens", stage="dial")
        >>> policy = RetryPolicy(first_backoff_s=1.0, max_attempts=3)
        >>> policy.pause_s(1, refused, 1.0), policy.pause_s(2, refused, 0.0), policy.pause_s(3, refused, 0.0)
        (1.0, 1.0, None)
        """
        if attempt >= self.max_attempts or not error.retry_safe:
            return None
        backoff_s = min(self.max_backoff_s, self.first_backoff_s * 2.0 ** (attempt - 1)) * (0.5 + draw / 2)
        if isinstance(error, RpcError) and error.retry_after_ms is not None:
            # The peer knows best when there is room again.
            return max(backoff_s, error.retry_after_ms / 1000)
        return backoff_s


class RetryBudget:
    """Bounds the attempts that all calls of a client make anew, so that a network in trouble is not flooded.

    A token bucket: every attempt that fails takes one token, every call that ends well gives a tenth back. Calls are
    made anew while it is more than half full.

    Args:
        tokens: its size, >= 1: after about half as many failures in a row nothing is repeated.
    """

    __slots__ = ("_size", "_tokens")

    def __init__(self, tokens: float = 20.0) -> None:
        if not tokens >= 1:
            raise UsageError("a retry budget has at least one token", remedy="give it 20")
        self._size = self._tokens = tokens

    @property
    def allows_retry(self) -> bool:
        """Whether a call may be made anew now."""
        return self._tokens > self._size / 2

    def on_failure(self) -> None:
        """Note that an attempt failed in a way that a retry could mend."""
        self._tokens = max(0.0, self._tokens - 1.0)

    def on_success(self) -> None:
        """Note that a call ended well."""
        self._tokens = min(self._size, self._tokens + 0.1)
