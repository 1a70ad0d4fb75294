"""A byte stream on a simulated network, which behaves as TCP does between two processes.

Bytes arrive in order, after the link's time. A sender waits while a window of bytes is on the way or unread; room that
the reader makes is known to the sender one latency later. He also waits while what slow start allows is on the way; see
:class:`hostmesh.testing.congestion.CongestionWindow`. Either side may end its half, or reset the whole.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from hostmesh.testing.congestion import CongestionWindow

if TYPE_CHECKING:
    from hostmesh.testing.faults import Trickle
    from hostmesh.testing.machine import SimMachine
    from hostmesh.testing.wire import Wire

WINDOW_BYTES = 1 << 20
"""Bytes of one direction on the way or unread. Chosen here: about what Linux gives a connection that is read."""
SEGMENT_BYTES = 65536
"""A larger write goes as several segments."""
BACKLOG = 128
"""Connections that wait to be accepted; further ones get no answer, and try again."""


class SimStream(trio.abc.HalfCloseableStream):
    """One end of a connection.

    Args:
        machine: whose end this is.
        local: its address and port.
        remote: those of the other end, as this end sees them.
        wire: the way to the other end.
    """

    def __init__(self, machine: SimMachine, local: tuple[str, int], remote: tuple[str, int], wire: Wire) -> None:
        self.machine = machine
        self.local = local
        self.remote = remote
        self.wire = wire
        self.peer: SimStream
        """The other end."""
        self.sent_bytes = 0
        self.last_arrival_s = 0.0
        """When what was sent last arrives at the other end."""
        self.trickle: Trickle | None = None
        """Makes what is sent come slowly."""
        self.is_severed = False
        """Nothing arrives here any more."""
        self.is_gone = False
        """The machine knows nothing of this end any more."""
        self._inbox: deque[bytes | memoryview] = deque()
        self._inbox_bytes = 0
        self._has_peer_ended = False
        self._is_reset = False
        self._has_ended = False
        self._is_closed = False
        self._unacknowledged_bytes = 0
        self._acknowledgements: deque[tuple[float, int]] = deque()
        self._congestion = CongestionWindow()
        self._is_sending = False
        self._sender: trio.lowlevel.Task | None = None
        self._reader: trio.lowlevel.Task | None = None

    def __repr__(self) -> str:
        return f"<SimStream {self.machine.name} -> {self.peer.machine.name}>"

    # --- sending ---

    def send_nowait(self, *parts: bytes | memoryview) -> int:
        """Send what the window takes now, without waiting.

        Returns:
            How many bytes of the parts were taken, perhaps 0.

        Raises:
            trio.BrokenResourceError: the connection was reset.
            trio.ClosedResourceError: this end was closed, or its sending half.
        """
        if self._is_closed or self._has_ended:
            raise trio.ClosedResourceError("this end is closed")
        if self._is_reset:
            raise trio.BrokenResourceError("the connection was reset")
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        size = min(len(data), self._room())
        if not size:
            return 0
        whole = bytes(data) if size == len(data) else bytes(data[:size])
        self._unacknowledged_bytes += size
        if size <= SEGMENT_BYTES:
            self.wire.send(self, whole)
        else:
            for start in range(0, size, SEGMENT_BYTES):
                self.wire.send(self, whole[start : start + SEGMENT_BYTES])
        link = self.wire.path.link
        acknowledged_s = self.last_arrival_s + link.latency_s + link.jitter_s / 2
        self._congestion.note_sent(trio.current_time(), size, acknowledged_s=acknowledged_s)
        return size

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all bytes, waiting for the window; see :class:`trio.abc.SendStream`."""
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._is_sending = True
        try:
            await trio.lowlevel.checkpoint()
            rest = memoryview(data)
            while rest := rest[self.send_nowait(rest) :]:
                await self._wait_for_room()
        finally:
            self._is_sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Return once there is room in the window, or the connection broke."""
        await trio.lowlevel.checkpoint()
        if self._is_closed:
            raise trio.ClosedResourceError("this end is closed")
        while not self._is_reset and not self._is_closed and not self._room():
            await self._wait_for_room()

    async def send_eof(self) -> None:
        """End this half; the other end reads what was sent, then the end."""
        await trio.lowlevel.checkpoint()
        if self._is_closed:
            raise trio.ClosedResourceError("this end is closed")
        self._end()

    def _end(self) -> None:
        if not self._has_ended and not self._is_reset:
            self._has_ended = True
            self.wire.send_end(self)

    def _room(self) -> int:
        known = self._acknowledgements
        now = trio.current_time()
        while known and known[0][0] <= now:
            self._unacknowledged_bytes -= known.popleft()[1]
        return min(
            WINDOW_BYTES - self._unacknowledged_bytes,
            self._congestion.room(now, 2 * self.wire.path.link.latency_s),
        )

    async def _wait_for_room(self) -> None:
        if self._acknowledgements:
            self.wire.agenda.at(self._acknowledgements[0][0], self._wake_sender)
        if (next_change_s := self._congestion.next_change_s) is not None:
            self.wire.agenda.at(next_change_s, self._wake_sender)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._sender = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._sender = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _wake_sender(self) -> None:
        if self._sender is not None:
            sender, self._sender = self._sender, None
            trio.lowlevel.reschedule(sender)

    def take_acknowledgement(self, size: int) -> None:
        """The other end has read so much; this end knows it one latency later."""
        self._acknowledgements.append((trio.current_time() + self.peer.wire.path.link.latency_s, size))
        if self._sender is not None and len(self._acknowledgements) == 1:
            self.wire.agenda.at(self._acknowledgements[0][0], self._wake_sender)

    # --- receiving ---

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return the next bytes, ``b""`` at the end; see :class:`trio.abc.ReceiveStream`."""
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be positive")
        if self._reader is not None:
            raise trio.BusyResourceError("another task is receiving on this stream")
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("this end is closed")
        if self._inbox or self._has_peer_ended or self._is_reset:
            await trio.lowlevel.checkpoint()
        else:
            await self._wait_for_bytes()
        if self._is_closed:
            raise trio.ClosedResourceError("this end was closed")
        if self._inbox:
            return self._take(SEGMENT_BYTES if max_bytes is None else max_bytes)
        if self._is_reset:
            raise trio.BrokenResourceError("the connection was reset")
        return b""

    def _take(self, max_bytes: int) -> bytes:
        pieces = []
        room = max_bytes
        while self._inbox and room:
            piece = self._inbox.popleft()
            if len(piece) > room:
                rest = memoryview(piece)
                self._inbox.appendleft(rest[room:])
                piece = rest[:room]
            pieces.append(piece)
            room -= len(piece)
        size = max_bytes - room
        self._inbox_bytes -= size
        self.peer.take_acknowledgement(size)
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    async def _wait_for_bytes(self) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            self._reader = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._reader = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _wake_reader(self) -> None:
        if self._reader is not None:
            reader, self._reader = self._reader, None
            trio.lowlevel.reschedule(reader)

    # --- what arrives; called by the wire ---

    def take_data(self, data: bytes) -> None:
        """Bytes came."""
        if self.is_gone:
            self.wire.send_reset(self)  # nobody is there: the machine says so
            return
        if not self._is_reset:
            self._inbox.append(data)
            self._inbox_bytes += len(data)
            self._wake_reader()

    def take_end(self) -> None:
        """The other end sends no more."""
        self._has_peer_ended = True
        self._wake_reader()

    def take_reset(self) -> None:
        """The connection is no more. What came before can still be read."""
        self.lose()

    # --- ends ---

    async def aclose(self) -> None:
        """Close this end: the other reads what was sent, then the end. With unread bytes it is a reset, as in TCP."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close this end at once; see :meth:`aclose`. Idempotent."""
        if self._is_closed:
            return
        if self._inbox:
            self.reset()
        self._end()
        self._is_closed = True
        self.forget()
        self._wake_reader()
        self._wake_sender()

    def reset(self) -> None:
        """Break the connection: the other end meets an error. Idempotent."""
        if not self._is_reset and not self.is_gone:
            self.wire.send_reset(self)
            self.take_reset()

    def lose(self) -> None:
        """This end is no more, and nobody is told: the machine lost its power."""
        self._is_reset = True
        self.forget()
        self._wake_reader()
        self._wake_sender()

    def sever(self) -> None:
        """From now on nothing of this connection arrives at either end; both believe in it as long as they like."""
        self.is_severed = self.peer.is_severed = True

    def forget(self) -> None:
        """Let the machine know nothing of this end any more. What is sent to it afterwards is answered by a reset."""
        if not self.is_gone:
            self.is_gone = True
            self.machine.streams.pop(self, None)


