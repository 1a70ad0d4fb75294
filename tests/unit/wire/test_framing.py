"""Frames, against lengths computed by hand from the unsigned-varint specification."""

from __future__ import annotations

import tracemalloc

import pytest

from hostmesh.errors import FrameTooLargeError, MalformedMessageError
from hostmesh.wire.framing import FrameDecoder, encode_frame

# Payload sizes and the bytes of their varints, by hand.
PREFIXES = [
    (0, "00"),
    (1, "01"),
    (127, "7f"),
    (128, "8001"),
    (300, "ac02"),
    (16383, "ff7f"),
    (16384, "808001"),
    (1048576, "808040"),
]


@pytest.mark.parametrize(("size", "prefix"), PREFIXES)
def test_the_length_is_a_shortest_varint(size: int, prefix: str) -> None:
    frame = encode_frame(bytes(size))
    assert frame[: len(prefix) // 2].hex() == prefix
    assert len(frame) == len(prefix) // 2 + size


@pytest.mark.parametrize(("size", "prefix"), PREFIXES)
def test_decodes_whole_and_byte_by_byte(size: int, prefix: str) -> None:
    payload = bytes(index % 251 for index in range(size))
    data = bytes.fromhex(prefix) + payload
    whole = FrameDecoder(1048576)
    whole.feed(data)
    assert whole.next_frame() == payload
    assert whole.next_frame() is None
    whole.finish()
    if size > 20000:
        return
    piecewise = FrameDecoder(1048576)
    for index in range(len(data)):
        assert piecewise.next_frame() is None
        piecewise.feed(data[index : index + 1])
    assert piecewise.next_frame() == payload
    assert piecewise.buffered_bytes == 0


def test_frames_that_come_together_are_told_apart() -> None:
    decoder = FrameDecoder(16)
    decoder.feed(bytes.fromhex("02") + b"ab" + bytes.fromhex("00") + bytes.fromhex("01") + b"c" + bytes.fromhex("05"))
    assert [decoder.next_frame(), decoder.next_frame(), decoder.next_frame()] == [b"ab", b"", b"c"]
    assert decoder.next_frame() is None
    assert decoder.buffered_bytes == 1


def test_a_gibibyte_is_refused_before_it_is_allocated() -> None:
    decoder = FrameDecoder(1048576)
    tracemalloc.start()
    try:
        decoder.feed(bytes.fromhex("8080808004"))  # 2^30
        with pytest.raises(FrameTooLargeError) as caught:
            decoder.next_frame()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (2**30, 1048576)
    assert peak < 100_000


def test_the_cap_is_inclusive() -> None:
    decoder = FrameDecoder(3)
    decoder.feed(b"\x03abc\x04")
    assert decoder.next_frame() == b"abc"
    with pytest.raises(FrameTooLargeError):
        decoder.next_frame()


@pytest.mark.parametrize(
    "prefix",
    [
        "8000",  # 0 in two bytes
        "ff8000",  # 127 in three
        "808080808001",  # six bytes
        "ffffffffff7f",
    ],
)
def test_other_varints_are_refused(prefix: str) -> None:
    decoder = FrameDecoder(2**40)
    decoder.feed(bytes.fromhex(prefix))
    with pytest.raises(MalformedMessageError):
        decoder.next_frame()


def test_the_first_error_stays() -> None:
    decoder = FrameDecoder(3)
    decoder.feed(b"\x04")
    for call in (decoder.next_frame, decoder.next_frame, decoder.finish, lambda: decoder.feed(b"\x01a")):
        with pytest.raises(FrameTooLargeError):
            call()
    assert decoder.buffered_bytes == 0


@pytest.mark.parametrize("data", [b"\x80", b"\x03ab", b"\x01"])
def test_an_end_inside_a_frame_is_told(data: bytes) -> None:
    decoder = FrameDecoder(16)
    decoder.feed(data)
    assert decoder.next_frame() is None
    with pytest.raises(MalformedMessageError):
        decoder.finish()


def test_what_was_given_out_is_not_kept() -> None:
    decoder = FrameDecoder(65536)
    frame = encode_frame(bytes(1000))
    tracemalloc.start()
    try:
        for _ in range(5000):
            # One byte of the next frame is always there, so that the buffer is never just emptied.
            decoder.feed(frame[1:] + frame[:1] if decoder.buffered_bytes else frame + frame[:1])
            assert decoder.next_frame() is not None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
