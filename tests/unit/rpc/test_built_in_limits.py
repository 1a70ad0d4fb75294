"""The services of a running node, called as fast as it goes: hostmesh's own keep their limits, others have the general.

The streams are in memory and their peers made up; node, services and handlers are the real ones.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from memory_stream import memory_stream_pair, peer_number

from hostmesh import PeerId, Wallet, open_sdk
from hostmesh.errors import RpcError, StatusCode
from hostmesh.net.stream import Stream
from hostmesh.node_stack import NodeStack
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.method import AnyMethod, methods_of
from hostmesh.rpc.server import CallContext, RpcServer
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2, message_pb2, status_pb2

STATUS = status_pb2.DESCRIPTOR.services_by_name["StatusService"]
PING = methods_of(STATUS)["Ping"]
GET_RECORD = methods_of(discovery_pb2.DESCRIPTOR.services_by_name["DiscoveryService"])["GetRecord"]
SEND = methods_of(message_pb2.DESCRIPTOR.services_by_name["MessageService"])["Send"]
SENT = message_pb2.SendRequest(message_id=bytes(16), data=b"x")
NODE = peer_number(1)


class Wire:
    """Opens streams to the handlers of one server, as a peer."""

    def __init__(self, server: RpcServer, peer_id: PeerId, nursery: trio.Nursery) -> None:
        self._handlers = server.stream_handlers()
        self._peer_id = peer_id
        self._nursery = nursery

    def start_stream(self, *_: object) -> None:
        return None

    async def open_stream(
        self, peer_id: PeerId, protocol_ids: str | tuple[str, ...], *, timeout_s: float | None = None
    ) -> Stream:
        protocol_id = protocol_ids if isinstance(protocol_ids, str) else protocol_ids[0]
        near, far = memory_stream_pair(self._peer_id, peer_id, protocol_id)
        self._nursery.start_soon(self._handlers[protocol_id], far)
        return near


async def calls_until_refused(server: RpcServer, number: int, methods: list[AnyMethod], most: int) -> int:
    """Return how many calls a peer makes, in turn to the methods, before one is refused; ``most`` when none is."""
    async with trio.open_nursery() as nursery:
        client = RpcClient(Wire(server, peer_number(number), nursery), prefix="/hostmesh", system=System())
        for count in range(most):
            method = methods[count % len(methods)]
            try:
                request = SENT if method is SEND else method.request_type()
                await client.unary(NODE, method, request, timeout_s=30.0)
            except RpcError as error:
                if error.reason == "RATE_LIMITED":
                    return count
                if error.status is not StatusCode.NOT_FOUND and error.reason != "NO_HANDLER":
                    raise
                # There is no record, and nobody takes messages: answers like any other here.
        return most


class Pings:
    """A status service that answers pings."""

    async def ping(self, request: status_pb2.PingRequest, context: CallContext) -> status_pb2.PingResponse:
        return status_pb2.PingResponse()

    async def get_snapshot(self, *arguments: object) -> None:
        raise NotImplementedError

    async def watch_status(self, *arguments: object) -> None:
        raise NotImplementedError


@pytest.fixture
async def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NodeStack]:
    monkeypatch.setenv("HOSTMESH_HOME", str(tmp_path / "home"))
    async with open_sdk(enable_dht=False, sources=lambda node, rpc: [], ephemeral_key=True) as sdk:
        await sdk.authenticate(wallet=Wallet.generate())
        await sdk.get_discovery_manager().create_node()
        assert sdk._stack is not None
        yield sdk._stack


async def test_the_services_of_a_node_share_a_thousand_calls_of_a_peer(stack: NodeStack) -> None:
    # A thousand in a burst, and what 200 a second make of the time that this takes.
    count = await calls_until_refused(stack.server, 2, [GET_RECORD, SEND], 4000)
    assert 1000 <= count < 3000
    # Another peer is not touched by that.
    assert await calls_until_refused(stack.server, 3, [GET_RECORD], 10) == 10


async def test_the_status_service_is_counted_apart(stack: NodeStack) -> None:
    """Who floods it with pings has as many calls to the other services as before, and the other way round."""
    count = await calls_until_refused(stack.server, 2, [PING], 4000)
    assert 1000 <= count < 3000
    assert await calls_until_refused(stack.server, 2, [GET_RECORD], 900) == 900


async def test_a_service_without_limits_of_its_own_is_not_held_up() -> None:
    server = RpcServer(prefix="/hostmesh", system=System())
    server.add_service(STATUS, Pings())
    assert await calls_until_refused(server, 2, [PING], 6000) == 6000
