"""Yamux: many streams on one connection. Pure: plaintext in, events out; plaintext to send out.

Participants: two sides; the one that dialled opens odd stream ids, the other even ones.

::

    open      SYN on the stream's first frame (with data, or a window update); the other side's first frame has ACK
    data      DATA, never more than the receiver's window
    credit    WINDOW_UPDATE, sent as the reader consumes, once half of the window was used
    half-close  FIN, on a window update of its own: js-libp2p loses the payload of a data frame that has one
    reset     RST: both directions end at once; on a window update its length is an error code and no credit
    ping      answered with the same value; go away: no new streams

State of a stream: ``is_write_closed`` and ``is_read_closed`` grow true, once each; both, or a reset, and it is over.

Limits: streams in each direction; a receive window of 256 KiB a stream that grows to ``max_window_bytes`` while the
connection's ``window_growth_bytes`` last; ``max_unread_bytes`` delivered and not yet consumed, over which the stream
with most of them is reset; ``MAX_CONTROL_BYTES`` of answers that the peer does not read. A violation is one
:class:`MalformedMessageError`; GoAway is then ready to be sent, and the session is dead.

Non-goals: more than one meaning of a frame's length; waiting for ACK, which js-libp2p may never send.

Source: hashicorp/yamux, spec.md; libp2p specs, "yamux".
"""

from __future__ import annotations

from hostmesh.errors import MalformedMessageError, RemoteProtocolError
from hostmesh.wire.yamux_outgoing import MAX_FRAME_BYTES, YamuxOutgoing
from hostmesh.wire.yamux_stream import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    HEADER_BYTES,
    INITIAL_WINDOW_BYTES,
    INTERNAL_ERROR,
    NORMAL,
    PING,
    PROTOCOL_ERROR,
    RST,
    SYN,
    WINDOW_UPDATE,
    YAMUX_ID,
    DataReceived,
    Event,
    GoneAway,
    Pong,
    StreamEnded,
    StreamLimitError,
    StreamOpened,
    StreamReset,
    WindowOpened,
    YamuxLimits,
    YamuxStream,
)

__all__ = [
    "ACK",
    "DATA",
    "FIN",
    "GO_AWAY",
    "HEADER_BYTES",
    "INITIAL_WINDOW_BYTES",
    "INTERNAL_ERROR",
    "MAX_CONTROL_BYTES",
    "MAX_FRAME_BYTES",
    "NORMAL",
    "PING",
    "PROTOCOL_ERROR",
    "RST",
    "SYN",
    "WINDOW_UPDATE",
    "YAMUX_ID",
    "DataReceived",
    "Event",
    "GoneAway",
    "Pong",
    "StreamEnded",
    "StreamLimitError",
    "StreamOpened",
    "StreamReset",
    "WindowOpened",
    "Yamux",
    "YamuxLimits",
    "YamuxStream",
]

MAX_CONTROL_BYTES = 256 * 1024
"""Pongs, resets and window updates that wait to be sent. A peer that causes more does not read."""
_MAX_SEND_WINDOW = 2**32 - 1
_LARGE_BYTES = 4096
"""A larger piece of what was received may be a view of it."""


