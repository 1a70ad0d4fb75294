"""The requests of a call whose caller sends a stream of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Generic

import trio

from hostmesh.errors import RemoteProtocolError, RpcError, StatusCode
from hostmesh.net.stream import Stream
from hostmesh.rpc.call import RequestReceived, ServerCall
from hostmesh.rpc.limits import BUSY_RETRY_MS, UnfinishedRequests
from hostmesh.rpc.method import RequestT

_FRAMES_PER_PASS = 128
"""How many frames a loop may take before others have their turn."""


class ReceivedRequests(Generic[RequestT]):
    """What a handler is given of a stream of requests: an async iterator, which ends when the caller's side does.

    A handler that does not read holds its caller back: flow control lets no more than a window through. What comes
    after the handler has returned is dropped.

    Iterating raises :class:`~hostmesh.errors.RemoteProtocolError` where the caller breaks the protocol or a bound; a
    handler lets it pass, and the caller gets a status that says so. Cancelling an iteration loses no request.

    Args:
        stream: of the call.
        call: its state.
        unfinished: bounds what is held of requests that are not complete.
        on_violation: called when the caller breaks the protocol.
    """

    __slots__ = ("_call", "_on_violation", "_stream", "_unfinished", "_unfinished_bytes", "_until_pass")

    def __init__(
        self, stream: Stream, call: ServerCall, *, unfinished: UnfinishedRequests, on_violation: Callable[[], None]
    ) -> None:
        self._stream = stream
        self._call = call
        self._unfinished = unfinished
        self._unfinished_bytes = 0
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
            raise RpcError(
                "too much of unfinished requests",
                status=StatusCode.RESOURCE_EXHAUSTED,
                reason="BUSY",
                retry_after_ms=BUSY_RETRY_MS,
            )


async def drain(stream: Stream, most_bytes: int) -> bool:
    """Read and drop what a caller still sends, so that it finds the answer and not a reset.

    Args:
        stream: whose own side has ended.
        most_bytes: when to give up.

    Returns:
        Whether it closed its side.

    Raises:
        ConnectionLostError: the caller has left.
    """
    while most_bytes > 0:
        # No name for what came: it must not be kept while the next is waited for.
        size = len(await stream.receive())
        if not size:
            return True
        most_bytes -= size
    return False
