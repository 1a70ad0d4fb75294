"""Why jobs are refused or fail: one table that host and client share. Pure.

A host raises :class:`~hostmesh.errors.JobError` with a reason; the table says which status carries it over the wire,
and what the client may do about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hostmesh.errors import (
    ContextExceededError,
    EngineError,
    JobError,
    ModelNotReadyError,
    ParameterError,
    RpcError,
    StatusCode,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonRule:
    """How one reason travels and what it means to the client."""

    status: StatusCode
    retry_safe: bool
    """The same call may be made again, perhaps later or elsewhere, as long as nothing was executed."""
    remedy: str


REASONS: Mapping[str, ReasonRule] = MappingProxyType(
    {
        "BUSY": ReasonRule(
            status=StatusCode.RESOURCE_EXHAUSTED, retry_safe=True, remedy="Try again later, or another host."
        ),
        "RATE_LIMITED": ReasonRule(
            status=StatusCode.RESOURCE_EXHAUSTED, retry_safe=True, remedy="Try again later, or another host."
        ),
        "DRAINING": ReasonRule(status=StatusCode.UNAVAILABLE, retry_safe=True, remedy="Use another host."),
        "MODEL_NOT_READY": ReasonRule(
            status=StatusCode.UNAVAILABLE,
            retry_safe=True,
            remedy="Try again once the model is loaded, or another host.",
        ),
        "UNSUPPORTED_MODEL": ReasonRule(
            status=StatusCode.NOT_FOUND, retry_safe=False, remedy="Ask for a model that the host's record lists."
        ),
        "UNPRICED": ReasonRule(
            status=StatusCode.FAILED_PRECONDITION, retry_safe=False, remedy="Use a host that names a price."
        ),
        "PRICE_TOO_LOW": ReasonRule(
            status=StatusCode.FAILED_PRECONDITION,
            retry_safe=False,
            remedy="Open a session with a higher price ceiling, or use a cheaper host.",
        ),
        "QUOTE_EXPIRED": ReasonRule(
            status=StatusCode.FAILED_PRECONDITION,
            retry_safe=True,
            remedy="Ask for a new quote; each is good for one job.",
        ),
        "SPENDING_LIMIT": ReasonRule(
            status=StatusCode.FAILED_PRECONDITION,
            retry_safe=False,
            remedy="Lower max_output_tokens, or open a session with a higher spending limit.",
        ),
        "SLICE_TOO_SMALL": ReasonRule(
            status=StatusCode.FAILED_PRECONDITION,
            retry_safe=False,
            remedy="Open a session with a larger slice_micros, or send a shorter prompt.",
        ),
        "RECEIPT_OVERDUE": ReasonRule(
            status=StatusCode.FAILED_PRECONDITION,
            retry_safe=False,
            remedy="Countersign the receipts of the session's jobs, or open a new session.",
        ),
        "UNAUTHORIZED": ReasonRule(
            status=StatusCode.UNAUTHENTICATED, retry_safe=False, remedy="Open a new session for this model and host."
        ),
        "TOO_LARGE": ReasonRule(status=StatusCode.INVALID_ARGUMENT, retry_safe=False, remedy="Send less input."),
        "CONTEXT_EXCEEDED": ReasonRule(
            status=StatusCode.INVALID_ARGUMENT,
            retry_safe=False,
            remedy="Shorten the input, or use a model with a longer context.",
        ),
        "UNSUPPORTED_INPUT": ReasonRule(
            status=StatusCode.INVALID_ARGUMENT,
            retry_safe=False,
            remedy="Give messages to a chat model and texts to an embedding model.",
        ),
        "INVALID_INPUT": ReasonRule(status=StatusCode.INVALID_ARGUMENT, retry_safe=False, remedy="Correct the input."),
        "UNSUPPORTED_PARAMETER": ReasonRule(
            status=StatusCode.INVALID_ARGUMENT, retry_safe=False, remedy="Leave the parameter out."
        ),
        "INVALID_PARAMETER": ReasonRule(
            status=StatusCode.INVALID_ARGUMENT, retry_safe=False, remedy="Correct the parameter or leave it out."
        ),
        "JOB_TIME_LIMIT": ReasonRule(
            status=StatusCode.DEADLINE_EXCEEDED, retry_safe=False, remedy="Ask for fewer tokens at once."
        ),
        "ENGINE_FAILED": ReasonRule(
            status=StatusCode.INTERNAL, retry_safe=True, remedy="Use another host; this job was not charged."
        ),
    }
)
"""Every reason that a host gives. Statuses: gRPC's; reference: docs/protocols/job.md."""

