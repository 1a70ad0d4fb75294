"""A client whose streams a test can hook into: it kills the server there, before the client knows of anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId
from hostmesh.net.stream import Stream
from hostmesh.rpc.client import RpcClient
from hostmesh.system import System


class WatchedNode:
    """Opens streams of a node, and calls back. The hooks do not yield: nothing happens in this process meanwhile.

    Args:
        node: opens them.
        before_open: is awaited before each stream.
        on_open: a stream is there, and nothing of the call was sent.
        on_heard: is given the first bytes that came at all, which the call has not read.
    """

    def __init__(
        self,
        node: Node | WatchedNode,
        *,
        before_open: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint_if_cancelled,
        on_open: Callable[[], None] = lambda: None,
        on_heard: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self._node = node
        self._before_open = before_open
        self._on_open = on_open
        self._on_heard: Callable[[bytes], None] | None = on_heard

    def start_stream(self, *_: object) -> None:
        return None

    async def open_stream(self, peer_id: PeerId, protocol_id: Any, *, timeout_s: float | None = None) -> Any:
        await self._before_open()
        stream = await self._node.open_stream(peer_id, protocol_id, timeout_s=timeout_s)
        self._on_open()
        return WatchedStream(stream, self._hear)

    def _hear(self, data: bytes) -> None:
        on_heard, self._on_heard = self._on_heard, None
        if on_heard is not None:
            on_heard(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)


class WatchedStream:
    """A stream of the client's; whatever is not here is the stream's own."""

    def __init__(self, stream: Stream, on_heard: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._on_heard = on_heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def receive_nowait(self) -> None:
        """Leave it to the one that waits."""

    async def receive_chunk(self) -> bytes | memoryview:
        data = await self._stream.receive_chunk()
        self._on_heard(bytes(data))
        return data


def caller(node: Node | WatchedNode) -> RpcClient:
    return RpcClient(node, prefix="/hostmesh", system=System())
