"""Jobs as their client sees them."""

from __future__ import annotations

from hostmesh.errors.root import HostmeshError


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
