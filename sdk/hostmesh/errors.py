"""Every error that hostmesh raises.

One root, :class:`HostmeshError`. Each error answers three questions:

- ``code``: a stable word for programs (``--json``, logs, tests);
- ``retry_safe``: the same call may be made again and cannot do harm twice;
- ``may_have_executed``: the other side may already have done what was asked.

``remedy`` tells a person what to do. Nothing of a third party's crosses the public API: foreign errors are mapped where
they enter, and stand behind as ``__cause__``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import ClassVar


class StatusCode(IntEnum):
    """gRPC status codes, which end every call.

    Source: gRPC, "Status codes and their use in gRPC".
    """

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class HostmeshError(Exception):
    """Root of all errors of hostmesh.

    Args:
        message: one line, for people.
        remedy: one line, what the caller can do; empty when there is nothing to say.
    """

    code: ClassVar[str] = "ERROR"
    retry_safe: bool = False
    may_have_executed: bool = False

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


# --- the caller's side: nothing was sent ---


class ConfigError(HostmeshError):
    """A setting is wrong.

    Args:
        name: the setting's name.
        source: where the value came from: ``argument``, ``environment``, a file's path, ``default``.
    """

    code = "CONFIG_INVALID"

    def __init__(self, message: str, *, name: str = "", source: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.name = name
        self.source = source


class KeyFileError(HostmeshError):
    """A key file cannot be read, written or trusted. ``path`` names it."""

    code = "KEY_FILE_INVALID"

    def __init__(self, message: str, *, path: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.path = path


class KeyInUseError(KeyFileError):
    """Another process runs with this key."""

    code = "KEY_IN_USE"
    retry_safe = True


class StoreError(HostmeshError):
    """A local store cannot be used. It was left unchanged."""

    code = "STORE_UNUSABLE"

    def __init__(self, message: str, *, path: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.path = path


class StoreTooNewError(StoreError):
    """A newer hostmesh wrote this store."""

    code = "STORE_TOO_NEW"


class UsageError(HostmeshError):
    """The caller used the API wrongly."""

    code = "USAGE"


class NodeNotRunningError(UsageError):
    """``create_node`` was not called, or the node was stopped."""

    code = "NODE_NOT_RUNNING"


class AlreadyRunningError(UsageError):
    """The node runs already."""

    code = "NODE_ALREADY_RUNNING"


class NotAuthenticatedError(UsageError):
    """``sdk.authenticate`` was not called."""

    code = "NOT_AUTHENTICATED"


class InvalidAddressError(UsageError):
    """A multiaddr is malformed or cannot be used here."""

    code = "ADDRESS_INVALID"


class SchemaError(UsageError):
    """A .proto file or a descriptor set cannot be read or compiled. ``path`` names it."""

    code = "SCHEMA_INVALID"

    def __init__(self, message: str, *, path: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.path = path


class StartFailedError(HostmeshError):
    """The node could not start: a port in use, an address that is not ours."""

    code = "START_FAILED"
    retry_safe = True


class ReadyTimeoutError(HostmeshError):
    """Too few peers were reached in time.

    Args:
        outcomes: per bootstrap address what happened last (``dns``, ``dial``, ``handshake``, ``timeout``,
            ``connected``).
    """

    code = "READY_TIMEOUT"
    retry_safe = True

    def __init__(self, message: str, *, outcomes: Mapping[str, str], remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.outcomes = dict(outcomes)


class ClockSkewError(HostmeshError):
    """This machine's clock is too far from those of its peers to sign what they would take.

    Args:
        skew_s: their clock minus ours.
    """

    code = "CLOCK_SKEW"
    retry_safe = True

    def __init__(self, message: str, *, skew_s: float, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.skew_s = skew_s


# --- the path ---


class TransportError(HostmeshError):
    """The path to the peer failed."""

    code = "TRANSPORT"


class DialError(TransportError):
    """No connection was made, so nothing was executed.

    Args:
        stage: where the best attempt ended: ``address``, ``dns``, ``dial``, ``handshake``, ``timeout``, ``limit``.
        attempts: per address, what happened.
    """

    code = "DIAL_FAILED"
    retry_safe = True

    def __init__(
        self, message: str, *, stage: str, attempts: Mapping[str, str] | None = None, remedy: str = ""
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.stage = stage
        self.attempts = dict(attempts or {})


class ProtocolNotSupportedError(TransportError):
    """The peer does not speak the protocol, or no version of it that this node does; nothing was executed.

    Args:
        needed: protocol id that this node asked for, of its highest version: ``/hostmesh/chat/2.1.0``.
        offered: every protocol id that the peer told, of other protocols too; empty where it told nothing.
    """

    code = "PROTOCOL_NOT_SUPPORTED"

    def __init__(self, message: str, *, needed: str, offered: tuple[str, ...] = (), remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.needed = needed
        self.offered = offered


class ConnectionLostError(TransportError):
    """The connection or stream ended before the call did.

    ``may_have_executed`` is False only when the request cannot have left.
    """

    code = "CONNECTION_LOST"

    def __init__(self, message: str, *, may_have_executed: bool = True, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.may_have_executed = may_have_executed
        self.retry_safe = not may_have_executed


class DeadlineExceededError(TransportError):
    """The caller's time ran out; the peer may have done the work."""

    code = "DEADLINE_EXCEEDED"
    may_have_executed = True


