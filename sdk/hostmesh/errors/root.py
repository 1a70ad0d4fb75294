"""The families that errors of every room belong to."""

from __future__ import annotations

from typing import ClassVar


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


class UsageError(HostmeshError):
    """The caller used the API wrongly."""

    code = "USAGE"


class RemoteProtocolError(HostmeshError):
    """The peer sent what the protocol does not allow. The one family that untrusted bytes can cause."""

    code = "REMOTE_PROTOCOL"
