"""Calls, messages and status between two nodes, over Noise and Yamux."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from tests.simulated.nodes import Nodes, nodes_on
from tests.support.simulated import eventually, simulated

from hostmesh.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    DialError,
    FrameTooLargeError,
    ProtocolNotSupportedError,
    RpcError,
    StatusCode,
)
from hostmesh.messaging.direct import DirectMessenger, Message
from hostmesh.messaging.methods import MESSAGE_SERVICE
from hostmesh.net.address import AddressOrigin
from hostmesh.net.node import Node
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.limits import CallLimits, RpcLimits
from hostmesh.rpc.method import method
from hostmesh.rpc.server import CallContext, RpcServer, SendResponse
from hostmesh.status.client import StatusClient
from hostmesh.status.methods import STATUS_SERVICE
from hostmesh.status.server import StatusServer
from hostmesh.status.snapshot import HostStatus, ServingState
from hostmesh.testing import SimNetwork
from hostmesh.v1 import job_pb2

JOBS = job_pb2.DESCRIPTOR.services_by_name["JobService"]
QUOTE = method(JOBS, "Quote", job_pb2.QuoteRequest, job_pb2.QuoteResponse)
RUN = method(JOBS, "Run", job_pb2.RunRequest, job_pb2.RunResponse)
JOB_PROTOCOL = "/hostmesh/job/1.0.0"
ROUND_TRIP_S = 0.04
"""Between two machines, by default."""


class Jobs:
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


@simulated(world_of)
async def test_200_calls_in_a_row_and_50_at_once_end_each_once(world: World) -> None:
    assert await world.quote("first") == b"first"
    tasks = trio.lowlevel.current_statistics().tasks_living
    for number in range(200):
        assert await world.quote(f"row {number}") == f"row {number}".encode()
    answers: list[bytes] = []

    async def one(number: int) -> None:
        answers.append(await world.quote(f"burst {number}"))

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(one, number)
    assert sorted(answers) == sorted(f"burst {number}".encode() for number in range(50))
    assert len(world.jobs.quotes) == len(set(world.jobs.quotes)) == 251
    assert world.rpc_server.counters.calls == {("JobService.Quote", "OK"): 251}
    assert world.jobs.senders == {world.client.peer_id}
    await quiet(world)
    assert trio.lowlevel.current_statistics().tasks_living <= tasks


async def quiet(world: World) -> None:
    """Wait until the server is done with every call of the client."""
    await eventually(lambda: not world.rpc_server.active_calls(world.client.peer_id))


@simulated(world_of)
async def test_50_streams_at_once_keep_their_order(world: World) -> None:
    async def one() -> None:
        async with world.run(100, 300) as stream:
            assert [response.text.index async for response in stream] == list(range(100))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(one)
    assert world.rpc_server.counters.calls == {("JobService.Run", "OK"): 50}
    assert world.jobs.running == 0


@simulated(world_of)
async def test_a_stream_larger_than_every_window_arrives_whole(world: World) -> None:
    received = 0
    async with world.run(200, 65000) as stream:
        async for response in stream:
            received += len(response.text.text)
    assert received == 200 * 65000


@simulated(world_of)
async def test_a_request_of_nearly_a_mebibyte_arrives_whole(world: World) -> None:
    async with world.run(1, 1, "x" * 1_000_000) as stream:
        assert len([response async for response in stream]) == 1
    assert world.jobs.input_bytes == 1_000_000


@simulated(world_of)
async def test_leaving_a_stream_cancels_the_handler_at_once(world: World) -> None:
    async with world.run(0, 0):
        await world.jobs.started.wait()
    with trio.fail_after(ROUND_TRIP_S):
        await world.jobs.ended.wait()
    await quiet(world)
    assert world.rpc_server.counters.abandoned == {"JobService.Run": 1}
    assert await world.quote("still here") == b"still here"


@simulated(world_of)
async def test_leaving_while_the_handler_waits_for_the_window_frees_it(world: World) -> None:
    async with world.run(10_000, 60_000) as stream:
        await anext(stream)
    with trio.fail_after(ROUND_TRIP_S):
        await world.jobs.ended.wait()
    assert await world.quote("still here") == b"still here"


@simulated(world_of)
async def test_cancelling_callers_leaves_the_connection_whole(world: World) -> None:
    async def abandon(after_s: float) -> None:
        with trio.move_on_after(after_s):
            async with world.run(1000, 10_000, "x" * 500_000) as stream:
                async for _ in stream:
                    pass

    for _ in range(3):
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(abandon, number * ROUND_TRIP_S / 5)
    assert await world.quote("whole") == b"whole"
    await quiet(world)
    assert world.jobs.running == 0


@simulated(world_of)
async def test_the_deadline_ends_both_sides(world: World) -> None:
    await world.quote("warm")
    began_s = trio.current_time()
    with pytest.raises(DeadlineExceededError) as caught:
        await world.quote("hang", timeout_s=0.3)
    assert trio.current_time() - began_s == pytest.approx(0.3)
    assert caught.value.may_have_executed
    with trio.fail_after(ROUND_TRIP_S):
        await world.jobs.ended.wait()
    await quiet(world)
    assert await world.quote("next") == b"next"


@simulated(world_of)
async def test_a_client_that_stops_cancels_its_calls(world: World) -> None:
    async with trio.open_nursery() as nursery:

        async def call() -> None:
            with pytest.raises(ConnectionLostError):
                await world.quote("hang")

        nursery.start_soon(call)
        await world.jobs.started.wait()
        await world.client.stop()
        with trio.fail_after(ROUND_TRIP_S):
            await world.jobs.ended.wait()
    await quiet(world)
    assert world.rpc_server.counters.abandoned == {"JobService.Quote": 1}


@simulated(world_of)
async def test_a_server_that_stops_leaves_an_unknown_outcome(world: World) -> None:
    async with trio.open_nursery() as nursery:

        async def call() -> None:
            with pytest.raises(ConnectionLostError) as caught:
                await world.quote("hang")
            assert caught.value.may_have_executed

        nursery.start_soon(call)
        await world.jobs.started.wait()
        await world.server.stop()
    with pytest.raises(DialError) as unreachable:
        await world.quote("gone", timeout_s=5.0)
    assert not unreachable.value.may_have_executed


@simulated()
async def test_limits_are_answered(net: SimNetwork) -> None:
    limits = RpcLimits(per_peer=CallLimits(max_concurrent=3, calls_per_s=1000.0, burst=1000))
    async with world_of(net, limits) as world, trio.open_nursery() as nursery:
        outcomes: list[tuple[StatusCode, str, int | None]] = []

        async def hang() -> None:
            try:
                await world.quote("hang", timeout_s=30.0)
            except RpcError as error:
                outcomes.append((error.status, error.reason, error.retry_after_ms))
                if len(outcomes) == 17:
                    nursery.cancel_scope.cancel()

        for _ in range(20):
            nursery.start_soon(hang)
    assert outcomes == [(StatusCode.RESOURCE_EXHAUSTED, "BUSY", 250)] * 17


@simulated(world_of)
async def test_another_protocol_is_told_apart(world: World) -> None:
    client = RpcClient(world.client, prefix="/fabstir-llm", system=world.near)
    with pytest.raises(ProtocolNotSupportedError) as caught:
        await client.unary(world.server.peer_id, QUOTE, job_pb2.QuoteRequest(model_id="m"), timeout_s=5.0)
    assert caught.value.needed == "/fabstir-llm/job/1.0.0"
    assert not caught.value.may_have_executed


HOSTILE = {
    "a gibibyte": (bytes.fromhex("8080808004") + bytes(5000), b"TOO_LARGE"),
    "garbage": (b"\x05\xff\xff\xff\xff\xff", b"MESSAGE_MALFORMED"),
    "an unknown method": (bytes.fromhex("0a0a060a04506f6e671200"), b"VERSION"),
    # method Quote, a valid request, and one byte more
    "a trailing byte": (bytes.fromhex("0e0a070a0551756f746512030a016d00"), b""),
}


@pytest.mark.parametrize(("data", "answer"), HOSTILE.values(), ids=HOSTILE.keys())
@simulated(world_of)
async def test_a_hostile_caller_harms_its_own_stream_only(world: World, data: bytes, answer: bytes) -> None:
    stream = await world.client.open_stream(world.server.peer_id, JOB_PROTOCOL)
    received = b""
    try:
        await stream.send(data)
        await stream.close_write()
        while piece := await stream.receive():
            received += piece
    except ConnectionLostError:
        assert not answer
    await stream.reset()
    assert (answer in received) if answer else not received
    assert world.jobs.quotes == []
    assert await world.quote("still here") == b"still here"


# --- the features on top ---


@simulated(world_of)
async def test_messages_between_real_nodes(world: World) -> None:
    near = DirectMessenger(world.rpc, world.near)
    far = DirectMessenger(RpcClient(world.server, prefix="/hostmesh", system=world.far), world.far)
    world.rpc_server.add_service(MESSAGE_SERVICE, far.inbox)
    world.serve()
    got: list[Message] = []
    far.on_message(got.append)
    async with trio.open_nursery() as nursery:
        await nursery.start(far.run)
        ack = await near.send(world.server.peer_id, {"text": "Grüße"})
        await near.send(world.server.peer_id, bytes(256 * 1024))
        with pytest.raises(FrameTooLargeError):
            await near.send(world.server.peer_id, bytes(256 * 1024 + 1))
        # The other way: that node serves no messages.
        with pytest.raises(ProtocolNotSupportedError):
            await far.send(world.client.peer_id, b"x")
        handler = world.rpc_server.stream_handlers()["/hostmesh/message/1.0.0"]
        losses = 2

        async def lossy(stream) -> None:  # type: ignore[no-untyped-def]
            nonlocal losses
            if losses:
                losses -= 1
                async with trio.open_nursery() as inner:

                    async def lose() -> None:
                        # After the delivery, so that only the acknowledgement is lost.
                        await eventually(lambda: len(got) == 3)
                        await stream.reset()

                    inner.start_soon(lose)
                    inner.start_soon(handler, stream)
                return
            await handler(stream)

        slow = trio.Event()

        async def hold(message: Message) -> None:
            if message.body == b"once" and losses == 1:
                await slow.wait()

        far.on_message(hold)
        world.server.set_stream_handler("/hostmesh/message/1.0.0", lossy)

        async def let_go() -> None:
            await eventually(lambda: not losses)
            slow.set()

        nursery.start_soon(let_go)
        again = await near.send(world.server.peer_id, b"once", timeout_s=20.0)
        assert again.attempts == 3
        nursery.cancel_scope.cancel()
    assert [message.body for message in got] == [{"text": "Grüße"}, bytes(256 * 1024), b"once"]
    assert got[0].sender == world.client.peer_id
    assert got[0].message_id == ack.message_id


@simulated(world_of)
async def test_status_between_real_nodes(world: World) -> None:
    jobs = 0

    def snapshot() -> HostStatus:
        return HostStatus(
            state=ServingState.AVAILABLE,
            active_jobs=jobs,
            queued_jobs=0,
            max_concurrent_jobs=1,
            max_queued_jobs=0,
            models=(),
            uptime_s=1.0,
            time_unix_s=world.far.unix_s(),
        )

    server = StatusServer(snapshot, world.far)
    world.rpc_server.add_service(STATUS_SERVICE, server)
    world.serve()
    client = StatusClient(world.rpc, world.near)
    await client.ping(world.server.peer_id)
    assert await client.ping(world.server.peer_id) == pytest.approx(ROUND_TRIP_S)
    assert (await client.get_snapshot(world.server.peer_id)).free_slots == 1
    async with client.watch_status(world.server.peer_id, min_interval_s=0.0) as watch:
        assert (await anext(watch)).active_jobs == 0
        for jobs in (1, 2, 3):
            server.changed()
            assert (await anext(watch)).active_jobs == jobs
    await quiet(world)
    assert server.watchers == 0
