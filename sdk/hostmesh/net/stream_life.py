"""What a stream belongs to, the tasks that wait on it, and how it ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import trio

from hostmesh.errors import ConnectionLostError, HostmeshError
from hostmesh.net.peer_id import PeerId
from hostmesh.wire.yamux import YamuxStream

if TYPE_CHECKING:
    from hostmesh.net.connection import Connection


class StreamLife:
    """The part of :class:`hostmesh.net.node_stream.NodeStream` below what is sent and received, which sets it up.

    A stream fails once, for one reason, which every waiting task and every later one is told. Whatever ends it, it
    leaves the connection's books once.
    """

    __slots__ = (
        "_connection",
        "_deadline_key",
        "_failure",
        "_first_write",
        "_is_held",
        "_is_late",
        "_is_sending",
        "_on_lost",
        "_protocol_id",
        "_reader",
        "_was_reset",
        "_window_waiter",
        "_yamux_stream",
        "closed_at_s",
    )

    _connection: Connection
    _deadline_key: int | None
    _failure: HostmeshError | None
    _first_write: int
    """The connection's write with which our first bytes go; 0: there are none."""
    _is_held: bool
    """Whether it is in the connection's books."""
    _is_late: bool
    """Whether the deadline of its reads has passed."""
    _is_sending: bool
    _on_lost: Callable[[], None] | None
    _protocol_id: str
    _reader: trio.lowlevel.Task | None
    _was_reset: trio.Event | None
    _window_waiter: trio.lowlevel.Task | None
    _yamux_stream: YamuxStream
    closed_at_s: float | None
    """When this side was done with the stream, in trio's clock."""

    def __repr__(self) -> str:
        return f"<NodeStream {self._protocol_id} {self._yamux_stream.id} with {self.peer_id}>"

    @property
    def peer_id(self) -> PeerId:
        """The peer, as the Noise handshake proved it."""
        return self._connection.peer_id

    @property
    def protocol_id(self) -> str:
        """The negotiated protocol."""
        return self._protocol_id

    @property
    def is_inbound(self) -> bool:
        """Whether the peer opened it."""
        return self._yamux_stream.is_inbound

    @property
    def heard_bytes(self) -> int:
        """Bytes that came on its connection so far, of all streams."""
        return self._connection.muxer.heard_bytes

    # --- who waits ---

    async def _park(self, place: Literal["_reader", "_window_waiter"]) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            setattr(self, place, None)
            return trio.lowlevel.Abort.SUCCEEDED

        setattr(self, place, trio.lowlevel.current_task())
        await trio.lowlevel.wait_task_rescheduled(abort)

    def take_window(self) -> None:
        """Let the sender go on."""
        waiter, self._window_waiter = self._window_waiter, None
        if waiter is not None:
            trio.lowlevel.reschedule(waiter)

    def set_read_deadline(self, deadline: float) -> None:
        """Bound the waits of receives; see :meth:`hostmesh.net.stream.Stream.set_read_deadline`."""
        if self._deadline_key is not None:
            self._connection.deadlines.remove(self, self._deadline_key)
            self._deadline_key = None
        self._is_late = False
        if deadline != math.inf and self._is_held:
            self._deadline_key = self._connection.deadlines.add(self, deadline)

    def expire(self) -> None:
        """Note that the deadline has passed; see :class:`hostmesh.net.deadlines.Waiter`."""
        self._deadline_key = None
        self._is_late = True
        self._wake_reader()

    def _wake(self) -> None:
        self._wake_reader()
        self.take_window()
        if self._is_sending:
            self._connection.muxer.wake_senders()

    def _wake_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            trio.lowlevel.reschedule(reader)

    # --- the end ---

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        """Call back once the stream is lost; see :meth:`hostmesh.net.stream.Stream.on_lost`."""
        if callback is not None and self._failure is not None:
            callback()
            return
        self._on_lost = callback

    async def wait_reset(self) -> None:
        """Return once the stream is lost; see :meth:`hostmesh.net.stream.Stream.wait_reset`."""
        if self._failure is None:
            if self._was_reset is None:
                self._was_reset = trio.Event()
            await self._was_reset.wait()

    def take_neglect(self) -> None:
        """Note that the stream was reset because the peer did not close its side after ours."""
        self._fail(self._lost("the peer did not close it in time"))

    def take_connection_end(self) -> None:
        """Note that the connection is no more; what came before can still be read."""
        self._fail(self._lost("the connection ended"))

    def _fail(self, failure: HostmeshError) -> None:
        if self._failure is not None:
            return
        self._failure = failure
        if self._was_reset is not None:
            self._was_reset.set()
        callback, self._on_lost = self._on_lost, None
        self._wake()
        if callback is not None:
            callback()

    def _lost(self, why: str = "the peer reset it, or the connection broke") -> ConnectionLostError:
        has_left = self.is_inbound or self._may_have_left()
        return ConnectionLostError(
            f"the stream to {self.peer_id} ended early: {why}",
            may_have_executed=has_left,
            remedy="open another; the peer may have done what it was asked for" if has_left else "open another",
        )

    def _may_have_left(self) -> bool:
        """Whether a byte of what was sent has left, or still will."""
        muxer = self._connection.muxer
        return self._first_write > 0 and (not muxer.is_closed or self._first_write <= muxer.begun_write)

    def _release(self) -> None:
        """Take the stream off the connection's books. Idempotent."""
        if self._is_held:
            self._is_held = False
            self._on_lost = None
            if self._deadline_key is not None:
                self._connection.deadlines.remove(self, self._deadline_key)
                self._deadline_key = None
            self._connection.release(self)
