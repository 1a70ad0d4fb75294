"""How many calls a peer and a service may make: token buckets and a table of calls in progress. Pure.

A call is admitted when its peer and its service both have a token and a free place. Over-limit calls are refused with
the time after which a token is there again, and never dropped. The table is keyed on the authenticated remote peer.

Bounds: a peer with calls in progress is always tracked (their number is bounded by the services' places); of the others
the most recently seen ``max_tracked_peers`` are. Forgetting an idle peer refills its bucket, which the service's own
bucket makes harmless.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from math import ceil


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """Limits of one peer, or of one service."""

    max_concurrent: int
    calls_per_s: float
    burst: int
    """Calls that may come at once after a pause."""

    def __post_init__(self) -> None:
        """Refuse limits under which no call could ever be made."""
        if self.max_concurrent < 1 or self.calls_per_s <= 0 or self.burst < 1:
            raise ValueError("limits must let at least one call through")


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcLimits:
    """Limits of an RPC server. Chosen here: one client's 50 parallel jobs and 200 in a row stay well below them."""

    per_peer: CallLimits = field(default_factory=lambda: CallLimits(max_concurrent=128, calls_per_s=200.0, burst=1000))
    """All calls of one peer, over all services."""
    per_service: CallLimits = field(
        default_factory=lambda: CallLimits(max_concurrent=2048, calls_per_s=2000.0, burst=4000)
    )
    """All calls to one service, from all peers."""
    max_tracked_peers: int = 4096
    request_timeout_s: float = 10.0
    """Time in which a stream must have brought its whole request."""
    linger_timeout_s: float = 2.0
    """Time in which a caller who is refused before its request was read may read the refusal."""
    max_lingering: int = 256
    """Refused callers waited for at once; further ones are reset."""


@dataclass(frozen=True, slots=True)
class OverLimit:
    """Why a call is not admitted."""

    reason: str
    """``RATE_LIMITED`` (too many a second) or ``BUSY`` (too many at once)."""
    retry_after_ms: int


BUSY_RETRY_MS = 250
"""A guess: nothing tells when a call in progress will end."""


class _Bucket:
    """Tokens and places of one peer or service."""

    __slots__ = ("active", "at", "limits", "tokens")

    def __init__(self, limits: CallLimits, now: float) -> None:
        self.limits = limits
        self.tokens = float(limits.burst)
        self.at = now
        self.active = 0

    def refill(self, now: float) -> None:
        passed = max(now - self.at, 0.0)
        self.tokens = min(self.tokens + passed * self.limits.calls_per_s, float(self.limits.burst))
        self.at = max(now, self.at)

    def over(self) -> OverLimit | None:
        if self.active >= self.limits.max_concurrent:
            return OverLimit("BUSY", BUSY_RETRY_MS)
        if self.tokens < 1.0:
            return OverLimit("RATE_LIMITED", max(ceil((1.0 - self.tokens) / self.limits.calls_per_s * 1000), 1))
        return None


class LimitTable:
    """Who has how many calls.

    ``now`` is monotonic seconds.
    """

    def __init__(self, limits: RpcLimits) -> None:
        self._limits = limits
        self._services: dict[str, _Bucket] = {}
        self._active: dict[str, _Bucket] = {}
        self._idle: OrderedDict[str, _Bucket] = OrderedDict()

    @property
    def tracked_peers(self) -> int:
        """Peers in the table."""
        return len(self._active) + len(self._idle)

    def active_calls(self, peer: str) -> int:
        """Return the calls of a peer in progress."""
        bucket = self._active.get(peer)
        return 0 if bucket is None else bucket.active

    def admit(self, peer: str, service: str, now: float) -> OverLimit | None:
        """Take a place for a call, or say why there is none.

        Returns:
            None: admitted; :meth:`release` must follow.

        Cost: O(1).
        """
        service_bucket = self._services.get(service)
        if service_bucket is None:
            # Bounded by the services that the server registered.
            service_bucket = self._services[service] = _Bucket(self._limits.per_service, now)
        peer_bucket = self._active.get(peer) or self._idle.pop(peer, None) or _Bucket(self._limits.per_peer, now)
        peer_bucket.refill(now)
        service_bucket.refill(now)
        over = peer_bucket.over() or service_bucket.over()
        if over is None:
            for bucket in (peer_bucket, service_bucket):
                bucket.tokens -= 1.0
                bucket.active += 1
        self._keep(peer, peer_bucket)
        return over

    def release(self, peer: str, service: str) -> None:
        """Give back the place of a call that was admitted."""
        peer_bucket = self._active[peer]
        peer_bucket.active -= 1
        self._services[service].active -= 1
        self._keep(peer, peer_bucket)

    def _keep(self, peer: str, bucket: _Bucket) -> None:
        if bucket.active:
            self._active[peer] = bucket
            return
        self._active.pop(peer, None)
        self._idle[peer] = bucket
        self._idle.move_to_end(peer)
        while len(self._idle) > self._limits.max_tracked_peers:
            self._idle.popitem(last=False)