MIN_JOB_S = 600.0
"""Time that every host gives a job, from when it is asked for: ended sooner with JOB_TIME_LIMIT, it was failed."""

HOST_CAUSED = frozenset({"ENGINE_FAILED", "INTERNAL", "UNKNOWN", "DATA_LOSS"})
"""Reasons that count against a host before it took the job. Being busy, draining or refusing does not."""

UNCHARGED = HOST_CAUSED | frozenset({"CONTEXT_EXCEEDED", "MODEL_NOT_READY", "DRAINING"})
"""Reasons for which an accepted job costs nothing: the host did not do the work."""


def job_refused(
    reason: str, message: str, *, retry_after_ms: int | None = None, may_have_executed: bool = False, remedy: str = ""
) -> JobError:
    """Return the error for a reason of the table, with the table's remedy unless a better one is given."""
    rule = REASONS[reason]
    return JobError(
        message,
        reason=reason,
        retry_safe=rule.retry_safe,
        may_have_executed=may_have_executed,
        retry_after_ms=retry_after_ms,
        remedy=remedy or rule.remedy,
    )


def slice_used_up(*, may_have_executed: bool) -> JobError:
    """Return a client's own error: prompts that were paid for and not answered leave no room in the session."""
    return job_refused(
        "SLICE_TOO_SMALL",
        "what this session's prompts without an answer were paid comes to its slice",
        may_have_executed=may_have_executed,
        remedy="Open a new session, perhaps with a larger slice_micros or another host.",
    )


def engine_refused(error: EngineError, *, may_have_executed: bool) -> JobError:
    """Return what a client is told of an engine's error: not its text, which may hold anything."""
    match error:
        case ContextExceededError():
            message = f"the model's context has {error.context_tokens} tokens"
        case ModelNotReadyError():
            message = "the model is not loaded"
        case _:
            message = "the engine failed"
    return job_refused(error.reason, message, may_have_executed=may_have_executed)


def to_status(error: JobError) -> RpcError:
    """Return what the host answers for the error. The message goes to the client: it names no secret and no input."""
    details = {"parameter": error.parameter} if isinstance(error, ParameterError) else {}
    return RpcError(
        error.message,
        status=REASONS[error.reason].status,
        reason=error.reason,
        retry_after_ms=error.retry_after_ms,
        details=details,
        remedy=error.remedy,
    )


def from_status(error: RpcError, *, accepted: bool, delivered: bool) -> JobError:
    """Return the client's error for a call that the host ended with an error status.

    Args:
        error: the status.
        accepted: the host had accepted the job, so that it may have worked and counted tokens.
        delivered: a part of the answer had reached the caller, so that a second try would not be the same call.
    """
    reason = error.reason or error.status.name
    rule = REASONS.get(reason)
    if rule is None and error.status is StatusCode.UNAUTHENTICATED:
        rule = REASONS["UNAUTHORIZED"]
    parameter = error.details.get("parameter")
    if parameter is not None and not accepted and reason in ("UNSUPPORTED_PARAMETER", "INVALID_PARAMETER"):
        return ParameterError(
            error.message, parameter=parameter, reason=reason, remedy=f"Correct {parameter!r} or leave it out."
        )
    executed = accepted or (rule is None and error.may_have_executed)
    retry_safe = rule.retry_safe if rule is not None else error.retry_safe
    uncharged = not executed or reason in UNCHARGED
    return JobError(
        error.message,
        reason=reason,
        retry_safe=retry_safe and uncharged and not delivered,
        may_have_executed=executed,
        retry_after_ms=error.retry_after_ms,
        remedy=rule.remedy if rule is not None else error.remedy,
    )
