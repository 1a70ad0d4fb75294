"""A node in a process of its own, which a test may kill, freeze, measure and tell what to do.

``python -m tests.integration.transport.peer CONFIG`` with a NodeConfig's arguments as JSON. It prints JSON lines: first
``ready``, then one for each command that a line of its standard input gives, named as the command asks. It ends with
its standard input.
"""

from __future__ import annotations

import gc
import hashlib
import json
import sys
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import trio
from tests.integration.transport import kit
from tests.support.jobs_unsigned import UnsignedJobs

from hostmesh.net.node import Node, NodeConfig
from hostmesh.net.peer_key import PeerKey
from hostmesh.net.stream import Stream
from hostmesh.rpc.limits import CallLimits, RpcLimits
from hostmesh.rpc.server import CallContext, RpcServer, SendResponse
from hostmesh.system import System
from hostmesh.v1 import job_pb2, message_pb2
from hostmesh.v1.message_hostmesh import MESSAGE_SERVICE

PIECE_BYTES = 256 * 1024
_GENEROUS = CallLimits(max_concurrent=100_000, calls_per_s=1e6, burst=100_000)


def pattern(total: int) -> Iterator[bytes]:
    """Yield ``total`` bytes in pieces, no two alike; one at a time, for the memory of a process is measured."""
    for start in range(0, total, PIECE_BYTES):
        yield hashlib.shake_128(start.to_bytes(8, "big")).digest(min(PIECE_BYTES, total - start))


class HangingJobs(UnsignedJobs):
    """A job service whose calls do not end: a quote is never made, a run says one word."""

    async def quote(self, request: job_pb2.QuoteRequest, context: CallContext) -> job_pb2.QuoteResponse:
        await trio.sleep_forever()
        raise AssertionError

    async def run(self, request: job_pb2.RunRequest, context: CallContext, send: SendResponse) -> None:
        await send(job_pb2.RunResponse(text=job_pb2.TextDelta(index=0, text="x")))
        await trio.sleep_forever()


class HangingMessages:
    """Takes messages, and acknowledges none."""

    async def send(self, request: message_pb2.SendRequest, context: CallContext) -> message_pb2.SendResponse:
        await trio.sleep_forever()
        raise AssertionError


class Peer:
    """A node and what it is told to do."""

    def __init__(self, config: dict[str, Any]) -> None:
        settings = {"enable_dht": False, **config}
        self.node = Node(NodeConfig(**settings), PeerKey.generate())
        for protocol_id, handler in kit.HANDLERS.items():
            self.node.set_stream_handler(protocol_id, handler)
        self.node.set_stream_handler("/test/download/1", self.send_pattern)
        rpc = RpcServer(
            prefix="/hostmesh", system=System(), limits=RpcLimits(per_peer=_GENEROUS, per_service=_GENEROUS)
        )
        rpc.add_service(kit.JOBS, HangingJobs())
        rpc.add_service(MESSAGE_SERVICE, HangingMessages())
        for protocol_id, handler in rpc.stream_handlers().items():
            self.node.set_stream_handler(protocol_id, handler)
        self.sent_digests: list[str] = []
        self._go_on = trio.Event()
        self._paused = trio.Event()

    # --- what it serves ---

    async def send_pattern(self, stream: Stream) -> None:
        """Send as many bytes of the pattern as asked for."""
        digest = hashlib.sha256()
        for piece in pattern(int.from_bytes(await kit.receive_exactly(stream, 8), "big")):
            digest.update(piece)
            await stream.send(piece)
        self.sent_digests.append(digest.hexdigest())

    # --- what it is told ---

    async def connect(self, address: str) -> dict[str, Any]:
        """Connect to another peer, which the later commands mean."""
        self.other = (await kit.connect_to(self.node, address)).peer_id
        return {}

    async def usage(self) -> dict[str, Any]:
        """Tell what the node uses."""
        usage = self.node.usage()
        return {
            "unread_bytes": usage.unread_bytes,
            "unsent_bytes": usage.unsent_bytes,
            "inbound_streams": dict(usage.inbound_streams),
            "outbound_streams": dict(usage.outbound_streams),
            "connections": usage.connections,
            "overflowed_streams": usage.overflowed_streams,
            "window_bytes": max(
                (
                    stream.window_bytes
                    for connection in self.node._pool
                    for stream in connection.muxer.yamux.streams.values()
                ),
                default=0,
            ),
            "sent_digests": self.sent_digests,
        }

    async def download(self, size: int, pause_at: int) -> dict[str, Any]:
        """Read the pattern from the other peer; after ``pause_at`` bytes wait for the command ``go_on``."""
        stream = await self.node.open_stream(self.other, "/test/download/1")
        await stream.send(size.to_bytes(8, "big"), end=True)
        digest, count = hashlib.sha256(), 0
        while piece := await stream.receive():
            digest.update(piece)
            count += len(piece)
            if count >= pause_at and not self._paused.is_set():
                self._paused.set()
                await self._go_on.wait()
        await stream.close()
        return {"sha256": digest.hexdigest(), "bytes": count}

    async def wait_paused(self) -> dict[str, Any]:
        """Return once the download pauses."""
        await self._paused.wait()
        return {}

    async def go_on(self) -> dict[str, Any]:
        """End the pause of the download."""
        self._go_on.set()
        return {}

    async def echo_rates(self, rounds: int, seconds: float) -> dict[str, Any]:
        """Exchange a kibibyte with the other peer on one stream, and tell how often in each of some rounds."""
        stream = await self.node.open_stream(self.other, kit.ECHO)
        counts = []
        for _ in range(rounds):
            count, end = 0, trio.current_time() + seconds
            while trio.current_time() < end:
                await stream.send(bytes(1024))
                await kit.receive_exactly(stream, 1024)
                count += 1
            counts.append(count)
        await stream.close()
        return {"counts": counts}

    async def trace(self) -> dict[str, Any]:
        """Start to count what Python allocates."""
        gc.collect()
        tracemalloc.start()
        return {}

    async def traced(self) -> dict[str, Any]:
        """Tell how many bytes were allocated since ``trace`` and are in use."""
        gc.collect()
        return {"bytes": tracemalloc.get_traced_memory()[0]}


def tell(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


async def main(config: dict[str, Any]) -> None:
    peer = Peer(config)

    async def obey(name: str, command: Callable[..., Awaitable[dict[str, Any]]], arguments: dict[str, Any]) -> None:
        tell(name, **await command(**arguments))

    async with trio.open_nursery() as nursery:
        await nursery.start(peer.node.run)
        tell("ready", peer_id=peer.node.peer_id, addresses=list(peer.node.peer_addresses()))
        buffer = b""
        async for data in trio.lowlevel.FdStream(0):
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                order = json.loads(line)
                command = getattr(peer, order.pop("command"))
                nursery.start_soon(obey, order.pop("name"), command, order)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
