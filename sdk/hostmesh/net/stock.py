"""Every workaround for the stock Yamux of libp2p 0.8.1. The issue that brings our own transport deletes this file.

A node takes Noise, Yamux and multistream-select from libp2p, and nothing of its host, swarm, dialer, connection
manager, bootstrap or Kad-DHT: so plaintext on offer (G1), handlers that end connections (G2), dials that try one
address (G5), 250 ms a dial (G6), bootstrap inside the start (G7) and unasked dials (G12) cannot happen. What is wrong
inside Yamux, and what stands in for it here:

- A cancelled write leaves half a frame on the wire, and the connection is lost (G3). Here frames go through one writer
  task that nobody's cancellation reaches; a connection whose writer fails is closed, and the next call dials a new one.
- A reader that stalls 5 s kills the stream and is not told (G4). :class:`PatientStream` waits as long as its caller
  does, and :meth:`PatientStream.abandon` tells the peer.
- The read loop waits for its own answers to be written: two full directions block each other. Here it does not wait.
- Streams over the limit stall for ever. :meth:`SteadyYamux.open_stream` refuses.
- A peer may send past the window without end. Here it loses the connection.
- What arrived before a connection ended is thrown away. It stays readable here.
- A peer that stays silent is never missed. :meth:`SteadyYamux._keep_alive` does.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import logging
import struct
from collections.abc import Callable
from typing import Any, cast

import trio
from libp2p.abc import ISecureConn
from libp2p.io.exceptions import IOException
from libp2p.network.connection.exceptions import RawConnError
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamError, MuxedStreamReset
from libp2p.stream_muxer.yamux import yamux
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream

from hostmesh.errors import StartFailedError
from hostmesh.net.frame_writer import FrameWriter, Outgoing
from hostmesh.net.links import Link

_log = logging.getLogger("hostmesh.net")

LIBP2P_VERSION = "0.8.1"
MAX_STREAMS = 256
"""Streams each side may have open on a connection. Source: Yamux of libp2p (go and js use 256 too)."""

_FRAME_BYTES = 32 * 1024
"""Payload of one frame: parallel streams share the line fairly, and it fits into one Noise message."""
_WINDOW_BYTES = 256 * 1024
"""Receive window of a stream. Source: Yamux spec, the initial one; never grown: at most 64 MiB a peer."""
_KEEP_ALIVE_S = 15.0
_SILENCE_S = 45.0
"""A peer that is silent so long, three pings included, is gone."""
_LINGER_S = 30.0
"""How long a stream that we closed waits for the peer to close it too."""
_LAST_READ_S = 1.0
"""How long a connection that cannot be written is still read."""
_FAREWELL_S = 0.5
"""How long closing may take to say goodbye."""

_REPLACED: tuple[tuple[type, str, str], ...] = (
    (Yamux, "__init__", "(self, secured_conn, peer_id, is_initiator=None, on_close=None)"),
    (Yamux, "_write_frame", "(self, data)"),
    (Yamux, "_read_data_body", "(self, length)"),
    (Yamux, "_cleanup_on_error", "(self)"),
    (Yamux, "_handle_incoming_with_ready_signal", "(self, task_status=TASK_STATUS_IGNORED)"),
    (Yamux, "_finalize_stream_locked", "(self, stream, fully_closed)"),
    (Yamux, "start", "(self)"),
    (Yamux, "open_stream", "(self)"),
    (Yamux, "accept_stream", "(self)"),
    (Yamux, "close", "(self, error_code=0)"),
    (YamuxStream, "__init__", "(self, stream_id, conn, is_initiator)"),
    (YamuxStream, "read", "(self, n=-1)"),
    (YamuxStream, "write", "(self, data)"),
    (YamuxStream, "close", "(self)"),
)
"""The stock methods that are overridden or leant on, as they look in 0.8.1."""


def install() -> None:
    """Check that libp2p is the one these workarounds were written for, and put them in place. Idempotent.

    Raises:
        StartFailedError: another version, or a replaced symbol looks different.
    """
    if cast("Any", yamux).YamuxStream is _make_stream:
        return
    version = importlib.metadata.version("libp2p")
    wrong = [] if version == LIBP2P_VERSION else [f"version {version}"]
    for owner, name, expected in _REPLACED:
        found = _plain_signature(getattr(owner, name, None))
        if found != expected:
            wrong.append(f"{owner.__name__}.{name}{found}")
    if wrong:
        raise StartFailedError(
            f"libp2p {LIBP2P_VERSION} is needed, this is another one: {', '.join(wrong)}",
            remedy=f"install libp2p=={LIBP2P_VERSION}",
        )
    cast("Any", yamux).YamuxStream = _make_stream


def _make_stream(stream_id: int, conn: Yamux, is_initiator: bool) -> YamuxStream:
    """Stand in for the class in the stock read loop. Connections that are not ours keep the stock stream."""
    kind = PatientStream if isinstance(conn, SteadyYamux) else YamuxStream
    return kind(stream_id, conn, is_initiator)


def _plain_signature(function: Callable[..., Any] | None) -> str:
    if function is None:
        return " is missing"
    parameters = [
        parameter.name if parameter.default is parameter.empty else f"{parameter.name}={parameter.default!r}"
        for parameter in inspect.signature(function).parameters.values()
    ]
    return f"({', '.join(parameters)})".replace(repr(trio.TASK_STATUS_IGNORED), "TASK_STATUS_IGNORED")


class PatientStream(YamuxStream):
    """A Yamux stream whose waits are its caller's, in both directions."""

    conn: SteadyYamux

    def __init__(self, stream_id: int, conn: Yamux, is_initiator: bool) -> None:
        self._changed = trio.Event()
        self._rest: bytearray | None = None
        self._is_lost = False
        self.was_reset = trio.Event()
        self.on_reset: Callable[[], None] | None = None
        self.abandoned_at_s: float | None = None
        """When this side was done with the stream, in trio's clock."""
        super().__init__(stream_id, conn, is_initiator)
        self._owns_backlog_slot = is_initiator

    def __setattr__(self, name: str, value: Any) -> None:
        # The stock read loop changes these from outside; this is the one place that every change passes.
        super().__setattr__(name, value)
        if name in ("send_window", "closed", "send_closed"):
            self._changed.set()
            if name == "closed" and value and self.abandoned_at_s is not None:
                self._drop_unread()
        elif name == "reset_received" and value:
            self.was_reset.set()
            callback, self.on_reset = self.on_reset, None
            if callback is not None:
                callback()
        elif name == "recv_window" and value < 0:
            _log.warning("peer %s sent past its window; closing the connection", self.conn.peer_id)
            self.conn.event_shutting_down.set()

    async def write(self, data: bytes) -> None:
        """Send all bytes; waits for the peer's window as long as the caller does.

        Raises:
            MuxedStreamReset: the stream was closed or reset, or the connection ended.

        Cancellation: what was sent before stays sent; the stream must be reset, the connection is untouched.
        """
        sent = 0
        while sent < len(data):
            while self.send_window <= 0 and not self._is_unwritable:
                self._changed = trio.Event()
                await self._changed.wait()
            if self._is_unwritable:
                raise MuxedStreamReset("the stream is closed for sending")
            size = min(self.send_window, _FRAME_BYTES, len(data) - sent)
            self.send_window -= size
            await self.conn.send_frame(yamux.TYPE_DATA, self.stream_id, size, payload=data[sent : sent + size])
            sent += size

    @property
    def _is_unwritable(self) -> bool:
        return self.closed or self.send_closed or self.conn.event_shutting_down.is_set()

    async def read(self, n: int | None = -1) -> bytes:
        """Return up to ``n`` bytes (all there are for -1 or None) once there are any.

        Raises:
            MuxedStreamEOF: the peer closed its side, and everything was read.
            MuxedStreamReset: the peer reset the stream, or the connection ended.

        Cancellation: safe, no byte is lost.
        """
        await trio.lowlevel.checkpoint()
        limit = _WINDOW_BYTES if n is None or n < 0 else n
        while True:
            buffer = self._rest if self._rest is not None else self.conn.stream_buffers.get(self.stream_id)
            if buffer:
                data = bytes(buffer[:limit])
                del buffer[:limit]
                self._give_credit(len(buffer))
                if not buffer and self.closed:
                    self.conn.forget(self)
                return data
            if self._is_lost or (self.reset_received and self._rest is None):
                raise MuxedStreamReset("the stream was reset")
            if buffer is None or self._rest is not None or self.recv_closed:
                raise MuxedStreamEOF("the stream ended")
            event = self.conn.stream_events[self.stream_id] = trio.Event()
            await event.wait()

    def _give_credit(self, unread: int) -> None:
        """Open the window again once half of it was used."""
        grant = _WINDOW_BYTES - self.recv_window - unread
        if grant >= _WINDOW_BYTES // 2 and not self.recv_closed and not self.conn.event_shutting_down.is_set():
            self.recv_window += grant
            self.conn.queue_frame(yamux.TYPE_WINDOW_UPDATE, self.stream_id, grant)

    def abandon(self) -> None:
        """Drop the stream at once and tell the peer. Never waits, never raises."""
        if self.closed:
            self.reset_received = True
            self._drop_unread()
            self.conn.forget(self)
            return
        self.conn.queue_frame(yamux.TYPE_WINDOW_UPDATE, self.stream_id, 0, flags=yamux.FLAG_RST)
        self._drop_unread()
        self.reset_received = self.recv_closed = self.send_closed = self.closed = True
        self.wake()
        self.conn.forget(self)

    def stop_reading(self) -> None:
        """Drop what is unread, and what still comes."""
        self.abandoned_at_s = trio.current_time()
        self._drop_unread()
        if self.closed:
            self.conn.forget(self)

    def _drop_unread(self) -> None:
        buffer = self.conn.stream_buffers.get(self.stream_id)
        if buffer:
            buffer.clear()

    def give_up_if_left(self, now: float) -> None:
        """Drop the stream if this side has been done with it for long and the peer has not."""
        if self.abandoned_at_s is not None and now - self.abandoned_at_s > _LINGER_S:
            self.abandon()

    def wake(self) -> None:
        """Let a reader look again."""
        event = self.conn.stream_events.get(self.stream_id)
        if event is not None:
            event.set()

    def keep_rest(self, buffer: bytearray | None) -> None:
        """Keep what arrived before the connection ended, and whether the peer had finished by then."""
        if self._rest is None:
            self._rest = bytearray() if buffer is None else buffer
            self._is_lost = not self.recv_closed or self.reset_received


