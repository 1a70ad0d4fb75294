"""Serves calls: one task a stream, its handler cancelled when the caller leaves, exactly one status at the end.

A stream goes through: admission by peer and service; the request, within a bounded time; the handler, under the
caller's deadline, while the caller's side is watched; the last frame. Nothing that a handler raises goes further than
its call.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from hostmesh.errors import ConnectionLostError, RemoteProtocolError, StatusCode, UsageError
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream, StreamHandler
from hostmesh.rpc.call import CallRefused, CallStarted, ServerCall
from hostmesh.rpc.limits import LimitTable, RpcLimits
from hostmesh.rpc.method import AnyMethod, Cardinality, handler_name, methods_of, protocol_id
from hostmesh.rpc.outcome import INTERNAL, OK, Outcome, outcome_of_error
from hostmesh.system import System

_log = logging.getLogger("hostmesh.rpc")

_LINGER_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """What a handler knows of its call besides the request."""

    peer_id: PeerId
    """The caller, as the handshake proved it."""
    method: str
    """``JobService.Run``."""
    deadline: float | None
    """On the system's monotonic clock, seconds; None = the caller waits without end."""
    session_id: bytes = b""
    idempotency_key: bytes = b""
    metadata: Mapping[str, str] = field(default_factory=dict)


SendResponse = Callable[[Any], Awaitable[None]]
"""Sends one response of a server stream; waits while the caller does not read."""


@dataclass(slots=True)
class RpcCounters:
    """What the server saw since it was made. Bounded by the methods and status codes."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By method (``JobService.Run``; ``JobService`` before the method is known) and status (``OK``)."""
    abandoned: Counter[str] = field(default_factory=Counter)
    """By method: calls whose caller left before the end."""
    violations: Counter[str] = field(default_factory=Counter)
    """By service: streams that broke the protocol."""
    handler_failures: Counter[str] = field(default_factory=Counter)
    """By method: handlers that raised what is no answer."""


@dataclass(frozen=True, slots=True)
class _Service:
    name: str
    protocol_id: str
    methods: Mapping[str, AnyMethod]
    handlers: Mapping[str, Callable[..., Awaitable[Any]]]


