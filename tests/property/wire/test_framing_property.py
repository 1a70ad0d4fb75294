"""Framing: any splits give the same frames, and garbage raises one family of errors."""

from __future__ import annotations

import contextlib
import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from hostmesh.errors import MalformedMessageError, RemoteProtocolError
from hostmesh.v1 import discovery_pb2, job_pb2, rpc_pb2, session_pb2
from hostmesh.wire.bounds import parse
from hostmesh.wire.framing import FrameDecoder, encode_frame


def drain(decoder: FrameDecoder) -> list[bytes]:
    frames = []
    while (frame := decoder.next_frame()) is not None:
        frames.append(frame)
    return frames


@given(
    payloads=st.lists(st.binary(max_size=300), max_size=8),
    cuts=st.lists(st.integers(min_value=0, max_value=3000), max_size=20),
)
def test_any_split_gives_the_same_frames(payloads: list[bytes], cuts: list[int]) -> None:
    data = b"".join(map(encode_frame, payloads))
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    decoder = FrameDecoder(300)
    frames = []
    for start, end in itertools.pairwise(places):
        decoder.feed(data[start:end])
        frames += drain(decoder)
    decoder.finish()
    assert frames == payloads
    assert decoder.buffered_bytes == 0


@given(data=st.binary(max_size=200), cut=st.integers(min_value=0, max_value=200))
@example(data=b"\xff" * 10, cut=3)
def test_garbage_gives_the_same_wherever_it_is_cut(data: bytes, cut: int) -> None:
    results = []
    for pieces in ((data,), (data[:cut], data[cut:])):
        decoder = FrameDecoder(64)
        frames: list[bytes] = []
        error: RemoteProtocolError | None = None
        try:
            for piece in pieces:
                decoder.feed(piece)
                while (frame := decoder.next_frame()) is not None:
                    frames.append(frame)
            decoder.finish()
        except RemoteProtocolError as caught:
            error = caught
        results.append((frames, type(error), str(error)))
    assert results[0] == results[1]


TYPES = (
    rpc_pb2.Frame,
    discovery_pb2.AnnounceRequest,
    discovery_pb2.HostRecord,
    job_pb2.RunRequest,
    job_pb2.RunResponse,
    session_pb2.AuthorizeRequest,
)


@given(data=st.binary(max_size=400), kind=st.sampled_from(TYPES))
def test_garbage_is_parsed_or_malformed(data: bytes, kind: type) -> None:
    with contextlib.suppress(MalformedMessageError):
        parse(kind, data, 400)


@given(data=st.data(), flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_message_is_parsed_or_malformed(data: st.DataObject, flips: list[tuple[int, int]]) -> None:
    record = discovery_pb2.HostRecord(
        network=data.draw(st.text(min_size=1, max_size=10)),
        peer_id=bytes(38),
        operator=bytes(20),
        addresses=[b"\x04\x7f\x00\x00\x01\x06\x10\x92"],
        models=[discovery_pb2.ModelOffer(model_id="m", price=discovery_pb2.Price(currency="USD"))],
    )
    raw = bytearray(record.SerializeToString())
    for place, value in flips:
        raw[place % len(raw)] = value
    with contextlib.suppress(MalformedMessageError):
        parse(discovery_pb2.HostRecord, bytes(raw), 10240)
