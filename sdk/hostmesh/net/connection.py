"""One connection to one peer, and the streams on it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

import trio
from libp2p.custom_types import StreamHandlerFn, TProtocol
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import IOException
from libp2p.protocol_muxer.exceptions import ProtocolNotSupportedError as StockProtocolNotSupportedError
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamEOF, MuxedStreamError

from hostmesh.errors import ConnectionLostError, DialError, ProtocolNotSupportedError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stock import MAX_STREAMS, PatientStream, SteadyYamux, TooManyStreamsError
from hostmesh.net.stream import StreamHandler

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.net")

NEGOTIATION_TIMEOUT_S = 10.0
"""How long an inbound stream may take to name its protocol."""
_NEGOTIATION_BYTES = 8192
"""What a peer may send to agree on a protocol; ids are shorter than 256 bytes."""
_HOUSEKEEPING = frozenset({"/ipfs/id/1.0.0"})

_STREAM_ERRORS = (MuxedStreamError, IOException)


class NodeStream:
    """A stream as :class:`hostmesh.net.stream.Stream` describes it."""

    def __init__(self, muxed: PatientStream, connection: Connection, protocol_id: str) -> None:
        self._muxed = muxed
        self._connection = connection
        self._protocol_id = protocol_id
        self._is_reset = False
        connection.streams.add(self)

    def __repr__(self) -> str:
        return f"<NodeStream {self._protocol_id} {self._muxed.stream_id} with {self.peer_id}>"

    @property
    def peer_id(self) -> PeerId:
        """The peer, as the Noise handshake proved it."""
        return self._connection.peer_id

    @property
    def protocol_id(self) -> str:
        """The negotiated protocol."""
        return self._protocol_id

    async def send(self, data: bytes, *, end: bool = False) -> None:
        """Send all bytes; see :meth:`hostmesh.net.stream.Stream.send`. A cancelled send resets the stream."""
        try:
            await self._muxed.write(data)
            await trio.lowlevel.checkpoint()
            if end:
                await self._muxed.close()
        except _STREAM_ERRORS as error:
            raise self._lost(error) from error
        except BaseException:
            self._drop()
            raise

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return bytes, or ``b""`` at the end; see :meth:`hostmesh.net.stream.Stream.receive`."""
        if max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        try:
            return await self._muxed.read(max_bytes)
        except MuxedStreamEOF:
            if self._is_reset:
                raise self._lost(None) from None
            return b""
        except _STREAM_ERRORS as error:
            raise self._lost(error) from error

    async def wait_reset(self) -> None:
        """Return once the stream is lost; see :meth:`hostmesh.net.stream.Stream.wait_reset`."""
        await self._muxed.was_reset.wait()

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        """Call back once the stream is lost; see :meth:`hostmesh.net.stream.Stream.on_lost`."""
        self._muxed.on_reset = callback
        if callback is not None and self._muxed.was_reset.is_set():
            callback()

    async def close_write(self) -> None:
        """Half-close; see :meth:`hostmesh.net.stream.Stream.close_write`."""
        try:
            await self._muxed.close()
        except _STREAM_ERRORS as error:
            raise self._lost(error) from error

    async def close(self) -> None:
        """Close both sides in order. Idempotent. What the peer still sends is dropped."""
        self._forget()
        self._muxed.stop_reading()
        if not self._muxed.closed:
            await self.close_write()

    async def reset(self) -> None:
        """Drop the stream at once. Idempotent, never raises, never waits."""
        self._drop()

    def _drop(self) -> None:
        self._is_reset = True
        self._muxed.abandon()
        self._forget()

    def _forget(self) -> None:
        self._connection.streams.discard(self)
        self._connection.touch()

    def _lost(self, error: Exception | None) -> ConnectionLostError:
        self._forget()
        return ConnectionLostError(
            f"the stream to {self.peer_id} ended early ({_shortly(error) if error else 'it was reset'})",
            remedy="the peer reset it, or the connection broke; open another",
        )


class _Negotiating(ReadWriteCloser):
    """A stream while its protocol is agreed on: what is read is bounded."""

    def __init__(self, stream: PatientStream) -> None:
        self._stream = stream
        self._budget = _NEGOTIATION_BYTES

    async def read(self, n: int | None = None) -> bytes:
        try:
            data = await self._stream.read(min(self._budget, self._budget if n is None else n))
        except MuxedStreamError as error:
            raise IOException(str(error)) from error
        self._budget -= len(data)
        if self._budget <= 0:
            raise IOException("the peer says too much before it agrees on a protocol")
        return data

    async def write(self, data: bytes) -> None:
        try:
            await self._stream.write(data)
        except MuxedStreamError as error:
            raise IOException(str(error)) from error

    async def close(self) -> None:
        await self._stream.close()

    def get_remote_address(self) -> tuple[str, int] | None:
        return None


