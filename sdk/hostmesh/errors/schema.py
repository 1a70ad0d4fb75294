"""What .proto files can be wrong in."""

from __future__ import annotations

from hostmesh.errors.root import UsageError


class SchemaError(UsageError):
    """A .proto file or a descriptor set cannot be read or compiled. ``path`` names it."""

    code = "SCHEMA_INVALID"

    def __init__(self, message: str, *, path: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.path = path
