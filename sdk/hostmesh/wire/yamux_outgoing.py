"""The frames of a Yamux connection that wait to be sent. Pure."""

from __future__ import annotations

from hostmesh.wire.yamux_stream import (
    DATA,
    GO_AWAY,
    HEADER,
    HEADER_BYTES,
    NORMAL,
    PING,
    SYN,
    YamuxStream,
)

MAX_FRAME_BYTES = 65507
"""Of data in a frame that we send: with its header, one Noise message."""
_SMALL_BYTES = 4096
"""Pieces up to this size are put together into one frame while they wait."""


class YamuxOutgoing:
    """What one side has to say, in its order; small pieces of a stream become one frame while they wait.

    The base of :class:`hostmesh.wire.yamux.Yamux` and no part of it: a call for each frame would be one too many.
    """

    __slots__ = ("_control_bytes", "_out", "_tail", "_tail_stream", "queued_bytes")

    def __init__(self) -> None:
        self._out: list[bytes | memoryview | bytearray] = []
        self._tail: bytearray | None = None
        self._tail_stream: YamuxStream | None = None
        self._control_bytes = 0
        """Of what waits, what the peer caused."""
        self.queued_bytes = 0
        """Bytes that :meth:`data_to_send` would return, about."""

    def send(self, stream: YamuxStream, data: bytes | memoryview) -> int:
        """Queue as much of the data as the peer's window takes, and return how much that was.

        ``data`` is kept, not copied: it must not change.

        Raises:
            ValueError: this side of the stream is closed.
        """
        if stream.is_write_closed or stream.is_reset:
            raise ValueError("the stream is closed for sending")
        size = len(data)
        if size > stream.send_window:
            size = stream.send_window
            data = memoryview(data)[:size]
        if not size:
            return 0
        stream.send_window -= size
        if size <= _SMALL_BYTES:
            self._send_small(stream, data, size)
            return size
        view = memoryview(data)
        if self._tail is not None:
            if stream is self._tail_stream:
                # Filled up, so that the frames after it are messages of the channel below as well.
                room = MAX_FRAME_BYTES + HEADER_BYTES - len(self._tail)
                self._tail += view[:room]
                self.queued_bytes += min(room, size)
                view = view[room:]
            self._end_tail()
        for start in range(0, len(view), MAX_FRAME_BYTES):
            piece = view[start : start + MAX_FRAME_BYTES]
            self._send_frame(stream, piece, len(piece))
        return size

    def _send_frame(self, stream: YamuxStream, data: bytes | memoryview, size: int) -> None:
        self._out += (HEADER.pack(0, DATA, stream.flags, stream.id, size), data)
        stream.flags = 0
        self.queued_bytes += HEADER_BYTES + size

    def _send_small(self, stream: YamuxStream, data: bytes | memoryview, size: int) -> None:
        tail = self._tail
        if tail is not None:
            if stream is self._tail_stream and len(tail) + size <= MAX_FRAME_BYTES + HEADER_BYTES:
                tail += data
                self.queued_bytes += size
                return
            self._end_tail()
        tail = self._tail = bytearray(HEADER.pack(0, DATA, stream.flags, stream.id, 0))
        tail += data
        stream.flags = 0
        self._tail_stream = stream
        self.queued_bytes += HEADER_BYTES + size

    def _end_tail(self) -> None:
        tail = self._tail
        if tail is not None:
            tail[8:12] = (len(tail) - HEADER_BYTES).to_bytes(4, "big")
            self._out.append(tail)
            self._tail = self._tail_stream = None

    def answer(self, stream: YamuxStream, data: bytes) -> None:
        """Queue what a peer's own words have caused; it counts to what the peer may leave unread.

        Args:
            stream: one that the peer opened, with room in its window.
            data: a few hundred bytes at most.
        """
        self._control_bytes += HEADER_BYTES + self.send(stream, data)

    def ping(self, value: int) -> None:
        """Ask for a :class:`Pong` with this value, 32 bits."""
        self._queue(PING, SYN, 0, value)

    def go_away(self, code: int = NORMAL) -> None:
        """Tell the peer that no new streams are taken."""
        self._queue(GO_AWAY, 0, 0, code)

    def data_to_send(self) -> bytes:
        """Return what must be sent and was not taken yet; call it when the connection can take more.

        Cost: one copy.
        """
        self._end_tail()
        data = b"".join(self._out)
        self._out.clear()
        self.queued_bytes = self._control_bytes = 0
        return data

    def _queue(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        # A frame must not overtake the data before it.
        self._end_tail()
        self._out.append(HEADER.pack(0, kind, flags, stream_id, length))
        self.queued_bytes += HEADER_BYTES

    def _answer(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        self._queue(kind, flags, stream_id, length)
        self._control_bytes += HEADER_BYTES
