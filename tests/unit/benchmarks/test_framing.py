"""The peers' framer and payloads."""

from __future__ import annotations

import pytest
from tests.benchmarks.transport.peers.framing import FrameError, FrameReader, encode_frame
from tests.benchmarks.transport.peers.payload import decode_count, encode_count, payload

from hostmesh.wire import framing


def reader_of(data: bytes, piece_bytes: int) -> FrameReader:
    pieces = [data[start : start + piece_bytes] for start in range(0, len(data), piece_bytes)]

    async def receive(max_bytes: int) -> bytes:
        return pieces.pop(0) if pieces else b""

    return FrameReader(receive)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 16384, 262144])
def test_frames_are_those_of_libp2p(size: int) -> None:
    assert encode_frame(payload(size)) == framing.encode_frame(payload(size))


@pytest.mark.parametrize("piece_bytes", [1, 2, 129, 100_000])
async def test_frames_come_whole_whatever_the_pieces(piece_bytes: int) -> None:
    sizes = [40, 0, 300, 40, 20_000, 40]
    reader = reader_of(b"".join(encode_frame(payload(size)) for size in sizes), piece_bytes)
    assert [await reader.next_frame() for _ in sizes] == [payload(size) for size in sizes]


async def test_the_end_inside_a_frame_is_an_error() -> None:
    with pytest.raises(FrameError):
        await reader_of(encode_frame(payload(40))[:-1], 7).next_frame()


@pytest.mark.parametrize("prefix", ["ffffffffff01", "ffff7f"])
async def test_a_length_beyond_reason_is_an_error(prefix: str) -> None:
    with pytest.raises(FrameError):
        await reader_of(bytes.fromhex(prefix) + bytes(100), 1000).next_frame()


def test_a_payload_depends_on_its_length() -> None:
    data = payload(300)
    assert all(byte == (index * 7 + 300) % 256 for index, byte in enumerate(data))
    assert len(data) == 300


def test_counts() -> None:
    assert decode_count(encode_count(10_000)) == 10_000
    for data in (b"", bytes(7), b"\xff" * 8):
        with pytest.raises(ValueError, match="a count"):
            decode_count(data)
