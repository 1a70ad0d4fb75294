"""A rate with a burst. Pure."""

from __future__ import annotations


class TokenBucket:
    """Lets ``burst`` through at once and ``per_s`` after that.

    >>> bucket = TokenBucket(per_s=2, burst=1)
    >>> bucket.take(0.0), bucket.take(0.1), bucket.wait_s(0.2), bucket.take(0.5)
    (0.0, 0.4, 0.3, 0.0)

    Args:
        per_s: tokens that come a second, > 0.
        burst: most tokens, and those that there are at first, >= 1.
    """

    __slots__ = ("_at_s", "_burst", "_per_s", "_tokens")

    def __init__(self, *, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at_s: float | None = None

    def wait_s(self, now_s: float) -> float:
        """Return in how many seconds there will be a token; 0.0 = there is one. The clock is monotonic."""
        if self._at_s is not None:
            self._tokens = min(self._burst, self._tokens + max(0.0, now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        # A hair less than one will do: waiting as long as was said must be enough.
        return 0.0 if self._tokens > 1 - 1e-9 else (1 - self._tokens) / self._per_s

    def take(self, now_s: float) -> float:
        """Take a token; return 0.0, or in how many seconds there will be one."""
        wait_s = self.wait_s(now_s)
        if not wait_s:
            self._tokens = max(0.0, self._tokens - 1)
        return wait_s
