"""What the RPC layer costs, in CPU time of one side, on a stream that costs next to nothing.

Run it from the root of the checkout: ``python -m tests.benchmarks.rpc_cost [--json]``.

Each side runs alone: the client against a recorded answer, the server against a recorded request, in one task, without
a network. What the same loop takes without the RPC layer is subtracted. Every figure is the best of several rounds, in
microseconds of process time per operation; the memory of a waiting call is what ``tracemalloc`` sees.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio
import trio.testing
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from google.protobuf.message import Message

from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.limits import CallLimits, RpcLimits
from hostmesh.rpc.method import method
from hostmesh.rpc.server import CallContext, RpcServer, SendResponse
from hostmesh.system import System
from hostmesh.v1 import options_pb2

ROUNDS = 7
REQUEST_BYTES, RESPONSE_BYTES, MESSAGE_BYTES, LARGE_BYTES = 100, 300, 40, 262144
CHUNK_BYTES = 65536
"""How much a stream hands over at once."""

PEER = PeerId("12D3KooWBenchmark")
SYSTEM = System()
NO_LIMITS = RpcLimits(
    per_peer=CallLimits(max_concurrent=10**6, calls_per_s=1e9, burst=10**9),
    per_service=CallLimits(max_concurrent=10**6, calls_per_s=1e9, burst=10**9),
)


def _service() -> tuple[Any, type[Message]]:
    """Return a service of payloads, as a .proto file would describe it."""
    file = descriptor_pb2.FileDescriptorProto(name="bench/bench.proto", package="bench", syntax="proto3")
    file.dependency.append(options_pb2.DESCRIPTOR.name)
    field = file.message_type.add(name="Payload").field.add(
        name="data", number=1, type=FieldDescriptorProto.TYPE_BYTES, label=FieldDescriptorProto.LABEL_OPTIONAL
    )
    field.options.Extensions[options_pb2.max_bytes] = 1048576
    service = file.service.add(name="BenchService")
    service.options.Extensions[options_pb2.protocol] = "bench"
    service.options.Extensions[options_pb2.version] = "1.0.0"
    for name, streaming in (("Unary", False), ("Burst", True)):
        rpc = service.method.add(
            name=name, input_type=".bench.Payload", output_type=".bench.Payload", server_streaming=streaming
        )
        rpc.options.Extensions[options_pb2.max_request_bytes] = 1048576
        rpc.options.Extensions[options_pb2.max_response_bytes] = 1048576
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    descriptor = pool.FindFileByName(file.name)
    payload = message_factory.GetMessageClass(descriptor.message_types_by_name["Payload"])
    return descriptor.services_by_name["BenchService"], payload


SERVICE, Payload = _service()
UNARY = method(SERVICE, "Unary", Payload, Payload)
BURST = method(SERVICE, "Burst", Payload, Payload)


class CannedStream:
    """A stream that hands over what it was given and drops, or keeps, what is sent."""

    __slots__ = ("_chunks", "_keep", "peer_id", "protocol_id", "sent")

    def __init__(self, chunks: Sequence[bytes], *, keep: bool = False) -> None:
        self._chunks = iter(chunks)
        self._keep = keep
        self.peer_id = PEER
        self.protocol_id = "/hostmesh/bench/1.0.0"
        self.sent: list[bytes] = []

    async def send(self, data: bytes, *, head: bytes = b"", end: bool = False) -> None:
        if self._keep:
            self.sent.append(head + data)

    async def receive(self, max_bytes: int = 1 << 20) -> bytes:
        return next(self._chunks, b"")

    async def receive_chunk(self) -> bytes | memoryview:
        return memoryview(await self.receive())

    def send_nowait(self, data: bytes, *, end: bool = False) -> bool:
        if self._keep:
            self.sent.append(data)
        return True

    def receive_nowait(self) -> bytes | memoryview | None:
        return memoryview(next(self._chunks, b""))

    def set_read_deadline(self, deadline: float) -> None:
        pass

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        pass

    async def wait_reset(self) -> None:
        await trio.sleep_forever()

    async def close_write(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def reset(self) -> None:
        pass


class Opener:
    """Stands for a node: every stream that it opens has the same answer."""

    def __init__(self, answer: Sequence[bytes], *, keep: bool = False) -> None:
        self.answer = answer
        self.keep = keep
        self.opened: list[CannedStream] = []

    def start_stream(self, peer_id: PeerId, protocol_ids: Sequence[str]) -> CannedStream:
        stream = CannedStream(self.answer, keep=self.keep)
        if self.keep:
            self.opened.append(stream)
        return stream

    async def open_stream(self, peer_id: PeerId, protocol_id: str, *, timeout_s: float | None = None) -> CannedStream:
        return self.start_stream(peer_id, (protocol_id,))


class Handler:
    """Answers with payloads made before."""

    def __init__(self, response: Message, count: int = 0, park: trio.Event | None = None) -> None:
        self.response = response
        self.count = count
        self.park = park

    async def unary(self, request: Message, context: CallContext) -> Message:
        return self.response

    async def burst(self, request: Message, context: CallContext, send: SendResponse) -> None:
        for _ in range(self.count):
            await send(self.response)
        if self.park is not None:
            await self.park.wait()


def payload(size: int) -> Message:
    return Payload(data=bytes((index * 7 + size) % 256 for index in range(size)))


def server_of(handler: Handler) -> Callable[[Any], Awaitable[None]]:
    server = RpcServer(prefix="/hostmesh", system=SYSTEM, limits=NO_LIMITS)
    server.add_service(SERVICE, handler)
    (serve,) = server.stream_handlers().values()
    return serve


def client_of(opener: Opener) -> RpcClient:
    return RpcClient(opener, prefix="/hostmesh", system=SYSTEM)


async def recorded(handler: Handler, *, streaming: bool) -> tuple[bytes, list[bytes]]:
    """Return the bytes of a request, and those of its answer in chunks."""
    client = client_of(opener := Opener([], keep=True))
    try:
        if streaming:
            async with client.server_stream(PEER, BURST, payload(REQUEST_BYTES), timeout_s=60.0) as stream:
                await anext(stream)
        else:
            await client.unary(PEER, UNARY, payload(REQUEST_BYTES), timeout_s=60.0)
    except Exception:  # noqa: BLE001 - there is no answer yet
        pass
    request = b"".join(opener.opened[0].sent)
    await server_of(handler)(answer := CannedStream([request], keep=True))
    data = b"".join(answer.sent)
    return request, [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]


async def best_us(work: Callable[[], Awaitable[int]]) -> float:
    """Return the least CPU time of one of the operations whose number ``work`` returns."""
    best = float("inf")
    for _ in range(ROUNDS):
        gc.collect()
        await trio.lowlevel.checkpoint()
        started = time.process_time()
        count = await work()
        best = min(best, (time.process_time() - started) / count)
    return best * 1e6


async def unary_costs(calls: int) -> dict[str, float]:
    handler = Handler(payload(RESPONSE_BYTES))
    request, answer = await recorded(handler, streaming=False)
    client, asked, serve = client_of(opener := Opener(answer)), payload(REQUEST_BYTES), server_of(handler)

    async def bare() -> int:
        for _ in range(calls):
            stream = await opener.open_stream(PEER, "")
            await stream.send(request)
            await stream.receive()
            await stream.close()
        return calls

    async def client_side() -> int:
        for _ in range(calls):
            await client.unary(PEER, UNARY, asked, timeout_s=60.0)
        return calls

    async def server_side() -> int:
        for _ in range(calls):
            await serve(CannedStream([request]))
        return calls

    floor = await best_us(bare)
    return {
        "unary, client": await best_us(client_side) - floor,
        "unary, server": await best_us(server_side) - floor,
    }


async def stream_costs(name: str, size: int, count: int) -> dict[str, float]:
    handler = Handler(payload(size), count)
    request, answer = await recorded(handler, streaming=True)
    client, asked, serve = client_of(Opener(answer)), payload(REQUEST_BYTES), server_of(handler)

    async def bare() -> int:
        stream = CannedStream(answer)
        for _ in range(count):
            await stream.send(b"")
        while await stream.receive():
            pass
        return count

    async def client_side() -> int:
        async with client.server_stream(PEER, BURST, asked, timeout_s=60.0) as stream:
            async for response in stream:
                assert len(response.data) == size
        return count

    async def server_side() -> int:
        await serve(CannedStream([request]))
        return count

    floor = await best_us(bare)
    return {
        f"{name}, client": await best_us(client_side) - floor,
        f"{name}, server": await best_us(server_side) - floor,
    }


async def waiting_call_bytes(calls: int) -> float:
    """Return the memory of a server-streaming call whose handler waits, less that of its task and stream."""
    park = trio.Event()
    request, _ = await recorded(Handler(payload(MESSAGE_BYTES), 1), streaming=True)
    serve = server_of(Handler(payload(MESSAGE_BYTES), 1, park))

    async def bare(stream: CannedStream) -> None:
        await park.wait()

    async def bytes_of(work: Callable[[Any], Awaitable[None]]) -> float:
        async with trio.open_nursery() as nursery:
            gc.collect()
            tracemalloc.start()
            for _ in range(calls):
                nursery.start_soon(work, CannedStream([request]))
            await trio.testing.wait_all_tasks_blocked()
            gc.collect()
            used, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            nursery.cancel_scope.cancel()
        return used / calls

    return await bytes_of(serve) - await bytes_of(bare)


async def measure() -> dict[str, float]:
    figures = await unary_costs(3000)
    figures |= await stream_costs("message of 40 B", MESSAGE_BYTES, 20_000)
    figures |= await stream_costs("message of 256 KiB", LARGE_BYTES, 200)
    return figures | {"waiting call, server, bytes": await waiting_call_bytes(500)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON line instead of a table")
    as_json = parser.parse_args().json
    figures = trio.run(measure)
    if as_json:
        print(json.dumps({"python": platform.python_version(), "figures": figures}))
        return
    for name, value in figures.items():
        print(f"{name:32} {value:10.2f}" + ("" if name.endswith("bytes") else " us"))


if __name__ == "__main__":
    main()
