"""Length-prefixed frames: a varint and that many bytes. Pure.

The length is an unsigned LEB128 varint in its shortest form, at most 5 bytes (35 bits). A decoder knows its cap before
the first byte arrives and compares the announced length with it before anything is reserved for the frame, so that a
peer cannot make us allocate by announcing.

Source: libp2p specs, "Connections" (varint length prefixes); multiformats, "unsigned-varint" (shortest form).
"""

from __future__ import annotations

from hostmesh.errors import FrameTooLargeError, MalformedMessageError, RemoteProtocolError

MAX_PREFIX_BYTES = 5
"""35 bits: enough to tell how large a refused frame claims to be, no more."""

_COMPACT_BYTES = 65536


def encode_frame(payload: bytes) -> bytes:
    """Return the payload with its length before it.

    Args:
        payload: 0 to 2^35 - 1 bytes.

    Returns:
        1 to 5 bytes of length, then the payload.

    Cost: one copy of the payload.

    >>> encode_frame(b"abc").hex()
    '03616263'
    >>> encode_frame(bytes(300))[:2].hex()
    'ac02'
    """
    size = len(payload)
    if size < 0x80:
        return bytes((size,)) + payload
    prefix = bytearray()
    while size >= 0x80:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    prefix.append(size)
    return bytes(prefix) + payload


class FrameDecoder:
    """Turns bytes, in whatever pieces they arrive, into frames.

    Feed what was received, then take frames until there is none; between two calls it holds less than one frame and one
    piece. The first error ends the decoder: it is raised again by every later call.

    Args:
        max_frame_bytes: the cap on one frame's payload.

    Cost: each byte is copied twice, whatever the pieces.
    """

    __slots__ = ("_buffer", "_error", "_offset", "max_frame_bytes")

    def __init__(self, max_frame_bytes: int) -> None:
        if max_frame_bytes < 0:
            raise ValueError("max_frame_bytes must not be negative")
        self.max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()
        self._offset = 0
        self._error: RemoteProtocolError | None = None

    @property
    def buffered_bytes(self) -> int:
        """Bytes received and not yet given out as frames."""
        return len(self._buffer) - self._offset

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take received bytes; they are copied."""
        if self._error is not None:
            raise self._error
        self._buffer += data

    def next_frame(self) -> bytes | None:
        """Return the next frame's payload, or None while it is not complete.

        Raises:
            FrameTooLargeError: a frame announces more than ``max_frame_bytes``; raised as soon as its length is read.
            MalformedMessageError: the length is longer than 5 bytes or not in its shortest form.
        """
        if self._error is not None:
            raise self._error
        buffer, start = self._buffer, self._offset
        available = len(buffer) - start
        size = shift = used = 0
        while True:
            if used == available:
                return None
            byte = buffer[start + used]
            used += 1
            size |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if used == MAX_PREFIX_BYTES:
                raise self._fail(MalformedMessageError("a frame's length has more than 5 bytes", field="length"))
        if used > 1 and buffer[start + used - 1] == 0:
            raise self._fail(MalformedMessageError("a frame's length is not in its shortest form", field="length"))
        if size > self.max_frame_bytes:
            raise self._fail(
                FrameTooLargeError(
                    f"a frame of {size} bytes is over the limit of {self.max_frame_bytes}",
                    size_bytes=size,
                    limit_bytes=self.max_frame_bytes,
                )
            )
        if available - used < size:
            return None
        start += used
        with memoryview(buffer) as view:
            frame = bytes(view[start : start + size])
        self._consume(start + size)
        return frame

    def finish(self) -> None:
        """Say that the bytes have ended.

        Raises:
            MalformedMessageError: they ended inside a frame.
        """
        if self._error is not None:
            raise self._error
        if self.buffered_bytes:
            raise self._fail(MalformedMessageError("the bytes end inside a frame", field="length"))

    def _consume(self, offset: int) -> None:
        if offset == len(self._buffer):
            self._buffer.clear()
            offset = 0
        elif offset >= _COMPACT_BYTES:
            del self._buffer[:offset]
            offset = 0
        self._offset = offset

    def _fail(self, error: RemoteProtocolError) -> RemoteProtocolError:
        self._error = error
        self._buffer.clear()
        self._offset = 0
        return error
