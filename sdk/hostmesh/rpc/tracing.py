"""OpenTelemetry spans of calls, which cross the wire: interceptors of a client and of a server. Extra ``[tracing]``.

A client's span is the parent of the server's: its identity travels as ``traceparent`` and ``tracestate`` in the call's
metadata (W3C Trace Context, level 1), and nothing else does: no baggage. Whoever is called gets to know it. A server
that has no tracing ignores it; one that has believes it, as a trace is a claim of whoever sent it.

Names and attributes are those of OpenTelemetry's semantic conventions for RPC: a span ``JobService/Run`` with
``rpc.system.name``, ``rpc.method``, ``rpc.response.status_code`` and, of a failed call, ``error.type``. Texts of errors
are left out: they may hold what a person typed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from hostmesh.errors import StatusCode, UsageError
from hostmesh.rpc.interceptors import IncomingCall, OutgoingCall, ended_with
from hostmesh.rpc.method import AnyMethod
from hostmesh.rpc.outcome import MAX_ENTRIES

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanKind, TracerProvider

MAX_TRACE_BYTES = 512
"""Of a traceparent or tracestate (W3C Trace Context, section 3.3.1.5)."""
_SERVER_FAULTS = frozenset(
    {
        StatusCode.UNKNOWN,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNIMPLEMENTED,
        StatusCode.INTERNAL,
        StatusCode.UNAVAILABLE,
        StatusCode.DATA_LOSS,
    }
)
"""What is an error of the server's, and not of its caller's (OpenTelemetry, "Semantic conventions for gRPC")."""


class ClientTracing:
    """Makes a span of every call of a client, and sends its identity along.

    Args:
        tracer_provider: who makes and exports spans; None = OpenTelemetry's global one, which exports nothing until
            the application sets one.

    Raises:
        UsageError: opentelemetry-api is not installed.

    Example::

        async with open_sdk(client_interceptors=[ClientTracing()]) as sdk: ...
    """

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        self._spans = _Spans(tracer_provider)

    @asynccontextmanager
    async def intercept(self, call: OutgoingCall) -> AsyncIterator[None]:
        """See :class:`hostmesh.ClientInterceptor`."""
        with self._spans.around_client(call):
            yield


class ServerTracing:
    """Makes a span of every call that a handler serves, below the caller's where that sent one.

    Args:
        tracer_provider: as of :class:`ClientTracing`.

    Raises:
        UsageError: opentelemetry-api is not installed.

    Example::

        async with open_sdk(server_interceptors=[ServerTracing()]) as sdk: ...
    """

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        self._spans = _Spans(tracer_provider)

    @asynccontextmanager
    async def intercept(self, call: IncomingCall) -> AsyncIterator[None]:
        """See :class:`hostmesh.ServerInterceptor`."""
        with self._spans.around_handler(call):
            yield


class _Spans:
    def __init__(self, tracer_provider: TracerProvider | None) -> None:
        try:
            from opentelemetry import context, trace
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise UsageError("tracing needs opentelemetry-api", remedy="pip install 'hostmesh[tracing]'") from error
        self._tracer = trace.get_tracer("hostmesh.rpc", tracer_provider=tracer_provider)
        self._kinds = trace.SpanKind
        self._failed = trace.Status(trace.StatusCode.ERROR)
        self._carrier = TraceContextTextMapPropagator()
        self._no_context = context.Context()

    @contextmanager
    def around_client(self, call: OutgoingCall) -> Iterator[None]:
        with self._span(call.method, self._kinds.CLIENT, None) as span:
            self._carrier.inject(call.metadata, setter=_METADATA)
            try:
                yield
            finally:
                status = ended_with(call)
                self._end(span, status, is_fault=status is not StatusCode.OK)

    @contextmanager
    def around_handler(self, call: IncomingCall) -> Iterator[None]:
        # Into an empty context: what happens to be current in the server's task is nobody's parent.
        parent = self._carrier.extract(call.context.metadata, context=self._no_context, getter=_METADATA)
        with self._span(call.method, self._kinds.SERVER, parent) as span:
            try:
                yield
            finally:
                status = ended_with(call)
                self._end(span, status, is_fault=status in _SERVER_FAULTS)

    def _span(self, method: AnyMethod, kind: SpanKind, parent: Context | None) -> AbstractContextManager[Span]:
        name = f"{method.service}/{method.name}"
        return self._tracer.start_as_current_span(
            name,
            context=parent,
            kind=kind,
            attributes={"rpc.system.name": "hostmesh", "rpc.method": name},
            record_exception=False,
            set_status_on_exception=False,
        )

    def _end(self, span: Span, status: StatusCode, *, is_fault: bool) -> None:
        span.set_attribute("rpc.response.status_code", status.name)
        if is_fault:
            span.set_attribute("error.type", status.name)
            span.set_status(self._failed)


class _Metadata:
    """Reads and writes a call's metadata for OpenTelemetry."""

    def get(self, carrier: Mapping[str, str], key: str) -> list[str] | None:
        value = carrier.get(key)
        # OpenTelemetry logs a warning for each that is longer, and a stranger sends them.
        return None if value is None or len(value) > MAX_TRACE_BYTES else [value]

    def keys(self, carrier: Mapping[str, str]) -> list[str]:
        return list(carrier)

    def set(self, carrier: MutableMapping[str, str], key: str, value: str) -> None:
        # What has no room stays behind: a trace is no reason for a call to fail.
        if len(value) <= MAX_TRACE_BYTES and (key in carrier or len(carrier) < MAX_ENTRIES):
            carrier[key] = value


_METADATA: Any = _Metadata()
"""Of OpenTelemetry's Getter and Setter, whose import this module does without."""