class RpcServer:
    """Dispatches streams to handlers by the ``service`` blocks of the .proto files.

    Args:
        prefix: of the protocol ids: ``/hostmesh``.
        system: its monotonic clock drives limits and deadlines.
        limits: per peer and per service.
    """

    def __init__(self, *, prefix: str, system: System, limits: RpcLimits | None = None) -> None:
        self._prefix = prefix
        self._system = system
        self._limits = limits or RpcLimits()
        self._table = LimitTable(self._limits)
        self._services: dict[str, _Service] = {}
        self._lingering = 0
        self.counters = RpcCounters()

    def add_service(self, service: ServiceDescriptor, handler: object) -> None:
        """Serve a service; each method ``GetRecord`` is the handler's ``get_record``.

        A unary method is ``async def get_record(self, request, context) -> response``; a server stream is
        ``async def run(self, request, context, send) -> None`` with ``await send(response)``. A handler ends its call
        with an error status by raising :class:`~hostmesh.errors.RpcError`. It is cancelled when the caller leaves or
        its time is up.

        Raises:
            UsageError: the handler lacks a method, or the protocol is served already.
        """
        served = protocol_id(self._prefix, service)
        if served in self._services:
            raise UsageError(f"{served} is served already")
        methods = methods_of(service)
        handlers: dict[str, Callable[..., Awaitable[Any]]] = {}
        for name in methods:
            function = getattr(handler, handler_name(name), None)
            if not callable(function):
                raise UsageError(f"{type(handler).__name__} has no {handler_name(name)} for {service.name}.{name}")
            handlers[name] = function
        self._services[served] = _Service(service.name, served, methods, handlers)

    def remove_service(self, service: ServiceDescriptor) -> str:
        """Serve a service no longer; calls in progress go on. Return its protocol id, for the node to forget."""
        served = protocol_id(self._prefix, service)
        self._services.pop(served, None)
        return served

    def stream_handlers(self) -> dict[str, StreamHandler]:
        """Return what a node must serve, by protocol id."""
        return {served: partial(self._serve, service) for served, service in self._services.items()}

    def active_calls(self, peer_id: PeerId) -> int:
        """Return the calls of a peer in progress."""
        return self._table.active_calls(peer_id)

    async def _serve(self, service: _Service, stream: Stream) -> None:
        """Serve one stream to its end; leaves it closed or reset."""
        over = self._table.admit(stream.peer_id, service.name, self._system.monotonic_s())
        clean = False
        try:
            if over is not None:
                outcome = Outcome(
                    status=StatusCode.RESOURCE_EXHAUSTED,
                    message="too many calls",
                    reason=over.reason,
                    retry_after_ms=over.retry_after_ms,
                )
                clean = await self._refuse(service.name, stream, ServerCall(service.methods), outcome)
            else:
                clean = await self._serve_admitted(service, stream)
        except ConnectionLostError:
            self.counters.abandoned[service.name] += 1
        finally:
            if over is None:
                self._table.release(stream.peer_id, service.name)
            if not clean:
                await stream.reset()
        if clean:
            try:
                await stream.close()
            except ConnectionLostError:
                await stream.reset()

    async def _serve_admitted(self, service: _Service, stream: Stream) -> bool:
        """Read the request and answer it. Returns whether the stream ended as the protocol says."""
        call = ServerCall(service.methods)
        try:
            with trio.move_on_after(self._limits.request_timeout_s) as scope:
                request = await _read_request(stream, call)
        except RemoteProtocolError:
            # It closed before its request was whole, or sent more than a request: no caller that waits for an answer.
            self.counters.violations[service.name] += 1
            return False
        if scope.cancelled_caught:
            self.counters.violations[service.name] += 1
            _log.info("%s sent no request in time", stream.peer_id, extra={"service": service.name})
            return False
        if isinstance(request, CallStarted):
            return await self._run(service, stream, call, request)
        if request.violation is not None:
            self.counters.violations[service.name] += 1
        name = service.name if request.method is None else request.method.full_name
        return await self._refuse(name, stream, call, request.outcome)

    async def _run(self, service: _Service, stream: Stream, call: ServerCall, started: CallStarted) -> bool:
        method = started.method
        sender = _Sender(stream, call)
        handler = self._bind(service, stream.peer_id, started, sender)
        watch = _Watch(stream, call)
        response: Message | None = None
        sent = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch.run)
                # An exception inside a scope that is cancelled too may come out as a group with Cancelled, which only
                # the scope takes apart; so the boundary stands outside the scopes.
                late = _deadline_scope(started.header.deadline_left_s)
                try:
                    with watch.handler_scope, late:
                        response = await handler()
                    outcome = OK
                    if late.cancelled_caught:
                        outcome = Outcome(
                            status=StatusCode.DEADLINE_EXCEEDED, message="the caller's deadline has passed"
                        )
                except Exception as error:  # noqa: BLE001 - the handler boundary: one call fails, and nothing else
                    outcome = self._outcome_of(error, method)
                if not watch.gone and not sender.broken:
                    with watch.answer_scope:
                        sent = await self._answer(stream, call, method, outcome, response)
                nursery.cancel_scope.cancel()
        finally:
            if watch.violation:
                self.counters.violations[service.name] += 1
            if not sent:
                self.counters.abandoned[method.full_name] += 1
        return sent

    def _bind(
        self, service: _Service, peer_id: PeerId, started: CallStarted, sender: _Sender
    ) -> Callable[[], Awaitable[Message | None]]:
        """Return the handler's call, ready to be awaited."""
        header, method = started.header, started.method
        left_s = header.deadline_left_s
        context = CallContext(
            peer_id=peer_id,
            method=method.full_name,
            deadline=None if left_s is None else self._system.monotonic_s() + left_s,
            session_id=header.session_id,
            idempotency_key=header.idempotency_key,
            metadata=header.metadata,
        )
        function = service.handlers[method.name]
        if method.cardinality is Cardinality.UNARY:
            return partial(function, started.request, context)
        return partial(function, started.request, context, sender.send)

    async def _answer(
        self, stream: Stream, call: ServerCall, method: AnyMethod, outcome: Outcome, response: Message | None
    ) -> bool:
        """Send the last frame. Returns whether it was sent."""
        unary = method.cardinality is Cardinality.UNARY
        try:
            data = call.end(outcome, response if unary and outcome is OK else None)
        except UsageError as error:
            outcome = self._outcome_of(error, method)
            data = call.end(outcome)
        try:
            await stream.send(data)
        except ConnectionLostError:
            return False
        self.counters.calls[method.full_name, outcome.status.name] += 1
        _log.debug("%s for %s: %s %s", method.full_name, stream.peer_id, outcome.status.name, outcome.reason)
        return True

    def _outcome_of(self, error: Exception, method: AnyMethod) -> Outcome:
        while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        outcome = outcome_of_error(error)
        if outcome is None:
            self.counters.handler_failures[method.full_name] += 1
            _log.error("the handler of %s failed", method.full_name, exc_info=error)
            return INTERNAL
        return outcome

    async def _refuse(self, name: str, stream: Stream, call: ServerCall, outcome: Outcome) -> bool:
        """Answer a call whose request was perhaps not read, and let the caller read the answer.

        A caller that is still sending would otherwise lose the answer to the reset of its stream.
        """
        self.counters.calls[name, outcome.status.name] += 1
        if self._lingering >= self._limits.max_lingering:
            return False
        self._lingering += 1
        try:
            with trio.move_on_after(self._limits.linger_timeout_s):
                await stream.send(call.end(outcome))
                await stream.close_write()
                left = _LINGER_BYTES
                while left > 0:
                    data = await stream.receive()
                    if not data:
                        return True
                    left -= len(data)
        finally:
            self._lingering -= 1
        return False


