"""The one view of a libp2p stream that the rest of hostmesh has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from hostmesh.net.peer_id import PeerId


class Stream(Protocol):
    """A bidirectional byte stream to an authenticated peer.

    Reading and writing may go on at once, each from one task. Every method raises
    :class:`hostmesh.errors.ConnectionLostError` when the stream was reset or its connection ended.
    """

    @property
    def peer_id(self) -> PeerId:
        """The peer, as the Noise handshake proved it."""
        ...

    @property
    def protocol_id(self) -> str:
        """The negotiated protocol."""
        ...

    async def send(self, data: bytes) -> None:
        """Send all bytes; waits while the peer's window is full, with no timeout of its own.

        Cancellation: the stream is unusable afterwards and must be reset.
        """
        ...

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return 1 to ``max_bytes`` bytes, or ``b""`` once the peer has closed its side.

        Cancellation: safe, no byte is lost.
        """
        ...

    async def wait_reset(self) -> None:
        """Return once the stream was reset or its connection ended; reads nothing.

        It does not return for a stream that both sides closed in order.

        Cancellation: safe.
        """
        ...

    async def close_write(self) -> None:
        """Half-close: the peer sees the end, and may go on sending."""
        ...

    async def close(self) -> None:
        """Close both sides in order. Idempotent."""
        ...

    async def reset(self) -> None:
        """Drop the stream at once; the peer's operations fail. Idempotent, never raises, shielded, bounded in time."""
        ...


StreamHandler = Callable[[Stream], Awaitable[None]]
"""Serves one inbound stream; what it raises resets that stream and no other."""
