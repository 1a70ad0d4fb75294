"""How many calls a peer and a service may make: token buckets and a table of calls in progress. Pure.

A call is admitted when its peer and its service both have a token and a free place. Over-limit calls are refused with
the time after which a token is there again, and never dropped. The table is keyed on the authenticated remote peer.

Bounds: a peer with calls in progress is always tracked (their number is bounded by the services' places); of the others
the most recently seen ``max_tracked_peers`` are. Forgetting an idle peer refills its bucket, which the service's own
bucket makes harmless.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from math import ceil, isfinite
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor

from hostmesh.errors import StatusCode
from hostmesh.rpc.outcome import Outcome
from hostmesh.v1 import options_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """Limits of one peer, or of one service."""

    max_concurrent: int
    calls_per_s: float
    burst: int
    """Calls that may come at once after a pause."""

    def __post_init__(self) -> None:
        """Refuse limits under which no call could ever be made, and a rate that is no number."""
        if self.max_concurrent < 1 or self.burst < 1 or not (isfinite(self.calls_per_s) and self.calls_per_s > 0):
            raise ValueError("limits must let at least one call through, and a rate is finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLimits:
    """Limits of services that are counted together: those that were added with equal limits."""

    group: str
    """Tells apart services that have the same numbers and are not to be counted together."""
    per_peer: CallLimits
    """All calls of one peer, over all services of the group."""
    per_service: CallLimits
    """All calls to one service, from all peers."""


BUILT_IN_LIMITS = ServiceLimits(
    group="built-in",
    per_peer=CallLimits(max_concurrent=128, calls_per_s=200.0, burst=1000),
    per_service=CallLimits(max_concurrent=2048, calls_per_s=2000.0, burst=4000),
)
"""Of hostmesh's own services, each of whose calls may cost a signature, a lookup or a job. Chosen here: one client's 50
parallel jobs and 200 in a row stay well below them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcLimits:
    """Limits of an RPC server; those of calls are for services that have none of their own.

    Chosen here: a peer may use every stream that one connection has, and a service what one core can answer.
    """

    per_peer: CallLimits = field(
        default_factory=lambda: CallLimits(max_concurrent=256, calls_per_s=50_000.0, burst=50_000)
    )
    """All calls of one peer, over all services without limits of their own."""
    per_service: CallLimits = field(
        default_factory=lambda: CallLimits(max_concurrent=4096, calls_per_s=100_000.0, burst=100_000)
    )
    """All calls to one such service, from all peers."""
    max_tracked_peers: int = 4096
    """Idle peers that are remembered, for each group of services."""
    request_timeout_s: float = 10.0
    """Time in which a stream must have brought its whole request, and ended the caller's side."""
    linger_timeout_s: float = 2.0
    """Time in which a caller who is refused before its request was read may read the refusal."""
    max_lingering: int = 256
    """Refused callers waited for at once; further ones are reset."""
    max_unfinished_bytes: int = 64 * 1024 * 1024
    """Bytes of requests that are not complete yet, of all peers."""
    max_unfinished_peer_bytes: int = 16 * 1024 * 1024
    """The same of one peer."""


def with_stated(stated: options_pb2.CallLimits, own: CallLimits) -> CallLimits:
    """Return a server's own limits with those that a service states in their place.

    A rate that is stated without a burst has one of a second's calls, one at least.

    Args:
        stated: of the service's options; what is 0 there is not stated.
        own: what the server has for services that state nothing.

    Raises:
        ValueError: ``calls_per_s`` is negative, infinite or no number.

    >>> own = CallLimits(max_concurrent=256, calls_per_s=20_000.0, burst=20_000)
    >>> with_stated(options_pb2.CallLimits(calls_per_s=2.5), own)
    CallLimits(max_concurrent=256, calls_per_s=2.5, burst=3)
    """
    rate = stated.calls_per_s
    if not (isfinite(rate) and rate >= 0):
        raise ValueError(f"calls_per_s of {rate:g} is no rate")
    return CallLimits(
        max_concurrent=stated.max_concurrent or own.max_concurrent,
        calls_per_s=rate or own.calls_per_s,
        burst=stated.burst or (ceil(rate) if rate else own.burst),
    )


def stated_limits(service: ServiceDescriptor, server: RpcLimits) -> ServiceLimits | None:
    """Return the limits that a service's options state, of which it alone is counted; None where they state none.

    Args:
        service: as its .proto describes it.
        server: of which it has what it does not state.

    Raises:
        TypeError: an option is no limit: a bug in the .proto, which protoc-gen-hostmesh refuses.
    """
    # The stubs know an extension as a plain field.
    extensions: Any = service.GetOptions().Extensions
    of_peer, of_all = extensions[options_pb2.calls_per_peer], extensions[options_pb2.calls_of_all]
    if not (of_peer.ListFields() or of_all.ListFields()):
        return None
    try:
        return ServiceLimits(
            group=service.full_name,
            per_peer=with_stated(of_peer, server.per_peer),
            per_service=with_stated(of_all, server.per_service),
        )
    except ValueError as error:
        raise TypeError(f"{service.full_name}: {error}") from error


@dataclass(frozen=True, slots=True)
class OverLimit:
    """Why a call is not admitted."""

    reason: str
    """``RATE_LIMITED`` (too many a second) or ``BUSY`` (too many at once)."""
    retry_after_ms: int

    def to_outcome(self) -> Outcome:
        """Return how the call ends."""
        return Outcome(
            status=StatusCode.RESOURCE_EXHAUSTED,
            message="too many calls",
            reason=self.reason,
            retry_after_ms=self.retry_after_ms,
        )


BUSY_RETRY_MS = 250
"""A guess: nothing tells when a call in progress will end."""
_LONGEST_WAIT_S = 1e9
"""What is told of rates under one call in 31 years, which are positive but as good as none."""


