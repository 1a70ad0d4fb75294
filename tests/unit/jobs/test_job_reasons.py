"""Reasons over the wire and back."""

from __future__ import annotations

import pytest

from hostmesh.errors import JobError, ParameterError, RpcError, StatusCode
from hostmesh.jobs.reasons import REASONS, from_status, job_refused, to_status
from hostmesh.rpc.outcome import outcome_from_proto, outcome_of_error

# Section 7 of the reference that the protocol follows, written down by hand.
REFERENCE = {
    "BUSY": StatusCode.RESOURCE_EXHAUSTED,
    "RATE_LIMITED": StatusCode.RESOURCE_EXHAUSTED,
    "DRAINING": StatusCode.UNAVAILABLE,
    "UNSUPPORTED_MODEL": StatusCode.NOT_FOUND,
    "PRICE_TOO_LOW": StatusCode.FAILED_PRECONDITION,
    "QUOTE_EXPIRED": StatusCode.FAILED_PRECONDITION,
    "UNAUTHORIZED": StatusCode.UNAUTHENTICATED,
    "TOO_LARGE": StatusCode.INVALID_ARGUMENT,
}


def over_the_wire(error: JobError) -> RpcError:
    outcome = outcome_of_error(to_status(error))
    assert outcome is not None
    arrived = outcome_from_proto(outcome.to_proto()).to_error()
    assert isinstance(arrived, RpcError)
    return arrived


@pytest.mark.parametrize(("reason", "status"), REFERENCE.items())
def test_statuses_are_those_of_the_reference(reason: str, status: StatusCode) -> None:
    assert to_status(job_refused(reason, "no")).status is status


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_survives_the_wire(reason: str) -> None:
    sent = job_refused(reason, "because", retry_after_ms=7)
    got = from_status(over_the_wire(sent), accepted=False, delivered=False)
    assert (got.reason, got.message, got.retry_after_ms) == (reason, "because", 7)
    assert got.remedy
    assert got.may_have_executed is False
    assert got.retry_safe is sent.retry_safe


def test_a_refused_parameter_keeps_its_name() -> None:
    sent = ParameterError("no", parameter="top_k", reason="UNSUPPORTED_PARAMETER")
    got = from_status(over_the_wire(sent), accepted=False, delivered=False)
    assert isinstance(got, ParameterError)
    assert (got.parameter, got.reason) == ("top_k", "UNSUPPORTED_PARAMETER")


@pytest.mark.parametrize(
    ("reason", "delivered", "retry_safe"),
    [
        ("ENGINE_FAILED", False, True),
        ("ENGINE_FAILED", True, False),
        ("DRAINING", False, True),
        ("DRAINING", True, False),
        ("MODEL_NOT_READY", False, True),
        ("CONTEXT_EXCEEDED", False, False),
        ("JOB_TIME_LIMIT", False, False),
        # Charged for what it did, should a host ever say so after acceptance.
        ("BUSY", False, False),
    ],
)
def test_after_acceptance_a_retry_is_safe_only_if_nothing_was_charged_or_shown(
    reason: str, delivered: bool, retry_safe: bool
) -> None:
    got = from_status(over_the_wire(job_refused(reason, "x")), accepted=True, delivered=delivered)
    assert got.may_have_executed is True
    assert got.retry_safe is retry_safe


def test_a_status_without_a_reason_of_ours_keeps_its_own_word() -> None:
    internal = from_status(RpcError("boom", status=StatusCode.INTERNAL), accepted=False, delivered=False)
    assert (internal.reason, internal.may_have_executed, internal.retry_safe) == ("INTERNAL", True, False)
    unknown = RpcError("no", status=StatusCode.UNAUTHENTICATED, reason="SESSION_EXPIRED")
    session = from_status(unknown, accepted=False, delivered=False)
    assert (session.reason, session.may_have_executed) == ("SESSION_EXPIRED", False)
    assert "session" in session.remedy
