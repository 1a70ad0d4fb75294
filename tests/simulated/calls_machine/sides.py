"""The two sides of the calls: a handler and callers that do what the program says, and note what they meet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import trio
from tests.simulated.calls_machine.account import Call, CallerEnd, HandlerEnd, Run
from tests.simulated.calls_machine.program import METHODS, Shape, Side, When, call_of, text_of
from tests.simulated.calls_machine.taps import Tap

from hostmesh.errors import HostmeshError, RpcError, StatusCode, UsageError
from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.client import RpcClient, StreamOpener
from hostmesh.rpc.retry import RetryPolicy
from hostmesh.v1.job_pb2 import TextDelta

RETRY = RetryPolicy(max_attempts=3, first_backoff_s=1.0)
CALLING: ContextVar[Call] = ContextVar("CALLING")
"""Whose streams are opened."""


def _message(call: Call, side: Side, index: int) -> TextDelta:
    sizes = call.sizes[side]
    size = sizes[index] if index < len(sizes) else 0
    return TextDelta(index=index, text=text_of(side, call.begin.call, index, size))


async def _send_all(call: Call, side: Side, account: Call | Run, send: Callable[[TextDelta], Awaitable[None]]) -> None:
    """Send what a side is told to, one after the other, for ever."""
    while True:
        await call.until(lambda: account.sent < len(call.sizes[side]))
        account.is_sending = True
        await send(_message(call, side, account.sent))
        account.is_sending = False
        account.sent += 1
        call.changed()


async def _receive(call: Call, side: Side, receive: Callable[[], Awaitable[TextDelta]]) -> TextDelta:
    """Return the next message, which is not asked for while the side does not read."""
    while True:
        await call.until(lambda: call.reads[side])
        with trio.CancelScope() as call.reading[side]:
            return await receive()


def _flat(error: BaseException) -> BaseException:
    """Return an error that is no group: of several, the one that is no cancellation."""
    while isinstance(error, BaseExceptionGroup):
        others = [each for each in error.exceptions if not isinstance(each, trio.Cancelled)]
        error = (others or [*error.exceptions])[0]
    return error


# --- the handler ---


class Handler:
    """Serves the calls of a program.

    Args:
        calls: by number.
        life: of the server.
    """

    def __init__(self, calls: dict[int, Call], life: int) -> None:
        self._calls = calls
        self._life = life

    async def one(self, request: TextDelta, context: Any) -> TextDelta:
        """Answer once."""
        return await self._serve(context, request, None, None)

    async def down(self, request: TextDelta, context: Any, send: Any) -> None:
        """Answer many times."""
        await self._serve(context, request, None, send)

    async def up(self, requests: Any, context: Any) -> TextDelta:
        """Take many."""
        return await self._serve(context, None, requests, None)

    async def both(self, requests: Any, context: Any, send: Any) -> None:
        """Take and answer many."""
        await self._serve(context, None, requests, send)

    async def _serve(self, context: Any, request: TextDelta | None, requests: Any, send: Any) -> TextDelta:
        call = self._calls[
            int(context.metadata["call"]) if request is None or context.metadata else call_of(request.text)
        ]
        run = Run(self._life, trio.current_time())
        call.runs.append(run)
        end = HandlerEnd("returned", 0.0)
        try:
            if request is not None:
                run.received.append(request.text)
                run.requests_ended = True
            await self._run(call, run, requests, send)
        except BaseException as error:
            met = _flat(error)
            end = HandlerEnd("cancelled" if isinstance(met, trio.Cancelled) else "raised", 0.0, met)
            raise
        finally:
            end.at_s = trio.current_time()
            run.ends.append(end)
        return _message(call, Side.SERVER, 0)

    async def _run(self, call: Call, run: Run, requests: Any, send: Any) -> None:
        if len(call.runs) <= call.begin.unavailable:
            raise RpcError("not yet", status=StatusCode.UNAVAILABLE)
        async with trio.open_nursery() as nursery:
            if requests is not None:
                nursery.start_soon(self._read, call, run, requests)
            if send is not None:
                nursery.start_soon(_send_all, call, Side.SERVER, run, send)
            await call.until(lambda: self._may_end(call, run, sends=send is not None))
            nursery.cancel_scope.cancel()
        assert call.ending is not None
        if (error := call.ending.error()) is not None:
            raise error

    async def _read(self, call: Call, run: Run, requests: Any) -> None:
        try:
            while True:
                run.received.append((await _receive(call, Side.SERVER, requests.__anext__)).text)
        except StopAsyncIteration:
            run.requests_ended = True
            call.changed()

    def _may_end(self, call: Call, run: Run, *, sends: bool) -> bool:
        if call.ending is None:
            return False
        has_sent = not sends or run.sent == len(call.sizes[Side.SERVER])
        match call.ending.when:
            case When.NOW:
                return True
            case When.AFTER_SENDING:
                return has_sent
            case When.AFTER_ALL:
                return has_sent and run.requests_ended


# --- the caller ---


class TappedOpener:
    """Opens streams that are tapped, for the call whose task it is."""

    def __init__(self, node: StreamOpener) -> None:
        self._node = node

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def start_stream(self, *_: object) -> None:
        return None

    async def open_stream(self, *args: Any, **options: Any) -> Any:
        """See :class:`StreamOpener`."""
        tap = Tap(await self._node.open_stream(*args, **options))
        CALLING.get().taps.append(tap)
        return tap


class Caller:
    """Makes the calls of a program.

    Args:
        client: makes them.
        peer_id: the server.
    """

    def __init__(self, client: RpcClient, peer_id: PeerId) -> None:
        self._client = client
        self._peer_id = peer_id

    async def make(self, call: Call) -> None:
        """Make a call, to its end."""
        CALLING.set(call)
        with call.task:
            try:
                await self._make(call)
            except Exception as error:  # noqa: BLE001 - the judge tells which may come
                self._note_end(call, error)
            except BaseException:
                if not call.ends:
                    call.ends.append(CallerEnd("crashed" if call.left_s is None else "left", trio.current_time()))
                raise
            else:
                if not call.ends:
                    assert call.left_s is not None
                    call.ends.append(CallerEnd("left", trio.current_time()))

    def _note_end(self, call: Call, error: Exception | None = None) -> None:
        call.ends.append(CallerEnd("ok" if error is None else "error", trio.current_time(), error))

    async def _make(self, call: Call) -> None:
        begin, method = call.begin, METHODS[call.begin.shape]
        options: dict[str, Any] = {
            "timeout_s": begin.timeout_s,
            "metadata": {} if begin.is_plain else {"call": str(begin.call)},
        }
        request = TextDelta(text=text_of(Side.CALLER, begin.call, 0, begin.request_bytes))
        match begin.shape:
            case Shape.ONE:
                retry = RETRY if begin.attempts > 1 else None
                call.sent = 1
                response = await self._client.unary(self._peer_id, method, request, retry=retry, **options)
                call.received.append(response.text)
                self._note_end(call)
            case Shape.DOWN:
                call.sent = 1
                async with self._client.server_stream(self._peer_id, method, request, **options) as stream:
                    with call.entered():
                        await self._read(call, stream)
            case Shape.UP:
                async with self._client.client_stream(self._peer_id, method, **options) as stream:
                    with call.entered():
                        await self._upload(call, stream)
            case Shape.BOTH:
                async with self._client.bidi_stream(self._peer_id, method, **options) as stream:
                    with call.entered():
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(self._send, call, stream.send, stream.end)
                            await self._read(call, stream)
                            nursery.cancel_scope.cancel()

    async def _read(self, call: Call, stream: Any) -> None:
        """Read to the end, which is the same however often one asks."""
        try:
            while True:
                call.received.append((await _receive(call, Side.CALLER, stream.__anext__)).text)
        except StopAsyncIteration:
            self._note_end(call)
        except HostmeshError as error:
            self._note_end(call, error)
        await self._read_again(call, stream)

    async def _read_again(self, call: Call, stream: Any) -> None:
        first = call.ends[0].error
        if first is not None and not isinstance(first, RpcError):
            return  # the path's: nothing says that waiting once more would be short
        try:
            call.after.append(f"a message after the end: {(await stream.__anext__()).text[:40]}")
        except StopAsyncIteration:
            if first is not None:
                call.after.append(f"{first!r}, and then an end")
        except HostmeshError as error:
            if not isinstance(first, RpcError) or repr(error) != repr(first):
                call.after.append(f"{first!r}, and then {error!r}")

    async def _send(self, call: Call, send: Any, end: Any) -> None:
        """Send until told to half-close, or the call is over, which reading tells more of."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_send_all, call, Side.CALLER, call, send)
                await call.until(lambda: call.half_closes and call.sent == len(call.sizes[Side.CALLER]))
                nursery.cancel_scope.cancel()
            await end()
        except* HostmeshError:
            pass

    async def _upload(self, call: Call, stream: Any) -> None:
        async def nothing() -> None:
            pass

        await self._send(call, stream.send, nothing)
        call.sent_all_s = trio.current_time()
        try:
            call.received.append((await stream.finish()).text)
            self._note_end(call)
        except HostmeshError as error:
            self._note_end(call, error)
        try:
            await stream.finish()
            call.after.append("finished twice")
        except UsageError:
            pass
