"""Prometheus metrics of calls, by method: interceptors of a client and of a server. Extra ``[metrics]``.

===============================================  =========  ============================
name                                             type       labels
===============================================  =========  ============================
``hostmesh_rpc_client_calls_total``              counter    service, method, code
``hostmesh_rpc_client_calls_in_progress``        gauge      service, method
``hostmesh_rpc_client_call_duration_seconds``    histogram  service, method
``hostmesh_rpc_server_calls_total``              counter    service, method, code
``hostmesh_rpc_server_calls_in_progress``        gauge      service, method
``hostmesh_rpc_server_call_duration_seconds``    histogram  service, method
===============================================  =========  ============================

``code`` is the gRPC status (``OK``). A call is counted when it ends; a client counts each attempt. Calls that a server
refuses before a handler is concerned (too many, no such method, malformed) are no calls of these.

Cost: three updates a call; a time series for each method and code that occurred.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from hostmesh.errors import UsageError
from hostmesh.rpc.interceptors import IncomingCall, OutgoingCall, ended_with
from hostmesh.system import System

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

DURATION_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper ends: from a call on one machine to a long generation."""


class ClientMetrics:
    """Counts and times the calls that a client makes.

    Args:
        registry: where they are registered; None = prometheus-client's own.
        system: its monotonic clock.

    Raises:
        UsageError: prometheus-client is not installed.
        ValueError: the registry has metrics of these names: one such object a registry.

    Example::

        async with open_sdk(client_interceptors=[ClientMetrics()]) as sdk: ...
    """

    def __init__(self, registry: CollectorRegistry | None = None, *, system: System | None = None) -> None:
        self._series = _Series("client", "made", registry, system or System())

    @asynccontextmanager
    async def intercept(self, call: OutgoingCall) -> AsyncIterator[None]:
        """See :class:`hostmesh.ClientInterceptor`."""
        async with self._series.measure(call):
            yield


class ServerMetrics:
    """Counts and times the calls that handlers serve.

    Args:
        registry: as of :class:`ClientMetrics`.
        system: its monotonic clock.

    Raises:
        As :class:`ClientMetrics`.

    Example::

        async with open_sdk(server_interceptors=[ServerMetrics()]) as sdk: ...
    """

    def __init__(self, registry: CollectorRegistry | None = None, *, system: System | None = None) -> None:
        self._series = _Series("server", "served", registry, system or System())

    @asynccontextmanager
    async def intercept(self, call: IncomingCall) -> AsyncIterator[None]:
        """See :class:`hostmesh.ServerInterceptor`."""
        async with self._series.measure(call):
            yield


class _Series:
    def __init__(self, side: str, done: str, registry: CollectorRegistry | None, system: System) -> None:
        try:
            from prometheus_client import REGISTRY, Counter, Gauge, Histogram
        except ImportError as error:
            raise UsageError("metrics need prometheus-client", remedy="pip install 'hostmesh[metrics]'") from error
        registry = registry or REGISTRY
        labels = ("service", "method")
        prefix = f"hostmesh_rpc_{side}_call"
        self._calls = Counter(f"{prefix}s", f"Calls {done}.", (*labels, "code"), registry=registry)
        self._in_progress = Gauge(f"{prefix}s_in_progress", f"Calls being {done}.", labels, registry=registry)
        self._duration = Histogram(
            f"{prefix}_duration_seconds",
            f"Time of calls {done}, their streams included.",
            labels,
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )
        self._system = system

    @asynccontextmanager
    async def measure(self, call: IncomingCall | OutgoingCall) -> AsyncIterator[None]:
        service, method = call.method.service, call.method.name
        in_progress = self._in_progress.labels(service, method)
        started_s = self._system.monotonic_s()
        in_progress.inc()
        try:
            yield
        finally:
            in_progress.dec()
            self._duration.labels(service, method).observe(self._system.monotonic_s() - started_s)
            self._calls.labels(service, method, ended_with(call).name).inc()
