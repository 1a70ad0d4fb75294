"""Calls between two nodes, over Noise and Yamux."""

from __future__ import annotations

import pytest
import trio
from tests.simulated.calling import JOB_PROTOCOL, QUOTE, ROUND_TRIP_S, RUN, World, quiet, run_request, world_of
from tests.support.simulated import simulated

from hostmesh.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    DialError,
    ProtocolNotSupportedError,
    RpcError,
    StatusCode,
)
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.limits import CallLimits, RpcLimits
from hostmesh.testing import SimNetwork
from hostmesh.v1 import job_pb2


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
async def test_a_deadline_is_told_from_silence_in_any_fraction_of_a_second(world: World) -> None:
    await world.quote("warm")
    for number in range(200):
        timeout_s = 1.11 + number / 100
        with pytest.raises(DeadlineExceededError):
            async with world.rpc.server_stream(
                world.server.peer_id, RUN, run_request(0, 0), timeout_s=timeout_s
            ) as stream:
                await anext(stream)


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


@simulated()
async def test_a_refused_call_whose_caller_leaves_is_counted_once(net: SimNetwork) -> None:
    limits = RpcLimits(per_peer=CallLimits(max_concurrent=1, calls_per_s=1000.0, burst=1000))
    async with world_of(net, limits) as world, trio.open_nursery() as nursery:
        nursery.start_soon(world.quote, "hang")
        await world.jobs.started.wait()
        stream = await world.client.open_stream(world.server.peer_id, JOB_PROTOCOL)
        await stream.send(b"")
        await trio.sleep(1)
        await stream.reset()
        await trio.sleep(1)
        counters = world.rpc_server.counters
        assert counters.calls == {("JobService", "RESOURCE_EXHAUSTED"): 1}
        assert not counters.abandoned
        nursery.cancel_scope.cancel()


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
