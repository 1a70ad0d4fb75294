"""Frames read and written by hand, against protobuf's own reading and writing of the same bytes."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from hostmesh.errors import RemoteProtocolError, StatusCode
from hostmesh.rpc.frames import (
    Frame,
    encode_end,
    encode_message_head,
    encode_request,
    read_frame,
    whole_answer,
    whole_request,
)
from hostmesh.rpc.header import MAX_DEADLINE_S, Header, encode_header, encode_header_rest, header_from_proto
from hostmesh.rpc.method import methods_of
from hostmesh.rpc.outcome import OK, Outcome, outcome_from_proto
from hostmesh.v1 import rpc_pb2, status_pb2
from hostmesh.wire.bounds import parse
from hostmesh.wire.framing import FrameDecoder, encode_frame

PING = methods_of(status_pb2.DESCRIPTOR.services_by_name["StatusService"])["Ping"]
CAP = 1_100_000
HEADS = {PING.header: PING}

Reading = Frame | tuple[type[RemoteProtocolError], str]


def through_protobuf(data: bytes) -> Reading:
    try:
        frame = parse(rpc_pb2.Frame, data, CAP)
    except RemoteProtocolError as error:
        return type(error), str(error)
    return Frame(
        frame.header if frame.HasField("header") else None,
        frame.message if frame.HasField("message") else None,
        outcome_from_proto(frame.status) if frame.HasField("status") else None,
    )


def by_hand(data: bytes, cut: int) -> Reading:
    decoder = FrameDecoder(CAP)
    framed = encode_frame(data)
    decoder.feed(framed[: min(cut, len(framed) - 1)])
    assert read_frame(decoder) is None
    decoder.feed(framed[min(cut, len(framed) - 1) :])
    try:
        frame = read_frame(decoder)
    except RemoteProtocolError as error:
        return type(error), str(error)
    assert frame is not None
    assert decoder.buffered_bytes == 0
    return frame


def varint(number: int, groups: int) -> bytes:
    """Write a number in at least so many groups, also in more than it needs."""
    parts = [number >> 7 * place & 127 for place in range(max(groups, (number.bit_length() + 6) // 7, 1))]
    return bytes([part | 128 for part in parts[:-1]] + [parts[-1]])


@st.composite
def fields(draw: st.DrawFn) -> bytes:
    """Fields of a frame and of strangers, whole and damaged, in any order and number."""
    tag = draw(st.sampled_from([0x12, 0x12, 0x1A, 0x0A, 0x22, 0x10, 0x08, 0x13]))
    payload = draw(
        st.binary(max_size=140)
        | st.sampled_from([b"", b"\x1a\x00", b"\x12\x00", b"\x08\x05", b"\x0a\x04Ping", bytes(127), bytes(16384)])
    )
    length = len(payload) + draw(st.sampled_from([0, 0, 0, 0, 1, 2, -1, -2, 128]))
    return bytes([tag]) + varint(max(length, 0), draw(st.integers(1, 5))) + payload


@given(
    data=st.lists(fields(), max_size=4).map(b"".join) | st.binary(max_size=60),
    end=st.sampled_from([b"", b"\x1a\x00", b"\x1a", b"\x00"]),
    cut=st.integers(0, 200),
)
@example(data=b"\x12\x80\x00", end=b"", cut=0)
@example(data=b"\x12\x80\x80\x80\x00", end=b"\x1a\x00", cut=2)
@example(data=b"\x12\x80\x80\x40" + bytes(1048576), end=b"", cut=1)
@example(data=b"\x12\x81\x80\x40" + bytes(1048577), end=b"", cut=5)
@example(data=b"\x12\x81\x80\x40" + bytes(1048577), end=b"\x1a\x00", cut=5)
@example(data=b"\x12\x01", end=b"\x1a\x00", cut=0)
@example(data=b"\x12\x00\x12\x00", end=b"", cut=0)
def test_a_frame_is_read_as_protobuf_reads_it(data: bytes, end: bytes, cut: int) -> None:
    assert by_hand(data + end, cut) == through_protobuf(data + end)


sizes = st.integers(0, 300) | st.sampled_from([16381, 16382, 16383, 16384, 65536])


@given(size=sizes, code=st.sampled_from(StatusCode), text=st.text(max_size=200))
def test_responses_and_ends_are_written_as_protobuf_writes_them(size: int, code: StatusCode, text: str) -> None:
    message, outcome = bytes(size), Outcome(status=code, message=text)
    assert encode_message_head(len(message)) + message == encode_frame(
        rpc_pb2.Frame(message=message).SerializeToString()
    )
    for end in (outcome, OK, Outcome(status=StatusCode.OK)):
        status = end.to_proto()
        assert encode_end(end, None) == encode_frame(rpc_pb2.Frame(status=status).SerializeToString())
        assert encode_end(end, message) == encode_frame(
            rpc_pb2.Frame(message=message, status=status).SerializeToString(deterministic=True)
        )


@given(
    size=sizes,
    left_ms=st.none() | st.integers(0, 10**12),
    session_id=st.sampled_from([b"", bytes(range(16))]),
    key=st.binary(max_size=32),
    metadata=st.dictionaries(st.text(min_size=1, max_size=16), st.text(max_size=100), max_size=16),
)
def test_requests_are_what_protobuf_reads(
    size: int, left_ms: int | None, session_id: bytes, key: bytes, metadata: dict[str, str]
) -> None:
    header = Header(method="Ping", session_id=session_id, idempotency_key=key, metadata=metadata)
    left_s = None if left_ms is None else left_ms / 1000
    data = encode_header(PING, left_s, encode_header_rest(header, PING))
    decoder = FrameDecoder(CAP)
    decoder.feed(encode_request(data, bytes(size)))
    frame = parse(rpc_pb2.Frame, decoder.take() if decoder.next_size() is not None else b"", CAP)
    expected = rpc_pb2.CallHeader(
        method="Ping",
        deadline_left_ms=left_ms,
        session_id=session_id,
        idempotency_key=key,
        metadata=[rpc_pb2.MetadataEntry(key=key, value=value) for key, value in metadata.items()],
    )
    assert frame.header == expected
    assert frame.message == bytes(size)
    assert not frame.HasField("status")
    assert expected.SerializeToString(deterministic=True) == data


def sized(tag: int, payload: bytes, groups: int = 1, more: int = 0) -> bytes:
    """Write a field with a length, which may be wrong by ``more``."""
    return bytes([tag]) + varint(max(len(payload) + more, 0), groups) + payload


@st.composite
def first_frames(draw: st.DrawFn) -> bytes:
    """First frames of calls: most as callers write them, others a little off."""
    off = st.sampled_from([0] * 12 + [1, -1, 2])
    groups = st.sampled_from([1] * 6 + [2, 3, 5])
    name = draw(st.sampled_from([b"Ping"] * 4 + [b"Pong", b"", b"\xff\xfe", b"Ping" * 40]))
    header = sized(draw(st.sampled_from([0x0A] * 6 + [0x12])), name, draw(groups), draw(off))
    if draw(st.booleans()):
        left_ms = draw(st.integers(0, 100_000) | st.integers(0, 2**64 + 9))
        header += bytes([draw(st.sampled_from([0x10] * 6 + [0x18]))]) + varint(left_ms, draw(groups | st.just(9)))
    header += draw(st.sampled_from([b""] * 6 + [b"\x10\x05", b"\x1a\x00", b"\x38\x01"]))
    message = draw(st.binary(max_size=20) | st.sampled_from([bytes(127), bytes(128), bytes(16384)]))
    frame = sized(0x0A, header, draw(groups), draw(off)) + sized(0x12, message, draw(groups), draw(off))
    return frame + draw(st.sampled_from([b""] * 6 + [b"\x1a\x00", b"\x12\x00", b"\x00"]))


@given(data=first_frames(), damage=st.none() | st.tuples(st.integers(0, 12), st.integers(0, 255)))
@example(data=sized(0x0A, b"\x0a\x04Ping") + b"\x12\x81\x80\x40" + bytes(1048577), damage=None)
def test_a_request_that_is_read_by_hand_is_what_protobuf_reads(data: bytes, damage: tuple[int, int] | None) -> None:
    if damage is not None and damage[0] < len(data):
        data = data[: damage[0]] + bytes([damage[1]]) + data[damage[0] + 1 :]
    read = whole_request(encode_frame(data), CAP, HEADS)
    if read is not None:
        method, left_s, message = read
        assert method is PING
        told = through_protobuf(data)
        assert isinstance(told, Frame)
        assert told.header is not None
        assert header_from_proto(told.header) == Header(method="Ping", deadline_left_s=left_s)
        assert (told.message, told.outcome) == (message, None)


@given(data=st.lists(fields(), max_size=4).map(b"".join) | first_frames())
def test_an_answer_that_is_read_by_hand_is_what_protobuf_reads(data: bytes) -> None:
    read = whole_answer(encode_frame(data), CAP)
    if read is not None:
        assert through_protobuf(data) == Frame(None, bytes(read), OK)


@given(data=st.binary(max_size=12) | first_frames().map(encode_frame), cap=st.integers(0, 64))
def test_only_whole_frames_within_their_cap_are_read_by_hand(data: bytes, cap: int) -> None:
    """Of what is no whole frame, or one too large, the decoder tells."""
    for read in (whole_request(data, cap, HEADS), whole_answer(data, cap)):
        if read is not None:
            decoder = FrameDecoder(cap)
            decoder.feed(data)
            assert decoder.next_frame() is not None
            assert decoder.buffered_bytes == 0


@given(size=st.integers(0, 16_000), left_ms=st.none() | st.integers(0, 10**12))
def test_what_callers_write_is_read_by_hand(size: int, left_ms: int | None) -> None:
    left_s = None if left_ms is None else left_ms / 1000
    sent = encode_request(encode_header(PING, left_s, b""), bytes(size))
    told_s = None if left_s is None else min(left_s, MAX_DEADLINE_S)
    assert whole_request(sent, CAP, HEADS) == (PING, told_s, bytes(size))
    assert whole_request(memoryview(sent), CAP, HEADS) == (PING, told_s, bytes(size))


@given(size=st.integers(0, 16_000))
def test_what_servers_write_is_read_by_hand(size: int) -> None:
    # The shortest go through protobuf.
    sent = encode_end(OK, bytes(size))
    assert whole_answer(sent, CAP) == (bytes(size) if len(sent) >= 6 else None)
