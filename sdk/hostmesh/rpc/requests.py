"""The requests of a call whose caller sends a stream of them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from typing import Generic

import trio

from hostmesh.errors import RemoteProtocolError, StatusCode
from hostmesh.net.stream import Stream
from hostmesh.rpc.limits import BUSY_RETRY_MS, UnfinishedRequests
from hostmesh.rpc.method import RequestT
from hostmesh.rpc.outcome import Outcome
from hostmesh.rpc.served_call import CallRefused, CallStarted, RequestReceived, ServerCall

_FRAMES_PER_PASS = 128
"""How many frames a loop may take before others have their turn."""
_FULL = Outcome(
    status=StatusCode.RESOURCE_EXHAUSTED,
    message="too much of unfinished requests",
    reason="BUSY",
    retry_after_ms=BUSY_RETRY_MS,
)


class ReceivedRequests(Generic[RequestT]):
    """What a handler is given of a stream of requests: an async iterator, which ends when the caller's side does.

    A handler that does not read holds its caller back: flow control lets no more than a window through. What comes
    after the handler has returned is dropped.

    Iterating raises :class:`~hostmesh.errors.RemoteProtocolError` where the caller breaks the protocol or a bound, and
    :class:`~hostmesh.errors.RpcError` where too much is held of requests that are not complete; a handler lets these
    pass, and the caller gets a status that says so. Cancelling an iteration loses no request.

    Args:
        stream: of the call.
        call: its state.
        unfinished: bounds what is held of requests that are not complete.
        on_violation: called when the caller breaks the protocol.
    """

    __slots__ = ("_call", "_has_given", "_on_violation", "_stream", "_unfinished", "_unfinished_bytes", "_until_pass")

    def __init__(
        self, stream: Stream, call: ServerCall, *, unfinished: UnfinishedRequests, on_violation: Callable[[], None]
    ) -> None:
        self._stream = stream
        self._call = call
        self._unfinished = unfinished
        self._unfinished_bytes = 0
        self._has_given = False
        self._on_violation = on_violation
        self._until_pass = _FRAMES_PER_PASS

    def __aiter__(self) -> AsyncIterator[RequestT]:
        return self

    async def __anext__(self) -> RequestT:
        call = self._call
        while True:
            self._until_pass -= 1
            if not self._until_pass:
                self._until_pass = _FRAMES_PER_PASS
                # Before a request is taken: being cancelled here loses none.
                await trio.lowlevel.checkpoint()
            try:
                event = call.next_event()
                if isinstance(event, RequestReceived):
                    self._has_given = True
                    if self._unfinished_bytes:
                        self.release()
                    message: RequestT = event.message  # type: ignore[assignment] # of the method's type
                    return message
                if event is None:
                    if call.requests_ended:
                        raise StopAsyncIteration
                    await self._feed()
            except RemoteProtocolError:
                self.release()
                self._on_violation()
                raise

    def release(self) -> None:
        """Give back what is counted as held of a request that is not complete."""
        if self._unfinished_bytes:
            self._unfinished.remove(self._stream.peer_id, self._unfinished_bytes)
            self._unfinished_bytes = 0

    async def _feed(self) -> None:
        data = await self._stream.receive_chunk()
        if not data:
            self._call.end_of_stream()
            return
        self._call.feed(data)
        self._unfinished_bytes += len(data)
        if not self._unfinished.add(self._stream.peer_id, len(data)):
            error = _FULL.to_error()
            # The handler may have done something about those before: then the call is not one that can be made again.
            error.may_have_executed = self._has_given
            raise error


async def read_request(
    stream: Stream,
    call: ServerCall,
    received: list[bytes | memoryview],
    *,
    unfinished: UnfinishedRequests,
    timeout_s: float,
) -> CallStarted | CallRefused:
    """Return the request of a call, with nothing after it but the end; or its header, where requests are a stream.

    The caller closes its side with its request, unless more are to come; when the handler of one request starts, a
    reset is all that can still come.

    Args:
        stream: of the call.
        call: its state.
        received: what came on the stream already, in order; emptied.
        unfinished: bounds what is held of requests that are not complete.
        timeout_s: how long this may take.

    Raises:
        DeadlineExceededError: it was not complete in time.
        RemoteProtocolError: it closed before its request was whole, or sent more than a request.
        ConnectionLostError: the caller has left.
    """
    started: CallStarted | None = None
    unfinished_bytes = 0
    has_waited = False
    try:
        while True:
            if received:
                data = received.pop(0)
            else:
                if not has_waited:
                    has_waited = True
                    stream.set_read_deadline(trio.current_time() + timeout_s)
                data = await stream.receive_chunk()
            if not data:
                break
            call.feed(data)
            while (event := call.next_event()) is not None:
                if isinstance(event, CallRefused):
                    return event
                if isinstance(event, CallStarted):
                    started = event
                    if event.method.takes_stream:
                        return event
            if started is None:
                unfinished_bytes += len(data)
                if not unfinished.add(stream.peer_id, len(data)):
                    call.drop()
                    return CallRefused(_FULL)
        call.end_of_stream()
    finally:
        if unfinished_bytes:
            unfinished.remove(stream.peer_id, unfinished_bytes)
        if has_waited:
            stream.set_read_deadline(math.inf)
    # The end came after a whole request: the state machine lets no other through.
    assert started is not None
    return started