class _Sender:
    """The handler's way to send responses of a server stream."""

    def __init__(self, stream: Stream, call: ServerCall) -> None:
        self._stream = stream
        self._call = call
        self._lock = trio.Lock()
        self.broken = False
        """A response was sent in part, so that nothing may follow it."""

    async def send(self, response: Message) -> None:
        """Send one response; several tasks of a handler may do so."""
        async with self._lock:
            data = self._call.response(response)
            self.broken = True
            await self._stream.send(data)
            self.broken = False


class _Watch:
    """Sees the caller leave while the handler runs, and cancels the handler.

    The caller half-closes after its request, which is no sign of anything; its reset, the end of the connection or
    another byte is.
    """

    def __init__(self, stream: Stream, call: ServerCall) -> None:
        self._stream = stream
        self._call = call
        self.handler_scope = trio.CancelScope()
        self.answer_scope = trio.CancelScope()
        self.gone = False
        self.violation = False

    async def run(self) -> None:
        try:
            while data := await self._stream.receive():
                self._call.feed(data)
                self._call.next_event()
            await self._stream.wait_reset()
        except ConnectionLostError:
            pass
        except RemoteProtocolError:
            self.violation = True
        self.gone = True
        self.handler_scope.cancel()
        self.answer_scope.cancel()


async def _read_request(stream: Stream, call: ServerCall) -> CallStarted | CallRefused:
    while True:
        data = await stream.receive()
        if not data:
            call.end_of_stream()
        call.feed(data)
        event = call.next_event()
        if event is not None:
            if isinstance(event, CallStarted):
                # Bytes that came after the request with it end the call before it begins.
                call.next_event()
            return event


def _deadline_scope(left_s: float | None) -> trio.CancelScope:
    return trio.CancelScope() if left_s is None else trio.move_on_after(left_s)
