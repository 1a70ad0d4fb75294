"""Makes calls to peers: one stream a call, a deadline, a typed answer.

What a failure means: an error with ``may_have_executed`` False says that the request cannot have left; with True, that
the peer may have done the work. :class:`RpcError` is the peer's own answer.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio

from hostmesh.errors import ConnectionLostError, DeadlineExceededError, HostmeshError, StatusCode
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream
from hostmesh.rpc.call import ClientCall
from hostmesh.rpc.conduct import ConductWatch
from hostmesh.rpc.interceptors import ClientInterceptor, intercepted, swallowed
from hostmesh.rpc.method import Method, RequestT, ResponseT
from hostmesh.rpc.opening import StreamOpener as StreamOpener
from hostmesh.rpc.opening import leave, open_stream, send_slowly
from hostmesh.rpc.outcome import status_for_caller
from hostmesh.rpc.outgoing import client_call, entering, outgoing_call, start_call, tell_conduct
from hostmesh.rpc.request_streams import BidiStream, ClientStream
from hostmesh.rpc.responses import ResponseStream as ResponseStream
from hostmesh.rpc.responses import one_response
from hostmesh.rpc.retry import RetryBudget, RetryPolicy
from hostmesh.system import System


class RpcClient:
    """Calls methods of peers.

    Args:
        node: opens the streams.
        prefix: of the protocol ids: ``/hostmesh``.
        system: its monotonic clock measures :meth:`unary_timed`; its random bytes spread retries.
        interceptors: around every call, the first outermost; each attempt is a call.
        budget: of retries; one of its own unless it is shared.
        watch: is told how peers behave on calls; None = nobody is.
    """

    def __init__(
        self,
        node: StreamOpener,
        *,
        prefix: str,
        system: System,
        interceptors: Sequence[ClientInterceptor] = (),
        budget: RetryBudget | None = None,
        watch: ConductWatch | None = None,
    ) -> None:
        self._node = node
        self._prefix = prefix
        self._system = system
        self._budget = budget or RetryBudget()
        self._interceptors = tuple(interceptors)
        self._watch = watch

    def with_interceptors(self, *interceptors: ClientInterceptor) -> RpcClient:
        """Return a client of the same node, with further interceptors inside its own.

        Example::

            chat = ChatServiceClient(sdk.get_rpc_client().with_interceptors(BearerToken(token)), peer_id)
        """
        return RpcClient(
            self._node,
            prefix=self._prefix,
            system=self._system,
            interceptors=(*self._interceptors, *interceptors),
            budget=self._budget,
            watch=self._watch,
        )

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
        retry: RetryPolicy | None = None,
    ) -> ResponseT:
        """Make a call with one response.

        Args:
            peer_id: whom to ask; dialled if needed.
            method: a unary method.
            request: its request, within its bounds.
            timeout_s: seconds for everything, the dial included; the peer is told what is left of it.
            session_id: 16 bytes, or empty where the method needs none.
            idempotency_key: 1 to 32 bytes that stand for this call, drawn anew for each: under one key the peer
                executes it once, for a day, and answers every further call with what it answered first. Empty: none.
            metadata: up to 16 entries of at most 64 and 1024 bytes.
            retry: whether and how a call is made again that surely did not run, or that has a key; within ``timeout_s``
                and the budget that all calls of this client share. None: it is not.

        Raises:
            FrameTooLargeError, UsageError: the request breaks a bound; nothing was sent.
            DialError, ProtocolNotSupportedError: nothing was sent.
            ConnectionLostError: the path broke; ``may_have_executed`` says whether the request may have left.
            DeadlineExceededError: likewise.
            RpcError: the peer ended the call with a status other than OK.
            RemoteProtocolError: the peer broke the protocol.

            Whichever comes after several attempts, ``may_have_executed`` says whether one of them may have run.

        Cancellation: safe; resets the stream, which cancels the peer's handler, unless the call has a key.

        Cost: one stream; one frame each way.
        """
        deadline = None if retry is None else trio.current_time() + timeout_s
        make = self._intercepted_unary if self._interceptors else self._unary
        attempts = 0
        may_have_executed = False
        while True:
            attempts += 1
            try:
                response, _ = await make(
                    peer_id,
                    method,
                    request,
                    timeout_s if deadline is None or attempts == 1 else deadline - trio.current_time(),
                    session_id,
                    idempotency_key,
                    metadata,
                )
            except HostmeshError as error:
                if idempotency_key and isinstance(error, ConnectionLostError | DeadlineExceededError):
                    error.retry_safe = True  # under the same key
                may_have_executed = error.may_have_executed = may_have_executed or error.may_have_executed
                pause_s = None if retry is None else self._pause_s(retry, attempts, error)
                if pause_s is None or deadline is None or trio.current_time() + pause_s >= deadline:
                    # It may have failed at once: who calls again and again must not starve what it waits for.
                    await trio.lowlevel.cancel_shielded_checkpoint()
                    raise
            else:
                self._budget.on_success()
                return response
            await trio.sleep(pause_s)

    def _pause_s(self, retry: RetryPolicy, attempts: int, error: HostmeshError) -> float | None:
        """Return how long to wait before a call is made again, or None."""
        draw = int.from_bytes(self._system.random_bytes(4), "big") / 2**32
        pause_s = retry.pause_s(attempts, error, draw)
        if pause_s is None:
            return None
        self._budget.on_failure()
        return pause_s if self._budget.allows_retry else None

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
        make = self._intercepted_unary if self._interceptors else self._unary
        return await make(peer_id, method, request, timeout_s, session_id, idempotency_key, metadata)

    async def _intercepted_unary(
        self,
        peer_id: PeerId,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        timeout_s: float,
        session_id: bytes,
        idempotency_key: bytes,
        metadata: Mapping[str, str] | None,
    ) -> tuple[ResponseT, float]:
        outgoing = outgoing_call(peer_id, method, timeout_s, session_id, idempotency_key, metadata)
        may_have_executed = False
        try:
            with entering(peer_id, timeout_s) as scope:
                async with intercepted(self._interceptors, outgoing, status_for_caller):
                    left_s, scope.deadline = scope.deadline - trio.current_time(), math.inf
                    try:
                        answer = await self._unary(
                            peer_id, method, request, left_s, session_id, idempotency_key, outgoing.metadata
                        )
                    except HostmeshError as error:
                        may_have_executed = error.may_have_executed
                        raise
                    may_have_executed = True
                    return answer
                raise swallowed(method)
        except HostmeshError as error:
            if may_have_executed and not error.may_have_executed:
                # An interceptor's own, when it was left: it stands for a call that it knows nothing of.
                error.may_have_executed, error.retry_safe = True, False
            raise

    async def _unary(
        self,
        peer_id: PeerId,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        timeout_s: float,
        session_id: bytes,
        idempotency_key: bytes,
        metadata: Mapping[str, str] | None,
    ) -> tuple[ResponseT, float]:
        # Checked before the dial: a request that breaks a bound costs nothing.
        call = client_call(method, request, session_id, idempotency_key, metadata)
        await trio.lowlevel.checkpoint_if_cancelled()
        now = trio.current_time()
        deadline = now + timeout_s
        stream = self._node.start_stream(peer_id, method.ids(self._prefix))
        if stream is None:
            stream = await open_stream(self._node, peer_id, method.ids(self._prefix), deadline, timeout_s)
            now = trio.current_time()
        began_s = now
        has_ended = is_late = False
        try:
            sent_at_s = self._system.monotonic_s()
            first, was_sent = call.start(deadline - now), True
            try:
                was_sent = stream.send_nowait(first, end=True)
            except ConnectionLostError as error:
                if not error.may_have_executed:
                    raise  # else the peer may have answered before it had read everything; reading tells
            if not was_sent:
                await send_slowly(stream, first, deadline, end=True)
                now = trio.current_time()
            response = await one_response(stream, call, deadline, now)
            took_s = self._system.monotonic_s() - sent_at_s
            await stream.close()
            has_ended = True
        except DeadlineExceededError:
            is_late = True
            raise
        else:
            return response, took_s
        finally:
            tell_conduct(self._watch, peer_id, method, call, began_s, is_late=is_late)
            if not has_ended:
                await leave(stream, ended=call.outcome is not None)

    @asynccontextmanager
    async def server_stream(
        self,
        peer_id: PeerId,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        *,
        timeout_s: float | None,
        session_id: bytes = b"",
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
            metadata: as in :meth:`unary`.

        Raises:
            As :meth:`unary`, from entering or from iterating.
        """
        async with self._begin(peer_id, method, request, timeout_s, session_id, metadata) as (
            stream,
            call,
            deadline,
            sent_at_s,
        ):
            yield ResponseStream(stream, call, deadline, sent_at_s=sent_at_s)

    @asynccontextmanager
    async def client_stream(
        self,
        peer_id: PeerId,
        method: Method[RequestT, ResponseT],
        *,
        timeout_s: float | None,
        session_id: bytes = b"",
        metadata: Mapping[str, str] | None = None,
    ) -> AsyncIterator[ClientStream[RequestT, ResponseT]]:
        """Make a call with any number of requests and one response; entering tells the peer of it.

        ``await call.send(request)`` as often as wanted, then ``response = await call.finish()``. Leaving the block
        before that cancels the call. A peer that reads slowly holds the sender back.

        Args:
            peer_id: whom to call; dialled if needed.
            method: a client-streaming method.
            timeout_s: seconds until the response must be there, the dial included; None = no deadline.
            session_id: as in :meth:`unary`.
            metadata: as in :meth:`unary`.

        Raises:
            As :meth:`unary`, from entering, sending or finishing.
        """
        async with self._begin(peer_id, method, None, timeout_s, session_id, metadata) as (
            stream,
            call,
            deadline,
            _,
        ):
            yield ClientStream(stream, call, deadline)

    @asynccontextmanager
    async def bidi_stream(
        self,
        peer_id: PeerId,
        method: Method[RequestT, ResponseT],
        *,
        timeout_s: float | None,
        session_id: bytes = b"",
        metadata: Mapping[str, str] | None = None,
    ) -> AsyncIterator[BidiStream[RequestT, ResponseT]]:
        """Make a call with any number of requests and responses; entering tells the peer of it.

        ``await call.send(request)`` and ``async for response in call``, in one task or in two, and ``await call.end()``
        after the last request. Leaving the block before the last response cancels the call.

        Args:
            peer_id: whom to call; dialled if needed.
            method: a bidirectional method.
            timeout_s: as in :meth:`server_stream`.
            session_id: as in :meth:`unary`.
            metadata: as in :meth:`unary`.

        Raises:
            As :meth:`unary`, from entering, sending or iterating.
        """
        async with self._begin(peer_id, method, None, timeout_s, session_id, metadata) as (
            stream,
            call,
            deadline,
            sent_at_s,
        ):
            yield BidiStream(stream, call, deadline, sent_at_s=sent_at_s)

    @asynccontextmanager
    async def _begin(
        self,
        peer_id: PeerId,
        method: Method[RequestT, ResponseT],
        request: RequestT | None,
        timeout_s: float | None,
        session_id: bytes,
        metadata: Mapping[str, str] | None,
    ) -> AsyncIterator[tuple[Stream, ClientCall[RequestT, ResponseT], float, float]]:
        """Open a stream and send the first frame; at the end close the stream, or reset it if the call has not ended.

        Yields:
            The stream, the call, its deadline by trio's clock, and when its first frame was sent by the system's.
        """
        start = partial(start_call, self._node, self._prefix, self._system, peer_id, method, request, watch=self._watch)
        if self._interceptors:
            outgoing = outgoing_call(peer_id, method, timeout_s, session_id, b"", metadata)
            with entering(peer_id, timeout_s) as scope:
                async with intercepted(self._interceptors, outgoing, status_for_caller):
                    left_s = None if timeout_s is None else scope.deadline - trio.current_time()
                    scope.deadline = math.inf
                    async with start(left_s, session_id, outgoing.metadata) as started:
                        call = started[1]
                        try:
                            yield started
                            if call.outcome is None:
                                outgoing.status = StatusCode.CANCELLED
                        finally:
                            # Whatever the block made of it.
                            if call.outcome is not None:
                                outgoing.status = call.outcome.status
        else:
            async with start(timeout_s, session_id, metadata) as started:
                yield started
