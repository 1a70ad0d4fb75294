"""Byte links under a connection: a socket, any trio stream, or WebSocket messages over one of these.

A link is read by one task and written by one at a time. Its ``send_nowait`` takes what fits without waiting, so that a
small message costs one system call and no pass of the scheduler.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Protocol

import trio
import wsproto
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Message, Ping, RejectConnection, Request
from wsproto.utilities import ProtocolError

_READ_BYTES = 65536
_MAX_READ_BYTES = 262144
_MAX_PARTS = 512
"""Buffers that one system call takes; Linux allows 1,024."""


class LinkBrokenError(Exception):
    """The bytes ended or cannot be sent. Stays inside ``net``."""


class Link(Protocol):
    """A byte stream to a peer that has not proven who it is."""

    remote: tuple[str, int] | None
    """The peer's IP address and port."""
    local_host: str | None
    """This machine's IP address that the bytes leave from, without a zone; None where there is none."""
    last_heard_s: float
    """When bytes came last, in trio's clock."""
    last_sent_s: float
    """When bytes were taken last."""

    async def receive(self) -> bytes:
        """Return the next bytes, ``b""`` at the end. It always yields.

        Raises:
            LinkBrokenError: the connection broke.

        Cancellation: safe, no byte is lost.
        """
        ...

    def send_nowait(self, *parts: bytes) -> int:
        """Send what can be sent of the parts without waiting, and return how much that was, perhaps 0.

        Raises:
            LinkBrokenError: the connection broke.
        """
        ...

    async def send(self, *parts: bytes | memoryview) -> None:
        """Send all bytes of the parts.

        Raises:
            LinkBrokenError: the connection broke.

        Cancellation: the link must be closed.
        """
        ...

    async def close(self) -> None:
        """Close the link. Idempotent, shielded."""
        ...


def rest_of(parts: Sequence[bytes | memoryview], sent_bytes: int) -> Sequence[bytes | memoryview]:
    """Return what is left of parts of which some bytes were sent.

    >>> [bytes(part) for part in rest_of([b"ab", b"cd", b"ef"], 3)]
    [b'd', b'ef']
    """
    for index, part in enumerate(parts):
        if sent_bytes < len(part):
            return [memoryview(part)[sent_bytes:], *parts[index + 1 :]]
        sent_bytes -= len(part)
    return []


def link_over(
    stream: trio.abc.Stream, remote: tuple[str, int] | None, local_host: str | None = None
) -> SocketLink | StreamLink:
    """Return a link over a stream, which the link owns from then on."""
    if isinstance(stream, trio.SocketStream):
        return SocketLink(socket.socket(fileno=stream.socket.detach()), remote, local_host)
    return StreamLink(stream, remote, local_host)


