"""A node's streams and connections as py-libp2p's protocols want them: a part of :mod:`hostmesh.net.libp2p_host`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import trio
from libp2p.abc import IMuxedConn, IMuxedStream, INetConn, INetStream, IRawConnection
from libp2p.connection_types import ConnectionType
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.stream.exceptions import StreamClosed, StreamEOF, StreamReset
from libp2p.peer.id import ID
from multiaddr import Multiaddr  # type: ignore[import-untyped]

from hostmesh.errors import HostmeshError, UsageError
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId, peer_id_from_bytes, peer_id_to_bytes
from hostmesh.net.stream import Stream

_READ_BYTES = 65536
"""A read that names no size returns what is there, up to this much."""


@lru_cache(maxsize=4096)
def libp2p_id(peer_id: PeerId) -> ID:
    """Return py-libp2p's form of a peer id."""
    return ID(peer_id_to_bytes(peer_id))


@lru_cache(maxsize=4096)
def to_multiaddr(address: str) -> Multiaddr:
    """Return py-libp2p's form of an address."""
    return Multiaddr(address)


def node_peer_id(peer_id: ID) -> PeerId:
    """Return the node's form of a peer id.

    Raises:
        InvalidAddressError: not of an Ed25519 key; a node has no such peers.
    """
    return peer_id_from_bytes(peer_id.to_bytes())


def not_here(what: str, remedy: str) -> UsageError:
    """Return the error for a part of py-libp2p's interfaces that a node does not have."""
    return UsageError(f"a hostmesh node {what}", remedy=remedy)


class Libp2pConnection(INetConn, IMuxedConn):
    """What there is between a node and a peer, as one connection, however many the node has.

    Args:
        node: whose.
        peer_id: with whom.
        streams: the streams that libp2p's protocols have, to whomever.
    """

    def __init__(self, node: Node, peer_id: PeerId, streams: Iterable[Libp2pStream]) -> None:
        self.peer_id = libp2p_id(peer_id)
        self.muxed_conn = self
        self.refused: set[TProtocol] = set()
        """What the peer did not speak when it was asked."""
        self._node = node
        self._peer_id = peer_id
        self._streams = streams
        self._addresses: list[Multiaddr] = []
        self._type = ConnectionType.DIRECT

    def __repr__(self) -> str:
        return f"<Libp2pConnection with {self.peer_id}{', closed' if self.is_closed else ''}>"

    @property
    def is_closed(self) -> bool:
        """Whether the node has no connection to the peer."""
        return not self._node.is_connected(self._peer_id)

    @property
    def is_established(self) -> bool:
        """Whether the node has a connection to the peer."""
        return not self.is_closed

    @property
    def is_initiator(self) -> bool:
        """Not told by a node: either side may have dialled, or both.

        Raises:
            UsageError: always.
        """
        raise not_here("does not tell who dialled", "do not ask")

    async def start(self) -> None:
        """Return: the connection runs."""
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        """Disconnect the peer: its streams end, the other features' too."""
        await self._node.disconnect(self._peer_id)

    def get_streams(self) -> tuple[INetStream, ...]:
        """Return the streams that libp2p's protocols have with the peer."""
        return tuple(stream for stream in self._streams if stream.muxed_conn.peer_id == self.peer_id)

    def get_transport_addresses(self) -> list[Multiaddr]:
        """Return the circuit's address, if a relay carried the first connection to the peer; empty otherwise."""
        return list(self._addresses)

    def get_connection_type(self) -> ConnectionType:
        """Return whether a relay carried the first connection to the peer; the node may have got others since."""
        return self._type

    def set_transport_info(self, addresses: Sequence[Multiaddr], connection_type: ConnectionType) -> None:
        """Note what carries the connection; py-libp2p's relay does."""
        self._addresses, self._type = list(addresses), connection_type

    async def new_stream(self) -> INetStream:
        """Not offered: a node's streams have their protocol from the start.

        Raises:
            UsageError: always.
        """
        raise not_here("opens streams by protocol", "call the host's new_stream(peer_id, protocol_ids)")

    async def open_stream(self) -> IMuxedStream:
        """Not offered; see :meth:`new_stream`."""
        raise not_here("opens streams by protocol", "call the host's new_stream(peer_id, protocol_ids)")

    async def accept_stream(self) -> IMuxedStream:
        """Not offered; see :meth:`new_stream`."""
        raise not_here("hands inbound streams to their handlers", "call the host's set_stream_handler")


