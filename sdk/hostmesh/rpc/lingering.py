"""Ends the streams of callers that may still be sending: each is to find its answer, and not a reset of its stream."""

from __future__ import annotations

import trio

from hostmesh.errors import ConnectionLostError
from hostmesh.net.stream import Stream
from hostmesh.rpc.limits import RpcLimits

_MOST_BYTES = 2 * 1024 * 1024
"""What a caller may still send before it is given up."""


class Lingering:
    """The callers that are waited for.

    Args:
        limits: for how many, and for how long.
    """

    __slots__ = ("_limits", "callers")

    def __init__(self, limits: RpcLimits) -> None:
        self._limits = limits
        self.callers = 0
        """Those that are waited for now."""

    async def close(self, stream: Stream, *, is_ended: bool = True) -> None:
        """Close a stream whose last frame was sent; reset it where its caller does not come to an end.

        Args:
            stream: of the call.
            is_ended: whether the caller has closed its side.
        """
        is_closed = False
        try:
            if is_ended or await self.let_finish(stream):
                await stream.close()
                is_closed = True
        except ConnectionLostError:
            pass
        finally:
            if not is_closed:
                await stream.reset()

    async def let_finish(self, stream: Stream, last: bytes | None = None) -> bool:
        """Send the last frame, if that was not done, and drop what the caller sends until it has closed its side.

        Returns:
            Whether it did so, in time and in bounds.

        Raises:
            ConnectionLostError: the caller has left.
        """
        if self.callers >= self._limits.max_lingering:
            return False
        self.callers += 1
        try:
            with trio.move_on_after(self._limits.linger_timeout_s):
                if last is not None:
                    await stream.send(last, end=True)
                return await _drain(stream)
        finally:
            self.callers -= 1
        return False


async def _drain(stream: Stream) -> bool:
    most_bytes = _MOST_BYTES
    while most_bytes > 0:
        # No name for what came: it must not be kept while the next is waited for.
        size = len(await stream.receive())
        if not size:
            return True
        most_bytes -= size
    return False
