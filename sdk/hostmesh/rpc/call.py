"""The two ends of one call, as state machines: bytes in, events out. Pure.

Participants: a caller and a server on one libp2p stream, which carries exactly one call.

::

    caller:  START --header+request--> SENT --message*--> SENT --status--> ENDED
    server:  START <-header+request--- OPEN --message*--> OPEN --status--> ENDED

Each arrow is one frame: a varint length and a ``Frame`` (rpc.proto). The caller's only frame carries the header and the
request; the caller then half-closes. The last frame of the server carries the ``Status``, and may carry the last
message too; a unary call is one frame each way. Whatever is sent outside these arrows is a
:class:`RemoteProtocolError`.

Non-goals: client streaming, several calls on one stream, compression.

Limits: a frame is at most its method's message size and 24 KiB for header or status; a call has one header.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
from hostmesh.rpc.method import AnyMethod, Cardinality, Method, RequestT, ResponseT
from hostmesh.rpc.outcome import Outcome, outcome_from_proto, outcome_of_error
from hostmesh.v1 import rpc_pb2
from hostmesh.wire.bounds import check_bounds, parse
from hostmesh.wire.framing import FrameDecoder, encode_frame

HEADER_ALLOWANCE_BYTES = 24 * 1024
"""Above 16 metadata entries of 64 + 1024 bytes, the message of a status, and their tags."""

MAX_DEADLINE_S = 10.0**9
"""A longer deadline (31 years) is taken as this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What travels with the request."""

    method: str
    deadline_left_s: float | None = None
    """Time that the caller still waits; None = no deadline."""
    session_id: bytes = b""
    """16 bytes, or empty."""
    idempotency_key: bytes = b""
    """Up to 32 bytes; empty for none."""
    metadata: Mapping[str, str] = field(default_factory=dict)

    def to_proto(self) -> rpc_pb2.CallHeader:
        """Return the message.

        Raises:
            UsageError: a value is outside its bounds.
        """
        message = rpc_pb2.CallHeader(
            method=self.method, session_id=self.session_id, idempotency_key=self.idempotency_key
        )
        if self.deadline_left_s is not None:
            message.deadline_left_ms = _milliseconds(self.deadline_left_s)
        for key, value in self.metadata.items():
            message.metadata.add(key=key, value=value)
        if len(self.session_id) not in (0, 16):
            raise UsageError("a session id has 16 bytes")
        _check_own(message)
        return message


def header_from_proto(message: rpc_pb2.CallHeader) -> Header:
    """Return the value of a header whose bounds were checked.

    Raises:
        MalformedMessageError: a session id of another size, or a metadata key that stands twice.
    """
    if len(message.session_id) not in (0, 16):
        raise MalformedMessageError("a session id has 16 bytes or none", field="header.session_id")
    metadata = {entry.key: entry.value for entry in message.metadata}
    if len(metadata) != len(message.metadata):
        raise MalformedMessageError("a metadata key stands twice", field="header.metadata")
    left_ms = message.deadline_left_ms if message.HasField("deadline_left_ms") else None
    return Header(
        method=message.method,
        deadline_left_s=None if left_ms is None else min(left_ms / 1000, MAX_DEADLINE_S),
        session_id=message.session_id,
        idempotency_key=message.idempotency_key,
        metadata=metadata,
    )


def encode_message(message: Message, max_bytes: int) -> bytes:
    """Serialise a message of our own.

    Raises:
        FrameTooLargeError: more than ``max_bytes``.
        UsageError: a field is outside its bounds.
    """
    _check_own(message)
    data = message.SerializeToString()
    if len(data) > max_bytes:
        raise FrameTooLargeError(
            f"{message.DESCRIPTOR.name} of {len(data)} bytes is over the limit of {max_bytes}",
            size_bytes=len(data),
            limit_bytes=max_bytes,
            remedy="send less in one call",
        )
    return data


# --- the caller's end ---


@dataclass(frozen=True, slots=True)
class ResponseReceived(Generic[ResponseT]):
    """The server sent a response."""

    message: ResponseT


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The server sent the terminal status."""

    outcome: Outcome


