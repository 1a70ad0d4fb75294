"""What keeps a node from running."""

from __future__ import annotations

from collections.abc import Mapping

from hostmesh.errors.root import HostmeshError, UsageError


class NodeNotRunningError(UsageError):
    """``create_node`` was not called, or the node was stopped."""

    code = "NODE_NOT_RUNNING"


class AlreadyRunningError(UsageError):
    """The node runs already."""

    code = "NODE_ALREADY_RUNNING"


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
