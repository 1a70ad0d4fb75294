"""Makes calls to peers: one stream a call, a deadline, a typed answer.

What a failure means: an error with ``may_have_executed`` False says that the request cannot have left; with True, that
the peer may have done the work. :class:`RpcError` is the peer's own answer.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol

import trio

from hostmesh.errors import ConnectionLostError, DeadlineExceededError, StatusCode
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream
from hostmesh.rpc.call import HEARTBEAT, CallEnded, ClientCall, ResponseReceived
from hostmesh.rpc.header import NO_METADATA, Header
from hostmesh.rpc.method import Method, RequestT, ResponseT, protocol_id
from hostmesh.rpc.outcome import Outcome
from hostmesh.system import System

_OPEN_GRACE_S = 1.0
"""The node keeps the time itself and can say more; this is for one that does not."""

_CLOSE_TIMEOUT_S = 2.0

_MESSAGES_PER_PASS = 128
"""How many responses a loop may take before others have their turn."""


class StreamOpener(Protocol):
    """What the client needs of a node."""

    async def open_stream(self, peer_id: PeerId, protocol_id: str, *, timeout_s: float | None = None) -> Stream:
        """Open a stream, dialling the peer if needed.

        Raises:
            DialError, ProtocolNotSupportedError, ConnectionLostError: nothing was sent.
        """
        ...


class RpcClient:
    """Calls methods of peers.

    Args:
        node: opens the streams.
        prefix: of the protocol ids: ``/hostmesh``.
        system: its monotonic clock measures :meth:`unary_timed`.
    """

    def __init__(self, node: StreamOpener, *, prefix: str, system: System) -> None:
        self._node = node
        self._prefix = prefix
        self._system = system

    async def unary(
        self,
        peer_id: PeerId,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        *,
        timeout_s: float,
        session_id: bytes = b"",
        idempotency_key: bytes = b"",
        metadata: Mapping[str, str] | None = None,
    ) -> ResponseT:
        """Make a call with one response.

        Args:
            peer_id: whom to ask; dialled if needed.
            method: a unary method.
            request: its request, within its bounds.
            timeout_s: seconds for everything, the dial included; the peer is told what is left of it.
            session_id: 16 bytes, or empty where the method needs none.
            idempotency_key: same key, same effect; up to 32 bytes.
            metadata: up to 16 entries of at most 64 and 1024 bytes.

        Raises:
            FrameTooLargeError, UsageError: the request breaks a bound; nothing was sent.
            DialError, ProtocolNotSupportedError: nothing was sent.
            ConnectionLostError: the path broke; ``may_have_executed`` says whether the request may have left.
            DeadlineExceededError: likewise.
            RpcError: the peer ended the call with a status other than OK.
            RemoteProtocolError: the peer broke the protocol.

        Cancellation: safe; resets the stream, which cancels the peer's handler.

        Cost: one stream; one frame each way.
        """
        response, _ = await self.unary_timed(
            peer_id,
            method,
            request,
            timeout_s=timeout_s,
            session_id=session_id,
            idempotency_key=idempotency_key,
            metadata=metadata,
        )
        return response

    async def unary_timed(
        self,
        peer_id: PeerId,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        *,
        timeout_s: float,
        session_id: bytes = b"",
        idempotency_key: bytes = b"",
        metadata: Mapping[str, str] | None = None,
    ) -> tuple[ResponseT, float]:
        """Make a call like :meth:`unary`; also return the seconds from sending the request to the whole answer.

        Dialling and opening the stream are not in them.
        """
        call = _client_call(method, request, session_id, idempotency_key, metadata)
        deadline = trio.current_time() + timeout_s
        stream: Stream | None = None
        with trio.CancelScope(deadline=deadline + _OPEN_GRACE_S) as scope:
            stream = await self._node.open_stream(peer_id, protocol_id(self._prefix, method), timeout_s=timeout_s)
            try:
                scope.deadline = deadline
                sent_at_s = self._system.monotonic_s()
                await _send_request(stream, call, deadline - trio.current_time())
                response = await _one_response(stream, call)
                took_s = self._system.monotonic_s() - sent_at_s
            finally:
                await _leave(stream, ended=call.ended)
            return response, took_s
        raise _no_answer(peer_id) if stream is not None else _no_stream(peer_id, timeout_s)

    @asynccontextmanager
    async def server_stream(
        self,
        peer_id: PeerId,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        *,
        timeout_s: float | None,
        session_id: bytes = b"",
        idempotency_key: bytes = b"",
        metadata: Mapping[str, str] | None = None,
    ) -> AsyncIterator[ResponseStream[ResponseT]]:
        """Make a call with any number of responses; entering sends the request.

        Leaving the block before the last response cancels the call: the stream is reset, and the peer's handler with
        it. A slow reader is held back by flow control and never timed out but by its own ``timeout_s``.

        Args:
            peer_id: whom to ask; dialled if needed.
            method: a server-streaming method.
            request: its request, within its bounds.
            timeout_s: seconds until the last response must be there, the dial included; None = no deadline. It runs out
                only while a response is waited for: the body of the block is never cancelled.
            session_id: as in :meth:`unary`.
            idempotency_key: as in :meth:`unary`.
            metadata: as in :meth:`unary`.

        Raises:
            As :meth:`unary`, from entering or from iterating.
        """
        # Checked before the dial: a request that breaks a bound costs nothing.
        call = _client_call(method, request, session_id, idempotency_key, metadata)
        deadline = math.inf if timeout_s is None else trio.current_time() + timeout_s
        stream: Stream | None = None
        with trio.CancelScope(deadline=deadline + _OPEN_GRACE_S):
            stream = await self._node.open_stream(peer_id, protocol_id(self._prefix, method), timeout_s=timeout_s)
        if stream is None:
            raise _no_stream(peer_id, timeout_s)
        try:
            responses = ResponseStream(stream, call, deadline, sent_at_s=self._system.monotonic_s())
            with trio.CancelScope(deadline=deadline) as scope:
                await _send_request(stream, call, None if timeout_s is None else deadline - trio.current_time())
            if scope.cancelled_caught:
                raise _no_answer(peer_id)
            yield responses
        finally:
            with trio.CancelScope(deadline=trio.current_time() + _CLOSE_TIMEOUT_S, shield=True):
                await _leave(stream, ended=call.ended)


class ResponseStream(Generic[ResponseT]):
    """The responses of a call, as an async iterator. It ends after the last one when the status is OK.

    Iterating raises what :meth:`RpcClient.unary` lists. Cancelling an iteration loses no response. What has arrived is
    given out without waiting, but for a pass of the scheduler now and then, so that a fast stream starves nobody.
    """

    __slots__ = ("_call", "_deadline", "_outcome", "_stream", "_until_pass", "sent_at_s")

    def __init__(
        self, stream: Stream, call: ClientCall[RequestT, ResponseT], deadline: float, *, sent_at_s: float
    ) -> None:
        self._stream = stream
        self._call: ClientCall[Any, ResponseT] = call
        self._deadline = deadline
        self._outcome: Outcome | None = None
        self._until_pass = _MESSAGES_PER_PASS
        self.sent_at_s = sent_at_s
        """When the request was sent, on the system's monotonic clock."""

    @property
    def peer_id(self) -> PeerId:
        """The peer that answers."""
        return self._stream.peer_id

    def __aiter__(self) -> AsyncIterator[ResponseT]:
        return self

    async def __anext__(self) -> ResponseT:
        if self._outcome is None:
            self._until_pass -= 1
            if not self._until_pass:
                self._until_pass = _MESSAGES_PER_PASS
                # Before a response is taken: being cancelled here loses none.
                await trio.lowlevel.checkpoint()
            event = self._call.next_event()
            if event is None or event is HEARTBEAT:
                event = await self._wait_event()
            if isinstance(event, ResponseReceived):
                return event.message
            # Whatever came after the status with it is a violation, which this raises.
            self._call.next_event()
            self._outcome = event.outcome
        if self._outcome.status is not StatusCode.OK:
            raise self._outcome.to_error()
        raise StopAsyncIteration

    async def _wait_event(self) -> ResponseReceived[ResponseT] | CallEnded:
        if self._deadline == math.inf:
            return await _next_event(self._stream, self._call)
        with trio.CancelScope(deadline=self._deadline):
            return await _next_event(self._stream, self._call)
        raise _no_answer(self._stream.peer_id)


