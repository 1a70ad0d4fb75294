"""A service of all shapes with a stream of requests, that adds up: its handler, and a world of two nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import trio
from google.protobuf.wrappers_pb2 import Int64Value

from hostmesh.rpc.method import method
from hostmesh.rpc.routes import RpcCounters
from hostmesh.testing import LinkProfile, SimNetwork, SimNode, SimOptions, make_service, open_nodes

SUMS = make_service(
    "sums",
    streams=["Running", "Count"],
    request_streams=["Total", "Running"],
    Total=(Int64Value, Int64Value),
    Running=(Int64Value, Int64Value),
    Count=(Int64Value, Int64Value),
)
TOTAL = method(SUMS, "Total", Int64Value, Int64Value)
RUNNING = method(SUMS, "Running", Int64Value, Int64Value)
PROTOCOL = "/hostmesh/sums/1.0.0"
LINK = SimOptions(link=LinkProfile(latency_s=0.01))


class Handler:
    """Adds up; each test may replace what it does."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    async def total(self, requests: Any, context: Any) -> Int64Value:
        total = 0
        try:
            async for request in requests:
                total += request.value
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise
        self.ended.append("end")
        return Int64Value(value=total)

    async def running(self, requests: Any, context: Any, send: Any) -> None:
        total = 0
        async for request in requests:
            total += request.value
            await send(Int64Value(value=total))

    async def count(self, request: Int64Value, context: Any, send: Any) -> None:
        for value in range(request.value):
            await send(Int64Value(value=value))


class World:
    """A node that serves the sums, and one that calls it."""

    def __init__(self, network: SimNetwork, near: SimNode, far: SimNode) -> None:
        self.network = network
        self.near, self.far = near, far
        self.handler = Handler()
        far.sdk.serve(SUMS, self.handler)
        self.client = near.sdk.get_rpc_client()

    @property
    def counters(self) -> RpcCounters:
        return self.far.sdk._running().server.counters

    def serve(self, **functions: Callable[..., Awaitable[Any]]) -> None:
        for name, function in functions.items():
            setattr(self.handler, name, function)
        self.far.sdk.withdraw(SUMS)
        self.far.sdk.serve(SUMS, self.handler)

    def total(self, timeout_s: float | None = None) -> AbstractAsyncContextManager[Any]:
        return self.client.client_stream(self.far.peer_id, TOTAL, timeout_s=timeout_s)

    def running(self, timeout_s: float | None = None) -> AbstractAsyncContextManager[Any]:
        return self.client.bidi_stream(self.far.peer_id, RUNNING, timeout_s=timeout_s)

    async def settle(self) -> None:
        """Wait until every stream of the protocol is over on both sides."""
        await trio.sleep(10.0)
        for node in (self.near, self.far):
            assert PROTOCOL not in node.sdk.get_usage().outbound_streams
            assert PROTOCOL not in node.sdk.get_usage().inbound_streams
        assert self.far.sdk._running().server.active_calls(self.near.peer_id) == 0


@asynccontextmanager
async def world_on(network: SimNetwork) -> AsyncIterator[World]:
    async with open_nodes(network, 2) as (far, near):
        yield World(network, near, far)
