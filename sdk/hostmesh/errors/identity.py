"""Keys, wallets and signatures."""

from __future__ import annotations

from hostmesh.errors.root import HostmeshError, RemoteProtocolError, UsageError


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


class NotAuthenticatedError(UsageError):
    """``sdk.authenticate`` was not called."""

    code = "NOT_AUTHENTICATED"


class BadSignatureError(RemoteProtocolError):
    """A signature does not verify, or is not that of the key it names."""

    code = "SIGNATURE_BAD"
