"""A connection as it is shown to people. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.net.peer_id import PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionView:
    """One connection as it was at one moment."""

    peer_id: PeerId
    is_outbound: bool
    """Whether this side dialled."""
    address: str | None
    """The address that was dialled, or where an inbound connection came from; None: not known."""
    rtt_ms: float | None
    """By the last ping; None: not measured yet."""
    lasted_s: float

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {
            "is_outbound": self.is_outbound,
            "address": self.address,
            "rtt_ms": None if self.rtt_ms is None else round(self.rtt_ms, 3),
            "lasted_s": round(self.lasted_s, 1),
        }
