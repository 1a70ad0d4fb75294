"""The outcome of a call: the terminal Status as a value, and how errors become one and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hostmesh.errors import (
    DeadlineExceededError,
    EngineError,
    FrameTooLargeError,
    HostmeshError,
    JobError,
    ProtocolNotSupportedError,
    RemoteProtocolError,
    RpcError,
    SessionError,
    StatusCode,
    TransportError,
    UsageError,
)
from hostmesh.v1 import rpc_pb2

MAX_ENTRIES = 16
MAX_KEY_BYTES = 64
MAX_VALUE_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a call ended: the value of a ``Status`` on the wire."""

    status: StatusCode
    message: str = ""
    """For people; cut to 1 KiB of UTF-8 when it is sent."""
    reason: str = ""
    """For programs: a stable upper-case word."""
    retry_after_ms: int | None = None
    """None = not said."""
    details: Mapping[str, str] = field(default_factory=dict)

    def to_proto(self) -> rpc_pb2.Status:
        """Return the message, cut to its bounds: an outcome must always be sendable."""
        message = rpc_pb2.Status(
            code=int(self.status),
            message=_cut(self.message, MAX_VALUE_BYTES),
            reason=_cut(self.reason, MAX_KEY_BYTES),
            retry_after_ms=min(max(self.retry_after_ms or 0, 0), 2**63),
        )
        for key, value in list(self.details.items())[:MAX_ENTRIES]:
            if key:
                message.details.add(key=_cut(key, MAX_KEY_BYTES), value=_cut(value, MAX_VALUE_BYTES))
        return message

    def to_error(self) -> HostmeshError:
        """Return the error that a caller gets for an outcome that is not OK."""
        message = self.message or self.reason or self.status.name
        if self.status is StatusCode.DEADLINE_EXCEEDED and not self.reason:
            # The same fact, whichever clock saw it first.
            return DeadlineExceededError(message)
        return RpcError(
            message,
            status=self.status,
            reason=self.reason,
            retry_after_ms=self.retry_after_ms,
            details=self.details,
        )


OK = Outcome(status=StatusCode.OK)
INTERNAL = Outcome(status=StatusCode.INTERNAL, message="internal error")
LATE = Outcome(status=StatusCode.DEADLINE_EXCEEDED, message="the deadline of the call has passed")


def outcome_from_proto(message: rpc_pb2.Status) -> Outcome:
    """Return the value of a Status whose bounds were checked; a code that gRPC does not know is UNKNOWN."""
    known = message.code <= max(StatusCode)
    return Outcome(
        status=StatusCode(message.code) if known else StatusCode.UNKNOWN,
        message=message.message,
        reason=message.reason,
        retry_after_ms=message.retry_after_ms or None,
        details={entry.key: entry.value for entry in message.details},
    )


def outcome_of_error(error: Exception) -> Outcome | None:
    """Return the outcome that a handler's error stands for; None for what the caller must not see.

    A handler says what it means with :class:`RpcError`, or with an error of its feature whose reason is part of the
    protocol. Everything else, whose text may tell of paths, keys or code, is None: INTERNAL to the caller, and logged.

    The outcome of an error that ``may_have_executed`` says so too, with UNKNOWN where its own code would tell the
    caller that nothing ran: of a call to a further peer whose connection was lost, say.

    >>> from hostmesh.errors import ConnectionLostError
    >>> for may_have_executed in (False, True):
    ...     outcome_of_error(ConnectionLostError("reset", may_have_executed=may_have_executed)).status.name
    'UNAVAILABLE'
    'UNKNOWN'
    """
    outcome = _outcome_of(error)
    if (
        outcome is not None
        and isinstance(error, HostmeshError)
        and error.may_have_executed
        and not outcome.to_error().may_have_executed
    ):
        return replace(outcome, status=StatusCode.UNKNOWN)
    return outcome


def _outcome_of(error: Exception) -> Outcome | None:
    match error:
        case RpcError():
            return Outcome(
                status=error.status if error.status is not StatusCode.OK else StatusCode.UNKNOWN,
                message=error.message,
                reason=error.reason,
                retry_after_ms=error.retry_after_ms,
                details=error.details,
            )
        case JobError():
            # jobs/ has the table of reasons and their codes; this is for a reason outside it.
            return Outcome(
                status=StatusCode.FAILED_PRECONDITION,
                message=error.message,
                reason=error.reason,
                retry_after_ms=error.retry_after_ms,
            )
        case SessionError():
            return Outcome(status=StatusCode.UNAUTHENTICATED, message=error.message, reason=error.reason)
        case FrameTooLargeError():
            return Outcome(
                status=StatusCode.INVALID_ARGUMENT,
                message=error.message,
                reason="TOO_LARGE",
                details={"size_bytes": str(error.size_bytes), "limit_bytes": str(error.limit_bytes)},
            )
        case RemoteProtocolError():
            return Outcome(
                status=StatusCode.INVALID_ARGUMENT,
                message=error.message,
                reason=error.code,
                details={"field": name} if (name := getattr(error, "field", "")) else {},
            )
        case EngineError():
            return Outcome(status=StatusCode.INTERNAL, message="the engine failed", reason="ENGINE_FAILED")
        case DeadlineExceededError():
            return Outcome(status=StatusCode.DEADLINE_EXCEEDED, message=error.message)
        case TransportError():
            return Outcome(
                status=StatusCode.UNAVAILABLE,
                message="the path to a peer that this call needs failed",
                reason=error.code,
            )
        case _:
            return None


def status_for_server(error: BaseException | None) -> StatusCode:
    """Return the status that what a handler raised stands for; None is a handler that returned.

    >>> status_for_server(KeyError("a bug")).name
    'INTERNAL'
    """
    if error is None:
        return StatusCode.OK
    error = sole_error(error)
    if not isinstance(error, Exception):
        return StatusCode.CANCELLED
    return (outcome_of_error(error) or INTERNAL).status


def status_for_caller(error: BaseException | None) -> StatusCode:
    """Return the status that a caller's error stands for, also where the peer said none; None: the call ended well.

    What is no error of hostmesh's comes from the caller's own block, which left the call.

    >>> from hostmesh.errors import DialError
    >>> status_for_caller(DialError("nobody listens", stage="dial")).name
    'UNAVAILABLE'
    """
    if error is None:
        return StatusCode.OK
    error = sole_error(error)
    match error:
        case RpcError():
            return error.status
        case DeadlineExceededError():
            return StatusCode.DEADLINE_EXCEEDED
        case ProtocolNotSupportedError():
            return StatusCode.UNIMPLEMENTED
        case FrameTooLargeError():
            return StatusCode.RESOURCE_EXHAUSTED
        case RemoteProtocolError():
            return StatusCode.INTERNAL
        case TransportError():
            return StatusCode.UNAVAILABLE
        case UsageError():
            return StatusCode.INVALID_ARGUMENT
        case HostmeshError():
            return StatusCode.UNKNOWN
        case _:
            return StatusCode.CANCELLED


def sole_error(error: BaseException) -> BaseException:
    """Return the one error of a group of one; any other error as it is."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def outer_part(error: BaseException) -> BaseException:
    """Return what of an error is no handler's: where the node ends, a handler's own must not come out of it as well."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(Exception)[1] or error
    return error


def _cut(text: str, max_bytes: int) -> str:
    """Cut to so many bytes of UTF-8; what UTF-8 cannot carry becomes a question mark."""
    raw = text.encode("utf-8", "replace")
    return raw[:max_bytes].decode("utf-8", "ignore")
