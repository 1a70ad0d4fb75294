"""The bytes of one connection: reads the link into the parsers, and writes what they and the streams have to say.

::

    link -> NoiseChannel.open -> Yamux.receive -> the stream's owner       (one task, one pass for all that came)
    stream -> Yamux.send -> NoiseChannel.seal -> link                      (in the sender's own step where that is free)

A message goes out in the sender's step if the connection has been quiet for a moment; otherwise it waits for the next
such step, or for the writer, which joins all that the tasks of this pass have queued into one write. Once the socket is
full the writer waits for it, and senders wait while :data:`CONGESTED_BYTES` are queued. What a task has handed over
stays whole whatever happens to the task.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from hostmesh.errors import RemoteProtocolError
from hostmesh.net.events import CloseCause
from hostmesh.net.ledger import Ledger
from hostmesh.net.links import LinkBrokenError, rest_of
from hostmesh.net.pinger import Pinger
from hostmesh.net.upgrade import SecuredLink
from hostmesh.wire.yamux import (
    DataReceived,
    Event,
    Pong,
    StreamEnded,
    StreamOpened,
    StreamReset,
    WindowOpened,
    Yamux,
    YamuxLimits,
    YamuxStream,
)

_log = logging.getLogger("hostmesh.net")

CONGESTED_BYTES = 64 * 1024
"""Queued, and not taken by the socket: senders wait."""
_WOKEN_SENDERS = 64
"""Waiting senders that get their turn before the next write."""
_QUIET_S = 150e-6
"""A connection that wrote nothing for so long writes at once: there is nothing to join with, or, in a long pass of the
scheduler, the peer can be at work while this side still is."""
SILENCE_S = 36.0
"""A peer that is silent so long, a ping included, is gone."""
STUCK_S = 120.0
"""A peer for which the socket takes nothing for so long, whatever it says itself, does not read. A slow one does: the
system's buffers are some megabytes, and have room again once a third of them is free. A peer of which bytes come for so
long, and no whole message of at most 64 KiB, is out of step: a length was damaged on the way."""
_LAST_READ_S = 1.0
"""How long a connection that cannot be written is still read."""
_FAREWELL_S = 0.5
"""How long closing may take to say goodbye."""


class StreamOwner(Protocol):
    """What the muxer tells the user of a stream; nothing here may raise or wait."""

    def take_data(self, data: bytes | memoryview) -> None:
        """Bytes came."""

    def take_end(self) -> None:
        """The peer closed its side."""

    def take_reset(self, *, is_overflow: bool) -> None:
        """The stream is no more."""

    def take_window(self) -> None:
        """More may be sent."""

    def take_connection_end(self) -> None:
        """The connection is no more."""


class Muxer:
    """Runs one connection's bytes.

    Args:
        opened: the link after its handshake; closed by :meth:`run`.
        limits: bounds of the streams.
        ledger: the node's accounts.
        accept: is given every stream that the peer opens, and must set its owner.
    """

    def __init__(
        self, opened: SecuredLink, *, limits: YamuxLimits, ledger: Ledger, accept: Callable[[YamuxStream], None]
    ) -> None:
        self.peer_id = opened.peer_id
        self._link = opened.link
        self._channel = opened.secured.channel
        self._early = opened.secured.plaintexts
        self.yamux = Yamux(is_initiator=opened.is_initiator, limits=limits)
        self._ledger = ledger
        self._accept = accept
        self._unsent: Sequence[bytes | memoryview] = ()
        self._flushed_at_s = -1.0
        self._drained_at_s = -math.inf
        """When the socket had taken the last of what waited for it."""
        self._writes = 0
        self.begun_write = 0
        """The last write of which a byte may have left; they are counted from 1."""
        self._understood_at_s = trio.current_time()
        """Up to when what came made whole messages."""
        self._writer: trio.lowlevel.Task | None = None
        self._writer_is_woken = False
        self._senders = trio.lowlevel.ParkingLot()
        self._scope = trio.CancelScope()
        self._reported_unread = 0
        self.pinger = Pinger(is_initiator=opened.is_initiator)
        self.is_closed = False
        """No stream can be opened or written any more."""
        self.close_cause = CloseCause.ENDED
        """Why, once it is."""
        self.heard_bytes = 0
        """Bytes that came, of all streams."""
        self._reported_refused = 0
        self._overflow_level = logging.WARNING

    @property
    def last_heard_s(self) -> float:
        """When bytes of the peer came last, in trio's clock."""
        return self._link.last_heard_s

    @property
    def last_sign_s(self) -> float:
        """When the peer, or its machine, gave a sign of life last, in trio's clock."""
        # Where the socket takes what waited, the peer's machine takes it: its answer to a ping comes after that, and
        # news of its windows after megabytes.
        return max(self._link.last_heard_s, self._link.last_sent_s if self._unsent else self._drained_at_s)

    @property
    def rtt_s(self) -> float | None:
        """Round-trip time of the last ping; None before the first."""
        return self.pinger.rtt_s

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait for the socket."""
        return self.yamux.queued_bytes + sum(map(len, self._unsent))

    @property
    def unread_bytes(self) -> int:
        """Bytes that came and that nobody has read."""
        return self.yamux.unread_bytes

    # --- sending ---

    @property
    def next_write(self) -> int:
        """The number of the write with which goes what is queued now."""
        return self._writes + 1

    @property
    def is_congested(self) -> bool:
        """Whether senders should wait."""
        return bool(self._unsent) and self.yamux.queued_bytes >= CONGESTED_BYTES

    async def wait_uncongested(self) -> None:
        """Return once there may be room, or :meth:`wake_senders` was called. Cancellation: safe."""
        if self.is_congested and not self.is_closed:
            await self._senders.park()

    def wake_senders(self) -> None:
        """Let everybody who waits for room look whether its stream is still there."""
        self._senders.unpark_all()

    def flush_soon(self) -> None:
        """Say that something was queued. It leaves now, or after this pass of the scheduler. Never waits or raises."""
        if self._unsent:
            return
        if self.yamux.queued_bytes >= CONGESTED_BYTES or trio.current_time() - self._flushed_at_s > _QUIET_S:
            self._flush()
        elif not self._writer_is_woken:
            self._wake_writer()

    def _flush(self) -> None:
        data = self.yamux.data_to_send()
        if not data or self.is_closed:
            return
        self._writes += 1
        try:
            parts = self._channel.seal_parts(data)
            sent = self._link.send_nowait(*parts)
        except (LinkBrokenError, RemoteProtocolError) as error:
            self._stop_writing(error)
            return
        if sent:
            self.begun_write = self._writes
        self._flushed_at_s = trio.current_time()
        self._unsent = rest_of(parts, sent)
        if self._unsent:
            self._wake_writer()

    def _wake_writer(self) -> None:
        self._writer_is_woken = True
        if self._writer is not None:
            writer, self._writer = self._writer, None
            trio.lowlevel.reschedule(writer)

    async def _write(self) -> None:
        while True:
            if self._unsent:
                self.begun_write = self._writes
                try:
                    await self._link.send(*self._unsent)
                except LinkBrokenError as error:
                    self._stop_writing(error)
                    return
                self._unsent = ()
                self._flushed_at_s = self._drained_at_s = trio.current_time()
            self._flush()
            if self._senders:
                # Now that the queue is empty, and before a newcomer fills it. Some at a time: of a thousand, most would
                # find it full again.
                self._senders.unpark(count=_WOKEN_SENDERS)
                if not self._unsent:
                    await trio.lowlevel.checkpoint()
                continue
            if self._unsent:
                continue
            if not self._writer_is_woken:
                await self._park_writer()
            self._writer_is_woken = False

    async def _park_writer(self) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            self._writer = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._writer = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _stop_writing(self, error: Exception) -> None:
        _log.debug("the connection to %s broke while writing: %s", self.peer_id, error)
        # What the peer sent before is still read; usually the reader finds the end first.
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + _LAST_READ_S)
        self._mark_closed()

    # --- receiving ---

    async def run(self) -> None:
        """Run until the connection ends, then tell every stream. Cancellation: as an end."""
        self._ledger.join(self)
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self._read()
                    nursery.cancel_scope.cancel()
        finally:
            self._ledger.leave(self)
            self._ledger.note_unread(-self._reported_unread)
            self._reported_unread = 0
            self._mark_closed()
            for stream in list(self.yamux.streams.values()):
                if stream.owner is not None:
                    stream.owner.take_connection_end()
            await self._link.close()

    async def _read(self) -> None:
        try:
            self._take([*self._early])
            self._early = ()
            while data := await self._link.receive():
                self.heard_bytes += len(data)
                try:
                    plaintexts = self._channel.open(data)
                except RemoteProtocolError:
                    self._take(self._channel.undelivered)
                    raise
                self._take(plaintexts)
            _log.debug("%s closed the connection", self.peer_id)
        except LinkBrokenError as error:
            _log.debug("the connection to %s broke: %s", self.peer_id, error)
        except RemoteProtocolError as error:
            _log.warning("%s broke the protocol, the connection is closed: %s", self.peer_id, error.message)
            self.close_cause = CloseCause.VIOLATION
            await self._send_rest()  # the GoAway that says so

    def _take(self, plaintexts: list[bytes]) -> None:
        yamux = self.yamux
        if plaintexts:
            self._understood_at_s = self._link.last_heard_s
        for plaintext in plaintexts:
            try:
                events = yamux.receive(plaintext)
            except RemoteProtocolError:
                for event in yamux.undelivered:
                    self._dispatch(event)
                raise
            for event in events:
                self._dispatch(event)
        self.report_unread()
        if yamux.refused_streams != self._reported_refused:
            self._ledger.refused_streams += yamux.refused_streams - self._reported_refused
            self._reported_refused = yamux.refused_streams
        if yamux.queued_bytes:
            self.flush_soon()

    def _dispatch(self, event: Event) -> None:
        kind = type(event)
        if kind is DataReceived:
            event.stream.owner.take_data(event.data)  # type: ignore[union-attr] # told apart by its type
        elif kind is StreamOpened:
            self._accept(event.stream)  # type: ignore[union-attr]
        elif kind is StreamEnded:
            event.stream.owner.take_end()  # type: ignore[union-attr]
        elif kind is WindowOpened:
            event.stream.owner.take_window()  # type: ignore[union-attr]
        elif isinstance(event, StreamReset):
            if event.is_overflow:
                self._ledger.overflowed_streams += 1
                # A peer must not fill the log: the usage counts the others.
                _log.log(self._overflow_level, "a stream of %s was reset: too much is unread", self.peer_id)
                self._overflow_level = logging.DEBUG
            event.stream.owner.take_reset(is_overflow=event.is_overflow)
        elif isinstance(event, Pong):
            self.pinger.take_answer(event.value, trio.current_time())

    def report_unread(self) -> None:
        """Tell the node's accounts what is unread here."""
        unread = self.yamux.unread_bytes
        change = unread - self._reported_unread
        if change:
            self._reported_unread = unread
            self._ledger.note_unread(change)

    def shed(self) -> None:
        """Reset the stream with most unread bytes: the node has too many."""
        events: list[Event] = []
        self.yamux.shed(events)
        for event in events:
            self._dispatch(event)
        self.flush_soon()

    # --- life ---

    def tick(self, now: float) -> None:
        """Ping where it is time, and end the connection of a peer that is silent. Call it every few seconds."""
        if self.is_closed:
            return
        if self._link.last_heard_s <= self._understood_at_s:
            self._understood_at_s = now  # no part of a message came since
        if now - self.last_sign_s > SILENCE_S:
            _log.info("peer %s is silent; closing the connection", self.peer_id)
            self.abort(CloseCause.SILENT)
        elif now - self._understood_at_s > STUCK_S:
            _log.info("what peer %s sends makes no message; closing the connection", self.peer_id)
            self.abort(CloseCause.STUCK)
        elif self._unsent and now - self._link.last_sent_s > STUCK_S:
            _log.info("peer %s reads nothing; closing the connection", self.peer_id)
            self.abort(CloseCause.STUCK)
        elif self.pinger.is_due(now, self._link.last_heard_s):
            self.ping(now)

    def ping(self, now: float) -> None:
        """Measure the round-trip time."""
        self.yamux.ping(self.pinger.next_value(now))
        self.flush_soon()

    def abort(self, cause: CloseCause = CloseCause.ENDED) -> None:
        """End the connection without a goodbye."""
        if not self.is_closed:
            self.close_cause = cause
        self._mark_closed()
        self._scope.cancel()

    async def close(self) -> None:
        """Say goodbye, for half a second at most, and end the connection. Idempotent, shielded."""
        with trio.CancelScope(shield=True):
            if not self.is_closed:
                self.yamux.go_away()
                await self._send_rest()
            self.abort(CloseCause.CLOSED)
            await self._link.close()

    async def _send_rest(self) -> None:
        """Send what is queued, as far as the peer takes it soon."""
        if not self._unsent:
            self._flush()
        with trio.move_on_after(_FAREWELL_S):
            while self._unsent and not self.is_closed:
                await self._senders.park()

    def _mark_closed(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self._senders.unpark_all()
        for stream in list(self.yamux.streams.values()):
            if stream.owner is not None:  # it came in the piece that is being dispatched
                stream.owner.take_window()
