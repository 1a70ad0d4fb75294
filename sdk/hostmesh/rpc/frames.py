"""The frames of a call in bytes: a length, and a ``Frame`` (rpc.proto). Pure.

A frame that carries a message and nothing else, or an OK status with it, or before it a method and a deadline, is what
nearly all calls consist of: those are read and written here by hand, byte for byte as protobuf would. Every other shape
goes through protobuf.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from hostmesh.rpc.header import MAX_DEADLINE_S
from hostmesh.rpc.method import MAX_MESSAGE_BYTES
from hostmesh.rpc.outcome import OK, Outcome, outcome_from_proto
from hostmesh.v1 import rpc_pb2
from hostmesh.wire.bounds import parse
from hostmesh.wire.framing import FrameDecoder, encode_length

# Field numbers of Frame, as tags of fields that have a length.
_HEADER_TAG = b"\x0a"
_MESSAGE_TAG = b"\x12"
_STATUS_TAG = b"\x1a"
_OK_STATUS = b"\x1a\x00"
_HEADER_TAG_BYTE = 0x0A
_MESSAGE_TAG_BYTE = 0x12
# And of CallHeader.
_DEADLINE_TAG_BYTE = 0x10
_SMALL_BYTES = 4096
"""A frame up to this size is cheaper to copy once more than to look at in pieces."""
T = TypeVar("T")

_LONGEST_ENVELOPE = 4
"""The tag and the length of a message of up to 1 MiB."""


class Frame(NamedTuple):
    """What one frame holds; None where it is absent."""

    header: rpc_pb2.CallHeader | None
    message: bytes | None
    outcome: Outcome | None


EMPTY = Frame(None, None, None)
"""A frame without a byte: a heartbeat."""


def encode_request(header: bytes, message: bytes) -> bytes:
    """Return the caller's frame, from a serialised header and a serialised request."""
    size, message_size = len(header), len(message)
    if size < 0x80 and message_size < 0x80 and size + message_size < 0x7C:
        return bytes((size + message_size + 4, 0x0A, size)) + header + bytes((0x12, message_size)) + message
    envelope = _HEADER_TAG + encode_length(size) + header + _MESSAGE_TAG + encode_length(message_size)
    return b"".join((encode_length(len(envelope) + message_size), envelope, message))


def encode_header_frame(header: bytes) -> bytes:
    """Return the first frame of a call whose requests follow, from a serialised header."""
    envelope = _HEADER_TAG + encode_length(len(header))
    return b"".join((encode_length(len(envelope) + len(header)), envelope, header))


def encode_message_head(size: int) -> bytes:
    """Return what goes before a serialised message of that size in a frame of its own.

    >>> encode_message_head(3).hex()
    '051203'
    """
    if size < 0x7E:
        return bytes((size + 2, _MESSAGE_TAG_BYTE, size))
    envelope = _MESSAGE_TAG + encode_length(size)
    return encode_length(len(envelope) + size) + envelope


def encode_end(outcome: Outcome, message: bytes | None) -> bytes:
    """Return the last frame: the status, after a serialised response or without one.

    >>> encode_end(OK, b"abc").hex()
    '0712036162631a00'
    """
    if outcome is OK:
        status = _OK_STATUS
    else:
        data = outcome.to_proto().SerializeToString()
        status = _STATUS_TAG + encode_length(len(data)) + data
    if message is None:
        return encode_length(len(status)) + status
    envelope = _MESSAGE_TAG + encode_length(len(message))
    return b"".join((encode_length(len(envelope) + len(message) + len(status)), envelope, message, status))


def _varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """Return a varint of up to 9 bytes and where it ends; an end of 0 for what is none."""
    if at < len(data) and (byte := data[at]) < 0x80:
        return byte, at + 1
    if at + 1 < len(data) and (second := data[at + 1]) < 0x80:
        return byte & 0x7F | second << 7, at + 2
    value = shift = 0
    for byte in data[at : at + 9]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, 0