def _client_call(
    method: Method[RequestT, ResponseT],
    request: RequestT,
    session_id: bytes,
    idempotency_key: bytes,
    metadata: Mapping[str, str] | None,
) -> ClientCall[RequestT, ResponseT]:
    header = Header(
        method=method.name,
        session_id=session_id,
        idempotency_key=idempotency_key,
        metadata=metadata or NO_METADATA,
    )
    return ClientCall(method, header, request)


async def _send_request(stream: Stream, call: ClientCall[Any, Any], deadline_left_s: float | None) -> None:
    """Send the request and close our side with it."""
    try:
        await stream.send(call.start(deadline_left_s), end=True)
    except ConnectionLostError as error:
        if not error.may_have_executed:
            raise
        # The peer may have answered before it had read everything; reading tells.


async def _one_response(stream: Stream, call: ClientCall[Any, ResponseT]) -> ResponseT:
    """Return the response of a unary call, which has exactly one, and an OK status after it."""
    response: ResponseT | None = None
    while True:
        event = await _next_event(stream, call)
        if isinstance(event, ResponseReceived):
            response = event.message
        else:
            # Whatever came after the status with it is a violation, which this raises.
            call.next_event()
            if event.outcome.status is not StatusCode.OK:
                raise event.outcome.to_error()
            # The state machine lets no OK status through without it.
            assert response is not None
            return response


async def _next_event(stream: Stream, call: ClientCall[Any, ResponseT]) -> ResponseReceived[ResponseT] | CallEnded:
    heartbeats = 0
    while True:
        event = call.next_event()
        if event is HEARTBEAT:
            heartbeats += 1
            if not heartbeats % _MESSAGES_PER_PASS:
                await trio.lowlevel.checkpoint()
            continue
        if event is not None:
            return event
        try:
            data = await stream.receive_chunk()
        except ConnectionLostError as error:
            raise ConnectionLostError(
                f"the connection to {stream.peer_id} was lost before the call ended",
                remedy="the peer may have done the work: ask it before you call again",
            ) from error
        if data:
            call.feed(data)
        else:
            call.end_of_stream()


async def _leave(stream: Stream, *, ended: bool) -> None:
    """Close a stream whose call ended; reset every other one, which cancels the peer's handler."""
    closed = False
    try:
        if ended:
            await stream.close()
            closed = True
    except ConnectionLostError:
        pass
    finally:
        if not closed:
            await stream.reset()


def _no_stream(peer_id: PeerId, timeout_s: float | None) -> DeadlineExceededError:
    error = DeadlineExceededError(f"no stream to {peer_id} within {timeout_s} s")
    error.may_have_executed, error.retry_safe = False, True
    return error


def _no_answer(peer_id: PeerId) -> DeadlineExceededError:
    return DeadlineExceededError(f"{peer_id} did not answer in time")
