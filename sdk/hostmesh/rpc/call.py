"""The two ends of one call, as state machines: bytes in, events out. Pure.

The caller's is here, the server's in :mod:`hostmesh.rpc.served_call`.

Participants: a caller and a server on one libp2p stream, which carries exactly one call.

::

    caller:  START --header, request?--> OPEN --request*--> OPEN --half-close--> SENT
    server:  START --response*--> START --response?, status--> ENDED

Each arrow is one frame: a varint length and a ``Frame`` (rpc.proto). The caller's first frame carries the header and,
unless its requests are a stream, the request, after which it half-closes. The last frame of the server carries the
``Status``, and may carry the last response too; a unary call is one frame each way. The server may end a call at any
time, also before the caller has half-closed. An empty frame is a heartbeat: it says that its sender still has the call,
and nothing else. Whatever is sent outside these arrows is a :class:`RemoteProtocolError`.

Non-goals: several calls on one stream, compression.

Limits: a frame is at most its method's message size and 24 KiB for header or status; a call has one header.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Generic

from google.protobuf.message import Message

from hostmesh.errors import (
    ConnectionLostError,
    FrameTooLargeError,
    MalformedMessageError,
    RemoteProtocolError,
    StatusCode,
    UsageError,
)
from hostmesh.rpc.frames import (
    EMPTY,
    encode_header_frame,
    encode_message_head,
    encode_request,
    read_frame,
    whole_answer,
)
from hostmesh.rpc.header import Header, encode_header, encode_header_rest
from hostmesh.rpc.method import Method, RequestT, ResponseT
from hostmesh.rpc.outcome import OK, Outcome
from hostmesh.wire.bounds import check_bounds, parse
from hostmesh.wire.framing import FrameDecoder

HEADER_ALLOWANCE_BYTES = 24 * 1024
"""Above 16 metadata entries of 64 + 1024 bytes, the message of a status, and their tags."""


def encode_message(message: Message, max_bytes: int) -> bytes:
    """Serialise a message of our own.

    Raises:
        FrameTooLargeError: more than ``max_bytes``.
        UsageError: a field is outside its bounds.
    """
    data = message.SerializeToString()
    try:
        check_bounds(message, len(data))
    except MalformedMessageError as error:
        raise UsageError(error.message, remedy=f"change {error.field}") from error
    if len(data) > max_bytes:
        raise FrameTooLargeError(
            f"{message.DESCRIPTOR.name} of {len(data)} bytes is over the limit of {max_bytes}",
            size_bytes=len(data),
            limit_bytes=max_bytes,
            remedy="send less in one call",
        )
    return data


class Heartbeat(Enum):
    """The other side still has the call."""

    HEARTBEAT = "heartbeat"


HEARTBEAT = Heartbeat.HEARTBEAT
HEARTBEAT_FRAME = b"\0"
"""An empty frame."""


@dataclass(slots=True)
class ResponseReceived(Generic[ResponseT]):
    """The server sent a response."""

    message: ResponseT


@dataclass(slots=True)
class CallEnded:
    """The server sent the terminal status."""

    outcome: Outcome


class ClientCall(Generic[RequestT, ResponseT]):
    """The caller's end of one call.

    Feed what arrives and take events until there is none. :meth:`feed` and :meth:`next_event` may raise
    :class:`RemoteProtocolError`, after which the stream must be reset.

    Args:
        method: what is called.
        header: what travels with the request besides its deadline, which :meth:`start` sets; None for nothing.
        request: the one request, serialised here; None where requests are a stream.

    Raises:
        FrameTooLargeError, UsageError: the request or the header breaks a bound; nothing may be sent.
    """

    __slots__ = (
        "_decoder",
        "_header_rest",
        "_method",
        "_one_response",
        "_pending",
        "_request",
        "_responses",
        "is_broken",
        "outcome",
    )

    def __init__(self, method: Method[RequestT, ResponseT], header: Header | None, request: RequestT | None) -> None:
        if (request is None) is not method.takes_stream:
            raise UsageError(f"{method.full_name} is a {method.cardinality.value} method", remedy="call it as one")
        self._method = method
        self._one_response = not method.gives_stream
        self._request = b"" if request is None else encode_message(request, method.max_request_bytes)
        self._header_rest = b"" if header is None else encode_header_rest(header, method)
        self._decoder: FrameDecoder | None = None
        """None before the first byte, and for an answer that came whole."""
        self._pending: CallEnded | None = None
        self.outcome: Outcome | None = None
        """The terminal status, once its event was taken."""
        self.is_broken = False
        """The server sent what the protocol does not allow."""
        self._responses = 0

    @property
    def ended(self) -> bool:
        """The terminal status has arrived."""
        return self.outcome is not None

    @property
    def takes_stream(self) -> bool:
        """Whether requests follow the first frame."""
        return self._method.takes_stream

    def start(self, deadline_left_s: float | None) -> bytes:
        """Return the bytes that start the call; the caller half-closes after them if it has one request."""
        header = encode_header(self._method, deadline_left_s, self._header_rest)
        if self._method.takes_stream:
            return encode_header_frame(header)
        request, self._request = self._request, b""
        return encode_request(header, request)

    def request(self, request: RequestT) -> tuple[bytes, bytes]:
        """Return the frame of one request of a stream: its head, and the serialised request.

        Raises:
            FrameTooLargeError, UsageError: it breaks a bound, or is of another type; nothing may be sent.
        """
        if not isinstance(request, self._method.request_type):
            raise UsageError(f"{self._method.full_name} takes {self._method.request_type.DESCRIPTOR.name}")
        data = encode_message(request, self._method.max_request_bytes)
        return encode_message_head(len(data)), data

    def take_answer(self, data: bytes | memoryview) -> ResponseT | None:
        """Take the first received bytes, and return the one response if they are the whole answer: OK, and no more.

        Where they are not, None is returned and events tell, also what is wrong with them.
        """
        method = self._method
        if self._decoder is None and self._one_response:
            message = whole_answer(data, method.max_response_bytes + HEADER_ALLOWANCE_BYTES)
            if message is not None:
                try:
                    response = parse(method.response_type, bytes(message), method.max_response_bytes)
                except RemoteProtocolError:
                    pass  # told below
                else:
                    self.outcome = OK
                    return response
        self.feed(data)
        return None

    def feed(self, data: bytes | memoryview) -> None:
        """Take received bytes."""
        if self._decoder is None:
            self._decoder = FrameDecoder(self._method.max_response_bytes + HEADER_ALLOWANCE_BYTES)
        self._decoder.feed(data)

    def next_event(self) -> ResponseReceived[ResponseT] | CallEnded | Heartbeat | None:
        """Return the next event, or None when more bytes are needed."""
        if self._decoder is None:
            return None
        try:
            if self._pending is not None:
                event, self._pending = self._pending, None
                self.outcome = event.outcome
                return event
            if self.outcome is not None:
                if self._decoder.buffered_bytes:
                    raise MalformedMessageError("bytes after the status", field="status")
                return None
            frame = read_frame(self._decoder)
            if frame is None:
                return None
            if frame is EMPTY:
                return HEARTBEAT
            header, data, outcome = frame
            if header is not None:
                raise MalformedMessageError("a header from the server", field="header")
            if data is None:
                if outcome is None:
                    raise MalformedMessageError("a frame without a message or status", field="message")
                self._check_end(outcome)
                self.outcome = outcome
                return CallEnded(outcome)
            self._responses += 1
            if self._one_response and self._responses > 1:
                raise MalformedMessageError("a response too many for a call with one", field="message")
            message = parse(self._method.response_type, data, self._method.max_response_bytes)
            if outcome is not None:
                self._check_end(outcome)
                self._pending = CallEnded(outcome)
            return ResponseReceived(message)
        except RemoteProtocolError as error:
            # These are bytes of the server's: it may have read ours.
            self.is_broken = error.may_have_executed = True
            raise

    def end_of_stream(self) -> None:
        """Say that the server has closed its side; harmless after the status.

        Raises:
            ConnectionLostError: it closed without a status. What it did is not known.
        """
        if self.outcome is None:
            raise ConnectionLostError(
                "the stream ended without a status",
                remedy="the peer may have done the work: ask it before you call again",
            )

    def _check_end(self, outcome: Outcome) -> None:
        if self._one_response and (outcome.status is StatusCode.OK) is not (self._responses == 1):
            what = "an error status after the response" if self._responses else "an OK status without a response"
            raise MalformedMessageError(what, field="message")
