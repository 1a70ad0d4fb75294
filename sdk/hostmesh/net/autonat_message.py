"""The messages of AutoNAT v2: bytes to values and back. Pure.

Source: libp2p specs, "autonat v2", "RPC messages".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from hostmesh.errors import InvalidAddressError, MalformedMessageError
from hostmesh.net.address import split_peer_address
from hostmesh.net.address_bytes import address_from_bytes, address_to_bytes
from hostmesh.v1 import autonat_pb2 as pb
from hostmesh.wire.bounds import parse
from hostmesh.wire.framing import encode_frame

DIAL_REQUEST_ID = "/libp2p/autonat/2/dial-request"
DIAL_BACK_ID = "/libp2p/autonat/2/dial-back"
MAX_MESSAGE_BYTES = 8192
"""As go-libp2p has it."""
MAX_DIAL_BACK_BYTES = 1024
MAX_DATA_BYTES = 4096
"""Of the ``data`` of one message. Source: the specification."""
MAX_ADDRESSES = 50
"""Of one request that are looked at; go-libp2p looks at as many."""


class ResponseStatus(Enum):
    """What became of a request."""

    INTERNAL_ERROR = pb.AUTONAT_RESPONSE_STATUS_INTERNAL_ERROR
    REJECTED = pb.AUTONAT_RESPONSE_STATUS_REQUEST_REJECTED
    """The server has too much to do, or the client asks too often."""
    REFUSED = pb.AUTONAT_RESPONSE_STATUS_DIAL_REFUSED
    """It dials none of the addresses."""
    OK = pb.AUTONAT_RESPONSE_STATUS_OK


class DialStatus(Enum):
    """What became of the dial."""

    UNUSED = pb.AUTONAT_DIAL_STATUS_UNUSED
    DIAL_ERROR = pb.AUTONAT_DIAL_STATUS_DIAL_ERROR
    DIAL_BACK_ERROR = pb.AUTONAT_DIAL_STATUS_DIAL_BACK_ERROR
    """There was a connection, and the nonce could not be delivered over it."""
    OK = pb.AUTONAT_DIAL_STATUS_OK


@dataclass(frozen=True, slots=True, kw_only=True)
class DialRequest:
    """A client asks to be dialled."""

    addresses: tuple[str | None, ...]
    """By their place in the request; None: not one that this node could dial."""
    nonce: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DialResponse:
    """How it went."""

    status: ResponseStatus
    index: int = 0
    """Of the address that was dialled; without meaning unless ``status`` is OK."""
    dial_status: DialStatus = DialStatus.UNUSED


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRequest:
    """The server wants so many bytes before it dials an address that is not where it sees the client."""

    index: int
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DialData:
    """A part of these bytes. What they are does not matter."""

    num_bytes: int


Message = DialRequest | DialResponse | DataRequest | DialData


def encode_request(addresses: Sequence[str], nonce: int) -> bytes:
    """Return a length-prefixed request to dial one of these addresses, the first that matters most."""
    request = pb.AutonatDialRequest(addrs=[address_to_bytes(address) for address in addresses], nonce=nonce)
    return _frame(pb.AutonatMessage(dial_request=request))


def encode_response(response: DialResponse) -> bytes:
    """Return a length-prefixed response."""
    message = pb.AutonatDialResponse(
        status=pb.AutonatResponseStatus.Name(response.status.value),
        addr_idx=response.index,
        dial_status=pb.AutonatDialStatus.Name(response.dial_status.value),
    )
    return _frame(pb.AutonatMessage(dial_response=message))


def encode_data_request(request: DataRequest) -> bytes:
    """Return a length-prefixed request for data."""
    message = pb.AutonatDialDataRequest(addr_idx=request.index, num_bytes=request.num_bytes)
    return _frame(pb.AutonatMessage(dial_data_request=message))


def encode_data(num_bytes: int) -> bytes:
    """Return a length-prefixed message with so many bytes of data, at most :data:`MAX_DATA_BYTES`."""
    return _frame(pb.AutonatMessage(dial_data_response=pb.AutonatDialDataResponse(data=bytes(num_bytes))))


def encode_dial_back(nonce: int) -> bytes:
    """Return the length-prefixed message that a dial-back delivers."""
    return encode_frame(pb.AutonatDialBack(nonce=nonce).SerializeToString())


def encode_dial_back_response() -> bytes:
    """Return the length-prefixed answer to it."""
    return encode_frame(pb.AutonatDialBackResponse().SerializeToString())


def decode_dial_back(data: bytes) -> int:
    """Return the nonce of a dial-back, without its length prefix.

    Raises:
        MalformedMessageError: not such a message.
    """
    return parse(pb.AutonatDialBack, data, MAX_DIAL_BACK_BYTES).nonce


def decode_message(data: bytes) -> Message:
    """Read a message without its length prefix.

    Raises:
        MalformedMessageError: not such a message, or a status that nobody knows.
        FrameTooLargeError: longer than :data:`MAX_MESSAGE_BYTES`.
    """
    message = parse(pb.AutonatMessage, data, MAX_MESSAGE_BYTES)
    match message.WhichOneof("msg"):
        case "dial_request":
            addresses = tuple(map(_address, message.dial_request.addrs[:MAX_ADDRESSES]))
            return DialRequest(addresses=addresses, nonce=message.dial_request.nonce)
        case "dial_response":
            return _response(message.dial_response)
        case "dial_data_request":
            wanted = message.dial_data_request
            return DataRequest(index=wanted.addr_idx, num_bytes=wanted.num_bytes)
        case "dial_data_response":
            return DialData(num_bytes=len(message.dial_data_response.data))
    raise MalformedMessageError("an AutoNAT message without content", field="msg")


def _response(message: pb.AutonatDialResponse) -> DialResponse:
    try:
        status, dial_status = ResponseStatus(message.status), DialStatus(message.dial_status)
    except ValueError as error:
        raise MalformedMessageError("an AutoNAT response of an unknown status", field="status") from error
    return DialResponse(status=status, index=message.addr_idx, dial_status=dial_status)


def _address(raw: bytes) -> str | None:
    try:
        return split_peer_address(address_from_bytes(raw))[0]
    except InvalidAddressError:
        return None


def _frame(message: pb.AutonatMessage) -> bytes:
    return encode_frame(message.SerializeToString())
