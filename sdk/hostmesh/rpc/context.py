"""What a server knows of a call besides its request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.header import NO_METADATA


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """What a handler knows of its call besides the request."""

    peer_id: PeerId
    """The caller, as the handshake proved it."""
    method: str
    """``JobService.Run``."""
    deadline: float | None
    """On the system's monotonic clock, seconds: the caller's, or where it names none that of the method's
    ``default_timeout_ms``; None = the caller waits without end."""
    version: str = ""
    """The protocol's version that was agreed on: ``1.1.0``. An older one than the highest served is what the caller
    speaks, and answers hold what it knows. Empty where a handler is called without a wire, as in a test."""
    session_id: bytes = b""
    idempotency_key: bytes = b""
    metadata: Mapping[str, str] = field(default_factory=lambda: NO_METADATA)
