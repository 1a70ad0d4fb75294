"""What settings can be wrong in."""

from __future__ import annotations

from hostmesh.errors.root import HostmeshError


class ConfigError(HostmeshError):
    """A setting is wrong.

    Args:
        name: the setting's name.
        source: where the value came from: ``argument``, ``environment``, a file's path, ``default``.
    """

    code = "CONFIG_INVALID"

    def __init__(self, message: str, *, name: str = "", source: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.name = name
        self.source = source
