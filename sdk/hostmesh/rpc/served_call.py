"""The server's end of one call, as a state machine. Pure; :mod:`hostmesh.rpc.call` tells of both ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.message import Message

from hostmesh.errors import (
    FrameTooLargeError,
    MalformedMessageError,
    RemoteProtocolError,
    StatusCode,
    UsageError,
)
from hostmesh.rpc.call import HEADER_ALLOWANCE_BYTES, HEARTBEAT, Heartbeat, encode_message
from hostmesh.rpc.frames import (
    EMPTY,
    Frame,
    encode_end,
    encode_message_head,
    read_frame,
)
from hostmesh.rpc.header import Header, header_from_proto
from hostmesh.rpc.method import AnyMethod
from hostmesh.rpc.outcome import OK, Outcome, outcome_of_error
from hostmesh.wire.bounds import parse
from hostmesh.wire.framing import FrameDecoder


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
