"""hostmesh: the client and the server base that the plugin generates, on the node that ``open_sdk`` composes.

Everything is as an application has it: authentication, bounds, limits, deadlines, accounting, DHT. Three things differ:
the key is new each time and kept nowhere, mDNS is off (it would bring in whoever else is on the link), and the server
has the two settings of a host, 1000 connections and a DHT that answers.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Literal

import trio
from tests.benchmarks.transport.peers.endpoint import CALL_TIMEOUT_S, Call, Served, check_request, respond
from tests.benchmarks.transport.peers.messages import Count, Payload, import_generated
from tests.benchmarks.transport.peers.payload import MESSAGE

import hostmesh
from hostmesh import CallContext, SendResponse

_BENCH: Any = import_generated("bench_hostmesh")
_HOST_CONNECTIONS = 1000
_HELD = trio.Event()
"""What held calls wait for, which never comes."""
_SETTLE_POLL_S = 0.005


class HostmeshStack:
    """Two SDKs."""

    backend: Literal["trio"] = "trio"

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Served]:
        async with _open(serve_dht=True, max_connections=_HOST_CONNECTIONS) as sdk:
            sdk.serve(_Handler())
            settings = {
                "hostmesh": hostmesh.__version__,
                "trio": trio.__version__,
                "open_sdk": {"ephemeral_key": True, "enable_mdns": False},
                "server": {"serve_dht": True, "max_connections": _HOST_CONNECTIONS},
                "call": f"the generated client and server base, timeout_s={CALL_TIMEOUT_S:g} each",
            }
            yield Served(sdk.get_discovery_manager().listen_addresses()[0], settings)

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[HostmeshEndpoint]:
        async with _open() as sdk:
            yield HostmeshEndpoint(sdk)


@asynccontextmanager
async def _open(*, serve_dht: bool = False, **overrides: object) -> AsyncIterator[hostmesh.SDK]:
    with tempfile.TemporaryDirectory(prefix="hostmesh-bench-") as home:
        settings = hostmesh.load_settings({"enable_mdns": False, **overrides}, env={"HOSTMESH_HOME": home})
        async with hostmesh.open_sdk(settings, ephemeral_key=True, serve_dht=serve_dht) as sdk:
            await sdk.authenticate(private_key=secrets.token_bytes(32))
            await sdk.get_discovery_manager().create_node()
            yield sdk


class HostmeshEndpoint:
    """One SDK with its node."""

    def __init__(self, sdk: hostmesh.SDK) -> None:
        self._discovery = sdk.get_discovery_manager()
        self._node = sdk._running().node
        self._rpc = sdk.get_rpc_client()
        self._server = hostmesh.PeerId("")
        self._client: Any = None
        self._streams: dict[Call, Any] = {}

    async def dial(self, address: str) -> None:
        self._server = await self._discovery.connect_to_peer(address)
        client = self._client = _BENCH.BenchServiceClient(self._rpc, self._server)
        self._streams = {
            Call.BURST: client.burst,
            Call.PACED: client.paced,
            Call.BULK: client.bulk,
            Call.HOLD: client.hold,
        }

    async def settle(self) -> None:
        # Only to know when what a new connection sets off is over; an application has nothing to wait for.
        while not self._node.protocols_of(self._server):  # noqa: ASYNC110 - identify has no event
            await trio.sleep(_SETTLE_POLL_S)

    async def unary(self, request: bytes) -> bytes:
        response = await self._client.unary(Payload(data=request), timeout_s=CALL_TIMEOUT_S)
        return response.data

    @asynccontextmanager
    async def stream(self, call: Call, count: int) -> AsyncIterator[AsyncIterator[bytes]]:
        async with (
            self._streams[call](Count(count=count), timeout_s=CALL_TIMEOUT_S) as responses,
            aclosing(_data_of(responses)) as data,
        ):
            yield data


async def _data_of(responses: AsyncIterator[Any]) -> AsyncGenerator[bytes, None]:
    async for response in responses:
        yield response.data


class _Handler(_BENCH.BenchServiceBase):  # type: ignore[misc]
    """Serves the benchmark."""

    async def unary(self, request: Any, context: CallContext) -> Any:
        return Payload(data=check_request(request.data))

    async def burst(self, request: Any, context: CallContext, send: SendResponse) -> None:
        await self._respond(Call.BURST, request, send)

    async def paced(self, request: Any, context: CallContext, send: SendResponse) -> None:
        await self._respond(Call.PACED, request, send)

    async def bulk(self, request: Any, context: CallContext, send: SendResponse) -> None:
        await self._respond(Call.BULK, request, send)

    async def hold(self, request: Any, context: CallContext, send: SendResponse) -> None:
        await send(Payload(data=MESSAGE))
        await _HELD.wait()

    async def _respond(self, call: Call, request: Any, send: SendResponse) -> None:
        async def send_payload(data: bytes) -> None:
            await send(Payload(data=data))

        await respond(call, request.count, send_payload)
