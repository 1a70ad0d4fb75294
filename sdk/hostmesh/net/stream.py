"""The one view of a libp2p stream that the rest of hostmesh has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from hostmesh.net.peer_id import PeerId


class Stream(Protocol):
    """A bidirectional byte stream to an authenticated peer.

    Reading and writing may go on at once, each from one task; a second one raises ``trio.BusyResourceError``. Any task
    may close or reset the stream: those that wait on it then raise. Every method raises
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

    @property
    def heard_bytes(self) -> int:
        """Bytes that came on its connection so far, of all streams: whether the line is busy."""
        ...

    async def send(self, data: bytes, *, head: bytes = b"", end: bool = False) -> None:
        """Hand ``head`` and all of ``data`` to the connection; with ``end``, half-close right after them.

        A large ``data`` is not copied for the sake of a small ``head``.

        Waits while the peer's window or the connection's queue is full, with no timeout of its own. Where there is room
        it returns without a pass of the scheduler, but yields often enough that a loop of sends starves nobody.

        Cancellation: the stream is unusable afterwards and must be reset.
        """
        ...

    async def receive(self, max_bytes: int = 1 << 20) -> bytes:
        """Return 1 to ``max_bytes`` bytes, or ``b""`` once the peer has closed its side.

        Where bytes are there it returns without a pass of the scheduler. What came before the stream was lost may still
        be read; then comes the error.

        Cancellation: safe, no byte is lost.
        """
        ...

    async def receive_chunk(self) -> bytes | memoryview:
        """As :meth:`receive`, without a bound and without a copy: large pieces are read-only views of what came."""
        ...

    def send_nowait(self, data: bytes, *, end: bool = False) -> bool:
        """Send as :meth:`send` does, if nothing has to be waited for.

        A single byte, a sign of life, waits for the peer's window only, and not for room in the connection's queue.

        Returns:
            Whether it was sent; if not, nothing of it was.

        Raises:
            ConnectionLostError: also where this side of the stream is closed.
        """
        ...

    def receive_nowait(self) -> bytes | memoryview | None:
        """As :meth:`receive_chunk`, or None where that would wait or raise."""
        ...

    def set_read_deadline(self, deadline: float) -> None:
        """Have every receive that waits at a time, or begins after it, raise; until another time is set.

        It raises :class:`hostmesh.errors.DeadlineExceededError`, up to 10 ms late, and the stream stays as it is. What
        is there can still be received.

        Args:
            deadline: by trio's clock; ``math.inf`` for none, as of a new stream.

        Cost: a fraction of a cancel scope's.
        """
        ...

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        """Call back once, when the peer resets the stream or its connection ends; at once if that was before.

        The callback runs in the network's task: it must neither raise nor block. None takes it back.
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
        """Close both sides in order. Idempotent, never waits."""
        ...

    async def reset(self) -> None:
        """Drop the stream at once; the peer's operations fail. Idempotent, never raises, never waits."""
        ...


class StreamPlace(Protocol):
    """Where inbound streams come from: a connection.

    A handler with a method ``take(stream, place)`` is asked first whether it takes the stream: True says that a task of
    its own will call one of these, once.
    """

    async def serve(self, stream: Any, handler: StreamHandler) -> None:
        """Have a handler serve the stream, and end it whatever the handler does."""
        ...

    def start(self, stream: Any, handler: StreamHandler) -> bool:
        """Start a task that does as :meth:`serve`; False where the connection has ended."""
        ...

    def note_served(self, stream: Stream) -> None:
        """Know that the stream was served and has ended."""
        ...


StreamHandler = Callable[[Stream], Awaitable[None]]
"""Serves one inbound stream; what it raises resets that stream and no other."""
