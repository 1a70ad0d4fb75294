"""Raw TCP through trio: what the machine allows. A call is a connection of its own; there is nothing less to open."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Literal, Self

import trio
from tests.benchmarks.transport.peers.endpoint import Call, Served, respond_to_frame
from tests.benchmarks.transport.peers.framing import FrameError, FrameReader, encode_frame
from tests.benchmarks.transport.peers.payload import MESSAGE, encode_count

Connect = Callable[[str], Awaitable[trio.abc.Stream]]


class TcpStack:
    """TCP, TCP_NODELAY on as trio sets it."""

    backend: Literal["trio"] = "trio"

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Served]:
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve_connection, listeners)
            port = listeners[0].socket.getsockname()[1]
            yield Served(
                f"127.0.0.1:{port}", {"trio": trio.__version__, "call": "a new connection each", "nodelay": True}
            )
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[ConnectingEndpoint]:
        async with ConnectingEndpoint(_connect) as endpoint:
            yield endpoint


async def _connect(address: str) -> trio.abc.Stream:
    host, _, port = address.rpartition(":")
    return await trio.open_tcp_stream(host, int(port))


class ConnectingEndpoint:
    """Dials a connection, makes the first call on it and keeps it; makes a new connection for each further call.

    Args:
        connect: opens one to an address.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._address = ""
        self._kept: trio.abc.Stream | None = None
        self._has_called = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._kept is not None:
            await self._kept.aclose()

    async def dial(self, address: str) -> None:
        self._address = address
        self._kept = await self._connect(address)

    async def settle(self) -> None:
        pass

    async def unary(self, request: bytes) -> bytes:
        if self._kept is not None and not self._has_called:
            self._has_called = True
            return await _call(self._kept, request)
        async with await self._connect(self._address) as stream:
            return await _call(stream, request)

    @asynccontextmanager
    async def stream(self, call: Call, count: int) -> AsyncIterator[AsyncIterator[bytes]]:
        async with await self._connect(self._address) as stream:
            await stream.send_all(encode_frame(call.value + encode_count(count)))
            async with aclosing(read_frames(FrameReader(stream.receive_some), count)) as frames:
                yield frames


async def _call(stream: trio.abc.Stream, request: bytes) -> bytes:
    await stream.send_all(encode_frame(Call.UNARY.value + request))
    return await FrameReader(stream.receive_some).next_frame()


async def read_frames(reader: FrameReader, count: int) -> AsyncGenerator[bytes, None]:
    """Yield so many frames."""
    for _ in range(count):
        yield await reader.next_frame()


async def serve_connection(stream: trio.abc.Stream) -> None:
    """Answer the calls of a connection, one after another; the first byte of a request names the call."""
    reader = FrameReader(stream.receive_some)

    async def send(data: bytes) -> None:
        await stream.send_all(encode_frame(data))

    try:
        async with stream:
            while True:
                request = await reader.next_frame()
                call = Call(request[:1])
                if call is Call.HOLD:
                    await send(MESSAGE)  # and nothing more: the next read waits until the client leaves
                else:
                    await respond_to_frame(call, request[1:], send)
    except (trio.BrokenResourceError, FrameError):
        pass  # the client left
