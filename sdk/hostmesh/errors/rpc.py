"""How a call ends that does not end well."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from hostmesh.errors.root import HostmeshError


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
