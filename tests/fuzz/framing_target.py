"""FrameDecoder: fed as it comes, it gives what a decoder of three lines gives, and holds no more than it must."""

from __future__ import annotations

from collections.abc import Iterable

from tests.fuzz.target import Choices, Target, cut, promise

from hostmesh.errors import RemoteProtocolError
from hostmesh.wire.framing import MAX_PREFIX_BYTES, FrameDecoder, encode_frame

CAPS = (0, 1, 64, 300, 1500, 5000)


def run(data: bytes) -> None:
    choices = Choices(data)
    cap = CAPS[choices.byte() % len(CAPS)]
    style = choices.byte()
    stream = choices.rest()
    expected = reference(stream, cap)
    promise(decode([stream], cap, style) == expected, "a whole piece decodes as the reference does")
    promise(decode(cut(stream), cap, style >> 2) == expected, "cut pieces decode as the reference does")


def reference(stream: bytes, cap: int) -> tuple[list[bytes], str]:
    """Decode the plain way: frames, and how the bytes end."""
    frames: list[bytes] = []
    at = 0
    while at < len(stream):
        size = shift = 0
        while True:
            if at == len(stream):
                return frames, "inside"
            byte = stream[at]
            at += 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
            if shift == 35:
                return frames, "MESSAGE_MALFORMED"
        if byte == 0 and shift > 7:
            return frames, "MESSAGE_MALFORMED"
        if size > cap:
            return frames, "FRAME_TOO_LARGE"
        if len(stream) - at < size:
            return frames, "inside"
        frames.append(stream[at : at + size])
        at += size
    return frames, "whole"


def decode(pieces: list[bytes], cap: int, style: int) -> tuple[list[bytes], str]:
    """Decode with the decoder; ``style`` chooses how it is asked and what kind of bytes it is fed."""
    decoder = FrameDecoder(cap)
    frames: list[bytes] = []
    eager = style & 1
    try:
        for index, piece in enumerate(pieces):
            decoder.feed(piece if style & 2 else memoryview(piece))
            if eager or index % 3 == 2:
                _drain(decoder, frames, style)
                promise(
                    decoder.buffered_bytes < MAX_PREFIX_BYTES + max(cap, 1), "a drained decoder holds less than a frame"
                )
        _drain(decoder, frames, style)
    except RemoteProtocolError as error:
        _check_dead(decoder, error)
        return frames, error.code
    whole = not decoder.buffered_bytes
    try:
        decoder.finish()
    except RemoteProtocolError as error:
        promise(not whole, "finish() complains only inside a frame")
        _check_dead(decoder, error)
        return frames, "inside"
    promise(whole, "finish() complains inside a frame")
    return frames, "whole"


def _drain(decoder: FrameDecoder, frames: list[bytes], style: int) -> None:
    while True:
        if not style & 4:
            frame = decoder.next_frame()
            if frame is None:
                return
            frames.append(frame)
            continue
        size = decoder.next_size()
        if size is None:
            return
        skip = min(size, style & 31)
        head = decoder.peek(skip)
        tail = decoder.take(skip)
        promise(len(head) == skip and len(head) + len(tail) == size, "a frame has the size that was told")
        frames.append(head + tail)


def _check_dead(decoder: FrameDecoder, error: RemoteProtocolError) -> None:
    promise(decoder.buffered_bytes == 0, "a dead decoder holds nothing")
    for use in (lambda: decoder.feed(b"x"), decoder.next_size, decoder.next_frame, decoder.finish):
        try:
            use()
        except RemoteProtocolError as again:
            promise(again is error, "a dead decoder raises its first error")
        else:
            promise(False, "a dead decoder raises")


def seeds() -> Iterable[bytes]:
    frames = b"".join(encode_frame(bytes(size)) for size in (0, 1, 3, 127, 128, 300))
    for cap in range(len(CAPS)):
        for style in (0, 3, 4, 5, 31, 255):
            yield bytes((cap, style)) + frames
    yield bytes((5, 1)) + encode_frame(bytes(1200)) + encode_frame(bytes(2500)) + encode_frame(b"end")
    for style in (5, 21, 63):
        yield bytes((5, style)) + encode_frame(bytes(4000)) + encode_frame(bytes(12))
    for tail in ("80", "8000", "ffffffffff", "ffffffff7f", "8080808080", "05aabb"):
        yield bytes((2, 1)) + b"\x01a" + bytes.fromhex(tail)


TARGET = Target(run=run, seeds=seeds, code=("hostmesh.wire.framing:FrameDecoder",), max_bytes=8192)
