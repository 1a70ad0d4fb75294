"""What a node's connections use, and the limits on it: streams by peer and protocol, and bytes that nobody has read.

Every table is bounded by the streams that are open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from hostmesh.net.peer_id import PeerId

DEFAULT_MAX_UNREAD_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUsage:
    """What a node uses now, and what it refused since it was made."""

    connections: int
    inbound_connections: int
    inbound_streams: Mapping[str, int]
    """Streams that peers opened, by protocol."""
    outbound_streams: Mapping[str, int]
    """Streams of ours, by protocol."""
    unread_bytes: int
    """Received, and not read by the stream's user."""
    unsent_bytes: int
    """Sent by the stream's user, and not taken by the socket."""
    refused_streams: int
    """Streams of peers over a limit."""
    overflowed_streams: int
    """Streams that were reset because nobody read them."""


class UnreadHolder(Protocol):
    """A connection, which may hold what nobody has read."""

    @property
    def unread_bytes(self) -> int:
        """How much."""
        ...

    def report_unread(self) -> None:
        """Call :meth:`Ledger.note_unread` with what changed since the last time."""
        ...

    def shed(self) -> None:
        """Reset the stream that holds most."""
        ...


class Ledger:
    """The accounts of one node.

    Unread bytes are noted when they come; when they were read is noted later. So the sum is never too small, and it is
    made exact before anybody loses a stream for it: of the connection that holds most, whoever it was that sent last.

    Args:
        max_streams_per_protocol: inbound streams that one peer may have open with one protocol.
        max_unread_bytes: over all connections.
    """

    def __init__(
        self, *, max_streams_per_protocol: int = 256, max_unread_bytes: int = DEFAULT_MAX_UNREAD_BYTES
    ) -> None:
        self._max_streams_per_protocol = max_streams_per_protocol
        self._max_unread_bytes = max_unread_bytes
        self._of_peer: Counter[tuple[PeerId, str]] = Counter()
        self._unread_bytes = 0
        # Ordered, so that which of equals is chosen does not hang on where they lie in memory.
        self._holders: dict[UnreadHolder, None] = {}
        self.refused_streams = 0
        self.overflowed_streams = 0

    def admit(self, peer_id: PeerId, protocol_id: str) -> bool:
        """Take a place for an inbound stream; :meth:`release` must follow if there was one."""
        key = (peer_id, protocol_id)
        count = self._of_peer[key]
        if count >= self._max_streams_per_protocol:
            self.refused_streams += 1
            return False
        self._of_peer[key] = count + 1
        return True

    def release(self, peer_id: PeerId, protocol_id: str) -> None:
        """Give a place back."""
        key = (peer_id, protocol_id)
        count = self._of_peer[key] - 1
        if count:
            self._of_peer[key] = count
        else:
            del self._of_peer[key]

    def inbound_streams(self) -> dict[str, int]:
        """Return the inbound streams by protocol."""
        total: Counter[str] = Counter()
        for (_, protocol_id), count in self._of_peer.items():
            total[protocol_id] += count
        return dict(total)

    # --- unread bytes ---

    def join(self, holder: UnreadHolder) -> None:
        """Take a connection into account."""
        self._holders[holder] = None

    def leave(self, holder: UnreadHolder) -> None:
        """Forget a connection; what it noted is for itself to take back."""
        self._holders.pop(holder, None)

    @property
    def unread_bytes(self) -> int:
        """Received and not read, over all connections. Cost: linear in their number."""
        for holder in self._holders:
            holder.report_unread()
        return self._unread_bytes

    def note_unread(self, change: int) -> None:
        """Add to the unread bytes; over the limit, the connections with most of them lose their fullest streams."""
        self._unread_bytes += change
        if change > 0 and self._unread_bytes > self._max_unread_bytes:
            while self.unread_bytes > self._max_unread_bytes:
                max(self._holders, key=lambda holder: holder.unread_bytes).shed()
