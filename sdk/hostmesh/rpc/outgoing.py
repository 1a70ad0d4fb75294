"""How a call begins on its caller's side, before anything comes back."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import trio

from hostmesh.errors import ConnectionLostError, HostmeshError
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream
from hostmesh.rpc.call import ClientCall
from hostmesh.rpc.conduct import ConductWatch, conduct_of
from hostmesh.rpc.header import NO_METADATA, Header
from hostmesh.rpc.interceptors import OutgoingCall
from hostmesh.rpc.method import AnyMethod, Method, RequestT, ResponseT
from hostmesh.rpc.opening import StreamOpener, leave, not_begun, open_stream, send_slowly
from hostmesh.system import System


@asynccontextmanager
async def start_call(
    node: StreamOpener,
    prefix: str,
    system: System,
    peer_id: PeerId,
    method: Method[RequestT, ResponseT],
    request: RequestT | None,
    timeout_s: float | None,
    session_id: bytes,
    metadata: Mapping[str, str] | None,
    *,
    watch: ConductWatch | None = None,
) -> AsyncIterator[tuple[Stream, ClientCall[RequestT, ResponseT], float, float]]:
    """Open a stream and send the first frame; at the end close the stream, or reset it if the call has not ended.

    Yields:
        The stream, the call, its deadline by trio's clock, and when its first frame was sent by the system's.
    """
    # Checked before the dial: a request that breaks a bound costs nothing.
    call = client_call(method, request, session_id, b"", metadata)
    deadline = math.inf if timeout_s is None else trio.current_time() + timeout_s
    await trio.lowlevel.checkpoint_if_cancelled()
    try:
        stream = node.start_stream(peer_id, method.ids(prefix))
        if stream is None:
            stream = await open_stream(node, peer_id, method.ids(prefix), deadline, timeout_s)
    except HostmeshError:
        await trio.lowlevel.cancel_shielded_checkpoint()  # as in unary
        raise
    began_s = trio.current_time()
    left_s = None if timeout_s is None else deadline - began_s
    try:
        sent_at_s = system.monotonic_s()
        first, end, was_sent = call.start(left_s), not call.takes_stream, True
        try:
            was_sent = stream.send_nowait(first, end=end)
        except ConnectionLostError as error:
            if not error.may_have_executed:
                raise  # else as of a unary call
        if not was_sent:
            await send_slowly(stream, first, deadline, end=end)
        yield stream, call, deadline, sent_at_s
    finally:
        tell_conduct(watch, peer_id, method, call, began_s)
        await leave(stream, ended=call.ended)


def tell_conduct(
    watch: ConductWatch | None,
    peer_id: PeerId,
    method: AnyMethod,
    call: ClientCall[Any, Any],
    began_s: float,
    *,
    is_late: bool = False,
) -> None:
    """Tell how a call ended whose first frame was sent at ``began_s``, by trio's clock, if that says anything."""
    if watch is not None:
        conduct = conduct_of(call, is_late=is_late)
        if conduct is not None:
            watch.note_call(peer_id, method, conduct, trio.current_time() - began_s)


@contextmanager
def entering(peer_id: PeerId, timeout_s: float | None) -> Iterator[trio.CancelScope]:
    """Bound the entering of interceptors by the time of their call; who is in takes the deadline away."""
    with trio.CancelScope(deadline=math.inf if timeout_s is None else trio.current_time() + timeout_s) as scope:
        yield scope
    if scope.cancelled_caught:
        raise not_begun(f"the interceptors of a call to {peer_id} took longer than its {timeout_s} s")


def outgoing_call(
    peer_id: PeerId,
    method: AnyMethod,
    timeout_s: float | None,
    session_id: bytes,
    idempotency_key: bytes,
    metadata: Mapping[str, str] | None,
) -> OutgoingCall:
    """Return what interceptors are told of a call."""
    return OutgoingCall(
        peer_id=peer_id,
        method=method,
        timeout_s=timeout_s,
        session_id=session_id,
        idempotency_key=idempotency_key,
        metadata=dict(metadata or {}),
    )


def client_call(
    method: Method[RequestT, ResponseT],
    request: RequestT | None,
    session_id: bytes,
    idempotency_key: bytes,
    metadata: Mapping[str, str] | None,
) -> ClientCall[RequestT, ResponseT]:
    """Return the caller's end of a call; its header says no more than it must."""
    header: Header | None = None
    if session_id or idempotency_key or metadata:
        header = Header(
            method=method.name,
            session_id=session_id,
            idempotency_key=idempotency_key,
            metadata=metadata or NO_METADATA,
        )
    return ClientCall(method, header, request)
