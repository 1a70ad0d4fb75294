"""Which versions of a protocol a client can speak with, and whether a host serves one of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hostmesh.errors import ConfigError

MAX_RANGE_BYTES = 128
_VERSION = r"(?:0|[1-9][0-9]{0,8})\.(?:0|[1-9][0-9]{0,8})\.(?:0|[1-9][0-9]{0,8})"
_VERSIONED_ID = re.compile(rf"(?P<name>/.+)/(?P<version>{_VERSION})\Z")
_RANGE = re.compile(rf"(?P<name>/.+)/(?P<least>{_VERSION})(?:\.\.(?P<most>{_VERSION}))?\Z")

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolRange:
    """A protocol's name with the versions that will do.

    >>> str(ProtocolRange.parse("/hostmesh/job/1.1.0"))
    '/hostmesh/job/1.1.0'
    >>> ProtocolRange.parse("/hostmesh/job/1.1.0").is_served_by(["/hostmesh/job/1.4.2"])
    True
    >>> ProtocolRange.parse("/hostmesh/job/1.0.0..1.2.0").is_served_by(["/hostmesh/job/1.4.2"])
    False
    """

    name: str
    """The id without its version: ``/hostmesh/job``; an id that has none stands as it is."""
    least: Version | None = None
    """The lowest version, inclusive; None: the id has no version and is compared as a whole."""
    most: Version | None = None
    """The highest version, inclusive; None = every later one of the same major version."""

    @classmethod
    def parse(cls, text: str) -> ProtocolRange:
        """Read ``/name/1.1.0`` (this version or a later one of major version 1), ``/name/1.0.0..2.3.0`` or ``/name``.

        Raises:
            ConfigError: none of them, or a range whose end is before its start.
        """
        found = _RANGE.match(text)
        if found is not None:
            least = _version(found["least"])
            most = None if found["most"] is None else _version(found["most"])
            if most is None or least <= most:
                return cls(name=found["name"], least=least, most=most)
        elif text.startswith("/") and len(text) > 1 and ".." not in text:
            return cls(name=text)
        raise ConfigError(
            f"not a protocol with a range of versions: {text!r}",
            name="protocols",
            source="argument",
            remedy="/name/1.1.0 (or later, same major version), /name/1.0.0..1.4.0, or an id without a version",
        )

    def is_served_by(self, protocol_ids: Iterable[str]) -> bool:
        """Tell whether one of the ids is this protocol in a version of the range."""
        return any(self._takes(protocol_id) for protocol_id in protocol_ids)

    def _takes(self, protocol_id: str) -> bool:
        if self.least is None:
            return protocol_id == self.name
        found = _VERSIONED_ID.match(protocol_id)
        if found is None or found["name"] != self.name:
            return False
        version = _version(found["version"])
        if self.most is None:
            return version >= self.least and version[0] == self.least[0]
        return self.least <= version <= self.most

    def __str__(self) -> str:
        if self.least is None:
            return self.name
        most = "" if self.most is None else f"..{_dotted(self.most)}"
        return f"{self.name}/{_dotted(self.least)}{most}"


def _version(text: str) -> Version:
    major, minor, patch = map(int, text.split("."))
    return major, minor, patch


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
