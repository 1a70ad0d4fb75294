"""One connection to one peer, and the streams on it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import trio

from hostmesh.errors import ConnectionLostError, DialError, RemoteProtocolError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.arrival import Arrival
from hostmesh.net.deadlines import Deadlines
from hostmesh.net.events import CloseCause
from hostmesh.net.ledger import Ledger
from hostmesh.net.muxer import Muxer
from hostmesh.net.node_stream import NodeStream
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream, StreamHandler
from hostmesh.net.stream_life import StreamLife
from hostmesh.net.upgrade import SecuredLink
from hostmesh.wire.multistream import Proposer, proposal
from hostmesh.wire.yamux import StreamLimitError, YamuxLimits, YamuxStream

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.net")

NEGOTIATION_TIMEOUT_S = 10.0
"""How long an inbound stream may take to name its protocol."""
_LINGER_S = 30.0
"""How long a stream that we closed waits for the peer to close it too."""
FAREWELL_S = 5.0
"""How long a retired connection waits for streams that its peer opened before it knew: several round trips."""
_SPENT_WINDOW_BYTES = 12
"""With so little left of its window a peer waits for more; js-libp2p's Yamux sends nothing below 13."""
HOUSEKEEPING = frozenset({"/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0"})


class Connection:
    """A connection to a peer that has proven who it is.

    Args:
        opened: the link after its handshake; closed when the connection ends.
        protocols: who serves which protocol.
        ledger: the node's accounts.
        deadlines: tells streams when their time to read is up.
        limits: bounds of the streams.
        address: the address that was dialled, or None for an inbound connection.
        origin: who named that address.
        background: protocols whose streams do not keep the connection in use; asked each time.
    """

    def __init__(
        self,
        opened: SecuredLink,
        protocols: Mapping[str, StreamHandler],
        ledger: Ledger,
        *,
        deadlines: Deadlines,
        limits: YamuxLimits,
        address: str | None,
        origin: AddressOrigin,
        background: Collection[str] = HOUSEKEEPING,
    ) -> None:
        self._background = background
        self.peer_id: PeerId = opened.peer_id
        self.address = address
        self.origin = origin
        self.remote = opened.link.remote
        """The peer's IP address and port."""
        self.local_host = opened.link.local_host
        """This machine's IP address that the connection goes over; None where there is none."""
        self.began_s = trio.current_time()
        self.streams: set[StreamLife] = set()
        """Open streams with a protocol."""
        self.used_at_s = self.began_s
        """When a stream was opened or closed last, in trio's clock."""
        self._retired_at_s: float | None = None
        self.spoken: frozenset[str] = frozenset()
        """Protocols that the peer said it speaks: no need to wait for its word on each stream."""
        self.deadlines = deadlines
        self.muxer = Muxer(opened, limits=limits, ledger=ledger, accept=self._accept)
        self._protocols = protocols
        self._ledger = ledger
        self._limits = limits
        self._nursery: trio.Nursery | None = None

    def __repr__(self) -> str:
        way = "to" if self.address else "from"
        return f"<Connection {way} {self.peer_id}, {len(self.streams)} streams{', closed' if self.is_closed else ''}>"

    @property
    def is_outbound(self) -> bool:
        """Whether this side dialled."""
        return self.address is not None

    @property
    def is_idle(self) -> bool:
        """Whether nobody would miss the connection: nothing to send, no streams but those in the background."""
        return not self.muxer.unsent_bytes and all(stream.protocol_id in self._background for stream in self.streams)

    @property
    def is_closed(self) -> bool:
        """Whether no stream can be opened any more."""
        return self.muxer.is_closed

    @property
    def takes_streams(self) -> bool:
        """Whether streams can be opened: the connection is open and not retired, and the peer has not gone away."""
        return not self.muxer.is_closed and self._retired_at_s is None and self.muxer.yamux.takes_streams

    @property
    def last_heard_s(self) -> float:
        """When bytes of the peer came last, in trio's clock."""
        return self.muxer.last_heard_s

    @property
    def rtt_s(self) -> float | None:
        """Round-trip time of the last ping; None before the first answer."""
        return self.muxer.rtt_s

    def outbound_streams(self) -> Counter[str]:
        """Return the streams of ours by protocol."""
        return Counter(sorted(stream.protocol_id for stream in self.streams if not stream.is_inbound))

    # --- life ---

    async def run(
        self,
        greet: Callable[[Connection], Awaitable[None]],
        *,
        task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run the connection until it ends; ``greet`` is called once. Each handler has a task of its own."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(greet, self)
                task_status.started()
                self.muxer.ping(trio.current_time())
                await self.muxer.run()
                self._nursery.cancel_scope.cancel()
        finally:
            await self.muxer.close()

    def tick(self, now: float) -> None:
        """Ping, and end what has waited for too long. Call it every few seconds.

        Args:
            now: trio's clock.
        """
        muxer = self.muxer
        if muxer.is_closed:
            return
        yamux = muxer.yamux
        if yamux.streams:
            for yamux_stream in list(yamux.streams.values()):
                owner = yamux_stream.owner
                if not isinstance(owner, Arrival):
                    self.reap(yamux_stream, now)
                elif now - owner.came_at_s > NEGOTIATION_TIMEOUT_S:
                    owner.refuse("it named no protocol in time")
        is_retired = self._retired_at_s is not None and now - self._retired_at_s >= FAREWELL_S
        if (is_retired or not yamux.takes_streams) and self._is_done:
            # The peer has gone away or was given time, and nothing is left to do.
            muxer.abort(CloseCause.CLOSED if yamux.takes_streams else CloseCause.ENDED)
        muxer.tick(now)
        if yamux.queued_bytes:
            muxer.flush_soon()

    @property
    def _is_done(self) -> bool:
        """Whether nothing is left to do, on streams that have no protocol yet or wait for their peer's end either."""
        streams = self.muxer.yamux.streams.values()
        return self.is_idle and all(getattr(each.owner, "protocol_id", "") in self._background for each in streams)

    def reap(self, yamux_stream: YamuxStream, now: float) -> None:
        """Reset a stream that we closed if its peer did not in time, or cannot: it waits for a window we never grant.

        Args:
            yamux_stream: a stream with a protocol.
            now: trio's clock.
        """
        closed_at_s = yamux_stream.owner.closed_at_s
        if closed_at_s is None or yamux_stream.is_over:
            return
        is_spent = yamux_stream.receive_window <= _SPENT_WINDOW_BYTES and not yamux_stream.is_read_closed
        if is_spent or now - closed_at_s > _LINGER_S:
            self.muxer.yamux.reset(yamux_stream)
            yamux_stream.owner.take_neglect()
            self.muxer.flush_soon()

    def retire(self, now: float) -> None:
        """Open no stream any more, ask the peer to open none, and close once nothing is left to do.

        A stream that the peer opened before it heard of it is served, so nothing is lost.

        Args:
            now: trio's clock.
        """
        self._retired_at_s = now
        self.muxer.yamux.go_away()
        self.muxer.flush_soon()

    async def close(self) -> None:
        """Say goodbye, for half a second at most, and close. Idempotent, shielded."""
        await self.muxer.close()

    # --- streams of ours ---

    async def open_stream(self, protocol_id: str, wanted: Sequence[str] = ()) -> NodeStream:
        """Open a stream. Nothing of the caller's was sent if this fails.

        If the peer said that it speaks the protocol, its word is not waited for: a mismatch then comes from the stream.

        Args:
            protocol_id: what to speak on it.
            wanted: every protocol that would have done, for the error that tells so; none: this one.

        Raises:
            ProtocolNotSupportedError: the peer said no.
            DialError: the connection has as many streams as it may.
            ConnectionLostError: the connection ended; ``may_have_executed`` is False.

        Cancellation: safe; the stream is reset, the connection stays.
        """
        stream = self.start_stream(protocol_id, wanted)
        if protocol_id in self.spoken:
            return stream
        try:
            await stream.agreed()
        except (ConnectionLostError, RemoteProtocolError) as error:
            await stream.reset()
            raise self._not_sent(error.message) from error
        except BaseException:
            await stream.reset()
            raise
        return stream

    def start_stream(self, protocol_id: str, wanted: Sequence[str] = ()) -> NodeStream:
        """Return a new stream whose protocol is not agreed on; raises as :meth:`open_stream`."""
        self.touch()
        if self.muxer.is_closed:
            raise self._not_sent("it is closed")
        try:
            yamux_stream = self.muxer.yamux.open_stream()
        except StreamLimitError as error:
            if self.muxer.yamux.outbound_streams < self._limits.max_outbound_streams:
                raise self._not_sent(str(error)) from error
            raise DialError(
                f"{self._limits.max_outbound_streams} streams to {self.peer_id} are open",
                stage="limit",
                remedy="end some calls first, make fewer at once, or raise max_streams",
            ) from error
        return NodeStream(
            yamux_stream,
            self,
            protocol_id,
            prefix=proposal(protocol_id),
            proposer=Proposer(protocol_id),
            wanted=wanted,
        )

    def _not_sent(self, why: str) -> ConnectionLostError:
        return ConnectionLostError(
            f"the connection to {self.peer_id} ended before the request was sent ({why})", may_have_executed=False
        )

    def touch(self) -> None:
        """Note that the connection is in use."""
        self.used_at_s = trio.current_time()

    def release(self, stream: StreamLife) -> None:
        """Take a stream off the books. Its stream calls this once."""
        self.streams.discard(stream)
        self.used_at_s = trio.current_time()

    def disbelieve(self, protocol_id: str) -> None:
        """Note that the peer does not speak a protocol after all."""
        self.spoken -= {protocol_id}

    # --- streams of the peer's ---

    def _accept(self, yamux_stream: YamuxStream) -> None:
        yamux_stream.owner = Arrival(yamux_stream, self)

    def serves(self, protocol_id: str) -> bool:
        """Whether somebody here serves a protocol."""
        return protocol_id in self._protocols

    def start_serving(self, yamux_stream: YamuxStream, protocol_id: str, answer: bytes, rest: bytes) -> None:
        """Start the handler of an inbound stream whose protocol is agreed on.

        Args:
            yamux_stream: the stream.
            protocol_id: served here.
            answer: what agrees to it.
            rest: what came after the agreement. If there is none, the peer waits for the answer.
        """
        if self._nursery is None or not self._ledger.admit(self.peer_id, protocol_id):
            self.muxer.yamux.reset(yamux_stream)
            return
        self.used_at_s = trio.current_time()
        stream = NodeStream(yamux_stream, self, protocol_id, prefix=answer)
        if rest:
            stream.take_data(rest)
        else:
            stream.send_prefix()
        handler = self._protocols[protocol_id]
        take = getattr(handler, "take", None)
        if take is None or not take(stream, self):
            self._start_task(stream, handler)

    async def serve(self, stream: NodeStream, handler: StreamHandler) -> None:
        """Run a handler. What goes wrong ends its stream only."""
        try:
            await handler(stream)
            await stream.close()
        except ConnectionLostError:
            await stream.reset()
        except Exception:  # noqa: BLE001 # a handler's fault ends its stream and nothing else
            _log.exception("a handler of %s failed", stream.protocol_id, extra={"peer_id": self.peer_id})
            await stream.reset()
        except BaseException:
            await stream.reset()
            raise
        finally:
            # Not before: a handler may outlive its stream, and a peer could have any number of them.
            self.note_served(stream)

    def start(self, stream: NodeStream, handler: StreamHandler) -> bool:
        """See :class:`hostmesh.net.stream.StreamPlace`."""
        if self._nursery is None or self.muxer.is_closed:
            return False
        self._start_task(stream, handler)
        return True

    def _start_task(self, stream: NodeStream, handler: StreamHandler) -> None:
        assert self._nursery is not None
        # Named by trio itself, each would keep a text of its own.
        self._nursery.start_soon(self.serve, stream, handler, name=stream.protocol_id)

    def note_served(self, stream: Stream) -> None:
        """See :class:`hostmesh.net.stream.StreamPlace`."""
        self._ledger.release(self.peer_id, stream.protocol_id)
