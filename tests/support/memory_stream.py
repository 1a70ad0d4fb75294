"""A stream pair in memory that behaves as ``hostmesh.net.stream.Stream`` says, and a network of nodes that open them.

Flow control is real: a sender waits once ``window_bytes`` are unread. A reset drops what was not read. As with a real
stream, nothing waits that need not: a send with room and a receive of what is there take no pass of the scheduler, but
for one every 64 KiB or 128 sends. Nothing here knows of frames or calls.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence

import base58
import trio

from hostmesh.errors import ConnectionLostError, DeadlineExceededError, DialError
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream, StreamHandler
from hostmesh.wire.versions import highest_common, refusal

WINDOW_BYTES = 256 * 1024
_YIELD_BYTES = 64 * 1024
_YIELD_SENDS = 128


def peer_number(number: int) -> PeerId:
    """Return the n-th test peer's id."""
    return PeerId(base58.b58encode(bytes.fromhex("002408011220") + number.to_bytes(32, "big")).decode())


class _Pipe:
    """One direction."""

    def __init__(self, window_bytes: int) -> None:
        self.window_bytes = window_bytes
        self.data = bytearray()
        self.ended = False
        self.lost = False
        self.changed = trio.Event()

    def notify(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    def lose(self) -> None:
        self.lost = True
        self.data.clear()
        self.notify()


class MemoryStream:
    """One end of a pair."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe, peer_id: PeerId, protocol_id: str) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._peer_id = peer_id
        self._protocol_id = protocol_id
        self._other: MemoryStream | None = None
        self._on_lost: Callable[[], None] | None = None
        self._read_deadline = math.inf
        self._read_scopes: list[trio.CancelScope] = []
        self._sends_until_yield = _YIELD_SENDS
        self._bytes_until_yield = _YIELD_BYTES
        self.sent_bytes = 0
        self.was_reset = False
        self.was_closed = False
        self.on_over: Callable[[], None] = lambda: None

    @property
    def peer_id(self) -> PeerId:
        return self._peer_id

    @property
    def protocol_id(self) -> str:
        return self._protocol_id

    @property
    def is_over(self) -> bool:
        return self.was_reset or self.was_closed

    async def send(self, data: bytes, *, head: bytes = b"", end: bool = False) -> None:
        data = head + data
        await trio.lowlevel.checkpoint_if_cancelled()
        pipe = self._outgoing
        self._check_writable()
        self._sends_until_yield -= 1
        self._bytes_until_yield -= len(data)
        if self._sends_until_yield <= 0 or self._bytes_until_yield <= 0:
            self._sends_until_yield, self._bytes_until_yield = _YIELD_SENDS, _YIELD_BYTES
            await trio.lowlevel.checkpoint()
        rest = memoryview(data)
        while rest:
            self._check_writable()
            free = pipe.window_bytes - len(pipe.data)
            if free <= 0:
                await pipe.changed.wait()
                continue
            pipe.data += rest[:free]
            self.sent_bytes += min(free, len(rest))
            rest = rest[free:]
            pipe.notify()
        if end:
            self._end()

    def send_nowait(self, data: bytes, *, end: bool = False) -> bool:
        self._check_writable()
        pipe = self._outgoing
        if len(data) > pipe.window_bytes - len(pipe.data):
            return False
        pipe.data += data
        self.sent_bytes += len(data)
        pipe.notify()
        if end:
            self._end()
        return True

    def receive_nowait(self) -> bytes | memoryview | None:
        pipe = self._incoming
        if pipe.lost:
            return None
        if pipe.data:
            data = bytes(pipe.data[:65536])
            del pipe.data[:65536]
            pipe.notify()
            return memoryview(data)
        return b"" if pipe.ended else None

    @property
    def heard_bytes(self) -> int:
        return 0

    def set_read_deadline(self, deadline: float) -> None:
        self._read_deadline = deadline
        for scope in self._read_scopes:
            scope.deadline = deadline

    async def receive(self, max_bytes: int = 1 << 20) -> bytes:
        await trio.lowlevel.checkpoint_if_cancelled()
        with trio.CancelScope(deadline=self._read_deadline) as scope:
            self._read_scopes.append(scope)
            try:
                return await self._receive(max_bytes)
            finally:
                self._read_scopes.remove(scope)
        raise DeadlineExceededError("the peer sent nothing in time")

    async def _receive(self, max_bytes: int) -> bytes:
        pipe = self._incoming
        while True:
            if pipe.lost:
                raise ConnectionLostError("the stream was reset")
            if pipe.data:
                data = bytes(pipe.data[:max_bytes])
                del pipe.data[:max_bytes]
                pipe.notify()
                return data
            if pipe.ended:
                return b""
            await pipe.changed.wait()

    async def receive_chunk(self) -> bytes | memoryview:
        return memoryview(await self.receive(65536))

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        self._on_lost = callback
        if self._incoming.lost and not self.was_reset:
            self._tell_lost()

    async def wait_reset(self) -> None:
        while not self._incoming.lost:
            await self._incoming.changed.wait()

    async def close_write(self) -> None:
        if self._outgoing.lost:
            raise ConnectionLostError("the stream was reset")
        self._end()

    async def close(self) -> None:
        if not self.is_over:
            await self.close_write()
            self.was_closed = True
            self.on_over()

    async def reset(self) -> None:
        if not self.is_over:
            self.was_reset = True
            self._lose()
            self.on_over()

    def break_connection(self) -> None:
        """Lose the stream as both ends do when their connection ends."""
        self._lose()
        self._tell_lost()

    def _lose(self) -> None:
        self._incoming.lose()
        self._outgoing.lose()
        if self._other is not None:
            self._other._tell_lost()

    def _tell_lost(self) -> None:
        callback, self._on_lost = self._on_lost, None
        if callback is not None:
            callback()

    def _check_writable(self) -> None:
        if self._outgoing.lost or self._outgoing.ended:
            raise ConnectionLostError("the stream was reset")

    def _end(self) -> None:
        if not self._outgoing.ended:
            self._outgoing.ended = True
            self._outgoing.notify()


def memory_stream_pair(
    opener: PeerId, accepter: PeerId, protocol_id: str, *, window_bytes: int = WINDOW_BYTES
) -> tuple[MemoryStream, MemoryStream]:
    """Return the opener's end and the accepter's end."""
    forth, back = _Pipe(window_bytes), _Pipe(window_bytes)
    near = MemoryStream(back, forth, accepter, protocol_id)
    far = MemoryStream(forth, back, opener, protocol_id)
    near._other, far._other = far, near
    return near, far


class MemoryNode:
    """One peer: opens streams and serves those of others."""

    def __init__(self, network: MemoryNetwork, peer_id: PeerId) -> None:
        self._network = network
        self.peer_id = peer_id
        self.handlers: dict[str, StreamHandler] = {}
        self.opened: list[MemoryStream] = []
        self.open_streams = 0
        self.handler_errors: list[BaseException] = []
        self.reachable = True
        self.before_open: Callable[[], Awaitable[None]] | None = None

    def serve(self, handlers: dict[str, StreamHandler]) -> None:
        self.handlers.update(handlers)

    def start_stream(self, *_: object) -> None:
        return None

    async def open_stream(
        self, peer_id: PeerId, protocol_id: str | Sequence[str], *, timeout_s: float | None = None
    ) -> Stream:
        await trio.lowlevel.checkpoint()
        if self.before_open is not None:
            await self.before_open()
        other = self._network.nodes.get(peer_id)
        if other is None or not other.reachable:
            raise DialError(f"no address of {peer_id}", stage="address")
        protocol_ids = (protocol_id,) if isinstance(protocol_id, str) else protocol_id
        chosen = highest_common(protocol_ids, other.handlers)
        if chosen is None:
            raise refusal(peer_id, protocol_ids, other.handlers.keys(), ())
        near, far = memory_stream_pair(self.peer_id, peer_id, chosen, window_bytes=self._network.window_bytes)
        self.opened.append(near)
        for node, stream in ((self, near), (other, far)):
            node.open_streams += 1
            stream.on_over = node._stream_over
        self._network.nursery.start_soon(other._serve, far)
        return near

    async def _serve(self, stream: MemoryStream) -> None:
        """Run a handler as a node does: what it raises resets its stream and no other."""
        try:
            await self.handlers[stream.protocol_id](stream)
            await stream.close()
        except Exception as error:  # noqa: BLE001
            self.handler_errors.append(error)
            await stream.reset()
        except BaseException:
            await stream.reset()
            raise

    def _stream_over(self) -> None:
        self.open_streams -= 1


class MemoryNetwork:
    """Nodes that reach each other at once."""

    def __init__(self, nursery: trio.Nursery, *, window_bytes: int = WINDOW_BYTES) -> None:
        self.nursery = nursery
        self.window_bytes = window_bytes
        self.nodes: dict[PeerId, MemoryNode] = {}

    def node(self, number: int) -> MemoryNode:
        """Return a new node."""
        peer_id = peer_number(number)
        node = self.nodes[peer_id] = MemoryNode(self, peer_id)
        return node