class ClientCall(Generic[RequestT, ResponseT]):
    """The caller's end of one call.

    Feed what arrives and take events until there is none. :meth:`feed` and :meth:`next_event` may raise
    :class:`RemoteProtocolError`, after which the stream must be reset.

    Args:
        method: what is called.
        header: what travels with the request; its deadline is set by :meth:`start`.
        request: serialised here.

    Raises:
        FrameTooLargeError, UsageError: the request or the header breaks a bound; nothing may be sent.
    """

    __slots__ = ("_decoder", "_ended", "_header", "_method", "_pending", "_request", "_responses")

    def __init__(self, method: Method[RequestT, ResponseT], header: Header, request: RequestT) -> None:
        self._method = method
        self._request = encode_message(request, method.max_request_bytes)
        self._header = header.to_proto()
        self._decoder = FrameDecoder(method.max_response_bytes + HEADER_ALLOWANCE_BYTES)
        self._pending: CallEnded | None = None
        self._ended = False
        self._responses = 0

    @property
    def ended(self) -> bool:
        """The terminal status has arrived."""
        return self._ended

    def start(self, deadline_left_s: float | None) -> bytes:
        """Return the bytes that start the call; the caller half-closes after them."""
        if deadline_left_s is not None:
            self._header.deadline_left_ms = _milliseconds(deadline_left_s)
        return encode_frame(rpc_pb2.Frame(header=self._header, message=self._request).SerializeToString())

    def feed(self, data: bytes) -> None:
        """Take received bytes."""
        self._decoder.feed(data)

    def next_event(self) -> ResponseReceived[ResponseT] | CallEnded | None:
        """Return the next event, or None when more bytes are needed."""
        if self._pending is not None:
            event, self._pending = self._pending, None
            self._ended = True
            return event
        if self._ended:
            if self._decoder.buffered_bytes:
                raise MalformedMessageError("bytes after the status", field="status")
            return None
        data = self._decoder.next_frame()
        if data is None:
            return None
        frame = parse(rpc_pb2.Frame, data, self._decoder.max_frame_bytes)
        if frame.HasField("header"):
            raise MalformedMessageError("a header from the server", field="header")
        outcome = outcome_from_proto(frame.status) if frame.HasField("status") else None
        if not frame.HasField("message"):
            if outcome is None:
                raise MalformedMessageError("a frame without a message or status", field="message")
            self._check_end(outcome)
            self._ended = True
            return CallEnded(outcome)
        self._responses += 1
        unary = self._method.cardinality is Cardinality.UNARY
        if unary and (self._responses > 1 or (outcome is not None and outcome.status is not StatusCode.OK)):
            raise MalformedMessageError("a response too many for a unary call", field="message")
        message = parse(self._method.response_type, frame.message, self._method.max_response_bytes)
        if outcome is not None:
            self._check_end(outcome)
            self._pending = CallEnded(outcome)
        return ResponseReceived(message)

    def end_of_stream(self) -> None:
        """Say that the server has closed its side; harmless after the status.

        Raises:
            ConnectionLostError: it closed without a status. What it did is not known.
        """
        if not self._ended:
            raise ConnectionLostError(
                "the stream ended without a status",
                remedy="the peer may have done the work: ask it before you call again",
            )

    def _check_end(self, outcome: Outcome) -> None:
        unary = self._method.cardinality is Cardinality.UNARY
        if unary and outcome.status is StatusCode.OK and self._responses != 1:
            raise MalformedMessageError("an OK status without a response", field="message")


