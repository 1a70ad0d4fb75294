"""Token buckets: how often something may happen, per key. Pure; ``now`` is monotonic seconds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from hostmesh.errors import ConfigError

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many a second, and how many at once."""

    per_second: float
    burst: int

    def __post_init__(self) -> None:
        if self.per_second <= 0 or self.burst < 1:
            raise ConfigError(
                "a rate needs per_second above 0 and a burst of 1 or more", name="rate", source="argument"
            )


class RateLimiter(Generic[Key]):
    """One bucket a key, for the keys used last.

    Bound: ``max_keys`` buckets; beyond, the one used longest ago is dropped, and starts full when its key comes back.

    >>> limiter = RateLimiter(Rate(per_second=2.0, burst=1), max_keys=8)
    >>> limiter.take("a", now=0.0), limiter.take("a", now=0.0), limiter.take("a", now=0.5)
    (0.0, 0.5, 0.0)
    """

    __slots__ = ("_buckets", "_max_keys", "_rate")

    def __init__(self, rate: Rate, *, max_keys: int) -> None:
        if max_keys < 1:
            raise ConfigError("a limiter needs room for a key", name="max_keys", source="argument")
        self._rate = rate
        self._max_keys = max_keys
        self._buckets: OrderedDict[Key, tuple[float, float]] = OrderedDict()

    def wait_s(self, key: Key, now: float) -> float:
        """Return the seconds until there is a token; 0 when there is one. Takes nothing.

        Cost: O(1).
        """
        return self._wait_s(self._tokens(key, now))

    def take(self, key: Key, now: float) -> float:
        """Take a token.

        Returns:
            0 when it was there; else the seconds until there will be one, and nothing was taken.

        Cost: O(1).
        """
        tokens = self._tokens(key, now)
        _, at = self._buckets.pop(key, (tokens, now))
        wait_s = self._wait_s(tokens)
        self._buckets[key] = (max(0.0, tokens - 1.0) if wait_s == 0.0 else tokens, max(at, now))
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        return wait_s

    def _tokens(self, key: Key, now: float) -> float:
        tokens, at = self._buckets.get(key, (float(self._rate.burst), now))
        return min(float(self._rate.burst), tokens + max(0.0, now - at) * self._rate.per_second)

    def _wait_s(self, tokens: float) -> float:
        # Half a millionth: sums of fractions must not fall just short of a whole token.
        return 0.0 if tokens >= 1.0 - 5e-7 else (1.0 - tokens) / self._rate.per_second

    def __len__(self) -> int:
        return len(self._buckets)