class SocketLink:
    """A connected TCP socket, used without trio's own layers: no lock, no checkpoint where none is needed.

    Args:
        sock: owned by the link from now on.
        remote: the peer's IP address and port.
        local_host: this machine's IP address.
    """

    __slots__ = ("_read_bytes", "_socket", "last_heard_s", "last_sent_s", "local_host", "remote")

    def __init__(self, sock: socket.socket, remote: tuple[str, int] | None, local_host: str | None = None) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._read_bytes = _READ_BYTES
        self.remote = remote
        self.local_host = local_host
        self.last_heard_s = self.last_sent_s = trio.current_time()

    async def receive(self) -> bytes:
        """Return the next bytes; see :meth:`Link.receive`."""
        sock = self._socket
        while True:
            try:
                await trio.lowlevel.wait_readable(sock.fileno())
                data = sock.recv(self._read_bytes)
            except BlockingIOError:
                continue
            except (
                OSError,
                ValueError,
                trio.ClosedResourceError,
            ) as error:  # ValueError: a closed socket has no number
                raise LinkBrokenError("the connection broke while reading") from error
            size = len(data)
            if size == self._read_bytes:
                # A buffer as large as the flow needs, and no larger: the allocator maps pages for big ones.
                self._read_bytes = min(2 * size, _MAX_READ_BYTES)
            elif 4 * size < self._read_bytes:
                self._read_bytes = _READ_BYTES
            self.last_heard_s = trio.current_time()
            return data

    def send_nowait(self, *parts: bytes) -> int:
        """Send what the socket's buffer takes; see :meth:`Link.send_nowait`."""
        try:
            sent = self._socket.send(parts[0]) if len(parts) == 1 else self._socket.sendmsg(parts[:_MAX_PARTS])
        except BlockingIOError:
            return 0
        except OSError as error:
            raise LinkBrokenError("the connection broke while writing") from error
        self.last_sent_s = trio.current_time()
        return sent

    async def send(self, *parts: bytes | memoryview) -> None:
        """Send all bytes; see :meth:`Link.send`."""
        rest: Sequence[bytes | memoryview] = parts
        while rest:
            try:
                await trio.lowlevel.wait_writable(self._socket.fileno())
                rest = rest_of(rest, self._socket.sendmsg(rest[:_MAX_PARTS]))
                self.last_sent_s = trio.current_time()
            except BlockingIOError:
                continue
            except (OSError, ValueError, trio.ClosedResourceError) as error:
                raise LinkBrokenError("the connection broke while writing") from error

    async def close(self) -> None:
        """Close the socket."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket.fileno())
            self._socket.close()


class StreamLink:
    """Any trio stream: one in memory, one of a simulated network.

    Args:
        stream: owned by the link from now on. If it has a ``send_nowait(*parts) -> int``, which takes what fits without
            waiting and raises as ``send_all`` does, that is used as a socket's is.
        remote: the peer's IP address and port.
        local_host: this machine's IP address.
    """

    __slots__ = ("_send_nowait", "_stream", "last_heard_s", "last_sent_s", "local_host", "remote")

    def __init__(self, stream: trio.abc.Stream, remote: tuple[str, int] | None, local_host: str | None = None) -> None:
        self._stream = stream
        self._send_nowait: Callable[..., int] | None = getattr(stream, "send_nowait", None)
        self.remote = remote
        self.local_host = local_host
        self.last_heard_s = self.last_sent_s = trio.current_time()

    async def receive(self) -> bytes:
        """Return the next bytes; see :meth:`Link.receive`."""
        try:
            data = bytes(await self._stream.receive_some(_READ_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkBrokenError("the connection broke while reading") from error
        self.last_heard_s = trio.current_time()
        return data

    def send_nowait(self, *parts: bytes) -> int:
        """Send what the stream takes, 0 where it sends with a wait only; see :meth:`Link.send_nowait`."""
        if self._send_nowait is None:
            return 0
        try:
            sent = self._send_nowait(*parts)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkBrokenError("the connection broke while writing") from error
        if sent:
            self.last_sent_s = trio.current_time()
        return sent

    async def send(self, *parts: bytes | memoryview) -> None:
        """Send all bytes; see :meth:`Link.send`."""
        rest = memoryview(b"".join(parts))
        try:
            while rest:
                await self._stream.send_all(rest[:_READ_BYTES])
                rest = rest[_READ_BYTES:]
                self.last_sent_s = trio.current_time()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkBrokenError("the connection broke while writing") from error

    async def close(self) -> None:
        """Close the stream."""
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)


class WebSocketLink:
    """Binary WebSocket messages over a link; message borders mean nothing.

    Source: RFC 6455; libp2p specs, "WebSockets transport".

    Args:
        link: carries the messages; owned from now on.
        is_client: whether this side asks for the WebSocket.
    """

    def __init__(self, link: SocketLink | StreamLink, *, is_client: bool) -> None:
        self._link = link
        self.remote = link.remote
        self.local_host = link.local_host
        self._machine = wsproto.WSConnection(
            wsproto.ConnectionType.CLIENT if is_client else wsproto.ConnectionType.SERVER
        )
        self._lock = trio.Lock()
        self._has_ended = False

    @property
    def last_heard_s(self) -> float:
        """When bytes came last, in trio's clock."""
        return self._link.last_heard_s

    @last_heard_s.setter
    def last_heard_s(self, value: float) -> None:
        self._link.last_heard_s = value

    @property
    def last_sent_s(self) -> float:
        """When bytes were taken last, in trio's clock."""
        return self._link.last_sent_s

    @last_sent_s.setter
    def last_sent_s(self, value: float) -> None:
        self._link.last_sent_s = value

    async def open(self, host: str) -> None:
        """Ask the server for a WebSocket.

        Raises:
            LinkBrokenError: the other side is no WebSocket server, or refused.
        """
        await self._link.send(self._machine.send(Request(host=host, target="/")))
        await self._shake(AcceptConnection)

    async def accept(self) -> None:
        """Answer a client's request.

        Raises:
            LinkBrokenError: the other side does not ask for a WebSocket.
        """
        await self._shake(Request)
        await self._link.send(self._machine.send(AcceptConnection()))

    async def receive(self) -> bytes:
        """Return the bytes of the next messages; see :meth:`Link.receive`."""
        payload = bytearray()
        while not payload and not self._has_ended:
            try:
                # Messages may have come with the end of the WebSocket's own handshake.
                await self._take_messages(payload)
                if payload or self._has_ended:
                    break
                self._feed(await self._link.receive())
            except ProtocolError as error:
                raise LinkBrokenError("the peer broke the WebSocket protocol") from error
        return bytes(payload)

    async def _take_messages(self, payload: bytearray) -> None:
        for event in self._machine.events():
            if isinstance(event, Message):
                data = event.data
                payload += data.encode() if isinstance(data, str) else data
            elif isinstance(event, Ping):
                async with self._lock:
                    await self._link.send(self._machine.send(event.response()))
            elif isinstance(event, CloseConnection):
                self._has_ended = True

    def send_nowait(self, *parts: bytes) -> int:
        """Return 0: a message goes out whole."""
        return 0

    async def send(self, *parts: bytes | memoryview) -> None:
        """Send the bytes as one binary message; see :meth:`Link.send`."""
        async with self._lock:
            try:
                encoded = self._machine.send(BytesMessage(data=b"".join(parts)))
            except ProtocolError as error:
                raise LinkBrokenError("the WebSocket is closed") from error
            await self._link.send(encoded)

    async def close(self) -> None:
        """Close the link under the WebSocket."""
        await self._link.close()

    async def _shake(self, wanted: type[AcceptConnection | Request]) -> None:
        while True:
            self._feed(await self._link.receive())
            for event in self._machine.events():
                if isinstance(event, wanted):
                    return
                if isinstance(event, RejectConnection | CloseConnection):
                    raise LinkBrokenError("the WebSocket was refused")

    def _feed(self, data: bytes) -> None:
        try:
            self._machine.receive_data(data or None)
        except (ProtocolError, ValueError) as error:  # ValueError: header values that wsproto cannot decode
            raise LinkBrokenError("the peer does not speak WebSocket") from error
        if not data:
            self._has_ended = True
            if self._machine.state is wsproto.connection.ConnectionState.CONNECTING:
                raise LinkBrokenError("the connection closed during the WebSocket handshake")
