"""What :mod:`hostmesh.wire.yamux` speaks of: its frames' words, streams, events and bounds. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

YAMUX_ID = "/yamux/1.0.0"
HEADER_BYTES = 12
HEADER = struct.Struct(">BBHII")
INITIAL_WINDOW_BYTES = 256 * 1024
"""What a side may send on a new stream before it hears more. Source: spec.md."""

DATA: Final = 0
WINDOW_UPDATE: Final = 1
PING: Final = 2
GO_AWAY: Final = 3

SYN: Final = 1
ACK: Final = 2
FIN: Final = 4
RST: Final = 8

NORMAL: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2


class YamuxStream:
    """A stream's state. Only :class:`Yamux` changes it; ``owner`` is the driver's."""

    __slots__ = (
        "flags",
        "id",
        "is_discarding",
        "is_inbound",
        "is_read_closed",
        "is_reset",
        "is_write_closed",
        "owner",
        "receive_window",
        "send_window",
        "unread_bytes",
        "window_bytes",
    )

    def __init__(self, stream_id: int, *, is_inbound: bool) -> None:
        self.id = stream_id
        self.is_inbound = is_inbound
        self.flags = ACK if is_inbound else SYN
        """What our next frame of this stream carries besides its own."""
        self.send_window = INITIAL_WINDOW_BYTES
        """Bytes that we may send."""
        self.receive_window = INITIAL_WINDOW_BYTES
        """Bytes that the peer may send."""
        self.window_bytes = INITIAL_WINDOW_BYTES
        """What ``receive_window`` is filled up to."""
        self.unread_bytes = 0
        """Delivered and not consumed."""
        self.is_write_closed = False
        self.is_read_closed = False
        self.is_reset = False
        self.is_discarding = False
        """What still comes is dropped: nobody reads it."""
        self.owner: Any = None

    @property
    def is_over(self) -> bool:
        """Whether no frame of this stream will be sent or taken any more."""
        return self.is_reset or (self.is_write_closed and self.is_read_closed)

    def __repr__(self) -> str:
        return f"<YamuxStream {self.id}{' over' if self.is_over else ''}>"


class StreamOpened(NamedTuple):
    """The peer opened a stream."""

    stream: YamuxStream


class DataReceived(NamedTuple):
    """Bytes of a stream, at least one. Large pieces are views of what was received: nothing is copied."""

    stream: YamuxStream
    data: bytes | memoryview


class StreamEnded(NamedTuple):
    """The peer closed its side of a stream."""

    stream: YamuxStream


class StreamReset(NamedTuple):
    """A stream was reset: by the peer, or because nobody read it (``is_overflow``)."""

    stream: YamuxStream
    is_overflow: bool


class WindowOpened(NamedTuple):
    """The peer lets more be sent on a stream."""

    stream: YamuxStream


class Pong(NamedTuple):
    """The peer answered a ping."""

    value: int


class GoneAway(NamedTuple):
    """The peer will take no new streams; its reason code."""

    code: int


Event = StreamOpened | DataReceived | StreamEnded | StreamReset | WindowOpened | Pong | GoneAway


@dataclass(frozen=True, slots=True, kw_only=True)
class YamuxLimits:
    """Bounds of one connection."""

    max_inbound_streams: int = 256
    max_outbound_streams: int = 256
    max_window_bytes: int = 4 * 1024 * 1024
    """Receive window of a stream that moves much."""
    window_growth_bytes: int = 16 * 1024 * 1024
    """What all windows together may grow beyond their first size."""
    max_unread_bytes: int = 64 * 1024 * 1024
    """Received and not consumed, over all streams."""


class StreamLimitError(Exception):
    """This side has as many streams open as it may, or the peer takes no new ones. Stays below the node."""