class Yamux(YamuxOutgoing):
    """One side of a connection.

    Args:
        is_initiator: whether this side dialled.
        limits: bounds.
    """

    __slots__ = (
        "_body_flags",
        "_body_left",
        "_body_stream",
        "_error",
        "_growth_left",
        "_highest_inbound",
        "_inbound",
        "_is_initiator",
        "_limits",
        "_lingering",
        "_next_id",
        "_partial",
        "_remote_gone",
        "refused_streams",
        "streams",
        "undelivered",
        "unread_bytes",
    )

    def __init__(self, *, is_initiator: bool, limits: YamuxLimits | None = None) -> None:
        super().__init__()
        self._limits = limits or YamuxLimits()
        self._is_initiator = is_initiator
        self._next_id = 1 if is_initiator else 2
        self._highest_inbound = 0
        self._inbound = 0
        self._growth_left = self._limits.window_growth_bytes
        self._partial = b""
        self._body_left = 0
        self._body_stream: YamuxStream | None = None
        self._body_flags = 0
        """How the stream ends with the last byte of the payload that is being read."""
        self._remote_gone = False
        self._error: RemoteProtocolError | None = None
        self.undelivered: list[Event] = []
        """What the peer said before it broke the protocol, in the piece that :meth:`receive` raised at."""
        self.streams: dict[int, YamuxStream] = {}
        """Streams that are not over."""
        self._lingering: dict[YamuxStream, None] = {}
        """Streams that are over and have unread bytes."""
        self.unread_bytes = 0
        """Delivered and not consumed, over all streams."""
        self.refused_streams = 0
        """Streams of the peer that were over the limit."""

    # --- what this side does ---

    @property
    def inbound_streams(self) -> int:
        """Streams of the peer that are not over."""
        return self._inbound

    @property
    def takes_streams(self) -> bool:
        """Whether streams can be opened: the peer has not gone away nor broken the protocol, and there are ids left."""
        return not self._remote_gone and self._error is None and self._next_id <= 0xFFFFFFFF

    @property
    def outbound_streams(self) -> int:
        """Streams of ours that are not over."""
        return len(self.streams) - self._inbound

    def open_stream(self) -> YamuxStream:
        """Return a new stream; its first frame tells the peer.

        Raises:
            StreamLimitError: ``max_outbound_streams`` are open, the peer has gone away, or the ids are used up.
        """
        if not self.takes_streams:
            raise StreamLimitError("the peer takes no new streams, or the ids are used up")
        if len(self.streams) - self._inbound >= self._limits.max_outbound_streams:
            raise StreamLimitError(f"{self._limits.max_outbound_streams} streams are open")
        stream = self.streams[self._next_id] = YamuxStream(self._next_id, is_inbound=False)
        self._next_id += 2
        return stream

    def close_write(self, stream: YamuxStream) -> None:
        """Half-close a stream. Idempotent."""
        if stream.is_write_closed or stream.is_reset:
            return
        stream.is_write_closed = True
        if stream.is_inbound:
            self._control_bytes += HEADER_BYTES  # a peer can cause any number of these
        self._queue(WINDOW_UPDATE, stream.flags | FIN, stream.id, 0)
        stream.flags = 0
        if stream.is_read_closed:
            self._forget(stream)

    def reset(self, stream: YamuxStream) -> None:
        """Drop a stream. Idempotent; nothing is sent for a stream that is over, or that the peer never heard of."""
        if not stream.is_over and stream.flags & SYN == 0:
            self._answer(WINDOW_UPDATE, stream.flags | RST, stream.id, 0)
        self._drop(stream)

    def discard(self, stream: YamuxStream) -> None:
        """Say that nobody will read what still comes on a stream, nor what was delivered."""
        self.unread_bytes -= stream.unread_bytes
        stream.unread_bytes = 0
        stream.is_discarding = True
        self._lingering.pop(stream, None)

    def consume(self, stream: YamuxStream, size: int) -> bool:
        """Say that ``size`` delivered bytes were read. Returns whether credit was queued for the peer."""
        size = min(size, stream.unread_bytes)
        stream.unread_bytes -= size
        self.unread_bytes -= size
        if stream.is_read_closed or stream.is_reset:
            if not stream.unread_bytes:
                self._lingering.pop(stream, None)
            return False
        credit = stream.window_bytes - stream.receive_window - stream.unread_bytes
        if credit < stream.window_bytes >> 1:
            return False
        growth = min(stream.window_bytes, self._limits.max_window_bytes - stream.window_bytes, self._growth_left)
        if growth > 0:
            stream.window_bytes += growth
            self._growth_left -= growth
            credit += growth
        stream.receive_window += credit
        self._answer(WINDOW_UPDATE, stream.flags, stream.id, credit)
        stream.flags = 0
        return True

    # --- what the peer does ---

    def receive(self, data: bytes) -> list[Event]:
        """Take received plaintext, in whatever pieces, and return what it means.

        Raises:
            MalformedMessageError: the peer broke the protocol, and the session is dead. What it said before in this
                piece is in ``undelivered``.
        """
        if self._error is not None:
            raise self._error
        events: list[Event] = []
        try:
            self._parse(data, events)
            if self._control_bytes > MAX_CONTROL_BYTES:
                raise MalformedMessageError("the peer does not read what it asks for")
        except RemoteProtocolError as error:
            self._error = error
            self.undelivered = events
            self.go_away(PROTOCOL_ERROR)
            raise
        return events

    def _parse(self, data: bytes, events: list[Event]) -> None:
        offset = 0
        if self._body_left:
            offset = self._take_body(data, 0, events)
        elif self._partial:
            data = self._partial + data
            self._partial = b""
        end = len(data)
        streams = self.streams
        unpack = HEADER.unpack_from
        while end - offset >= HEADER_BYTES:
            version, kind, flags, stream_id, length = unpack(data, offset)
            offset += HEADER_BYTES
            if version:
                raise MalformedMessageError("another version of Yamux", field="version")
            if kind <= WINDOW_UPDATE:
                stream = streams.get(stream_id)
                if stream is None or flags & SYN:
                    stream = self._open_inbound(stream_id, flags, events)
                if kind == DATA:
                    if length:
                        if stream is not None:
                            if stream.is_read_closed:
                                raise MalformedMessageError("data on a stream after its end", field="flags")
                            if length > stream.receive_window:
                                raise MalformedMessageError("data over the window", field="length")
                            stream.receive_window -= length
                        self._body_left = length
                        self._body_stream = stream
                        self._body_flags = flags & (FIN | RST)
                        offset = self._take_body(data, offset, events)
                    elif stream is not None and flags & (FIN | RST):
                        self._end(stream, flags, events)
                elif stream is not None:
                    if length and not flags & RST:
                        stream.send_window += length
                        if stream.send_window > _MAX_SEND_WINDOW:
                            raise MalformedMessageError("a window that overflows", field="length")
                        events.append(WindowOpened(stream))
                    if flags & (FIN | RST):
                        self._end(stream, flags, events)
            elif stream_id:
                raise MalformedMessageError("a frame of the connection with a stream id", field="stream_id")
            elif kind == PING:
                if flags & SYN:
                    self._answer(PING, ACK, 0, length)
                elif flags & ACK:
                    events.append(Pong(length))
            elif kind == GO_AWAY:
                self._remote_gone = True
                events.append(GoneAway(length))
            else:
                raise MalformedMessageError("an unknown kind of frame", field="type")
        if offset < end:
            self._partial = data[offset:]

    def _take_body(self, data: bytes, offset: int, events: list[Event]) -> int:
        """Deliver what is here of a frame's payload, and return where it ends."""
        left = self._body_left
        available = len(data) - offset
        size = min(left, available)
        stream = self._body_stream
        if size and stream is not None and not stream.is_discarding:
            stream.unread_bytes += size
            self.unread_bytes += size
            piece: bytes | memoryview = data
            if size != len(data):
                # A small piece is copied: a view would keep all that came with it.
                whole = memoryview(data) if 2 * size > len(data) > _LARGE_BYTES else data
                piece = whole[offset : offset + size]
            events.append(DataReceived(stream, piece))
            if self.unread_bytes > self._limits.max_unread_bytes:
                self.shed(events)
        self._body_left = left - size
        if left == size:
            self._body_stream = None
            if self._body_flags and stream is not None and not stream.is_reset:
                self._end(stream, self._body_flags, events)
        return offset + size

    def _open_inbound(self, stream_id: int, flags: int, events: list[Event]) -> YamuxStream | None:
        """Return the stream that a frame opens; None for a frame of a stream that is over, or refused."""
        is_own = bool(stream_id & 1) is self._is_initiator
        if not stream_id:
            raise MalformedMessageError("a frame of no stream", field="stream_id")
        if not flags & SYN:
            if stream_id >= self._next_id if is_own else stream_id > self._highest_inbound:
                raise MalformedMessageError("a frame of a stream that was never opened", field="stream_id")
            return None
        if is_own or stream_id in self.streams:
            raise MalformedMessageError("a stream id that is not the peer's to open", field="stream_id")
        self._highest_inbound = max(self._highest_inbound, stream_id)
        if flags & RST:
            return None
        if self._inbound >= self._limits.max_inbound_streams:
            self.refused_streams += 1
            self._answer(WINDOW_UPDATE, RST, stream_id, 0)
            return None
        stream = self.streams[stream_id] = YamuxStream(stream_id, is_inbound=True)
        self._inbound += 1
        events.append(StreamOpened(stream))
        return stream

    def _end(self, stream: YamuxStream, flags: int, events: list[Event]) -> None:
        if flags & RST:
            # What came before can still be read, and counts until it is.
            stream.is_reset = True
            self._forget(stream)
            events.append(StreamReset(stream, False))
        elif not stream.is_read_closed:
            stream.is_read_closed = True
            events.append(StreamEnded(stream))
            if stream.is_write_closed:
                self._forget(stream)

    def shed(self, events: list[Event]) -> None:
        """Reset the stream with most unread bytes, and say so. For a driver whose own bound was passed."""
        stream = max((*self.streams.values(), *self._lingering), key=lambda each: each.unread_bytes, default=None)
        if stream is not None and stream.unread_bytes:
            self.reset(stream)
            events.append(StreamReset(stream, True))

    def _drop(self, stream: YamuxStream) -> None:
        stream.is_reset = True
        self.discard(stream)
        self._forget(stream)

    def _forget(self, stream: YamuxStream) -> None:
        if self.streams.get(stream.id) is stream:
            del self.streams[stream.id]
            self._growth_left += stream.window_bytes - INITIAL_WINDOW_BYTES
            stream.window_bytes = INITIAL_WINDOW_BYTES
            if stream.is_inbound:
                self._inbound -= 1
            if stream.unread_bytes:
                self._lingering[stream] = None
