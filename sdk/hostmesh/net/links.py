"""Byte links under a connection: a raw stream, or WebSocket messages over one, behind libp2p's reader-writer interface.

A link's ``read(n)`` returns exactly n bytes or raises: libp2p gives up after 100 short reads, and reads length
prefixes byte by byte. An end of the stream is an exception, never ``b""``. Until the handshake is over a link carries
128 KiB at most.
"""

from __future__ import annotations

import trio
import wsproto
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Message, Ping, RejectConnection, Request
from wsproto.utilities import ProtocolError

_READ_BYTES = 65536
_HANDSHAKE_BYTES = 128 * 1024
"""What a peer may send before it has proven who it is. A handshake takes about 1 KiB; Noise messages end at 64 KiB."""


class Link(ReadWriteCloser):
    """A raw byte stream."""

    def __init__(self, stream: trio.abc.Stream, remote: tuple[str, int] | None) -> None:
        self._stream = stream
        self._remote = remote
        self._unread = bytearray()
        self.last_heard_s = trio.current_time()
        """When bytes came last, in trio's clock."""
        self._budget: int | None = _HANDSHAKE_BYTES

    def trust(self) -> None:
        """Lift the limit on what the peer may send: the handshake is over."""
        self._budget = None

    async def read(self, n: int | None = None) -> bytes:
        """Return exactly ``n`` bytes, or with None what there is.

        Raises:
            ConnectionClosedError: the stream ended first; what came before stays unread.

        Cancellation: safe, no byte is lost.
        """
        while len(self._unread) < (1 if n is None else n):
            chunk = await self._receive()
            if not chunk:
                raise ConnectionClosedError("the peer closed the connection")
            self._unread += chunk
        size = len(self._unread) if n is None else n
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    async def write(self, data: bytes) -> None:
        """Send all bytes; one caller at a time. After a cancellation the link must be closed."""
        await self._send(data)

    async def close(self) -> None:
        """Close the stream. Idempotent, shielded."""
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)

    def get_remote_address(self) -> tuple[str, int] | None:
        """Return the peer's IP address and port."""
        return self._remote

    async def _receive(self) -> bytes:
        """Return the next bytes of the payload, or ``b""`` at the end."""
        return await self._receive_raw()

    async def _receive_raw(self) -> bytes:
        try:
            data = bytes(await self._stream.receive_some(_READ_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionClosedError("the connection broke while reading") from error
        self.last_heard_s = trio.current_time()
        if self._budget is not None:
            self._budget -= len(data)
            if self._budget < 0:
                raise ConnectionClosedError("the peer sent too much before the handshake was over")
        return data

    async def _send(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionClosedError("the connection broke while writing") from error


class WebSocketLink(Link):
    """Binary WebSocket messages over a stream; message borders mean nothing.

    Source: RFC 6455; libp2p specs, "WebSockets transport".
    """

    def __init__(self, stream: trio.abc.Stream, remote: tuple[str, int] | None, *, is_client: bool) -> None:
        super().__init__(stream, remote)
        self._machine = wsproto.WSConnection(
            wsproto.ConnectionType.CLIENT if is_client else wsproto.ConnectionType.SERVER
        )
        self._lock = trio.Lock()
        self._has_ended = False

    async def open(self, host: str) -> None:
        """Ask the server for a WebSocket.

        Raises:
            ConnectionClosedError: the other side is no WebSocket server, or refused.
        """
        await self._send(self._machine.send(Request(host=host, target="/")))
        await self._shake(AcceptConnection)

    async def accept(self) -> None:
        """Answer a client's request.

        Raises:
            ConnectionClosedError: the other side does not ask for a WebSocket.
        """
        await self._shake(Request)
        await self._send(self._machine.send(AcceptConnection()))

    async def write(self, data: bytes) -> None:
        """Send the bytes as one binary message."""
        async with self._lock:
            try:
                encoded = self._machine.send(BytesMessage(data=data))
            except ProtocolError as error:
                raise ConnectionClosedError("the WebSocket is closed") from error
            await self._send(encoded)

    async def _shake(self, wanted: type[AcceptConnection | Request]) -> None:
        while True:
            self._feed(await self._receive_raw())
            for event in self._machine.events():
                if isinstance(event, wanted):
                    return
                if isinstance(event, RejectConnection | CloseConnection):
                    raise ConnectionClosedError("the WebSocket was refused")

    def _feed(self, data: bytes) -> None:
        try:
            self._machine.receive_data(data or None)
        except (ProtocolError, ValueError) as error:  # ValueError: header values that wsproto cannot decode
            raise ConnectionClosedError("the peer does not speak WebSocket") from error
        if not data:
            self._has_ended = True
            if self._machine.state is wsproto.connection.ConnectionState.CONNECTING:
                raise ConnectionClosedError("the connection closed during the WebSocket handshake")

    async def _receive(self) -> bytes:
        payload = bytearray()
        while not payload and not self._has_ended:
            try:
                self._feed(await self._receive_raw())
                for event in self._machine.events():
                    if isinstance(event, Message):
                        data = event.data
                        payload += data.encode() if isinstance(data, str) else data
                    elif isinstance(event, Ping):
                        async with self._lock:
                            await self._send(self._machine.send(event.response()))
                    elif isinstance(event, CloseConnection):
                        self._has_ended = True
            except ProtocolError as error:
                raise ConnectionClosedError("the peer broke the WebSocket protocol") from error
        return bytes(payload)
