"""Length-prefixed frames: a varint and that many bytes. Pure.

The length is an unsigned LEB128 varint in its shortest form, at most 5 bytes (35 bits). A decoder knows its cap before
the first byte arrives and compares the announced length with it before anything is reserved for the frame, so that a
peer cannot make us allocate by announcing.

Source: libp2p specs, "Connections" (varint length prefixes); multiformats, "unsigned-varint" (shortest form).
"""

from __future__ import annotations

from collections import deque

from hostmesh.errors import FrameTooLargeError, MalformedMessageError, RemoteProtocolError

MAX_PREFIX_BYTES = 5
"""35 bits: enough to tell how large a refused frame claims to be, no more."""

_SMALL_PIECE_BYTES = 1024
"""Pieces below this are gathered as they come, so that a frame which dribbles in costs no object a byte."""


def encode_length(size: int) -> bytes:
    """Return a length as an unsigned LEB128 varint in its shortest form.

    >>> encode_length(300).hex()
    'ac02'
    """
    if size < 0x80:
        return bytes((size,))
    if size < 0x4000:
        return bytes((size & 0x7F | 0x80, size >> 7))
    prefix = bytearray()
    while size >= 0x80:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    prefix.append(size)
    return bytes(prefix)


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
    return encode_length(len(payload)) + payload


