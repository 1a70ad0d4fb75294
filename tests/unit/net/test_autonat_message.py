"""The messages of AutoNAT v2, against bytes written by hand from the specification."""

from __future__ import annotations

import pytest

from hostmesh.errors import FrameTooLargeError, MalformedMessageError
from hostmesh.net.autonat_message import (
    MAX_ADDRESSES,
    MAX_DATA_BYTES,
    MAX_MESSAGE_BYTES,
    DataRequest,
    DialData,
    DialRequest,
    DialResponse,
    DialStatus,
    ResponseStatus,
    decode_dial_back,
    decode_message,
    encode_data,
    encode_data_request,
    encode_dial_back,
    encode_dial_back_response,
    encode_request,
    encode_response,
)

ADDRESS = bytes.fromhex("04 01020304 06 0fa1")
"""/ip4/1.2.3.4/tcp/4001"""
NONCE = bytes.fromhex("11 0807060504030201")
"""Field 2, fixed64 0x0102030405060708."""
REQUEST = bytes([0x0A, 2 + len(ADDRESS) + len(NONCE), 0x0A, len(ADDRESS)]) + ADDRESS + NONCE


def payload(frame: bytes) -> bytes:
    """What stands after the length, which must be right and of one byte."""
    assert frame[0] == len(frame) - 1
    return frame[1:]


def test_a_request() -> None:
    assert payload(encode_request(["/ip4/1.2.3.4/tcp/4001"], 0x0102030405060708)) == REQUEST
    expected = DialRequest(addresses=("/ip4/1.2.3.4/tcp/4001",), nonce=0x0102030405060708)
    assert decode_message(REQUEST) == expected


def test_a_response() -> None:
    raw = bytes.fromhex("12 08 08c801 1001 18c801")  # status 200, index 1, dial status 200
    response = DialResponse(status=ResponseStatus.OK, index=1, dial_status=DialStatus.OK)
    assert payload(encode_response(response)) == raw
    assert decode_message(raw) == response


@pytest.mark.parametrize(
    ("raw", "status", "dial_status"),
    [
        ("12 02 0864", ResponseStatus.REJECTED, DialStatus.UNUSED),
        ("12 02 0865", ResponseStatus.REFUSED, DialStatus.UNUSED),
        ("12 00", ResponseStatus.INTERNAL_ERROR, DialStatus.UNUSED),
        ("12 05 08c801 1864", ResponseStatus.OK, DialStatus.DIAL_ERROR),
        ("12 05 08c801 1865", ResponseStatus.OK, DialStatus.DIAL_BACK_ERROR),
    ],
)
def test_each_status(raw: str, status: ResponseStatus, dial_status: DialStatus) -> None:
    response = DialResponse(status=status, dial_status=dial_status)
    assert decode_message(bytes.fromhex(raw)) == response
    assert payload(encode_response(response)) == bytes.fromhex(raw)


def test_data_and_the_request_for_it() -> None:
    raw = bytes.fromhex("1a 04 10b0ea01")  # index 0, 30,000 bytes
    assert decode_message(raw) == DataRequest(index=0, num_bytes=30_000)
    assert payload(encode_data_request(DataRequest(index=0, num_bytes=30_000))) == raw
    assert decode_message(bytes.fromhex("22 05 0a03 000000")) == DialData(num_bytes=3)
    frame = encode_data(MAX_DATA_BYTES)
    assert decode_message(frame[2:]) == DialData(num_bytes=MAX_DATA_BYTES)


def test_a_dial_back() -> None:
    assert payload(encode_dial_back(0x0102030405060708)) == bytes.fromhex("09 0807060504030201")
    assert decode_dial_back(bytes.fromhex("09 0807060504030201")) == 0x0102030405060708
    assert encode_dial_back_response() == b"\0"


def test_addresses_keep_their_places() -> None:
    quic = bytes.fromhex("04 01020304 9102 0fa1 cd03")  # udp, quic-v1
    request = bytes([0x0A, len(quic)]) + quic + bytes([0x0A, len(ADDRESS)]) + ADDRESS
    message = decode_message(bytes([0x0A, len(request)]) + request)
    assert message == DialRequest(addresses=(None, "/ip4/1.2.3.4/tcp/4001"), nonce=0)


def test_only_the_first_addresses_are_looked_at() -> None:
    one = bytes([0x0A, len(ADDRESS)]) + ADDRESS
    request = one * (MAX_ADDRESSES + 1)
    message = decode_message(b"\x0a" + bytes([len(request) & 127 | 128, len(request) >> 7]) + request)
    assert isinstance(message, DialRequest)
    assert len(message.addresses) == MAX_ADDRESSES


@pytest.mark.parametrize("raw", ["", "12 02 0801", "12 03 18ac02", "ff", "0a ff"])
def test_nonsense(raw: str) -> None:
    with pytest.raises(MalformedMessageError):
        decode_message(bytes.fromhex(raw))


def test_too_much() -> None:
    with pytest.raises((FrameTooLargeError, MalformedMessageError)):
        decode_message(bytes(MAX_MESSAGE_BYTES + 1))
    too_long = bytes.fromhex("22 84 20 0a 81 20") + bytes(MAX_DATA_BYTES + 1)
    with pytest.raises((FrameTooLargeError, MalformedMessageError)):
        decode_message(too_long)
