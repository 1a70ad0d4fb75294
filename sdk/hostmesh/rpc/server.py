"""Serves calls: one task a stream, its handler cancelled when the caller leaves, exactly one status at the end.

A stream goes through: admission by peer and service; the request and the end of the caller's side, within a bounded
time, or the header alone where requests are a stream, which the handler then reads as it likes; the handler, in a
cancel scope that the caller's deadline ends, and the loss of the stream; the last frame, with which the server's side
ends. Nothing that a handler raises goes further than its call.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from hostmesh.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    RemoteProtocolError,
    UsageError,
)
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream, StreamHandler, StreamPlace
from hostmesh.rpc.book import CallBook
from hostmesh.rpc.call import HEARTBEAT_FRAME
from hostmesh.rpc.context import CallContext as CallContext
from hostmesh.rpc.frames import encode_end, whole_request
from hostmesh.rpc.guarded import GuardedHandlers, good_end
from hostmesh.rpc.header import NO_METADATA, Header
from hostmesh.rpc.interceptors import ServerInterceptor
from hostmesh.rpc.key_store import KeyStore
from hostmesh.rpc.keyed import KeyedCalls
from hostmesh.rpc.limits import RpcLimits, ServiceLimits, UnfinishedRequests, stated_limits
from hostmesh.rpc.lingering import Lingering
from hostmesh.rpc.method import protocol_ids
from hostmesh.rpc.outcome import LATE, OK, Outcome, outer_part
from hostmesh.rpc.plain import PlainCall, serve_alone
from hostmesh.rpc.requests import ReceivedRequests, read_request
from hostmesh.rpc.routes import Route, Service, routes_of
from hostmesh.rpc.sender import MessageSender
from hostmesh.rpc.served_call import CallRefused, CallStarted, ServerCall, encode_last
from hostmesh.rpc.shapes import SendResponse as SendResponse
from hostmesh.rpc.shapes import ServiceBase, service_of
from hostmesh.rpc.workers import Workers
from hostmesh.system import System
from hostmesh.wire.bounds import parse

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.rpc")

HEARTBEAT_S = 10.0
"""How often calls are looked at for silence. Chosen here: a caller bears 45 s (:mod:`hostmesh.rpc.responses`)."""


class RpcServer:
    """Dispatches streams to handlers by the ``service`` blocks of the .proto files.

    Args:
        prefix: of the protocol ids: ``/hostmesh``.
        system: its monotonic clock drives limits and deadlines.
        limits: per peer and per service.
        interceptors: around the handlers of every service, the first outermost.
        keys: keeps the calls with idempotency keys; None = in memory.
    """

    def __init__(
        self,
        *,
        prefix: str,
        system: System,
        limits: RpcLimits | None = None,
        interceptors: Sequence[ServerInterceptor] = (),
        keys: KeyStore | None = None,
    ) -> None:
        self._prefix = prefix
        self._interceptors = tuple(interceptors)
        self._book = CallBook(system, limits or RpcLimits())
        self._unfinished = UnfinishedRequests(self._book.limits)
        self._services: dict[str, Service] = {}
        self._lingering = Lingering(self._book.limits)
        self._workers = Workers(self._begin)
        self._keyed = KeyedCalls(system, outcome_of=self._book.outcome_of, store=keys)
        self._guarded = GuardedHandlers(self._keyed, system)
        self.counters = self._book.counters

    def add_service(
        self,
        service: ServiceDescriptor | ServiceBase,
        handler: object | None = None,
        *,
        limits: ServiceLimits | None = None,
        interceptors: Sequence[ServerInterceptor] = (),
    ) -> None:
        """Serve a service in all its versions; each method ``GetRecord`` is the handler's ``get_record``.

        A unary method is ``async def get_record(self, request, context) -> response``; where responses are a stream
        it is ``async def run(self, request, context, send) -> None`` with ``await send(response)``. Where requests are
        a stream, the first argument is a :class:`~hostmesh.rpc.shapes.RequestStream`. A handler ends its call with
        an error status by raising :class:`~hostmesh.errors.RpcError`. It is cancelled when the caller leaves or its
        time is up; that of a call with an idempotency key goes on when the caller leaves.

        Args:
            service: as its .proto describes it; or the handler, where that is a generated base.
            handler: has a method for each of the service's.
            limits: of the calls to this service and to all others with equal limits; None for those that its options
                state, of which it alone is counted, and those of the server where they state none.
            interceptors: around its handlers, inside those of the server.

        Raises:
            UsageError: the handler lacks a method, or the protocol is served already in one of these versions.
            TypeError: the .proto's options mean nothing; protoc-gen-hostmesh refuses these.
        """
        if handler is None:
            if not isinstance(service, ServiceBase):
                raise UsageError(f"{service.full_name} needs a handler", remedy="serve(service, handler)")
            handler = service
        service = service_of(service)
        ids = protocol_ids(self._prefix, service)
        for served in ids:
            if served in self._services:
                raise UsageError(f"{served} is served already")
        calls = self._book.table.service(service.full_name, limits or stated_limits(service, self._book.limits))
        routes = routes_of(service, handler, (*self._interceptors, *interceptors))
        for served in ids:
            self._services[served] = Service(service, routes, calls, version=served.rpartition("/")[2])

    def remove_service(self, service: ServiceDescriptor | ServiceBase) -> tuple[str, ...]:
        """Serve a service no longer; calls in progress go on. Return its protocol ids, for the node to forget.

        Another service that is served under one of its ids stays. Nothing is returned where it was not served.
        """
        name = service_of(service).full_name
        removed = tuple(served for served, each in self._services.items() if each.descriptor.full_name == name)
        for served in removed:
            del self._services[served]
        return removed

    def services(self) -> tuple[ServiceDescriptor, ...]:
        """Return the services that are served now."""
        return tuple({each.descriptor.full_name: each.descriptor for each in self._services.values()}.values())

    def stream_handlers(self) -> dict[str, StreamHandler]:
        """Return what a node must serve, by protocol id."""
        return {served: _Door(self, service) for served, service in self._services.items()}

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run what calls need besides their own tasks, until cancelled: calls with idempotency keys, and heartbeats.

        A call gets one after :data:`HEARTBEAT_S` to twice as long without a response, and so on: a long generation is
        told from a host that has forgotten it.
        """
        async with trio.open_nursery() as nursery:
            await nursery.start(self._keyed.run)
            await nursery.start(self._workers.run)
            task_status.started()
            while True:
                await trio.sleep(HEARTBEAT_S)
                for stream, sender in [*self._book.handled.items()]:
                    if sender is None:
                        # Nothing else is sent meanwhile. Where there is no room, the next one comes soon enough.
                        with suppress(ConnectionLostError):
                            stream.send_nowait(HEARTBEAT_FRAME)
                    elif sender.was_silent():
                        # In a task: a caller that does not read holds its heartbeat back, and no other.
                        nursery.start_soon(self._beat, stream, sender)

    async def _beat(self, stream: Stream, sender: MessageSender) -> None:
        if stream in self._book.handled:  # the handler may have ended since
            await sender.beat()

    @property
    def idle_workers(self) -> int:
        """Tasks that wait for the next call."""
        return self._workers.idle

    def active_calls(self, peer_id: PeerId) -> int:
        """Return the calls of a peer in progress."""
        return self._book.table.active_calls(peer_id)

    def serve(self, service: Service, stream: Stream) -> Awaitable[None]:
        """Serve one stream to its end; leaves it closed or reset."""
        begun = self._begin(service, stream)
        if not isinstance(begun, PlainCall):
            return begun
        return serve_alone(begun)

    def take(self, service: Service, stream: Stream, place: StreamPlace) -> bool:
        """Have one of the server's own tasks serve a stream; False where none is free, or no plain call is expected.

        The next call is like the last one: what is no plain call costs less in a task of its own from the beginning.
        """
        return service.expects_plain and self._workers.take((service, stream, place))

    def _begin(self, service: Service, stream: Stream) -> PlainCall | Awaitable[None]:
        over = self._book.table.admit(stream.peer_id, service.calls, self._book.system.monotonic_s())
        if over is not None:
            return self._serve_refused(service, stream, over.to_outcome())
        service.expects_plain = False
        received: list[bytes | memoryview] = []
        if first := stream.receive_nowait():
            received.append(first)
            plain = whole_request(first, service.max_frame_bytes, service.plain)
            rest = None if plain is None else stream.receive_nowait()
            if plain is not None and rest == b"":
                # Nearly every call: its one frame is here, with its end.
                route, left_s, data = plain
                with suppress(RemoteProtocolError):  # told below
                    request = parse(route.method.request_type, data, route.method.max_request_bytes)
                    if not route.method.is_unary or route.interceptors:
                        return self._serve_started(service, stream, route, request, left_s)
                    service.expects_plain = True
                    return PlainCall(self._book, service, stream, route, request, left_s)
            if rest:
                received.append(rest)
        return self._serve_admitted(service, stream, received)

    async def _serve_refused(self, service: Service, stream: Stream, outcome: Outcome) -> None:
        clean = False
        try:
            clean = await self._refuse(service.name, stream, outcome)
        finally:
            if not clean:
                await stream.reset()
        if clean:
            await self._lingering.close(stream)

    async def _serve_admitted(self, service: Service, stream: Stream, received: list[bytes | memoryview]) -> None:
        """Read the request, and serve the call or refuse it.

        Args:
            service: that was called.
            stream: of the call.
            received: what came on it already.
        """
        call = ServerCall(service.methods, service.max_frame_bytes)
        request: CallStarted | CallRefused | None = None
        clean = False
        try:
            request = await read_request(
                stream, call, received, unfinished=self._unfinished, timeout_s=self._book.limits.request_timeout_s
            )
            if isinstance(request, CallRefused):
                if request.violation is not None:
                    self.counters.violations[service.name] += 1
                name = service.name if request.method is None else request.method.full_name
                clean = await self._refuse(name, stream, request.outcome)
        except (DeadlineExceededError, RemoteProtocolError) as error:
            # No caller that waits for an answer.
            self.counters.violations[service.name] += 1
            _log.info("%s sent no request: %s", stream.peer_id, error.message, extra={"service": service.name})
        except ConnectionLostError:
            self.counters.abandoned[service.name] += 1
        finally:
            if not isinstance(request, CallStarted):
                self._book.table.release(stream.peer_id, service.calls)
                if not clean:
                    await stream.reset()
        if isinstance(request, CallStarted):
            route, header = service.routes[request.method.name], request.header
            left_s = header.deadline_left_s
            message, request = request.request, None  # the handler has what it needs of it
            await self._serve_started(service, stream, route, message, left_s, header, call)
        elif clean:
            await self._lingering.close(stream)

    async def _serve_started(
        self,
        service: Service,
        stream: Stream,
        route: Route,
        request: Message | None,
        left_s: float | None,
        header: Header | None = None,
        call: ServerCall | None = None,
    ) -> None:
        """Have a call handled, and answer it. One task and few frames: most of what an idle call costs is its frames.

        Args:
            service: that was called.
            stream: of the call.
            route: of its method.
            request: the only one; None where requests are a stream.
            left_s: what its caller still waits.
            header: of the call; None where it says nothing else.
            call: reads the rest of it; None where there is none.
        """
        method = route.method
        sender: MessageSender | None = None
        requests: ReceivedRequests[Any] | None = None
        if left_s is None:
            left_s = method.default_timeout_s  # the caller names no end: that of the method holds
        until = math.inf if left_s is None else trio.current_time() + left_s
        outcome, answered, sent = OK, False, False
        try:
            # An exception inside a scope that is cancelled too may come out as a group with Cancelled, which only the
            # scope takes apart; so the boundary stands outside the scope.
            try:
                with trio.CancelScope(deadline=until) as scope:
                    stream.on_lost(scope.cancel)
                    if left_s is not None and left_s <= 0:
                        await trio.lowlevel.checkpoint()  # the time is up before there is anything to do
                    context = CallContext(
                        peer_id=stream.peer_id,
                        method=method.full_name,
                        deadline=None if left_s is None else self._book.system.monotonic_s() + left_s,
                        version=service.version,
                        session_id=b"" if header is None else header.session_id,
                        idempotency_key=b"" if header is None else header.idempotency_key,
                        metadata=NO_METADATA if header is None else header.metadata,
                    )
                    arguments: tuple[Any, ...] = (request, context)
                    if not method.is_unary:
                        if method.takes_stream and call is not None:
                            on_violation = partial(self._violate, service)
                            requests = ReceivedRequests(
                                stream, call, unfinished=self._unfinished, on_violation=on_violation
                            )
                            arguments = (requests, context)
                        if method.gives_stream:
                            sender = MessageSender(stream, route.encode)
                            arguments = (*arguments, sender.send)
                    self._book.handled[stream] = sender
                    handling: Awaitable[Any]
                    if route.interceptors or context.idempotency_key:
                        handling = self._guarded.handle(route, context, arguments, scope)
                    else:
                        handling = route.handler(*arguments)
                    arguments, request = (), None  # the handler has what it needs of them
                    response = await handling
                    del self._book.handled[stream]  # the answer goes past the sender: no heartbeat may start now
                    if sender is not None and sender.is_busy:
                        await sender.wait_idle()
                    if sender is None or not sender.broken:
                        last = response if route.interceptors else good_end(method, response)
                        answered = True
                        sent = await self._book.send_last(stream, last)
            except Exception as error:  # noqa: BLE001 - the handler boundary: one call fails, and nothing else
                outcome = self._book.outcome_of(error, method)
            except BaseExceptionGroup as group:
                # The node ends, say. What the handler made of it must not come out of the node with it.
                raise outer_part(group) from None
            if not answered:
                # Where the caller has left and not its time, the answer finds nobody.
                outcome = LATE if outcome is OK else outcome
                self._book.handled.pop(stream, None)
                with trio.CancelScope(deadline=max(until, trio.current_time() + self._book.limits.linger_timeout_s)):
                    if sender is not None and sender.is_busy:
                        await sender.wait_idle()  # a heartbeat waits for room
                    if sender is None or not sender.broken:
                        sent = await self._book.send_last(stream, encode_last(method, outcome))
        finally:
            self._book.table.release(stream.peer_id, service.calls)
            self._book.handled.pop(stream, None)
            if requests is not None:
                requests.release()
            self._book.count(route, outcome, stream.peer_id, was_answered=sent)
            if not sent:
                await stream.reset()
        if sent:
            await self._lingering.close(stream, is_ended=call is None or call.requests_ended)

    async def _refuse(self, name: str, stream: Stream, outcome: Outcome) -> bool:
        """Answer a call whose request was perhaps not read, and let the caller read the answer.

        A caller that is still sending would otherwise lose the answer to the reset of its stream.
        """
        self.counters.calls[name, outcome.status.name] += 1
        try:
            return await self._lingering.let_finish(stream, encode_end(outcome, None))
        except ConnectionLostError:
            return False  # and counted already

    def _violate(self, service: Service) -> None:
        self.counters.violations[service.name] += 1


class _Door:
    """What a node serves of a service."""

    __slots__ = ("_server", "_service")

    def __init__(self, server: RpcServer, service: Service) -> None:
        self._server = server
        self._service = service

    def __call__(self, stream: Stream) -> Awaitable[None]:
        return self._server.serve(self._service, stream)

    def take(self, stream: Stream, place: StreamPlace) -> bool:
        """See :class:`hostmesh.net.stream.StreamTaker`."""
        return self._server.take(self._service, stream, place)
