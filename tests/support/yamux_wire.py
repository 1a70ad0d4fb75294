"""Yamux frames by hand, from hashicorp's spec.md: nothing here is shared with ``hostmesh.wire.yamux``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
WINDOW = 262144


class Frame(NamedTuple):
    """One frame; ``body`` is the payload of a data frame."""

    kind: int
    flags: int
    stream_id: int
    length: int
    body: bytes = b""

    def pack(self) -> bytes:
        """Return its bytes."""
        return (
            bytes((0, self.kind))
            + self.flags.to_bytes(2, "big")
            + self.stream_id.to_bytes(4, "big")
            + self.length.to_bytes(4, "big")
            + self.body
        )


def data(stream_id: int, body: bytes, flags: int = 0) -> bytes:
    """Return a data frame."""
    return Frame(DATA, flags, stream_id, len(body), body).pack()


def update(stream_id: int, credit: int, flags: int = 0) -> bytes:
    """Return a window update."""
    return Frame(WINDOW_UPDATE, flags, stream_id, credit).pack()


def ping(value: int, flags: int = SYN) -> bytes:
    """Return a ping, or its answer."""
    return Frame(PING, flags, 0, value).pack()


def go_away(code: int) -> bytes:
    """Return the last word."""
    return Frame(GO_AWAY, 0, 0, code).pack()


class FrameReader:
    """Cuts bytes into whole frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def is_between_frames(self) -> bool:
        """Whether nothing of a frame is held."""
        return not self._buffer

    def feed(self, piece: bytes) -> Iterator[Frame]:
        """Take bytes and give the frames that they complete."""
        self._buffer += piece
        while len(self._buffer) >= 12:
            version, kind = self._buffer[:2]
            assert version == 0
            flags, stream_id, length = (
                int.from_bytes(self._buffer[start:end], "big") for start, end in ((2, 4), (4, 8), (8, 12))
            )
            size = 12 + (length if kind == DATA else 0)
            if len(self._buffer) < size:
                return
            body = bytes(self._buffer[12:size])
            del self._buffer[:size]
            yield Frame(kind, flags, stream_id, length, body)


class HeadReader:
    """Cuts bytes into frames without their bodies, each as soon as its head is here."""

    def __init__(self) -> None:
        self._head = b""
        self._skip = 0

    def feed(self, piece: bytes) -> Iterator[Frame]:
        """Take bytes and give the frames that they begin."""
        while piece:
            if self._skip:
                skipped = min(self._skip, len(piece))
                self._skip -= skipped
                piece = piece[skipped:]
                continue
            missing = 12 - len(self._head)
            self._head, piece = self._head + piece[:missing], piece[missing:]
            if len(self._head) == 12:
                kind, flags, stream_id, length = (
                    int.from_bytes(self._head[a:b], "big") for a, b in ((1, 2), (2, 4), (4, 8), (8, 12))
                )
                self._head = b""
                self._skip = length if kind == DATA else 0
                yield Frame(kind, flags, stream_id, length)


@dataclass
class WatchedStream:
    """What one side may do on one stream, as an onlooker counts it."""

    may_send: int = WINDOW
    """Bytes that the watched side may still send."""
    may_receive: int = WINDOW
    """Bytes that it lets the other side send."""
    said_syn: bool = False
    said_ack: bool = False
    said_fin: bool = False
    said_rst: bool = False
    is_reused: bool = False
    """The other side has opened this id again, so that what the watched side said before cannot be told apart."""


@dataclass
class Onlooker:
    """Watches one side's wire and finds what that side may not do.

    Args:
        opens_odd: whether the side dialled.
        max_window: the largest window that it may grant.
    """

    opens_odd: bool
    max_window: int = 4 * 1024 * 1024
    streams: dict[int, WatchedStream] = field(default_factory=dict)
    answered_pings: list[int] = field(default_factory=list)
    pings: list[int] = field(default_factory=list)
    gone_away: list[int] = field(default_factory=list)

    def sees_sent(self, frame: Frame) -> None:
        """Check a frame that the side sent."""
        assert frame.flags <= 15, "an unknown flag"
        if frame.kind == PING:
            assert frame.stream_id == 0
            assert frame.flags in (SYN, ACK)
            (self.pings if frame.flags == SYN else self.answered_pings).append(frame.length)
            return
        if frame.kind == GO_AWAY:
            assert frame.stream_id == 0
            self.gone_away.append(frame.length)
            return
        assert frame.kind in (DATA, WINDOW_UPDATE), "an unknown kind of frame"
        is_own = bool(frame.stream_id & 1) is self.opens_odd
        if frame.flags & SYN:
            assert is_own, "SYN on a stream of the other side"
            # The other side may have guessed the id and granted something already.
            stream = self.streams.setdefault(frame.stream_id, WatchedStream())
            assert not stream.said_syn, "a stream id that was used"
            stream.said_syn = True
        stream = self.streams[frame.stream_id]
        assert not (frame.flags & ACK and is_own), "a wrong ACK"
        if stream.is_reused:
            return
        assert not (frame.flags & ACK and stream.said_ack), "ACK twice"
        stream.said_ack |= bool(frame.flags & ACK)
        assert not stream.said_rst, "a frame after RST"
        if frame.kind == DATA:
            assert not stream.said_fin, "data after FIN"
            assert frame.length, "an empty data frame"
            assert not frame.flags & (FIN | RST), "an end with a payload"
            stream.may_send -= frame.length
            assert stream.may_send >= 0, "data over the window"
            assert frame.length <= 65507, "a frame that does not fit a Noise message"
        else:
            stream.may_receive += frame.length
            assert stream.may_receive <= self.max_window, "a window over the limit"
        assert not (frame.flags & FIN and stream.said_fin), "FIN twice"
        stream.said_fin |= bool(frame.flags & FIN)
        stream.said_rst |= bool(frame.flags & RST)

    def sees_received(self, frame: Frame) -> None:
        """Take notice of a whole and lawful frame that the side received."""
        if frame.kind not in (DATA, WINDOW_UPDATE):
            return
        if frame.flags & SYN:
            self.streams[frame.stream_id] = WatchedStream(is_reused=frame.stream_id in self.streams)
        stream = self.streams.setdefault(frame.stream_id, WatchedStream())
        if frame.kind == DATA:
            stream.may_receive -= frame.length
        else:
            stream.may_send += frame.length
