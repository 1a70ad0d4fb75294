"""What a local database file can be wrong in."""

from __future__ import annotations

from hostmesh.errors.root import HostmeshError


class StoreError(HostmeshError):
    """A local store cannot be used. It was left unchanged."""

    code = "STORE_UNUSABLE"

    def __init__(self, message: str, *, path: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.path = path


class StoreTooNewError(StoreError):
    """A newer hostmesh wrote this store."""

    code = "STORE_TOO_NEW"
