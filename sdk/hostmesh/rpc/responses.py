"""The caller's reading side of a call: its events, its one response, or its responses as an async iterator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Generic

import trio

from hostmesh.errors import ConnectionLostError, DeadlineExceededError, StatusCode
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream
from hostmesh.rpc.call import HEARTBEAT, CallEnded, ClientCall, ResponseReceived
from hostmesh.rpc.method import RequestT, ResponseT
from hostmesh.rpc.outcome import Outcome

SILENCE_S = 45.0
"""A server sends a heartbeat at least every 20 s while it is at work on a call; one that is silent for so long has lost
it, or its machine is frozen. Chosen here."""
_LOOKS = 9
"""In the last of so many parts of its patience, and then in each as long, a caller looks whether the line is busy."""
_BUSY_BYTES = 4096
"""What comes of other calls on a line that is busy, in such a part: the peer's word on this one is in line. A ping has
some dozen bytes, and so has the heartbeat of a call."""
_MESSAGES_PER_PASS = 128
"""How many responses a loop may take before others have their turn."""


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
        return await next_event(self._stream, self._call, self._deadline)


async def one_response(stream: Stream, call: ClientCall[Any, ResponseT], deadline: float, asked_at: float) -> ResponseT:
    """Return the response of a call that has exactly one, and an OK status after it.

    Args:
        stream: of the call; nothing was received on it.
        call: its state.
        deadline: of the call, by trio's clock.
        asked_at: when the peer was asked last, by the same.

    Raises:
        As :func:`next_event`, and :class:`~hostmesh.errors.RpcError`.
    """
    response = call.take_answer(await _receive(stream, call, deadline, asked_at))
    if response is not None:
        return response
    while True:
        event = await next_event(stream, call, deadline)
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


async def next_event(
    stream: Stream, call: ClientCall[Any, ResponseT], deadline: float
) -> ResponseReceived[ResponseT] | CallEnded:
    """Return the next event but for heartbeats, waiting for it. Cancellation: safe, nothing is lost.

    Args:
        stream: of the call.
        call: its state.
        deadline: of the call, by trio's clock.

    Raises:
        ConnectionLostError: the stream was lost before the status came, or the peer was silent for :data:`SILENCE_S`,
            and its line not busy.
        DeadlineExceededError: the deadline has passed.
        RemoteProtocolError: the peer broke the protocol.
    """
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
        # It was heard just now, or what was sent since is not waited for.
        call.feed(await _receive(stream, call, deadline, trio.current_time()))


async def _receive(
    stream: Stream, call: ClientCall[Any, Any], deadline: float, last_word_at: float
) -> bytes | memoryview:
    """Return what the peer sends next; its end is none of it."""
    look_s = SILENCE_S / _LOOKS
    stream.set_read_deadline(min(last_word_at + SILENCE_S - look_s, deadline))
    data: bytes | memoryview | None
    try:
        try:
            data = await stream.receive_chunk()
        except DeadlineExceededError:
            data = await _receive_late(stream, deadline, look_s)
    except ConnectionLostError as error:
        remedy = "the peer may have done the work: ask it before you call again"
        raise ConnectionLostError(
            f"the connection to {stream.peer_id} was lost before the call ended",
            may_have_executed=error.may_have_executed,
            remedy=remedy if error.may_have_executed else "nothing of the call was sent: call again",
        ) from error
    if data is None:
        raise no_answer(stream.peer_id, deadline)
    if not data:
        call.end_of_stream()
    return data


async def _receive_late(stream: Stream, deadline: float, look_s: float) -> bytes | memoryview | None:
    """Return what comes after a long silence; None when the time is up, or nothing else comes either."""
    while (now := trio.current_time()) < deadline:
        heard_bytes = stream.heard_bytes
        stream.set_read_deadline(min(now + look_s, deadline))
        with suppress(DeadlineExceededError):
            return await stream.receive_chunk()
        if stream.heard_bytes - heard_bytes < _BUSY_BYTES:
            break
    return None


def no_answer(peer_id: PeerId, deadline: float) -> DeadlineExceededError | ConnectionLostError:
    """Return what a caller meets that gave up, by its deadline or before: the peer may have done the work."""
    if trio.current_time() < deadline:
        return ConnectionLostError(
            f"{peer_id} said nothing of the call for {SILENCE_S:g} s",
            remedy="the peer may have done the work: ask it before you call again",
        )
    return DeadlineExceededError(f"{peer_id} did not answer in time")
