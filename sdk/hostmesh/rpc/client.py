"""Makes calls to peers: one stream a call, a deadline, a typed answer.

What a failure means: an error with ``may_have_executed`` False says that the request cannot have left; with True, that
the peer may have done the work. :class:`RpcError` is the peer's own answer.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Generic, Protocol

import trio

from hostmesh.errors import ConnectionLostError, DeadlineExceededError, StatusCode
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream
from hostmesh.rpc.call import CallEnded, ClientCall, ResponseReceived
from hostmesh.rpc.header import Header
from hostmesh.rpc.method import Method, RequestT, ResponseT, protocol_id
from hostmesh.rpc.outcome import Outcome
from hostmesh.system import System

_OPEN_GRACE_S = 1.0
"""The node keeps the time itself and can say more; this is for one that does not."""

_CLOSE_TIMEOUT_S = 2.0


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
        header = Header(
            method=method.name,
            session_id=session_id,
            idempotency_key=idempotency_key,
            metadata=metadata or {},
        )
        async with self._open(peer_id, method, request, header, timeout_s) as stream:
            # The state machine lets a unary call have exactly one response, and an OK status after it.
            (response,) = [response async for response in stream]
            return response, self._system.monotonic_s() - stream.sent_at_s

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
        header = Header(
            method=method.name,
            session_id=session_id,
            idempotency_key=idempotency_key,
            metadata=metadata or {},
        )
        async with self._open(peer_id, method, request, header, timeout_s) as stream:
            yield stream

    @asynccontextmanager
    async def _open(
        self,
        peer_id: PeerId,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        header: Header,
        timeout_s: float | None,
    ) -> AsyncIterator[ResponseStream[ResponseT]]:
        # Checked before the dial: a request that breaks a bound costs nothing.
        call = ClientCall(method, header, request)
        deadline = math.inf if timeout_s is None else trio.current_time() + timeout_s
        stream: Stream | None = None
        with trio.move_on_at(deadline + _OPEN_GRACE_S):
            stream = await self._node.open_stream(peer_id, protocol_id(self._prefix, method), timeout_s=timeout_s)
        if stream is None:
            error = DeadlineExceededError(f"no stream to {peer_id} within {timeout_s} s")
            error.may_have_executed, error.retry_safe = False, True
            raise error
        try:
            responses = ResponseStream(stream, call, deadline, sent_at_s=self._system.monotonic_s())
            left_s = None if timeout_s is None else deadline - trio.current_time()
            await responses.start(left_s)
            yield responses
        finally:
            await _leave(stream, ended=call.ended)


class ResponseStream(Generic[ResponseT]):
    """The responses of a call, as an async iterator. It ends after the last one when the status is OK.

    Iterating raises what :meth:`RpcClient.unary` lists. Cancelling an iteration loses no response.
    """

    def __init__(
        self, stream: Stream, call: ClientCall[RequestT, ResponseT], deadline: float, *, sent_at_s: float
    ) -> None:
        self._stream = stream
        self._call: ClientCall[Any, ResponseT] = call
        self._deadline = deadline
        self._outcome: Outcome | None = None
        self.sent_at_s = sent_at_s
        """When the request was sent, on the system's monotonic clock."""

    @property
    def peer_id(self) -> PeerId:
        """The peer that answers."""
        return self._stream.peer_id

    def __aiter__(self) -> AsyncIterator[ResponseT]:
        return self

    async def __anext__(self) -> ResponseT:
        while self._outcome is None:
            match self._call.next_event():
                case ResponseReceived(message):
                    return message
                case CallEnded(outcome):
                    # Whatever came after the status with it is a violation, which this raises.
                    self._call.next_event()
                    self._outcome = outcome
                case None:
                    await self._receive()
        if self._outcome.status is not StatusCode.OK:
            raise self._outcome.to_error()
        raise StopAsyncIteration

    async def start(self, deadline_left_s: float | None) -> None:
        """Send the request. Only the client calls this."""
        try:
            with trio.move_on_at(self._deadline) as scope:
                await self._stream.send(self._call.start(deadline_left_s))
                await self._stream.close_write()
        except ConnectionLostError as error:
            if not error.may_have_executed:
                raise
            # The peer may have answered before it had read everything; reading tells.
            return
        if scope.cancelled_caught:
            raise self._late()

    async def _receive(self) -> None:
        try:
            with trio.move_on_at(self._deadline) as scope:
                data = await self._stream.receive()
        except ConnectionLostError as error:
            raise ConnectionLostError(
                f"the connection to {self._stream.peer_id} was lost before the call ended",
                remedy="the peer may have done the work: ask it before you call again",
            ) from error
        if scope.cancelled_caught:
            raise self._late()
        if data:
            self._call.feed(data)
        else:
            self._call.end_of_stream()

    def _late(self) -> DeadlineExceededError:
        return DeadlineExceededError(f"{self._stream.peer_id} did not answer in time")


async def _leave(stream: Stream, *, ended: bool) -> None:
    """Close a stream whose call ended; reset every other one, which cancels the peer's handler."""
    if ended:
        with (
            trio.CancelScope(deadline=trio.current_time() + _CLOSE_TIMEOUT_S, shield=True),
            suppress(ConnectionLostError),
        ):
            await stream.close()
            return
    await stream.reset()