class SteadyYamux(Yamux):
    """A Yamux connection that cancellation cannot corrupt."""

    def __init__(self, secured_conn: ISecureConn, peer_id: ID, *, is_initiator: bool, link: Link) -> None:
        super().__init__(secured_conn, peer_id, is_initiator=is_initiator)
        self._link = link
        self._writer = FrameWriter(secured_conn.write, batch_bytes=_FRAME_BYTES)

    @property
    def last_heard_s(self) -> float:
        """When bytes of the peer came last, in trio's clock."""
        return self._link.last_heard_s

    async def start(self) -> None:
        """Run the connection until it ends."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._write_loop)
            nursery.start_soon(self._keep_alive)
            await nursery.start(self._handle_incoming_with_ready_signal)
            self._established = True
            self.event_started.set()
        self.new_stream_send_channel.close()

    async def open_stream(self) -> YamuxStream:
        """Open a stream.

        Raises:
            TooManyStreamsError: this side has 256 streams open.
            MuxedStreamError: the connection is ending.
        """
        await trio.lowlevel.checkpoint()
        if self.event_shutting_down.is_set():
            raise MuxedStreamError("the connection is ending")
        try:
            self.stream_backlog_semaphore.acquire_nowait()
        except trio.WouldBlock:
            raise TooManyStreamsError(f"{MAX_STREAMS} streams are open") from None
        stream = PatientStream(self.next_stream_id, self, is_initiator=True)
        self.next_stream_id += 2
        self.streams[stream.stream_id] = stream
        self.stream_buffers[stream.stream_id] = bytearray()
        self.stream_events[stream.stream_id] = trio.Event()
        self.queue_frame(yamux.TYPE_WINDOW_UPDATE, stream.stream_id, 0, flags=yamux.FLAG_SYN)
        return stream

    @property
    def inbound_streams(self) -> int:
        """Streams that the peer opened and that are not over."""
        return sum(not stream.is_initiator for stream in self.streams.values())

    def forget(self, stream: PatientStream) -> None:
        """Give the stream's slot back and drop its table entries, unless the id is another stream's by now."""
        if self.streams.get(stream.stream_id) is stream:
            self._finalize_stream_locked(stream, fully_closed=True)

    def queue_frame(self, kind: int, stream_id: int, length: int, *, flags: int = 0, payload: bytes = b"") -> Outgoing:
        """Hand a frame to the writer without waiting. On a dead connection it is settled as not sent."""
        return self._enqueue(struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, kind, flags, stream_id, length) + payload)

    async def send_frame(self, kind: int, stream_id: int, length: int, *, payload: bytes) -> None:
        """Hand a frame to the writer and wait until it is out.

        Raises:
            RawConnError: the connection ended before.

        Cancellation: the frame goes out whole or not at all; reset the stream.
        """
        frame = self.queue_frame(kind, stream_id, length, payload=payload)
        try:
            await self._sent(frame)
        except BaseException:
            frame.withdraw()
            raise

    async def _read_data_body(self, length: int) -> bytes:
        # The stock code would take 16 MiB in before it compares them with the window.
        if length > _WINDOW_BYTES:
            _log.warning("peer %s announced a frame over its window; closing the connection", self.peer_id)
            self.event_shutting_down.set()
            raise RawConnError("a frame over the window")
        return await super()._read_data_body(length)

    async def _write_frame(self, data: bytes) -> None:
        # The stock code's own frames. The read loop comes through here and must never wait for the peer to read, lest
        # two full directions block each other; its frames are header only.
        frame = self._enqueue(data)
        if len(data) > yamux.HEADER_SIZE or frame.settled.is_set():
            await self._sent(frame)
        await trio.lowlevel.checkpoint()

    def _enqueue(self, data: bytes) -> Outgoing:
        if self._writer.is_overfull:
            _log.warning("peer %s does not read; closing the connection", self.peer_id)
            self._fail()
        if self.event_shutting_down.is_set():
            self._writer.stop()
        return self._writer.put(data)

    async def _sent(self, frame: Outgoing) -> None:
        await frame.settled.wait()
        if not frame.is_sent:
            raise RawConnError("the connection ended")

    async def _write_loop(self) -> None:
        try:
            await self._writer.run()
        except IOException as error:
            _log.debug("the connection to %s broke while writing: %r", self.peer_id, error)
        # What the peer sent before is still read; usually the read loop finds the end first.
        await trio.sleep(_LAST_READ_S)
        self._fail()

    def _fail(self) -> None:
        """Stop taking frames, and let the read loop find the link closed."""
        self.event_shutting_down.set()
        self._writer.stop()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def _keep_alive(self) -> None:
        while True:
            await trio.sleep(_KEEP_ALIVE_S)
            now = trio.current_time()
            if now - self._link.last_heard_s > _SILENCE_S:
                _log.info("peer %s is silent; closing the connection", self.peer_id)
                self._fail()
                return
            for stream in list(self.streams.values()):
                cast("PatientStream", stream).give_up_if_left(now)
            self._ping_id += 1
            self._ping_sent_time = now
            self.queue_frame(yamux.TYPE_PING, 0, self._ping_id, flags=yamux.FLAG_SYN)

    async def close(self, error_code: int = yamux.GO_AWAY_NORMAL) -> None:
        """Say goodbye, for half a second at most, and close. Idempotent, shielded."""
        with trio.CancelScope(shield=True):
            if not self.event_shutting_down.is_set() and self.event_started.is_set():
                farewell = self.queue_frame(yamux.TYPE_GO_AWAY, 0, error_code)
                with trio.move_on_after(_FAREWELL_S):
                    await farewell.settled.wait()
            await self._cleanup_on_error()

    async def _cleanup_on_error(self) -> None:
        for stream in self.streams.values():
            cast("PatientStream", stream).keep_rest(self.stream_buffers.get(stream.stream_id))
        self.event_shutting_down.set()
        await super()._cleanup_on_error()
        self._fail()


class TooManyStreamsError(MuxedStreamError):
    """This side has as many streams open as a connection may have."""