class SimListener(trio.abc.Listener[SimStream]):
    """Takes the connections to one port of a machine.

    Args:
        on_close: called once.
    """

    def __init__(self, on_close: Callable[[], object]) -> None:
        self._on_close = on_close
        self._waiting: deque[SimStream] = deque()
        self._acceptors = trio.lowlevel.ParkingLot()
        self.is_closed = False

    @property
    def has_room(self) -> bool:
        """Whether one more connection may wait here."""
        return len(self._waiting) < BACKLOG

    def offer(self, stream: SimStream) -> None:
        """Let a connection wait to be accepted."""
        self._waiting.append(stream)
        self._acceptors.unpark()

    async def accept(self) -> SimStream:
        """Return the next connection; see :class:`trio.abc.Listener`."""
        await trio.lowlevel.checkpoint()
        while True:
            if self.is_closed:
                raise trio.ClosedResourceError("the listener is closed")
            if self._waiting:
                return self._waiting.popleft()
            await self._acceptors.park()

    async def aclose(self) -> None:
        """Close it; connections that wait are reset."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close it at once; see :meth:`aclose`. Idempotent."""
        self.abandon()
        self._acceptors.unpark_all()

    def abandon(self) -> None:
        """Close it for everybody but its owner, who waits for ever: his process is dead."""
        if not self.is_closed:
            self.is_closed = True
            self._on_close()
            for stream in self._waiting:
                stream.reset()
            self._waiting.clear()


def refused() -> OSError:
    """Return what a dialer meets where nobody listens."""
    return ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


def unreachable() -> OSError:
    """Return what a dialer meets when there is no way."""
    return OSError(errno.EHOSTUNREACH, "No route to host")


def timed_out() -> OSError:
    """Return what a dialer meets when nobody ever answers."""
    return TimeoutError(errno.ETIMEDOUT, "Connection timed out")