class Libp2pStream(INetStream):
    """A stream with the behaviour of py-libp2p's ``NetStream``, from which it differs in three points.

    - A write waits for as long as its caller does, where ``NetStream`` gives up after 5 seconds.
    - A write that is cancelled resets the stream, and the peer hears of it.
    - After ``close`` nothing can be read; what the peer still sends is dropped.

    Any number of tasks may write, one may read.

    Args:
        stream: the node's.
        connection: with the peer.
        on_over: called once, when nothing more can come of the stream; must neither raise nor block.
    """

    muxed_conn: IMuxedConn
    metric_send_channel: trio.MemorySendChannel[Any] | None

    def __init__(self, stream: Stream, connection: Libp2pConnection, on_over: Callable[[Libp2pStream], None]) -> None:
        self.muxed_conn = connection
        self.metric_send_channel = None
        self._stream = stream
        self._protocol = TProtocol(stream.protocol_id)
        self._on_over = on_over
        self._over = trio.Event()
        self._sending = trio.Lock()
        self._is_write_closed = False
        self._is_closed = False
        self._has_ended = False

    def __repr__(self) -> str:
        return f"<Libp2pStream {self._protocol} with {self.muxed_conn.peer_id}>"

    def start(self, nursery: trio.Nursery) -> None:
        """Watch for the loss of the stream. Its owner calls this once it has it on its books.

        Args:
            nursery: resets a stream that is lost, which its peer may not have done: it has refused the protocol, say.
        """

        def lose() -> None:
            self._finish()
            nursery.start_soon(self._stream.reset)

        self._stream.on_lost(lose)

    def get_protocol(self) -> TProtocol | None:
        """Return the protocol that was agreed on."""
        return self._protocol

    def set_protocol(self, protocol_id: TProtocol) -> None:
        """Call the protocol something else from now on; the agreement with the peer stays."""
        self._protocol = protocol_id

    def get_remote_address(self) -> tuple[str, int] | None:
        """Return None: a node does not tell the peer's port."""
        return None

    async def read(self, n: int | None = None) -> bytes:
        """Return 1 to ``n`` bytes; without ``n`` what is there.

        Raises:
            StreamEOF: the peer closed its side.
            StreamReset: the stream was reset, or its connection ended.
            StreamClosed: this side closed it.

        Cancellation: safe, no byte is lost.
        """
        if self._has_ended:
            raise StreamEOF
        if self._is_closed:
            raise StreamClosed("the stream was closed here")
        if n == 0:
            return b""
        try:
            data = await self._stream.receive(_READ_BYTES if n is None or n < 0 else n)
        except HostmeshError as error:
            self._finish()
            raise StreamReset(str(error)) from error
        if not data:
            self._has_ended = True
            await self._close_if_done()
            raise StreamEOF
        return data

    async def write(self, data: bytes) -> None:
        """Send all bytes.

        Raises:
            StreamClosed: this side is closed.
            StreamReset: the stream was reset, or its connection ended.

        Cancellation: the stream is reset, unless another task's write was still waited for.
        """
        async with self._sending:
            if self._is_write_closed:
                raise StreamClosed("this side of the stream is closed")
            await self._send(bytes(data), end=False)  # what is not bytes could change before it is sent

    async def close_write(self) -> None:
        """Half-close: the peer sees the end, and may go on sending. Idempotent; of a lost stream it says nothing."""
        async with self._sending:
            if self._is_write_closed or self._over.is_set():
                return
            self._is_write_closed = True
            await self._send(b"", end=True)
        await self._close_if_done()

    async def close(self) -> None:
        """Close both sides in order. Idempotent; of a stream that is lost it says nothing, as ``NetStream`` does."""
        if self._is_closed:
            return
        self._is_closed = self._is_write_closed = True
        with suppress(HostmeshError):
            await self._stream.close()
        self._finish()

    async def reset(self) -> None:
        """Drop the stream at once; the peer's operations fail. Idempotent, never raises, never waits."""
        await self._stream.reset()
        self._finish()

    @property
    def has_ended(self) -> bool:
        """Whether the peer's end was read."""
        return self._has_ended

    async def wait_over(self) -> None:
        """Return once the stream was closed or reset here, or is lost."""
        await self._over.wait()

    async def _send(self, data: bytes, *, end: bool) -> None:
        try:
            await self._stream.send(data, end=end)
        except HostmeshError as error:
            self._finish()
            raise StreamReset(str(error)) from error
        except BaseException:
            self._finish()
            raise

    async def _close_if_done(self) -> None:
        if self._has_ended and self._is_write_closed:
            await self.close()

    def _finish(self) -> None:
        if not self._over.is_set():
            self._over.set()
            self._on_over(self)


class RawByteStream(trio.abc.Stream):
    """A raw connection of py-libp2p's, such as a relay's circuit, as the bytes under a connection of a node.

    Args:
        raw: owned from now on.
    """

    def __init__(self, raw: IRawConnection) -> None:
        self._raw = raw

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all bytes."""
        try:
            await self._raw.write(bytes(data))
        except BaseLibp2pError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def wait_send_all_might_not_block(self) -> None:
        """Return: nobody knows."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return the next bytes. The end comes as an error, from py-libp2p's raw connections."""
        await trio.lowlevel.checkpoint()
        try:
            return await self._raw.read(max_bytes)
        except BaseLibp2pError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def aclose(self) -> None:
        """Close the raw connection."""
        with suppress(BaseLibp2pError):
            await self._raw.close()
        await trio.lowlevel.checkpoint()
