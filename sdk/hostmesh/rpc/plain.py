"""A plain call: one request, one response, no key and no interceptors. What nearly every call is."""

from __future__ import annotations

import math

import trio
from google.protobuf.message import Message

from hostmesh.errors import ConnectionLostError
from hostmesh.net.stream import Stream, StreamPlace
from hostmesh.rpc.book import CallBook
from hostmesh.rpc.context import CallContext
from hostmesh.rpc.outcome import LATE, OK, Outcome, outer_part
from hostmesh.rpc.routes import Route, Service
from hostmesh.rpc.served_call import encode_last


class PlainCall:
    """One such call, whose request came whole.

    Args:
        book: of the server's calls; it has a place there.
        service: that was called.
        stream: of the call.
        route: of its method.
        request: the request.
        left_s: what its caller still waits; None = it names no end.
    """

    __slots__ = (
        "_answered",
        "_book",
        "_left_s",
        "_request",
        "_route",
        "_sent",
        "_service",
        "_stream",
        "deadline",
        "place",
    )

    def __init__(
        self, book: CallBook, service: Service, stream: Stream, route: Route, request: Message, left_s: float | None
    ) -> None:
        self._book = book
        self._service = service
        self._stream = stream
        self._route = route
        # Where the caller names no end, that of the method holds.
        self._left_s = left_s = route.method.default_timeout_s if left_s is None else left_s
        self._answered = self._sent = False
        self._request: Message | None = request
        self.deadline = math.inf if left_s is None else trio.current_time() + left_s
        """When its time is up, by trio's clock; ``math.inf`` for never."""
        self.place: StreamPlace | None = None
        """Who wants to know that it is over."""

    async def serve(self, scope: trio.CancelScope) -> None:
        """Have it handled, answer it and end it.

        Args:
            scope: in which this runs; the loss of the stream cancels it, and so shall the deadline.

        Raises:
            Exception: the handler's; :meth:`conclude` must follow, as where this is cancelled.
        """
        book, stream, method, left_s = self._book, self._stream, self._route.method, self._left_s
        stream.on_lost(scope.cancel)
        if left_s is not None and left_s <= 0:
            scope.cancel()
            await trio.lowlevel.checkpoint()  # the time is up before there is anything to do
        context = CallContext(
            peer_id=stream.peer_id,
            method=method.full_name,
            deadline=None if left_s is None else book.system.monotonic_s() + left_s,
            version=self._service.version,
        )
        book.handled[stream] = None
        handling = self._route.handler(self._request, context)
        self._request = None  # the handler has what it needs of it
        response = await handling
        del book.handled[stream]  # no heartbeat may start now
        last = encode_last(method, OK, response)
        self._answered = True
        self._sent = await book.send_last(stream, last)
        await self._end(OK)

    async def conclude(self, error: Exception | None) -> None:
        """End it after :meth:`serve` was cancelled in its scope, or raised an error."""
        book, outcome = self._book, OK
        try:
            if not self._answered:
                # Where the caller has left and not its time, the answer finds nobody.
                outcome = LATE if error is None else book.outcome_of(error, self._route.method)
                book.handled.pop(self._stream, None)
                until = max(self.deadline, trio.current_time() + book.limits.linger_timeout_s)
                with trio.CancelScope(deadline=until):
                    self._sent = await book.send_last(self._stream, encode_last(self._route.method, outcome))
        finally:
            await self._end(outcome)

    async def abandon(self) -> None:
        """End it without a word, after :meth:`serve` was cancelled from further out."""
        self._sent = False
        await self._end(OK)

    async def _end(self, outcome: Outcome) -> None:
        book, stream = self._book, self._stream
        try:
            if self._sent:
                await stream.close()
            else:
                await stream.reset()
        except ConnectionLostError:
            await stream.reset()
        finally:
            stream.on_lost(None)
            book.table.release(stream.peer_id, self._service.calls)
            book.handled.pop(stream, None)
            book.count(self._route, outcome, stream.peer_id, was_answered=self._sent)
            if self.place is not None:
                self.place.note_served(stream)


async def serve_alone(call: PlainCall) -> None:
    """Serve a plain call in a scope of its own: what a worker does for many."""
    failure: Exception | None = None
    try:
        with trio.CancelScope(deadline=call.deadline) as scope:
            await call.serve(scope)
            return
    except Exception as error:  # noqa: BLE001 - the handler boundary: one call fails, and nothing else
        failure = error
    except BaseException as error:  # noqa: BLE001 - raised again, without what is the handler's
        await call.abandon()
        raise outer_part(error) from None
    await call.conclude(failure)