def whole_request(
    data: bytes | memoryview, max_bytes: int, heads: Mapping[bytes, T]
) -> tuple[T, float | None, bytes] | None:
    """Return what is called, its deadline in s and the request in these bytes, if they are one whole frame of no more.

    None for all else, also where it may be such a frame written in another way.

    Args:
        data: the first bytes of a call, as they came.
        max_bytes: most that the frame may have.
        heads: what there is, by the method's ``Method.header``.

    Cost: two copies of the message.
    """
    start = _whole_frame(data, max_bytes)
    if start is None or data[start] != _HEADER_TAG_BYTE:
        return None
    data = bytes(data)
    # A length of more than one byte has a first one over 0x7f: then the header ends beyond what is looked at here.
    header_at, header_end = start + 2, start + 2 + data[start + 1]
    name_end = header_at + 2 + data[header_at + 1]
    if not name_end <= header_end < len(data) - 1 or data[start + 1] >= 0x80 or data[header_end] != _MESSAGE_TAG_BYTE:
        return None
    method = heads.get(data[header_at:name_end])
    if method is None:
        return None
    left_s: float | None = None
    if name_end != header_end:
        left_ms, end = _varint(data, name_end + 1)
        if data[name_end] != _DEADLINE_TAG_BYTE or end != header_end:
            return None
        left_s = left_ms / 1000
        if left_s > MAX_DEADLINE_S:
            left_s = MAX_DEADLINE_S
    length, at = data[header_end + 1], header_end + 2
    if length >= 0x80:
        length, at = _varint(data, header_end + 1)
    return (method, left_s, data[at:]) if at and at + length == len(data) else None


def whole_answer(data: bytes | memoryview, max_bytes: int) -> bytes | memoryview | None:
    """Return the response in these bytes, if they are one whole frame of it and the OK status; None for all else.

    >>> whole_answer(encode_end(OK, b"abc"), 100)
    b'abc'
    """
    start = _whole_frame(data, max_bytes)
    if start is None or data[start] != _MESSAGE_TAG_BYTE or data[-2:] != _OK_STATUS:
        return None
    length, at = data[start + 1], start + 2
    if length >= 0x80:
        length, at = _varint(data, start + 1)
    return data[at:-2] if at and at + length + 2 == len(data) else None


def _whole_frame(data: bytes | memoryview, max_bytes: int) -> int | None:
    """Return where the frame begins that fills these bytes with a length of one or two bytes; None for all else."""
    if len(data) < 6:
        return None
    size, start = data[0], 1
    if size >= 0x80:
        if not 0 < data[1] < 0x80:
            return None
        size, start = size & 0x7F | data[1] << 7, 2
    return start if start + size == len(data) and size <= max_bytes else None


def read_frame(decoder: FrameDecoder) -> Frame | None:
    """Return the next frame, or None while it is not complete.

    Raises:
        RemoteProtocolError: no frame, or one outside its bounds.

    Cost: one copy of the message, two when something comes with it or the frame is small.
    """
    size = decoder.next_size()
    if size is None:
        return None
    if size <= _SMALL_BYTES:
        data = decoder.take()
        return _read_small(data) or _through_protobuf(data, decoder.max_frame_bytes)
    head = decoder.peek(_LONGEST_ENVELOPE)
    if head[:1] == _MESSAGE_TAG and (frame := _read_message(decoder, head, size)) is not None:
        return frame
    return _through_protobuf(decoder.take(), decoder.max_frame_bytes)


def _read_small(data: bytes) -> Frame | None:
    """Return what :func:`_read_message` does, or an empty frame, from a whole one; None for any other."""
    if len(data) < 2:
        return None if data else EMPTY
    if data[0] != _MESSAGE_TAG_BYTE:
        return None
    length, start = data[1], 2
    if length >= 0x80:
        length, start = _varint(data, 1)
    rest = len(data) - start - length
    if not rest and start:
        return Frame(None, data[start:], None)
    if rest == len(_OK_STATUS) and start and data.endswith(_OK_STATUS):
        return Frame(None, data[start:-2], OK)
    return None


def _read_message(decoder: FrameDecoder, head: bytes, size: int) -> Frame | None:
    """Take a frame of a message, or of a message and the OK status; None, with nothing taken, for any other."""
    length, at = _varint(head, 1)
    rest = size - at - length
    if not at or length > MAX_MESSAGE_BYTES or rest not in (0, len(_OK_STATUS)):
        return None
    if rest == 0:
        return Frame(None, decoder.take(at), None)
    data = decoder.take(at)
    if data.endswith(_OK_STATUS):
        return Frame(None, data[:-2], OK)
    return _through_protobuf(head[:at] + data, decoder.max_frame_bytes)


def _through_protobuf(data: bytes, max_bytes: int) -> Frame:
    frame = parse(rpc_pb2.Frame, data, max_bytes)
    return Frame(
        frame.header if frame.HasField("header") else None,
        frame.message if frame.HasField("message") else None,
        outcome_from_proto(frame.status) if frame.HasField("status") else None,
    )