class FrameDecoder:
    """Turns bytes, in whatever pieces they arrive, into frames.

    Feed what was received, then take frames until there is none; between two calls it holds less than one frame and one
    piece. The first error ends the decoder: it is raised again by every later call.

    A reader that can do without the first bytes of a frame asks for :meth:`next_size`, looks with :meth:`peek` and
    leaves them out with :meth:`take`; all others call :meth:`next_frame`.

    Args:
        max_frame_bytes: the cap on one frame's payload.

    Cost: each byte is copied once, into its frame; the bytes of pieces under 1 KiB that hold no whole frame, twice.
    """

    __slots__ = ("_at", "_chunk", "_error", "_later", "_missing", "_parts", "_prefix_bytes", "_size", "max_frame_bytes")

    def __init__(self, max_frame_bytes: int) -> None:
        if max_frame_bytes < 0:
            raise ValueError("max_frame_bytes must not be negative")
        self.max_frame_bytes = max_frame_bytes
        self._chunk: bytes | memoryview = b""
        self._at = 0
        """Where in the chunk the first unread byte is."""
        self._later: deque[bytes | memoryview] | None = None
        """Chunks after this one; there are none where frames are taken after each :meth:`feed`."""
        self._prefix_bytes = 0
        """How much of the frame's length was read."""
        self._size = 0
        """The frame's size, once its length was read; before that, what was read of it."""
        self._missing = -1
        """Bytes of the frame that are not among the parts; negative until its length was read."""
        self._parts: list[bytes | bytearray | memoryview] | None = None
        """The beginning of a frame that goes on after its chunk."""
        self._error: RemoteProtocolError | None = None

    @property
    def buffered_bytes(self) -> int:
        """Bytes received and not yet given out as frames."""
        begun = self._prefix_bytes + (self._size - self._missing if self._missing >= 0 else 0)
        return begun + len(self._chunk) - self._at + sum(map(len, self._later or ()))

    def feed(self, data: bytes | memoryview) -> None:
        """Take received bytes. They are kept, not copied: they must not change."""
        if self._error is not None:
            raise self._error
        if self._at == len(self._chunk) and not self._later:
            self._chunk, self._at = data, 0
        elif data:
            if self._later is None:
                self._later = deque()
            self._later.append(data)

    def next_size(self) -> int | None:
        """Return the size of the next frame's payload, or None while it is not complete; takes nothing.

        Raises:
            FrameTooLargeError: a frame announces more than ``max_frame_bytes``; raised as soon as its length is read.
            MalformedMessageError: the length is longer than 5 bytes or not in its shortest form.
        """
        if self._error is not None:
            raise self._error
        if self._missing < 0 and not self._read_length():
            return None
        while True:
            here = len(self._chunk) - self._at
            if here >= self._missing:
                return self._size
            if here:
                self._set_aside(here)
            if not self._next_chunk():
                return None

    def peek(self, count: int) -> bytes:
        """Return the first bytes of the frame that :meth:`next_size` told, up to ``count``."""
        rest = bytes(self._chunk[self._at : self._at + min(count, self._missing)])
        if self._parts is None:
            return rest
        head = b""
        for part in (*self._parts, rest):
            head += part[: count - len(head)]
            if len(head) == count:
                break
        return head

    def take(self, skip: int = 0) -> bytes:
        """Return the payload of the frame that :meth:`next_size` told, without its first ``skip`` bytes."""
        chunk, start, parts = self._chunk, self._at, self._parts
        end = start + self._missing
        if parts is None:
            cut = chunk[start + skip : end]
            frame = cut if isinstance(cut, bytes) else bytes(cut)
        else:
            parts.append(memoryview(chunk)[start:end])
            while skip and skip >= len(parts[0]):
                skip -= len(parts.pop(0))
            if skip:
                parts[0] = memoryview(parts[0])[skip:]
            frame = b"".join(parts)
            self._parts = None
        if end == len(chunk):
            # What was given out is not kept.
            self._chunk, end = b"", 0
        self._at = end
        self._size = self._prefix_bytes = 0
        self._missing = -1
        return frame

    def next_frame(self) -> bytes | None:
        """Return the next frame's payload, or None while it is not complete.

        Raises:
            As :meth:`next_size`.
        """
        return None if self.next_size() is None else self.take()

    def finish(self) -> None:
        """Say that the bytes have ended.

        Raises:
            MalformedMessageError: they ended inside a frame.
        """
        if self._error is not None:
            raise self._error
        if self.buffered_bytes:
            raise self._fail(MalformedMessageError("the bytes end inside a frame", field="length"))

    def _read_length(self) -> bool:
        """Read the length, as far as it is there; say whether it was."""
        chunk, at = self._chunk, self._at
        while True:
            if at == len(chunk):
                self._at = at
                if not self._next_chunk():
                    return False
                chunk, at = self._chunk, 0
            byte = chunk[at]
            at += 1
            self._size |= (byte & 0x7F) << 7 * self._prefix_bytes
            self._prefix_bytes += 1
            if byte < 0x80:
                break
            if self._prefix_bytes == MAX_PREFIX_BYTES:
                raise self._fail(MalformedMessageError("a frame's length has more than 5 bytes", field="length"))
        self._at = at
        if byte == 0 and self._prefix_bytes > 1:
            raise self._fail(MalformedMessageError("a frame's length is not in its shortest form", field="length"))
        if self._size > self.max_frame_bytes:
            raise self._fail(
                FrameTooLargeError(
                    f"a frame of {self._size} bytes is over the limit of {self.max_frame_bytes}",
                    size_bytes=self._size,
                    limit_bytes=self.max_frame_bytes,
                )
            )
        self._missing = self._size
        return True

    def _set_aside(self, here: int) -> None:
        """Keep the rest of the chunk, which is of the frame that goes on after it."""
        if self._parts is None:
            self._parts = []
        rest = memoryview(self._chunk)[self._at :]
        if here >= _SMALL_PIECE_BYTES:
            self._parts.append(rest)
        elif self._parts and isinstance(self._parts[-1], bytearray):
            self._parts[-1] += rest
        else:
            self._parts.append(bytearray(rest))
        self._missing -= here
        self._chunk, self._at = b"", 0

    def _next_chunk(self) -> bool:
        """Go on with the next chunk, if there is one."""
        if not self._later:
            return False
        self._chunk, self._at = self._later.popleft(), 0
        return True

    def _fail(self, error: RemoteProtocolError) -> RemoteProtocolError:
        self._error = error
        self._chunk, self._at, self._later, self._parts = b"", 0, None, None
        self._size, self._prefix_bytes, self._missing = 0, 0, -1
        return error