class Connection:
    """A connection to a peer that has proven who it is.

    Args:
        muxed: the multiplexed connection, not started.
        peer_id: whose it is.
        address: the address that was dialled, or None for an inbound connection.
        origin: who named that address.
        remote: the peer's IP address and port.
    """

    def __init__(
        self,
        muxed: SteadyYamux,
        peer_id: PeerId,
        *,
        address: str | None,
        origin: AddressOrigin,
        remote: tuple[str, int] | None,
    ) -> None:
        self.peer_id = peer_id
        self.address = address
        self.origin = origin
        self.remote = remote
        self.streams: set[NodeStream] = set()
        """Open streams with a protocol."""
        self.used_at_s = trio.current_time()
        """When a stream was opened or closed last, in trio's clock."""
        self._muxed = muxed
        self._client = MultiselectClient()

    def __repr__(self) -> str:
        way = "to" if self.address else "from"
        return f"<Connection {way} {self.peer_id}, {len(self.streams)} streams{', closed' if self.is_closed else ''}>"

    @property
    def is_outbound(self) -> bool:
        """Whether this side dialled."""
        return self.address is not None

    @property
    def is_idle(self) -> bool:
        """Whether nobody would miss the connection: no streams but the node's own housekeeping."""
        return all(stream.protocol_id in _HOUSEKEEPING for stream in self.streams)

    @property
    def is_closed(self) -> bool:
        """Whether no stream can be opened any more."""
        return self._muxed.event_shutting_down.is_set()

    @property
    def last_heard_s(self) -> float:
        """When bytes of the peer came last, in trio's clock."""
        return self._muxed.last_heard_s

    def touch(self) -> None:
        """Note that the connection is in use."""
        self.used_at_s = trio.current_time()

    async def run(
        self,
        serve: Callable[[Connection, PatientStream], Awaitable[None]],
        greet: Callable[[Connection], Awaitable[None]],
        *,
        task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run the connection until it ends.

        ``greet`` is called once; ``serve`` gets every stream that the peer opens. Each call has a task of its own.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_muxer)
                await self._muxed.event_started.wait()
                task_status.started()
                nursery.start_soon(greet, self)
                while True:
                    try:
                        muxed = await self._muxed.accept_stream()
                    except MuxedConnUnavailable:
                        break
                    assert isinstance(muxed, PatientStream)
                    if self._muxed.inbound_streams > MAX_STREAMS:
                        muxed.abandon()
                    else:
                        nursery.start_soon(serve, self, muxed)
                nursery.cancel_scope.cancel()
        finally:
            await self._muxed.close()

    async def _run_muxer(self) -> None:
        try:
            await self._muxed.start()
        finally:
            # Whoever waits for the connection to start, or for a stream, is let go however it ended.
            self._muxed.event_started.set()
            self._muxed.new_stream_send_channel.close()

    async def close(self) -> None:
        """Say goodbye, for half a second at most, and close. Idempotent, shielded."""
        await self._muxed.close()

    async def open_stream(self, protocol_id: str) -> NodeStream:
        """Open a stream and agree on the protocol. Nothing of the caller's was sent if this fails.

        Raises:
            ProtocolNotSupportedError: the peer said no.
            DialError: the connection has as many streams as it may.
            ConnectionLostError: the connection ended; ``may_have_executed`` is False.

        Cancellation: safe; the stream is reset, the connection stays.
        """
        self.touch()
        try:
            muxed = await self._muxed.open_stream()
        except TooManyStreamsError as error:
            raise DialError(
                f"{MAX_STREAMS} streams to {self.peer_id} are open",
                stage="limit",
                remedy="end some calls first, or make fewer at once",
            ) from error
        except MuxedStreamError as error:
            raise self._lost(error) from error
        assert isinstance(muxed, PatientStream)
        try:
            communicator = MultiselectCommunicator(_Negotiating(muxed))
            await self._client.handshake(communicator)
            await self._client.try_select(communicator, TProtocol(protocol_id))
        except StockProtocolNotSupportedError as error:
            muxed.abandon()
            raise ProtocolNotSupportedError(
                f"{self.peer_id} does not speak {protocol_id}",
                needed=protocol_id,
                remedy="the peer runs another version, or another network's protocol prefix",
            ) from error
        except Exception as error:  # libp2p raises what it likes at what a peer says
            muxed.abandon()
            raise self._lost(error) from error
        except BaseException:
            muxed.abandon()
            raise
        return NodeStream(muxed, self, protocol_id)

    def _lost(self, error: Exception) -> ConnectionLostError:
        return ConnectionLostError(
            f"the connection to {self.peer_id} ended before the request was sent ({_shortly(error)})",
            may_have_executed=False,
        )


async def serve_stream(connection: Connection, muxed: PatientStream, protocols: Multiselect) -> None:
    """Agree on a protocol with the opener of a stream and run its handler. What goes wrong ends this stream only."""
    try:
        with trio.fail_after(NEGOTIATION_TIMEOUT_S):
            protocol, handler = await protocols.negotiate(
                MultiselectCommunicator(_Negotiating(muxed)), 2 * int(NEGOTIATION_TIMEOUT_S)
            )
    except Exception as error:  # noqa: BLE001 # libp2p raises what it likes at what a peer says
        _log.debug("a stream from %s came to nothing: %r", connection.peer_id, error)
        muxed.abandon()
        return
    except BaseException:
        muxed.abandon()
        raise
    stream = NodeStream(muxed, connection, str(protocol))
    try:
        assert handler is not None
        await as_stream_handler(handler)(stream)
        await stream.close()
    except ConnectionLostError:
        await stream.reset()
    except Exception:  # noqa: BLE001 # a handler's fault ends its stream and nothing else
        _log.exception("a handler of %s failed", protocol, extra={"peer_id": connection.peer_id})
        await stream.reset()
    except BaseException:
        await stream.reset()
        raise


def _shortly(error: Exception) -> str:
    # libp2p quotes what the peer said.
    text = str(error) or type(error).__name__
    return text if len(text) <= 120 else f"{text[:120]}..."


def as_table_entry(handler: StreamHandler) -> StreamHandlerFn:
    """Give a handler the type that libp2p's protocol table wants; the table only hands it back."""
    return cast("StreamHandlerFn", handler)


def as_stream_handler(entry: StreamHandlerFn) -> StreamHandler:
    """Give a table's entry its own type back."""
    return cast("StreamHandler", entry)
