"""What a caller does with the stream of a call besides the call: opens it, sends its first frame, and leaves it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import trio

from hostmesh.errors import ConnectionLostError, DeadlineExceededError
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream
from hostmesh.rpc.responses import no_answer

_OPEN_GRACE_S = 1.0
"""The node keeps the time itself and can say more; this is for one that does not."""


class StreamOpener(Protocol):
    """What the client needs of a node."""

    def start_stream(self, peer_id: PeerId, protocol_ids: Sequence[str]) -> Stream | None:
        """Return a stream as :meth:`open_stream` does, if nothing has to be waited for; else None.

        Raises:
            DialError, ConnectionLostError: nothing was sent.
        """
        ...

    async def open_stream(
        self, peer_id: PeerId, protocol_id: str | Sequence[str], *, timeout_s: float | None = None
    ) -> Stream:
        """Open a stream of a protocol, or of the first of several that the peer speaks, dialling the peer if needed.

        Raises:
            DialError, ProtocolNotSupportedError, ConnectionLostError: nothing was sent.
        """
        ...


async def open_stream(
    node: StreamOpener, peer_id: PeerId, ids: Sequence[str], deadline: float, timeout_s: float | None
) -> Stream:
    """Return a stream of one of these protocols, which has to be waited for."""
    with trio.CancelScope(deadline=deadline + _OPEN_GRACE_S):
        return await node.open_stream(peer_id, ids[0] if len(ids) == 1 else ids, timeout_s=timeout_s)
    raise not_begun(f"no stream to {peer_id} within {timeout_s} s")


async def send_slowly(stream: Stream, first: bytes, deadline: float, *, end: bool) -> None:
    """Send the first frame, which has to wait for room."""
    try:
        with trio.CancelScope(deadline=deadline):
            await stream.send(first, end=end)
            return
    except ConnectionLostError as error:
        if not error.may_have_executed:
            raise
        return  # the peer may have answered before it had read everything; reading tells
    late = no_answer(stream.peer_id, deadline)
    try:
        stream.send_nowait(b"")
    except ConnectionLostError as error:
        # The send that was cut off has reset the stream, which knows whether a byte has left.
        if not error.may_have_executed:
            late.may_have_executed, late.retry_safe = False, True
    raise late


async def leave(stream: Stream, *, ended: bool) -> None:
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


def not_begun(message: str) -> DeadlineExceededError:
    """Return what a call ends with whose time is up before a byte of it could leave."""
    error = DeadlineExceededError(message)
    error.may_have_executed, error.retry_safe = False, True
    return error