# --- the peer broke the protocol ---


class RemoteProtocolError(HostmeshError):
    """The peer sent what the protocol does not allow. The one family that untrusted bytes can cause."""

    code = "REMOTE_PROTOCOL"


class FrameTooLargeError(RemoteProtocolError):
    """A message is over its bound. Refused before it was allocated, in both directions."""

    code = "FRAME_TOO_LARGE"

    def __init__(self, message: str, *, size_bytes: int, limit_bytes: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class MalformedMessageError(RemoteProtocolError):
    """Bytes that are no such message, or a field outside its bounds (``field``)."""

    code = "MESSAGE_MALFORMED"

    def __init__(self, message: str, *, field: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.field = field


class BadSignatureError(RemoteProtocolError):
    """A signature does not verify, or is not that of the key it names."""

    code = "SIGNATURE_BAD"


class RecordInvalidError(RemoteProtocolError):
    """A host record or binding fails a rule: ``field`` names it."""

    code = "RECORD_INVALID"

    def __init__(self, message: str, *, field: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.field = field


class RecordExpiredError(RecordInvalidError):
    """A host record or binding is past its time."""

    code = "RECORD_EXPIRED"


class BindingRevokedError(RecordInvalidError):
    """The operator's wallet took back the binding of the host's key."""

    code = "BINDING_REVOKED"


class ProtocolDowngradeError(RemoteProtocolError):
    """The peer offers a lower version of a protocol than its signed record states; nothing was executed.

    Args:
        promised: protocol id that the record states.
        offered: the highest one that the peer offers.
    """

    code = "PROTOCOL_DOWNGRADED"

    def __init__(self, message: str, *, promised: str, offered: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.promised = promised
        self.offered = offered


class ReceiptError(RemoteProtocolError):
    """A receipt, a countersignature or a proof is not what it must be.

    Args:
        reason: a stable word of :class:`hostmesh.receipts.reasons.ReceiptFault`: ``WRONG_COST``, ``REPLAYED``, ...
    """

    code = "RECEIPT_INVALID"

    def __init__(self, message: str, *, reason: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


# --- the peer answered with an error ---


class RpcError(HostmeshError):
    """The call ended with a status other than OK.

    The status says whether it ``may_have_executed``: yes for CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, INTERNAL and
    DATA_LOSS, and for ABORTED with the reason ``OUTCOME_UNKNOWN``. UNKNOWN is also the answer of a handler whose own
    call to a further peer may have run.

    Args:
        status: the gRPC status code.
        reason: the peer's stable word, such as ``UNSUPPORTED_MODEL``; empty where the code says it all.
        retry_after_ms: when to try again; None = not said.
        details: further words by key.
    """

    code = "RPC"

    def __init__(
        self,
        message: str,
        *,
        status: StatusCode,
        reason: str = "",
        retry_after_ms: int | None = None,
        details: Mapping[str, str] | None = None,
        remedy: str = "",
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status
        self.reason = reason
        self.retry_after_ms = retry_after_ms
        self.details = dict(details or {})
        self.retry_safe = status in (StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED)
        self.may_have_executed = status in (
            StatusCode.UNKNOWN,
            StatusCode.INTERNAL,
            StatusCode.DEADLINE_EXCEEDED,
            StatusCode.CANCELLED,
            StatusCode.DATA_LOSS,
        ) or (status is StatusCode.ABORTED and reason == "OUTCOME_UNKNOWN")


# --- features ---


class TooManyLookupsError(UsageError):
    """This program begins more searches for hosts than it may; this one was not begun.

    Args:
        retry_after_ms: when one may begin.
    """

    code = "TOO_MANY_LOOKUPS"
    retry_safe = True

    def __init__(self, message: str, *, retry_after_ms: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_ms = retry_after_ms


class NoHostFoundError(HostmeshError):
    """No host meets every criterion.

    Args:
        seen: hosts that were looked at.
        rejected: per criterion in the order of the funnel, how many hosts it turned away; the counts add up
            to ``seen``.
        relaxation: the smallest change of one criterion that would have let a host through; empty when there is none.
    """

    code = "NO_HOST_FOUND"
    retry_safe = True

    def __init__(
        self, message: str, *, seen: int, rejected: Mapping[str, int], relaxation: str = "", remedy: str = ""
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.seen = seen
        self.rejected = dict(rejected)
        self.relaxation = relaxation


class HostUnfitError(NoHostFoundError):
    """The one host that was asked for (strategy SPECIFIC) was not found, or fails a criterion.

    Args:
        peer_id: the host that was asked for.
        criterion: the first that it fails, as the funnel calls it; empty when the host was not found at all.
        detail: why, for people. May hold text of the host's: escape it before a terminal sees it.
    """

    code = "HOST_UNFIT"

    def __init__(
        self,
        message: str,
        *,
        peer_id: str,
        criterion: str,
        detail: str = "",
        seen: int = 0,
        rejected: Mapping[str, int] | None = None,
        relaxation: str = "",
        remedy: str = "",
    ) -> None:
        super().__init__(message, seen=seen, rejected=rejected or {}, relaxation=relaxation, remedy=remedy)
        self.peer_id = peer_id
        self.criterion = criterion
        self.detail = detail


class HostsThrottledError(NoHostFoundError):
    """Nobody fits, but hosts that perhaps would answered that this client asks them more often than they allow.

    ``rejected["throttled"]`` says how many. Nothing is wrong with them.

    Args:
        retry_after_ms: when the first of them may be asked again; None = none said it.
    """

    code = "HOSTS_THROTTLED"

    def __init__(
        self,
        message: str,
        *,
        seen: int,
        rejected: Mapping[str, int],
        relaxation: str = "",
        retry_after_ms: int | None = None,
        remedy: str = "",
    ) -> None:
        super().__init__(message, seen=seen, rejected=rejected, relaxation=relaxation, remedy=remedy)
        self.retry_after_ms = retry_after_ms


class SessionError(HostmeshError):
    """A session could not be opened or used. ``reason`` is a stable word."""

    code = "SESSION"

    def __init__(self, message: str, *, reason: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


class BudgetExceededError(HostmeshError):
    """What is wanted would take more than this client's budget leaves. Nothing was sent.

    Args:
        currency: of the amounts.
        limit_micros: the budget.
        spent_micros: what was spent of it.
        open_micros: what open sessions may still cost.
        needed_micros: what was wanted on top.
    """

    code = "BUDGET_EXCEEDED"

    def __init__(
        self,
        message: str,
        *,
        currency: str,
        limit_micros: int,
        spent_micros: int,
        open_micros: int,
        needed_micros: int,
        remedy: str = "",
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.currency = currency
        self.limit_micros = limit_micros
        self.spent_micros = spent_micros
        self.open_micros = open_micros
        self.needed_micros = needed_micros


class JobError(HostmeshError):
    """A job could not be run to its end.

    Args:
        reason: a stable word: ``BUSY``, ``DRAINING``, ``UNSUPPORTED_MODEL``, ``UNSUPPORTED_PARAMETER``,
            ``PRICE_TOO_LOW``, ``QUOTE_EXPIRED``, ``UNAUTHORIZED``, ``TOO_LARGE``, ``ENGINE_FAILED``, ...
    """

    code = "JOB"

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        retry_safe: bool = False,
        may_have_executed: bool = False,
        retry_after_ms: int | None = None,
        remedy: str = "",
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason
        self.retry_safe = retry_safe
        self.may_have_executed = may_have_executed
        self.retry_after_ms = retry_after_ms


class ParameterError(JobError):
    """A job parameter that cannot be used, refused before any work. ``parameter`` is its name.

    ``reason`` is ``UNSUPPORTED_PARAMETER`` (not taken by this model, or by any) or ``INVALID_PARAMETER`` (wrong type,
    or out of range).
    """

    code = "JOB_PARAMETER"

    def __init__(self, message: str, *, parameter: str, reason: str, remedy: str = "") -> None:
        super().__init__(message, reason=reason, remedy=remedy)
        self.parameter = parameter


class EngineError(HostmeshError):
    """A host's engine is missing, does not start or does not answer as the OpenAI API says."""

    code = "ENGINE"
    reason: ClassVar[str] = "ENGINE_FAILED"
    """What a client is told; the text stays on the host."""


class ModelNotReadyError(EngineError):
    """The engine does not hold the model, or is still loading it. Nothing was computed."""

    code = "ENGINE_MODEL_NOT_READY"
    reason = "MODEL_NOT_READY"
    retry_safe = True


class ContextExceededError(EngineError):
    """The input is longer than the model's context. Nothing was computed.

    Args:
        context_tokens: what the model takes.
        input_tokens: what was given; None = the engine did not say.
    """

    code = "ENGINE_CONTEXT_EXCEEDED"
    reason = "CONTEXT_EXCEEDED"

    def __init__(self, message: str, *, context_tokens: int, input_tokens: int | None = None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.context_tokens = context_tokens
        self.input_tokens = input_tokens
