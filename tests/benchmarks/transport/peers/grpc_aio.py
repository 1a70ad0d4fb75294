"""gRPC for asyncio over TLS: one channel for all calls of a client, and the messages that hostmesh's calls carry.

Tuned as gRPC's performance guide for Python says: asyncio, one channel and one stub for all calls, message sizes large
enough, nothing logged. Flow control is left to gRPC's own probing of bandwidth and delay, which is on by default.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Literal

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc  # reads its environment now
import grpc.aio
from tests.benchmarks.transport.peers.certificate import join_address, make_certificate, split_address
from tests.benchmarks.transport.peers.endpoint import (
    CALL_TIMEOUT_S,
    Call,
    Served,
    check_request,
    respond,
)
from tests.benchmarks.transport.peers.messages import SERVICE, Count, Payload

_MAX_BYTES = 4 * 1024 * 1024
_OPTIONS = {
    "grpc.max_send_message_length": _MAX_BYTES,
    "grpc.max_receive_message_length": _MAX_BYTES,
}
_SERVER_OPTIONS = {**_OPTIONS, "grpc.so_reuseport": 0}
# Clients of one process would otherwise share one connection.
_CHANNEL_OPTIONS = {**_OPTIONS, "grpc.use_local_subchannel_pool": 1}

_STREAMS = {Call.BURST: "Burst", Call.PACED: "Paced", Call.BULK: "Bulk", Call.HOLD: "Hold"}


class GrpcStack:
    """grpc.aio over TLS; the client checks the server's certificate, the server asks for none."""

    backend: Literal["asyncio"] = "asyncio"

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Served]:
        certificate = make_certificate()
        server = grpc.aio.server(options=list(_SERVER_OPTIONS.items()))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, _handlers()),))
        credentials = grpc.ssl_server_credentials([(certificate.key, certificate.chain)])
        port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        settings = {
            "grpc": grpc.__version__,
            "server_options": _SERVER_OPTIONS,
            "channel_options": _CHANNEL_OPTIONS,
            "call": "one channel for all; every call with a timeout",
            "certificates": "P-256; the client checks the server's, the server asks for none",
            "logging": "off",
        }
        try:
            yield Served(join_address(port, certificate.authority), settings)
        finally:
            await server.stop(grace=None)

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[GrpcEndpoint]:
        endpoint = GrpcEndpoint()
        try:
            yield endpoint
        finally:
            await endpoint.close()


class GrpcEndpoint:
    """One channel, and the stub's methods on it."""

    def __init__(self) -> None:
        self._channel: grpc.aio.Channel | None = None
        self._unary: Any = None
        self._streams: dict[Call, Any] = {}

    async def dial(self, address: str) -> None:
        target, authority = split_address(address)
        credentials = grpc.ssl_channel_credentials(root_certificates=authority)
        channel = self._channel = grpc.aio.secure_channel(target, credentials, options=list(_CHANNEL_OPTIONS.items()))
        self._unary = channel.unary_unary(
            f"/{SERVICE.full_name}/Unary",
            request_serializer=Payload.SerializeToString,
            response_deserializer=Payload.FromString,
        )
        self._streams = {
            call: channel.unary_stream(
                f"/{SERVICE.full_name}/{name}",
                request_serializer=Count.SerializeToString,
                response_deserializer=Payload.FromString,
            )
            for call, name in _STREAMS.items()
        }
        await channel.channel_ready()

    async def settle(self) -> None:
        pass

    async def unary(self, request: bytes) -> bytes:
        response = await self._unary(Payload(data=request), timeout=CALL_TIMEOUT_S)
        return response.data

    @asynccontextmanager
    async def stream(self, call: Call, count: int) -> AsyncIterator[AsyncIterator[bytes]]:
        responses = self._streams[call](Count(count=count), timeout=CALL_TIMEOUT_S)
        try:
            async with aclosing(_data_of(responses)) as data:
                yield data
        finally:
            responses.cancel()  # nothing happens to a call that has ended

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()


async def _data_of(responses: Any) -> AsyncGenerator[bytes, None]:
    async for response in responses:
        yield response.data


def _handlers() -> dict[str, grpc.RpcMethodHandler]:
    async def unary(request: Any, context: grpc.aio.ServicerContext) -> Any:
        return Payload(data=check_request(request.data))

    def streaming(call: Call) -> grpc.RpcMethodHandler:
        async def stream(request: Any, context: grpc.aio.ServicerContext) -> None:
            async def send(data: bytes) -> None:
                await context.write(Payload(data=data))

            try:
                await respond(call, request.count, send)
            except asyncio.CancelledError:
                if call is not Call.HOLD:
                    raise  # a held call is ended by its client, which is no news

        return grpc.unary_stream_rpc_method_handler(
            stream, request_deserializer=Count.FromString, response_serializer=Payload.SerializeToString
        )

    return {
        "Unary": grpc.unary_unary_rpc_method_handler(
            unary, request_deserializer=Payload.FromString, response_serializer=Payload.SerializeToString
        ),
        **{name: streaming(call) for call, name in _STREAMS.items()},
    }
