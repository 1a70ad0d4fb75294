"""The caller's side of calls with any number of requests; their shapes are those of :mod:`hostmesh.rpc.shapes`."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any, Generic

import trio

from hostmesh.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    HostmeshError,
    RpcError,
    StatusCode,
    UsageError,
)
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream
from hostmesh.rpc.call import HEARTBEAT, CallEnded, ClientCall, ResponseReceived
from hostmesh.rpc.method import RequestT, ResponseT
from hostmesh.rpc.responses import ResponseStream, no_answer, one_response
from hostmesh.rpc.sender import MessageSender


class _RequestSide(Generic[RequestT]):
    """Sends the requests of one call under its deadline.

    Args:
        stream: of the call.
        call: encodes them.
        deadline: by trio's clock.
    """

    __slots__ = ("_deadline", "_sender", "_stream", "has_ended")

    def __init__(self, stream: Stream, call: ClientCall[RequestT, Any], deadline: float) -> None:
        self._stream = stream
        self._sender = MessageSender(stream, call.request)
        self._deadline = deadline
        self.has_ended = False
        """Whether :meth:`end` was called."""

    async def send(self, request: RequestT) -> None:
        if self.has_ended:
            raise UsageError("the requests of this call have ended", remedy="send before the call is ended")
        if self._deadline == math.inf:
            await self._sender.send(request)
            return
        with trio.CancelScope(deadline=self._deadline):
            await self._sender.send(request)
            return
        raise no_answer(self._stream.peer_id, self._deadline)

    async def end(self) -> None:
        self.has_ended = True
        with trio.CancelScope(deadline=self._deadline):
            await self._stream.close_write()
            return
        raise no_answer(self._stream.peer_id, self._deadline)


class ClientStream(Generic[RequestT, ResponseT]):
    """A call with any number of requests and one response; see :class:`hostmesh.rpc.shapes.ClientStreamCall`."""

    __slots__ = ("_call", "_deadline", "_failure", "_is_finished", "_requests", "_response", "_stream")

    def __init__(self, stream: Stream, call: ClientCall[RequestT, ResponseT], deadline: float) -> None:
        self._stream = stream
        self._call = call
        self._deadline = deadline
        self._requests = _RequestSide(stream, call, deadline)
        self._is_finished = False
        self._response: ResponseT | None = None
        self._failure: HostmeshError | None = None
        """The peer's status, where it is not OK: after it there is nothing to read."""

    @property
    def peer_id(self) -> PeerId:
        """The peer that is called."""
        return self._stream.peer_id

    async def send(self, request: RequestT) -> None:
        """Send one request; see :meth:`hostmesh.rpc.shapes.ClientStreamCall.send`.

        Raises:
            UsageError: also when the peer has answered already: :meth:`finish` has its response.
        """
        try:
            await self._requests.send(request)
        except ConnectionLostError:
            # A peer that has ended the call drops what still comes, and then the stream.
            await self._read_end()
            raise UsageError("the peer has answered already", remedy="finish() has its response") from None

    async def finish(self) -> ResponseT:
        """Say that there are no more requests, and return the response; see :mod:`hostmesh.rpc.shapes`."""
        if self._is_finished:
            raise UsageError("the call is finished", remedy="keep what finish() returned")
        self._is_finished = True
        # Past its time the call sends nothing more, and keeps an answer that came in time.
        if not self._requests.has_ended and trio.current_time() < self._deadline:
            with suppress(ConnectionLostError):  # reading tells why
                await self._requests.end()
        try:
            return await self._read_end()
        except ConnectionLostError as error:
            if trio.current_time() < self._deadline:
                raise
            # A request that its time cut off has taken the stream with it.
            raise no_answer(self._stream.peer_id, self._deadline) from error

    async def _read_end(self) -> ResponseT:
        if self._failure is not None:
            raise self._failure
        if self._response is None:
            try:
                self._response = await one_response(self._stream, self._call, self._deadline, trio.current_time())
            except (RpcError, DeadlineExceededError) as error:
                self._failure = error
                raise
        return self._response


class BidiStream(ResponseStream[ResponseT], Generic[RequestT, ResponseT]):
    """A call with any number of requests and responses; see :class:`hostmesh.rpc.shapes.BidiStreamCall`."""

    __slots__ = ("_read_ahead", "_requests")

    def __init__(
        self, stream: Stream, call: ClientCall[RequestT, ResponseT], deadline: float, *, sent_at_s: float
    ) -> None:
        super().__init__(stream, call, deadline, sent_at_s=sent_at_s)
        self._requests = _RequestSide(stream, call, deadline)
        self._read_ahead: list[ResponseReceived[ResponseT] | CallEnded] | None = None
        """What came before the stream was lost, for who iterates."""

    async def send(self, request: RequestT) -> None:
        """Send one request; see :meth:`hostmesh.rpc.shapes.BidiStreamCall.send`."""
        self._check_open()
        try:
            await self._requests.send(request)
        except ConnectionLostError:
            # A peer that has ended the call drops what still comes, and then the stream.
            self._find_end()
            self._check_open()
            raise

    async def end(self) -> None:
        """Say that there are no more requests; see :meth:`hostmesh.rpc.shapes.BidiStreamCall.end`."""
        if self._requests.has_ended or self._call.ended:
            return
        try:
            await self._requests.end()
        except ConnectionLostError:
            self._find_end()
            if not self._call.ended:
                raise

    def _check_open(self) -> None:
        outcome = self._call.outcome
        if outcome is None:
            return
        if outcome.status is not StatusCode.OK:
            raise outcome.to_error()
        raise UsageError("the peer has ended the call", remedy="send before the last response")

    def _find_end(self) -> None:
        """Take all that came before the stream was lost: the status may be there. Bounded by the stream's window."""
        if self._read_ahead is None:
            self._read_ahead = []
        while data := self._stream.receive_nowait():
            self._call.feed(data)
        while (event := self._call.next_event()) is not None:
            if event is not HEARTBEAT:
                self._read_ahead.append(event)

    async def _wait_event(self) -> ResponseReceived[ResponseT] | CallEnded:
        if not self._read_ahead:
            try:
                return await super()._wait_event()
            except ConnectionLostError as error:
                # Another task, which sends, may have met the loss first.
                if not self._read_ahead:
                    if trio.current_time() < self._deadline:
                        raise
                    # As in ClientStream.finish: a request that its time cut off.
                    raise no_answer(self._stream.peer_id, self._deadline) from error
        return self._read_ahead.pop(0)
