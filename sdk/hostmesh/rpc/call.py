"""The two ends of one call, as state machines: bytes in, events out. Pure.

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

from collections.abc import Mapping
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
    Frame,
    encode_end,
    encode_header_frame,
    encode_message_head,
    encode_request,
    read_frame,
    whole_answer,
)
from hostmesh.rpc.header import Header, encode_header, encode_header_rest, header_from_proto
from hostmesh.rpc.method import AnyMethod, Method, RequestT, ResponseT
from hostmesh.rpc.outcome import OK, Outcome, outcome_of_error
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


# --- the caller's end ---


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
            error.may_have_executed = True
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


# --- the server's end ---


@dataclass(slots=True)
class CallStarted:
    """A call with a valid header arrived, with its request if that is no stream."""

    header: Header
    method: AnyMethod
    request: Message | None


@dataclass(slots=True)
class RequestReceived:
    """The caller sent one request of a stream."""

    message: Message


@dataclass(slots=True)
class CallRefused:
    """A request that cannot be served; ``outcome`` says why and is the answer.

    ``violation`` is set where the peer broke the protocol, and not where it merely asks for what is not here.
    """

    outcome: Outcome
    method: AnyMethod | None = None
    violation: RemoteProtocolError | None = None


def largest_request_frame(methods: Mapping[str, AnyMethod]) -> int:
    """Return how large the frame of a request to one of these methods may be."""
    return max(method.max_request_bytes for method in methods.values()) + HEADER_ALLOWANCE_BYTES


class ServerCall:
    """The server's end of one call.

    Args:
        methods: the service's methods by name.
        max_frame_bytes: :func:`largest_request_frame` of them, where it is known.
    """

    __slots__ = (
        "_decoder",
        "_is_open",
        "_max_frame_bytes",
        "_method",
        "_methods",
        "_refused",
        "_started",
    )

    def __init__(self, methods: Mapping[str, AnyMethod], max_frame_bytes: int | None = None) -> None:
        self._methods = methods
        self._max_frame_bytes = largest_request_frame(methods) if max_frame_bytes is None else max_frame_bytes
        self._decoder: FrameDecoder | None = None
        """None before the first byte, and when nothing more may come."""
        self._is_open = True
        """More may come from the caller."""
        self._started = False
        self._refused = False
        self._method: AnyMethod | None = None

    def feed(self, data: bytes | memoryview) -> None:
        """Take received bytes; after a refusal or the end they are dropped."""
        if self._refused or not self._is_open:
            return
        if self._decoder is None:
            self._decoder = FrameDecoder(self._max_frame_bytes)
        self._decoder.feed(data)

    def next_event(self) -> CallStarted | CallRefused | RequestReceived | Heartbeat | None:
        """Return the call or its refusal once its first frame is complete, then the further requests of a stream.

        None when more bytes are needed, or nothing more may come.

        Raises:
            RemoteProtocolError: bytes after the only request, or a further request that breaks a bound.
        """
        if self._refused or self._decoder is None:
            return None
        if self._started:
            if self._method is not None and self._method.takes_stream:
                return self._next_request(self._decoder, self._method)
            if self._decoder.buffered_bytes:
                raise MalformedMessageError("bytes after the request", field="message")
            return None
        try:
            frame = read_frame(self._decoder)
            if frame is None:
                return None
            event = self._start(frame)
        except RemoteProtocolError as error:
            event = CallRefused(_refusal(error), self._method, error)
        self._started = True
        self._refused = isinstance(event, CallRefused)
        return event

    def _next_request(self, decoder: FrameDecoder, method: AnyMethod) -> RequestReceived | Heartbeat | None:
        frame = read_frame(decoder)
        if frame is None:
            return None
        if frame is EMPTY:
            return HEARTBEAT
        if frame.header is not None or frame.outcome is not None or frame.message is None:
            raise MalformedMessageError("no request among the requests", field="message")
        return RequestReceived(parse(method.request_type, frame.message, method.max_request_bytes))

    @property
    def requests_ended(self) -> bool:
        """Whether the caller has closed its side."""
        return self._started and not self._is_open

    def drop(self) -> None:
        """Forget what was fed: the call is refused before its request is complete."""
        self._refused = True
        self._is_open = False
        self._decoder = None

    def end_of_stream(self) -> None:
        """Say that the caller has closed its side, as it does after its last request.

        Raises:
            MalformedMessageError: it closed before its first frame, or within one.
        """
        if not self._started:
            raise MalformedMessageError("the stream ended before the request", field="message")
        if self._decoder is not None and self._decoder.buffered_bytes and not self._refused:
            raise MalformedMessageError("the stream ended within a request", field="message")
        self._is_open = False
        self._decoder = None  # a call may wait for long, and reads no more

    def _start(self, frame: Frame) -> CallStarted | CallRefused:
        if frame.outcome is not None:
            raise MalformedMessageError("a status from the caller", field="status")
        if frame.header is None:
            raise MalformedMessageError("a first frame without a header", field="header")
        header, request = header_from_proto(frame.header), frame.message
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
        if method.takes_stream is (request is not None):
            what = "with a request among a stream's" if method.takes_stream else "without a request"
            raise MalformedMessageError(f"a first frame {what}", field="message")
        if request is None:
            return CallStarted(header, method, None)
        return CallStarted(header, method, parse(method.request_type, request, method.max_request_bytes))


def encode_response(method: AnyMethod, response: Message) -> tuple[bytes, bytes]:
    """Return the frame of one response of a stream: its head, and the serialised response.

    Raises:
        UsageError: the response is not of the method's type, or breaks a bound; nothing may be sent.
    """
    data = serialized_response(method, response)
    return encode_message_head(len(data)), data


def encode_last(method: AnyMethod, outcome: Outcome, response: Message | None = None) -> bytes:
    """Return the bytes of the last frame of a call.

    Args:
        method: of the call.
        outcome: how it ended.
        response: the last one, if it was not sent before.

    Raises:
        UsageError: as :func:`encode_response`, or a call that has one response ended well without it. Nothing may be
            sent.
    """
    if response is not None:
        return encode_end(outcome, serialized_response(method, response))
    if outcome is OK and not method.gives_stream:
        raise UsageError(f"{method.full_name} needs a response")
    return encode_end(outcome, None)


def serialized_response(method: AnyMethod, response: object) -> bytes:
    """Return what a handler gave, serialised.

    Raises:
        UsageError: it is no response of the method, or breaks a bound.
    """
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
