"""Links for tests: real sockets, memory, and a simulated line with a delay, a bounded buffer and a record of writes."""

from __future__ import annotations

import math
import socket
from collections import deque

import trio
from trio.testing import memory_stream_pair

from hostmesh.net.links import Link, LinkBrokenError, SocketLink, StreamLink

REMOTE = ("192.0.2.7", 4001)


def socket_pair() -> tuple[SocketLink, trio.SocketStream]:
    """Return a link over a real socket, and the raw stream at its other end."""
    ours, theirs = socket.socketpair()
    return SocketLink(ours, REMOTE), trio.SocketStream(trio.socket.from_stdlib_socket(theirs))


def stream_pair() -> tuple[StreamLink, trio.abc.Stream]:
    """Return a link over a trio stream in memory, and the raw stream at its other end."""
    ours, theirs = memory_stream_pair()
    return StreamLink(ours, REMOTE), theirs


async def receive_exactly(link: Link, size: int) -> bytes:
    """Return the next ``size`` bytes of a link."""
    received = bytearray()
    while len(received) < size:
        data = await link.receive()
        assert data, f"the end after {len(received)} bytes"
        received += data
    return bytes(received)


class SimulatedLink:
    """One end of a line in memory that behaves as a socket does: it takes what fits, and no more until it was read.

    Args:
        delay_s: one way, in trio's clock.
        buffer_bytes: on the way and not read.
    """

    def __init__(self, delay_s: float, buffer_bytes: int) -> None:
        self.remote: tuple[str, int] | None = REMOTE
        self.local_host: str | None = None
        self.last_heard_s = self.last_sent_s = trio.current_time()
        self.writes: list[bytes] = []
        """What each system call would have taken, without the empty ones."""
        self.is_stalled = False
        """Takes nothing, as a socket whose other end does not read."""
        self._delay_s = delay_s
        self._buffer_bytes = buffer_bytes
        self._incoming: deque[tuple[float, bytes]] = deque()
        self._incoming_bytes = 0
        self._is_closed = False
        self._changed = trio.Event()
        self.other: SimulatedLink

    def send_nowait(self, *parts: bytes | memoryview) -> int:
        """Take what fits."""
        if self._is_closed or self.other._is_closed:
            raise LinkBrokenError("the line is cut")
        data = b"".join(parts)
        size = 0 if self.is_stalled else min(len(data), self._buffer_bytes - self.other._incoming_bytes)
        if size:
            taken = data[:size]
            self.writes.append(taken)
            self.last_sent_s = trio.current_time()
            self.other._incoming.append((trio.current_time() + self._delay_s, taken))
            self.other._incoming_bytes += size
            self.other._tell()
        return size

    async def send(self, *parts: bytes | memoryview) -> None:
        """Take all, piece by piece."""
        await trio.lowlevel.checkpoint()
        rest = memoryview(b"".join(parts))
        while rest := rest[self.send_nowait(rest) :]:
            await self._changed.wait()

    async def receive(self) -> bytes:
        """Return what has arrived."""
        await trio.lowlevel.checkpoint()
        while True:
            if self._is_closed:
                raise LinkBrokenError("the link is closed")
            wait_s = self._incoming[0][0] - trio.current_time() if self._incoming else math.inf
            if wait_s <= 0:
                break
            if not self._incoming and self.other._is_closed:
                return b""
            with trio.move_on_after(wait_s):
                await self._changed.wait()
        return self.receive_nowait()

    def receive_nowait(self) -> bytes:
        """Return what has arrived, perhaps nothing."""
        data = b""
        while self._incoming and self._incoming[0][0] <= trio.current_time():
            data += self._incoming.popleft()[1]
        self._incoming_bytes -= len(data)
        if data:
            self.other._tell()
            self.last_heard_s = trio.current_time()
        return data

    def stall(self, is_stalled: bool) -> None:
        """Take nothing from now on, or go on."""
        self.is_stalled = is_stalled
        self._tell()

    async def close(self) -> None:
        """Close this end; the other reads what is on the way, then the end."""
        self._is_closed = True
        self._tell()
        self.other._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def simulated_link_pair(*, delay_s: float = 0.0, buffer_bytes: int = 1 << 20) -> tuple[SimulatedLink, SimulatedLink]:
    """Return both ends of a line; see :class:`SimulatedLink`."""
    one, two = SimulatedLink(delay_s, buffer_bytes), SimulatedLink(delay_s, buffer_bytes)
    one.other, two.other = two, one
    return one, two
