"""A client, a server and the handler between them, over a network in memory."""

from __future__ import annotations

from collections.abc import Callable

import trio
from tests.support.memory_stream import MemoryNetwork, MemoryNode
from trio.testing import MockClock

from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.limits import RpcLimits
from hostmesh.rpc.method import method
from hostmesh.rpc.server import CallContext, RpcServer, SendResponse
from hostmesh.system import System
from hostmesh.v1 import status_pb2

SERVICE = status_pb2.DESCRIPTOR.services_by_name["StatusService"]
PING = method(SERVICE, "Ping", status_pb2.PingRequest, status_pb2.PingResponse)
WATCH = method(SERVICE, "WatchStatus", status_pb2.WatchStatusRequest, status_pb2.StatusSnapshot)
PROTOCOL = "/hostmesh/status/1.0.0"
SYSTEM = System(monotonic_s=trio.current_time)


class Handler:
    """A status service whose methods a test replaces."""

    def __init__(self) -> None:
        self.contexts: list[CallContext] = []
        self.started = trio.Event()
        self.cancelled = trio.Event()
        self.calls = 0

    async def ping(self, request: status_pb2.PingRequest, context: CallContext) -> status_pb2.PingResponse:
        self.calls += 1
        self.contexts.append(context)
        return status_pb2.PingResponse(nonce=request.nonce)

    async def get_snapshot(
        self, request: status_pb2.GetSnapshotRequest, context: CallContext
    ) -> status_pb2.StatusSnapshot:
        return status_pb2.StatusSnapshot()

    async def watch_status(
        self, request: status_pb2.WatchStatusRequest, context: CallContext, send: SendResponse
    ) -> None:
        for number in range(request.min_interval_ms):
            await send(status_pb2.StatusSnapshot(active_jobs=number))

    async def hang(self, *arguments: object) -> None:
        """Stand in for a handler that never returns."""
        self.started.set()
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()


class Pair:
    """A client, a server and the handler between them."""

    def __init__(self, nursery: trio.Nursery, rpc_limits: RpcLimits | None = None, window_bytes: int = 262144) -> None:
        # A test that forgets to ask for the clock would wait for real.
        assert isinstance(trio.lowlevel.current_clock(), MockClock)
        self.network = MemoryNetwork(nursery, window_bytes=window_bytes)
        self.near: MemoryNode = self.network.node(1)
        self.far: MemoryNode = self.network.node(2)
        self.handler = Handler()
        self.server = RpcServer(prefix="/hostmesh", system=SYSTEM, limits=rpc_limits)
        self.server.add_service(SERVICE, self.handler)
        self.far.serve(self.server.stream_handlers())
        self.client = RpcClient(self.near, prefix="/hostmesh", system=SYSTEM)

    def replace(self, name: str, function: Callable[..., object]) -> None:
        setattr(self.handler, name, function)
        server = RpcServer(prefix="/hostmesh", system=SYSTEM, limits=self.server._book.limits)
        server.add_service(SERVICE, self.handler)
        self.server = server
        self.far.serve(server.stream_handlers())

    async def ping(self, nonce: bytes = b"n", timeout_s: float = 5.0, **more: object) -> status_pb2.PingResponse:
        request = status_pb2.PingRequest(nonce=nonce)
        return await self.client.unary(self.far.peer_id, PING, request, timeout_s=timeout_s, **more)  # type: ignore[arg-type]

    def watch(self, count: int, timeout_s: float | None = None):  # type: ignore[no-untyped-def]
        request = status_pb2.WatchStatusRequest(min_interval_ms=count)
        return self.client.server_stream(self.far.peer_id, WATCH, request, timeout_s=timeout_s)

    async def settle(self) -> None:
        """Wait until every stream is over, then check that nothing is left."""
        await trio.sleep(5.0)
        assert (self.near.open_streams, self.far.open_streams) == (0, 0)
        assert self.server.active_calls(self.near.peer_id) == 0
        assert self.far.handler_errors == []
