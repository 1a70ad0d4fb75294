"""What is known of the way to one peer. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.discovery.measurement import Measurement
from hostmesh.net.peer_id import PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionMetrics:
    """The connection to a peer, as measured from here."""

    peer_id: PeerId
    is_connected: bool
    latency: Measurement | None
    """The last probe: the median round trip in ms, its spread (MAD), samples and path; None = not probed, or not
    lately."""
    age_s: float | None
    """How long ago that was."""
    last_ping_ms: float | None
    """The last ping of the connection itself, whatever the peer speaks; None = not connected, or not yet."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {
            "peer_id": self.peer_id,
            "is_connected": self.is_connected,
            "latency": None if self.latency is None else self.latency.to_dict(),
            "age_s": self.age_s,
            "last_ping_ms": self.last_ping_ms,
        }
