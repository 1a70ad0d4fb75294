"""A client and a server of calls on a simulated network, and a job service that does what a test asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from tests.simulated.nodes import Nodes, nodes_on
from tests.support.jobs_unsigned import UnsignedJobs
from tests.support.simulated import eventually

from hostmesh.net.address import AddressOrigin
from hostmesh.net.node import Node
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.limits import RpcLimits
from hostmesh.rpc.method import method
from hostmesh.rpc.server import CallContext, RpcServer, SendResponse
from hostmesh.testing import SimNetwork
from hostmesh.v1 import job_pb2

JOBS = job_pb2.DESCRIPTOR.services_by_name["JobService"]
QUOTE = method(JOBS, "Quote", job_pb2.QuoteRequest, job_pb2.QuoteResponse)
RUN = method(JOBS, "Run", job_pb2.RunRequest, job_pb2.RunResponse)
JOB_PROTOCOL = "/hostmesh/job/1.0.0"
ROUND_TRIP_S = 0.04
"""Between two machines, by default."""


class Jobs(UnsignedJobs):
    """A job service that answers what the test asks for in the model's name."""

    def __init__(self) -> None:
        self.quotes: list[str] = []
        self.senders: set[str] = set()
        self.running = 0
        self.started = trio.Event()
        self.ended = trio.Event()
        self.input_bytes = 0

    async def quote(self, request: job_pb2.QuoteRequest, context: CallContext) -> job_pb2.QuoteResponse:
        self.senders.add(context.peer_id)
        self.quotes.append(request.model_id)
        if request.model_id == "hang":
            await self.hang()
        return job_pb2.QuoteResponse(quote=request.model_id.encode())

    async def run(self, request: job_pb2.RunRequest, context: CallContext, send: SendResponse) -> None:
        self.input_bytes = sum(len(message.content) for message in request.chat.messages)
        count, size = (int(request.parameters[index].integer) for index in (0, 1))
        self.running += 1
        self.started.set()
        try:
            for index in range(count):
                await send(job_pb2.RunResponse(text=job_pb2.TextDelta(index=index, text="x" * size)))
            if count == 0:
                await trio.sleep_forever()
        finally:
            self.running -= 1
            self.ended.set()

    async def hang(self) -> None:
        self.running += 1
        self.started.set()
        try:
            await trio.sleep_forever()
        finally:
            self.running -= 1
            self.ended.set()


def run_request(count: int, size: int, prompt: str = "") -> job_pb2.RunRequest:
    return job_pb2.RunRequest(
        quote_id=bytes(16),
        chat=job_pb2.ChatInput(
            messages=[
                job_pb2.ChatMessage(role="user", content=prompt[start : start + 200_000])
                for start in range(0, len(prompt), 200_000)
            ]
        ),
        parameters=[
            job_pb2.Parameter(name="count", integer=count),
            job_pb2.Parameter(name="size", integer=size),
        ],
    )


class World:
    def __init__(self, nodes: Nodes, client: Node, server: Node, limits: RpcLimits | None) -> None:
        self.client, self.server = client, server
        self.near, self.far = nodes.machine_of(client).system, nodes.machine_of(server).system
        self.jobs = Jobs()
        self.rpc_server = RpcServer(prefix="/hostmesh", system=self.far, limits=limits)
        self.rpc_server.add_service(JOBS, self.jobs)
        self.rpc = RpcClient(client, prefix="/hostmesh", system=self.near)
        self.serve()

    def serve(self) -> None:
        for protocol_id, handler in self.rpc_server.stream_handlers().items():
            self.server.set_stream_handler(protocol_id, handler)

    async def quote(self, model_id: str, timeout_s: float = 20.0) -> bytes:
        request = job_pb2.QuoteRequest(model_id=model_id)
        response = await self.rpc.unary(self.server.peer_id, QUOTE, request, timeout_s=timeout_s)
        return response.quote

    def run(self, count: int, size: int, prompt: str = ""):  # type: ignore[no-untyped-def]
        return self.rpc.server_stream(self.server.peer_id, RUN, run_request(count, size, prompt), timeout_s=60.0)


@asynccontextmanager
async def world_of(net: SimNetwork, limits: RpcLimits | None = None) -> AsyncIterator[World]:
    async with nodes_on(net) as nodes:
        client, server = await nodes.start(), await nodes.start()
        client.add_addresses(server.peer_id, server.listen_addresses(), AddressOrigin.CONFIGURED)
        yield World(nodes, client, server, limits)


async def quiet(world: World) -> None:
    """Wait until the server is done with every call of the client."""
    await eventually(lambda: not world.rpc_server.active_calls(world.client.peer_id))