# --- the server's end ---


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A whole and valid request arrived."""

    header: Header
    method: AnyMethod
    request: Message


@dataclass(frozen=True, slots=True)
class CallRefused:
    """A request that cannot be served; ``outcome`` says why and is the answer.

    ``violation`` is set where the peer broke the protocol, and not where it merely asks for what is not here.
    """

    outcome: Outcome
    method: AnyMethod | None = None
    violation: RemoteProtocolError | None = None


class ServerCall:
    """The server's end of one call.

    Args:
        methods: the service's methods by name.
    """

    __slots__ = ("_decoder", "_ended", "_method", "_methods", "_refused", "_started")

    def __init__(self, methods: Mapping[str, AnyMethod]) -> None:
        self._methods = methods
        largest = max(method.max_request_bytes for method in methods.values())
        self._decoder = FrameDecoder(largest + HEADER_ALLOWANCE_BYTES)
        self._started = False
        self._refused = False
        self._ended = False
        self._method: AnyMethod | None = None

    def feed(self, data: bytes) -> None:
        """Take received bytes; after a refusal they are dropped."""
        if not self._refused:
            self._decoder.feed(data)

    def next_event(self) -> CallStarted | CallRefused | None:
        """Return the call or its refusal once the request is complete, None before that and afterwards.

        Raises:
            MalformedMessageError: bytes after the request, which ends the call.
        """
        if self._refused:
            return None
        if self._started:
            if self._decoder.buffered_bytes:
                raise MalformedMessageError("bytes after the request", field="message")
            return None
        try:
            data = self._decoder.next_frame()
            if data is None:
                return None
            event = self._start(parse(rpc_pb2.Frame, data, self._decoder.max_frame_bytes))
        except RemoteProtocolError as error:
            event = CallRefused(_refusal(error), self._method, error)
        self._started = True
        self._refused = isinstance(event, CallRefused)
        return event

    def end_of_stream(self) -> None:
        """Say that the caller has closed its side, as it does after its request.

        Raises:
            MalformedMessageError: it closed before its request was complete.
        """
        if not self._started:
            raise MalformedMessageError("the stream ended before the request", field="message")

    def response(self, response: Message) -> bytes:
        """Return the bytes of one response of a server stream.

        Raises:
            UsageError: the response is not of the method's type, or breaks a bound; nothing may be sent.
        """
        return encode_frame(rpc_pb2.Frame(message=self._encode(response)).SerializeToString())

    def end(self, outcome: Outcome, response: Message | None = None) -> bytes:
        """Return the bytes of the last frame.

        Args:
            outcome: how the call ended.
            response: the last response; that of a unary call.

        Raises:
            UsageError: as :meth:`response`, or a unary call would end without its response. The call has not ended.
        """
        if self._ended:
            raise UsageError("the call has ended")
        frame = rpc_pb2.Frame(status=outcome.to_proto())
        if response is not None:
            frame.message = self._encode(response)
        elif outcome.status is StatusCode.OK and self._method and self._method.cardinality is Cardinality.UNARY:
            raise UsageError(f"{self._method.full_name} needs a response")
        self._ended = True
        return encode_frame(frame.SerializeToString())

    def _start(self, frame: rpc_pb2.Frame) -> CallStarted | CallRefused:
        if frame.HasField("status"):
            raise MalformedMessageError("a status from the caller", field="status")
        if not frame.HasField("header"):
            raise MalformedMessageError("a first frame without a header", field="header")
        if not frame.HasField("message"):
            raise MalformedMessageError("a first frame without a request", field="message")
        header = header_from_proto(frame.header)
        method = self._methods.get(header.method)
        if method is None:
            return CallRefused(
                Outcome(
                    status=StatusCode.UNIMPLEMENTED,
                    message="no such method here",
                    reason="VERSION",
                    details={"needed": header.method, "offered": " ".join(sorted(self._methods))},
                )
            )
        self._method = method
        return CallStarted(header, method, parse(method.request_type, frame.message, method.max_request_bytes))

    def _encode(self, response: Message) -> bytes:
        if self._ended:
            raise UsageError("the call has ended")
        method = self._method
        if method is None:
            raise UsageError("the call has not started")
        if not isinstance(response, method.response_type):
            raise UsageError(f"{method.full_name} gives {method.response_type.DESCRIPTOR.name}")
        try:
            return encode_message(response, method.max_response_bytes)
        except FrameTooLargeError as error:
            # Ours to repair: to the caller it is no sign of too large a request.
            raise UsageError(error.message) from error


def _refusal(error: RemoteProtocolError) -> Outcome:
    outcome = outcome_of_error(error)
    assert outcome is not None
    return outcome


def _milliseconds(seconds: float) -> int:
    return round(min(max(seconds, 0.0), MAX_DEADLINE_S) * 1000)


def _check_own(message: Message) -> None:
    try:
        check_bounds(message)
    except MalformedMessageError as error:
        raise UsageError(error.message, remedy=f"change {error.field}") from error
