"""A node that counts, and two that call it with idempotency keys: what tests of them share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodOptions
from google.protobuf.wrappers_pb2 import Int64Value

from hostmesh import HostmeshError, RetryPolicy, RpcError, StatusCode
from hostmesh.rpc.method import method
from hostmesh.testing import LinkProfile, SimNetwork, SimNode, SimOptions, make_service, open_nodes


def idempotent(service: ServiceDescriptor) -> ServiceDescriptor:
    """Return the same service, whose methods say that they may be run twice."""
    file = FileDescriptorProto()
    service.file.CopyToProto(file)
    file.name, file.package = f"idempotent_{file.name}", f"idempotent.{file.package}"
    for each in file.service[0].method:
        each.options.idempotency_level = MethodOptions.IDEMPOTENT
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindFileByName(file.name).services_by_name[service.name]


COUNT = make_service("counting", Add=(Int64Value, Int64Value))
ADD = method(COUNT, "Add", Int64Value, Int64Value)
IDEMPOTENT = idempotent(COUNT)
LINK = SimOptions(link=LinkProfile(latency_s=0.01))
KEY = b"a key of a caller"
TEN = RetryPolicy(max_attempts=10, first_backoff_s=0.5)


class Counter:
    """Adds what it is told to a sum, which is the effect."""

    def __init__(self) -> None:
        self.effects: list[int] = []
        self.keys: list[bytes] = []
        self.after: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        self.cancelled = 0

    async def add(self, request: Int64Value, context: Any) -> Int64Value:
        self.keys.append(context.idempotency_key)
        self.effects.append(request.value)
        answer = Int64Value(value=sum(self.effects))
        try:
            await self.after()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        return answer

    def fail_once(self, error: Exception) -> None:
        async def fail() -> None:
            self.after = trio.lowlevel.checkpoint
            raise error

        self.after = fail


class World:
    """A node that counts, and two that call it."""

    def __init__(self, network: SimNetwork, nodes: tuple[SimNode, ...]) -> None:
        self.network = network
        self.far, self.near, self.other = nodes
        self.counter = Counter()
        self.far.sdk.serve(COUNT, self.counter)

    async def add(
        self, value: int = 7, *, by: SimNode | None = None, key: bytes = KEY, timeout_s: float = 60.0, **more: Any
    ) -> int:
        rpc = (by or self.near).sdk.get_rpc_client()
        add = method(more.pop("service", COUNT), "Add", Int64Value, Int64Value)
        more = {"idempotency_key": key, "timeout_s": timeout_s, **more}
        return (await rpc.unary(self.far.peer_id, add, Int64Value(value=value), **more)).value

    async def error(self, **options: Any) -> HostmeshError:
        with pytest.raises(HostmeshError) as caught:
            await self.add(**options)
        return caught.value

    async def refusal(self, **options: Any) -> tuple[StatusCode, str, bool]:
        error = await self.error(**options)
        assert isinstance(error, RpcError)
        return error.status, error.reason, error.may_have_executed

    def lose_connections(self) -> None:
        for stream in [*self.near.machine.streams]:
            stream.reset()


@asynccontextmanager
async def world_on(network: SimNetwork) -> AsyncIterator[World]:
    async with open_nodes(network, 3) as nodes:
        yield World(network, tuple(nodes))


async def once(function: Callable[[], Awaitable[Any]], results: list[Any]) -> None:
    """Append what a call gave, or its error."""
    try:
        results.append(await function())
    except HostmeshError as error:
        results.append(error)
