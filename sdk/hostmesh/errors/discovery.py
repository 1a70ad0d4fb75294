"""Hosts' records, and searches that find no host."""

from __future__ import annotations

from collections.abc import Mapping

from hostmesh.errors.root import HostmeshError, RemoteProtocolError, UsageError


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