class _Bucket:
    """Tokens and places of one peer or service."""

    __slots__ = ("active", "at", "limits", "tokens")

    def __init__(self, limits: CallLimits, now: float) -> None:
        self.limits = limits
        self.tokens = float(limits.burst)
        self.at = now
        self.active = 0

    def over(self, now: float) -> OverLimit | None:
        """Say why there is no token or no place."""
        limits = self.limits
        if now > self.at:
            self.tokens += (now - self.at) * limits.calls_per_s
            if self.tokens > limits.burst:
                self.tokens = float(limits.burst)
            self.at = now
        if self.active >= limits.max_concurrent:
            return OverLimit("BUSY", BUSY_RETRY_MS)
        if self.tokens < 1.0:
            wait_s = min((1.0 - self.tokens) / limits.calls_per_s, _LONGEST_WAIT_S)
            return OverLimit("RATE_LIMITED", max(ceil(wait_s * 1000), 1))
        return None


class _Peers:
    """The peers of one group of services, the one that became idle least recently near the front."""

    __slots__ = ("buckets", "idle", "limits", "max_idle")

    def __init__(self, limits: CallLimits, max_idle: int) -> None:
        self.buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self.idle = 0
        self.limits = limits
        self.max_idle = max_idle

    def add(self, peer: str, now: float) -> _Bucket:
        """Track one more peer, which is idle yet."""
        bucket = self.buckets[peer] = _Bucket(self.limits, now)
        self.idle += 1
        return bucket

    def forget(self) -> None:
        """Forget idle peers that are too many."""
        while self.idle > self.max_idle:
            peer, bucket = next(iter(self.buckets.items()))
            if bucket.active:
                # Its place is where it becomes idle; until then it must not be met again.
                self.buckets.move_to_end(peer)
            else:
                del self.buckets[peer]
                self.idle -= 1


class ServiceCalls:
    """What a table knows of one service; made by :meth:`LimitTable.service`."""

    __slots__ = ("bucket", "peers")

    def __init__(self, bucket: _Bucket, peers: _Peers) -> None:
        self.bucket = bucket
        self.peers = peers


class UnfinishedRequests:
    """Bytes of requests that came in part, by peer. One that comes whole is none of these.

    Bounded by the calls in progress.
    """

    def __init__(self, limits: RpcLimits) -> None:
        self._max_bytes = limits.max_unfinished_bytes
        self._max_peer_bytes = limits.max_unfinished_peer_bytes
        self._by_peer: Counter[str] = Counter()
        self.total_bytes = 0

    def add(self, peer: str, size: int) -> bool:
        """Count bytes, and say whether they are within the limits; :meth:`remove` must follow in any case."""
        self._by_peer[peer] += size
        self.total_bytes += size
        return self.total_bytes <= self._max_bytes and self._by_peer[peer] <= self._max_peer_bytes

    def remove(self, peer: str, size: int) -> None:
        """Count bytes no more: their request is complete, or given up."""
        self.total_bytes -= size
        self._by_peer[peer] -= size
        if not self._by_peer[peer]:
            del self._by_peer[peer]


class LimitTable:
    """Who has how many calls.

    ``now`` is monotonic seconds.
    """

    def __init__(self, limits: RpcLimits) -> None:
        self._max_idle = limits.max_tracked_peers
        self._default = ServiceLimits(group="", per_peer=limits.per_peer, per_service=limits.per_service)
        self._groups: dict[ServiceLimits, _Peers] = {}
        self._services: dict[tuple[str, ServiceLimits], ServiceCalls] = {}

    @property
    def tracked_peers(self) -> int:
        """Peers in the table; one that uses several groups of services counts in each."""
        return sum(len(peers.buckets) for peers in self._groups.values())

    def active_calls(self, peer: str) -> int:
        """Return the calls of a peer in progress."""
        found = (peers.buckets.get(peer) for peers in self._groups.values())
        return sum(bucket.active for bucket in found if bucket is not None)

    def service(self, name: str, limits: ServiceLimits | None = None) -> ServiceCalls:
        """Return the calls of a service; the same ones for the same name and limits.

        Args:
            name: of the service.
            limits: its own; None for the general ones.

        Bounded by the services that a server registers.
        """
        limits = limits or self._default
        service = self._services.get((name, limits))
        if service is None:
            peers = self._groups.setdefault(limits, _Peers(limits.per_peer, self._max_idle))
            # From the beginning of time, so that the first call finds it full whatever the clock says.
            service = ServiceCalls(_Bucket(limits.per_service, float("-inf")), peers)
            self._services[name, limits] = service
        return service

    def admit(self, peer: str, service: ServiceCalls, now: float) -> OverLimit | None:
        """Take a place for a call, or say why there is none.

        Returns:
            None: admitted; :meth:`release` must follow.

        Cost: O(1).
        """
        peers, service_bucket = service.peers, service.bucket
        peer_bucket = peers.buckets.get(peer) or peers.add(peer, now)
        over = peer_bucket.over(now) or service_bucket.over(now)
        if over is None:
            if not peer_bucket.active:
                peers.idle -= 1
            peer_bucket.tokens -= 1.0
            peer_bucket.active += 1
            service_bucket.tokens -= 1.0
            service_bucket.active += 1
        elif not peer_bucket.active:
            peers.buckets.move_to_end(peer)
            peers.forget()
        return over

    def release(self, peer: str, service: ServiceCalls) -> None:
        """Give back the place of a call that was admitted."""
        peers = service.peers
        bucket = peers.buckets[peer]
        bucket.active -= 1
        service.bucket.active -= 1
        if not bucket.active:
            peers.idle += 1
            peers.buckets.move_to_end(peer)
            peers.forget()
