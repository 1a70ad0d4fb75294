"""What bytes of a peer can be wrong in."""

from __future__ import annotations

from hostmesh.errors.root import RemoteProtocolError


class FrameTooLargeError(RemoteProtocolError):
    """A message is over its bound. Refused before it was allocated, in both directions."""

    code = "FRAME_TOO_LARGE"

    def __init__(self, message: str, *, size_bytes: int, limit_bytes: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class MalformedMessageError(RemoteProtocolError):
    """Bytes that are no such message, or a field outside its bounds (``field``)."""

    code = "MESSAGE_MALFORMED"

    def __init__(self, message: str, *, field: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.field = field
