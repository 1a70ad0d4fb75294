"""Frames, against lengths computed by hand from the unsigned-varint specification."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

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


# --- what it costs ---


class Counted(bytes):
    """Bytes that count how many of them are cut out as a copy."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        if isinstance(part, bytes):
            Counted.copied += len(part)
            return Counted(part)
        return part


def frames_of(decoder: FrameDecoder, chunks: list[bytes]) -> list[bytes]:
    frames = []
    for chunk in chunks:
        decoder.feed(chunk)
        while (frame := decoder.next_frame()) is not None:
            frames.append(frame)
    return frames


def test_small_frames_of_one_chunk_are_cut_out_once_each() -> None:
    Counted.copied = 0
    frames = frames_of(FrameDecoder(100), [Counted(encode_frame(bytes(40)) * 1500)])
    assert frames == [bytes(40)] * 1500
    assert all(isinstance(frame, Counted) for frame in frames)
    assert Counted.copied == 1500 * 40


def test_a_large_frame_is_joined_once_and_copied_nowhere_else() -> None:
    payload = bytes(index % 251 for index in range(262144))
    data = encode_frame(payload) * 2
    Counted.copied = 0
    chunks: list[bytes] = [Counted(data[start : start + 65536]) for start in range(0, len(data), 65536)]
    tracemalloc.start()
    try:
        frames = frames_of(FrameDecoder(262144), chunks)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert frames == [payload] * 2
    # What was joined is no longer of the chunks' kind, and no slice was taken on the way there.
    assert {type(frame) for frame in frames} == {bytes}
    assert Counted.copied == 0
    assert kept == pytest.approx(2 * 262144, abs=4096)
    assert peak < kept + 4096


def test_a_frame_can_be_taken_without_its_first_bytes_at_no_cost() -> None:
    data = encode_frame(b"head" + bytes(range(256)) * 16)
    for cuts in ([], [1], [3], [4, 6], [7, 2000], [2, 3, 4, 5, 6, 7, 8]):
        places = [0, *cuts, len(data)]
        decoder = FrameDecoder(5000)
        for start, end in itertools.pairwise(places):
            assert decoder.next_size() is None
            decoder.feed(data[start:end])
        for _ in range(2):
            assert decoder.next_size() == 4100
            assert decoder.peek(6) == b"head\0\1"
            assert decoder.peek(9000)[:4100] == data[2:]
        assert decoder.take(4) == bytes(range(256)) * 16
        assert decoder.buffered_bytes == 0
        decoder.finish()


def test_chunks_may_wait_for_each_other() -> None:
    data = b"".join(encode_frame(bytes([number]) * number) for number in range(200))
    decoder = FrameDecoder(200)
    for start in range(0, len(data), 7):
        decoder.feed(data[start : start + 7])
    assert decoder.buffered_bytes == len(data)
    assert [decoder.next_frame() for _ in range(200)] == [bytes([number]) * number for number in range(200)]
    decoder.finish()


def test_a_frame_that_dribbles_in_takes_no_more_memory_than_itself() -> None:
    data = encode_frame(bytes(200_000))
    decoder = FrameDecoder(200_000)
    tracemalloc.start()
    try:
        for start in range(0, len(data), 2):
            assert decoder.next_frame() is None
            decoder.feed(data[start : start + 2])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1.25 * len(data)
    assert decoder.next_frame() == bytes(200_000)
