"""A stream of a connection, as :class:`hostmesh.net.stream.Stream` describes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from hostmesh.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    HostmeshError,
    ProtocolNotSupportedError,
    RemoteProtocolError,
)
from hostmesh.net.failure import same_failure
from hostmesh.net.stream_life import StreamLife
from hostmesh.wire.multistream import Proposer
from hostmesh.wire.versions import refusal
from hostmesh.wire.yamux import MAX_FRAME_BYTES, YamuxStream

if TYPE_CHECKING:
    from hostmesh.net.connection import Connection

_PIECE_BYTES = 4 * MAX_FRAME_BYTES
"""What one stream queues at a time, so that others get their turn."""
_SMALL_BYTES = 1024
"""Pieces up to this size are put together while they wait: a peer that sends bytes one by one costs no more."""
_HEAD_BYTES = 4096
"""Up to this size, what is sent and what goes before it are put together."""
_MAX_JOINED_BYTES = 65536
_MAX_BURST_SENDS, _MAX_BURST_BYTES = 128, 65536


class NodeStream(StreamLife):
    """A stream with a protocol.

    Args:
        yamux_stream: its state in the multiplexer.
        connection: what it is on.
        protocol_id: what it speaks.
        prefix: goes out before the first byte: our part of the agreement on the protocol.
        proposer: reads the peer's part of it; None once there is an agreement.
        wanted: every protocol that would have done, the best first; none: ``protocol_id``.
    """

    __slots__ = ("_burst_bytes", "_burst_sends", "_chunks", "_is_ended", "_prefix", "_proposer", "_wanted")

    def __init__(
        self,
        yamux_stream: YamuxStream,
        connection: Connection,
        protocol_id: str,
        *,
        prefix: bytes = b"",
        proposer: Proposer | None = None,
        wanted: Sequence[str] = (),
    ) -> None:
        self._yamux_stream = yamux_stream
        self._connection = connection
        self._protocol_id = protocol_id
        self._prefix = prefix
        self._proposer = proposer
        self._wanted = wanted
        # A deque would be most of an idle stream's memory; there are at most a few thousand in a full window.
        self._chunks: list[bytes | bytearray | memoryview] = []
        self._is_ended = False
        self._is_held = True
        self._is_late = False
        self._deadline_key = None
        self._failure = None
        self._reader = None
        self._window_waiter = None
        self._on_lost = None
        self._was_reset = None
        self._is_sending = False
        self._burst_sends = 0
        self._burst_bytes = 0
        self._first_write = 0
        self.closed_at_s = None
        yamux_stream.owner = self
        connection.streams.add(self)

    # --- sending ---

    async def send(self, data: bytes, *, head: bytes = b"", end: bool = False) -> None:
        """Send all bytes; see :meth:`hostmesh.net.stream.Stream.send`. A cancelled send resets the stream."""
        if self._is_sending:
            raise trio.BusyResourceError("another task sends on this stream")
        self._is_sending = True
        try:
            if self._burst_sends >= _MAX_BURST_SENDS or self._burst_bytes >= _MAX_BURST_BYTES:
                self._burst_sends = self._burst_bytes = 0
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.checkpoint_if_cancelled()
            await self._send(data, head=head, end=end)
        except ConnectionLostError:
            if self._failure is not None or self._connection.muxer.is_closed:
                self._release()
            raise
        except BaseException:
            self._drop()
            raise
        finally:
            self._is_sending = False

    def send_nowait(self, data: bytes, *, end: bool = False) -> bool:
        """Send what needs no waiting; see :meth:`hostmesh.net.stream.Stream.send_nowait`."""
        if self._is_sending:
            raise trio.BusyResourceError("another task sends on this stream")
        self._check_writable()
        muxer, yamux_stream = self._connection.muxer, self._yamux_stream
        prefix = self._prefix
        if muxer.is_congested and len(data) > 1:
            return False
        if len(prefix) + len(data) > min(yamux_stream.send_window, _PIECE_BYTES):
            return False
        self._first_write = self._first_write or muxer.next_write
        if prefix:
            data = prefix + data
            self._prefix = b""
        muxer.yamux.send(yamux_stream, data)
        if end:
            muxer.yamux.close_write(yamux_stream)
        muxer.flush_soon()
        return True

    async def _send(self, data: bytes, *, head: bytes = b"", end: bool) -> None:
        muxer, yamux_stream = self._connection.muxer, self._yamux_stream
        self._check_writable()
        while muxer.is_congested:
            # Before anything is queued: otherwise every stream could put a piece on top of a full queue.
            await muxer.wait_uncongested()
            self._check_writable()
        self._first_write = self._first_write or muxer.next_write
        if self._prefix:
            head = self._prefix + head
            self._prefix = b""
        if head:
            if len(head) + len(data) <= _HEAD_BYTES or len(head) > yamux_stream.send_window:
                data = head + data
            else:
                # Large data is not copied for what goes before it.
                muxer.yamux.send(yamux_stream, head)
        size = len(data)
        self._burst_sends += 1
        self._burst_bytes += size
        yamux = muxer.yamux
        if size <= _PIECE_BYTES and size <= yamux_stream.send_window:
            yamux.send(yamux_stream, data)
        else:
            view = memoryview(data)
            while view:
                view = view[yamux.send(yamux_stream, view[:_PIECE_BYTES]) :]
                if not view:
                    break
                muxer.flush_soon()
                await self._wait_sendable()
        if end:
            yamux.close_write(yamux_stream)
        muxer.flush_soon()

    def _check_writable(self) -> None:
        if self._failure is not None:
            raise same_failure(self._failure)
        if self._yamux_stream.is_reset or self._connection.muxer.is_closed:
            raise self._lost()
        if self._yamux_stream.is_write_closed:
            raise self._lost("this side of it is closed")

    async def _wait_sendable(self) -> None:
        """Return once the peer's window and the connection's queue have room."""
        muxer, yamux_stream = self._connection.muxer, self._yamux_stream
        while True:
            self._check_writable()
            if muxer.is_congested:
                await muxer.wait_uncongested()
            elif yamux_stream.send_window:
                return
            else:
                await self._park("_window_waiter")

    async def close_write(self) -> None:
        """Half-close; see :meth:`hostmesh.net.stream.Stream.close_write`."""
        if self._failure is None and self._yamux_stream.is_write_closed:
            return
        await self.send(b"", end=True)

    async def close(self) -> None:
        """Close both sides in order. Idempotent. What the peer still sends is dropped."""
        yamux_stream, muxer = self._yamux_stream, self._connection.muxer
        self._is_ended = self._is_ended and not self._chunks  # who reads on must not take what is left for the whole
        self._drop_unread()
        is_first, self.closed_at_s = self.closed_at_s is None, self.closed_at_s or trio.current_time()
        try:
            if is_first and not yamux_stream.is_over:
                if self._failure is not None or muxer.is_closed:
                    raise self._lost() if self._failure is None else same_failure(self._failure)
                self.send_prefix()
                muxer.yamux.close_write(yamux_stream)
                muxer.flush_soon()
                self._connection.reap(yamux_stream, self.closed_at_s)
        finally:
            self._wake()  # other tasks have nothing to wait for any more
            self._release()

    def _drop_unread(self) -> None:
        self._chunks.clear()
        muxer = self._connection.muxer
        if not muxer.is_closed:
            muxer.yamux.discard(self._yamux_stream)
            muxer.report_unread()

    def send_prefix(self) -> None:
        """Say our part of the agreement now: the peer may wait for it."""
        if self._prefix and not self._yamux_stream.is_write_closed:
            prefix, self._prefix = self._prefix, b""
            self._first_write = self._first_write or self._connection.muxer.next_write
            # At most 1 KiB, and the first bytes of the stream: the window has room.
            yamux = self._connection.muxer.yamux
            (yamux.answer if self.is_inbound else yamux.send)(self._yamux_stream, prefix)
            self._connection.muxer.flush_soon()

    async def reset(self) -> None:
        """Drop the stream at once. Idempotent, never raises, never waits."""
        self._drop()

    def _drop(self) -> None:
        self._is_ended = False
        self._drop_unread()
        if not self._yamux_stream.is_over and not self._connection.muxer.is_closed:
            self._connection.muxer.yamux.reset(self._yamux_stream)
            self._connection.muxer.flush_soon()
        if self._failure is None:
            self._failure = self._lost("it was reset here")
            if self._was_reset is not None:
                self._was_reset.set()
        self._wake()
        self._release()

    # --- receiving ---

    async def receive(self, max_bytes: int = 1 << 20) -> bytes:
        """Return bytes, or ``b""`` at the end; see :meth:`hostmesh.net.stream.Stream.receive`."""
        if max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        await self._wait_chunk()
        if not self._chunks:
            return b""
        chunk = self._chunks[0]
        if len(chunk) <= max_bytes:
            self._chunks.pop(0)
            data = bytes(chunk)
        else:
            # A bytearray gives its front away cheaply, and a caller that wants little comes again.
            if not isinstance(chunk, bytearray):
                chunk = self._chunks[0] = bytearray(chunk)
            data = bytes(memoryview(chunk)[:max_bytes])
            del chunk[:max_bytes]
        self._consume(len(data))
        return data

    async def receive_chunk(self) -> bytes | memoryview:
        """Return bytes as they came; see :meth:`hostmesh.net.stream.Stream.receive_chunk`."""
        await self._wait_chunk()
        return self._take_chunk()

    def receive_nowait(self) -> bytes | memoryview | None:
        """Return bytes that are there; see :meth:`hostmesh.net.stream.Stream.receive_nowait`."""
        if self._chunks or self._is_ended:
            return self._take_chunk()
        return None

    def _take_chunk(self) -> bytes | memoryview:
        if not self._chunks:
            return b""
        chunk = self._chunks.pop(0)
        self._consume(len(chunk))
        return bytes(chunk) if isinstance(chunk, bytearray) else chunk

    def _consume(self, size: int) -> None:
        muxer = self._connection.muxer
        if muxer.yamux.consume(self._yamux_stream, size) and not muxer.is_closed:
            muxer.flush_soon()

    async def _wait_chunk(self) -> None:
        """Return once there is a chunk, or the orderly end."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._chunks:
            if self._is_ended:
                return
            if self._failure is not None:
                self._release()
                await trio.lowlevel.checkpoint_if_cancelled()  # perhaps the loss came of a send cancelled beside it
                raise same_failure(self._failure)
            if self.closed_at_s is not None:
                raise self._lost("it was closed here")
            if self._is_late:
                raise DeadlineExceededError(f"{self.peer_id} sent nothing in time")
            self.send_prefix()
            await self._park_reader()

    async def agreed(self) -> None:
        """Return once the peer has agreed to the protocol.

        Raises:
            ProtocolNotSupportedError: it did not.
            ConnectionLostError: the stream or connection ended before.
            RemoteProtocolError: it talks nonsense.

        Cancellation: safe; the stream must be reset.
        """
        while self._proposer is not None:
            if self._failure is not None:
                raise same_failure(self._failure)
            if self.closed_at_s is not None:
                raise self._lost("it was closed here")
            self.send_prefix()
            await self._park_reader()
        if isinstance(self._failure, ProtocolNotSupportedError | RemoteProtocolError):
            raise same_failure(self._failure)

    async def _park_reader(self) -> None:
        if self._reader is not None:
            raise trio.BusyResourceError("another task reads this stream")
        await self._park("_reader")

    # --- what the muxer tells; see StreamOwner ---

    def take_data(self, data: bytes | memoryview) -> None:
        """Keep received bytes for the reader."""
        if self._proposer is not None:
            rest = self._take_agreement(bytes(data))
            if not rest:
                return
            data = rest
        chunks = self._chunks
        if chunks and len(data) < _SMALL_BYTES:
            last = chunks[-1]
            if isinstance(last, bytearray) and len(last) < _MAX_JOINED_BYTES:
                last += data
            else:
                chunks.append(bytearray(data))
        else:
            chunks.append(data)
        reader = self._reader
        if reader is not None:
            self._reader = None
            trio.lowlevel.reschedule(reader)

    def _take_agreement(self, data: bytes) -> bytes:
        assert self._proposer is not None
        yamux = self._connection.muxer.yamux
        try:
            rest = self._proposer.receive(data)
        except (ProtocolNotSupportedError, RemoteProtocolError) as error:
            self._proposer = None
            failure: HostmeshError = error
            if isinstance(error, ProtocolNotSupportedError):
                wanted = self._wanted or (self._protocol_id,)
                failure = refusal(self.peer_id, wanted, self._connection.spoken, (self._protocol_id,))
            else:
                # A refusal reads nothing more; whoever talks nonsense may have taken what went out along.
                failure.may_have_executed = self._may_have_left()
            self._connection.disbelieve(self._protocol_id)
            yamux.reset(self._yamux_stream)
            self._fail(failure)
            return b""
        yamux.consume(self._yamux_stream, len(data) - len(rest or b""))
        if rest is None:
            return b""
        self._proposer = None
        self._wake()
        return rest

    def take_end(self) -> None:
        """Note that the peer closed its side."""
        if self._proposer is not None:
            self._fail(self._lost("the peer closed it before it agreed on a protocol"))
        elif self._failure is None and self.closed_at_s is None:
            # Not where it came with a refusal, which the reader shall hear.
            self._is_ended = True
            self._wake_reader()

    def take_reset(self, *, is_overflow: bool) -> None:
        """Note that the stream is no more. What came before the peer's reset can be read: answers come with it."""
        if is_overflow:
            self._chunks.clear()
            self._is_ended = False
        self._fail(self._lost("too much of it was unread" if is_overflow else "the peer reset it"))
