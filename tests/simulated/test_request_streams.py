"""Calls with any number of requests, between two nodes of a simulated network."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio
from google.protobuf.wrappers_pb2 import BytesValue, Int64Value
from tests.support.simulated import eventually, simulated
from tests.support.sums_service import LINK, PROTOCOL, RUNNING, SUMS, TOTAL, World, world_on

from hostmesh.errors import ConnectionLostError, DeadlineExceededError, RpcError, StatusCode, UsageError
from hostmesh.net.node_stream import NodeStream
from hostmesh.rpc.frames import encode_header_frame
from hostmesh.rpc.method import Cardinality, method


async def send_for_ever(call: Any) -> None:
    while True:
        await call.send(Int64Value(value=7))


def test_the_shapes_are_those_of_the_service() -> None:
    assert (TOTAL.cardinality, RUNNING.cardinality) == (Cardinality.CLIENT_STREAM, Cardinality.BIDI_STREAM)
    assert (TOTAL.takes_stream, TOTAL.gives_stream) == (True, False)
    assert (RUNNING.takes_stream, RUNNING.gives_stream) == (True, True)


@pytest.mark.parametrize("values", [[], [5], [*range(3000)]], ids=len)
@simulated(world_on, network=LINK)
async def test_any_number_of_requests_and_one_response(world: World, values: list[int]) -> None:
    async with world.total() as call:
        for value in values:
            await call.send(Int64Value(value=value))
        assert (await call.finish()).value == sum(values)
    assert world.handler.ended == ["end"]
    await world.settle()
    assert world.counters.calls == {("SumsService.Total", "OK"): 1}


@simulated(world_on, network=LINK)
async def test_each_request_is_answered_as_it_comes(world: World) -> None:
    async with world.running() as call:
        seen = []
        for value in (1, 2, 3):
            await call.send(Int64Value(value=value))
            seen.append((await call.__anext__()).value)
        await call.end()
        await call.end()
        assert [each.value async for each in call] == []
    assert seen == [1, 3, 6]
    await world.settle()


@simulated(world_on, network=LINK)
async def test_requests_and_responses_flow_at_once(world: World) -> None:
    got: list[int] = []
    async with world.running() as call, trio.open_nursery() as nursery:

        async def send() -> None:
            for _ in range(20_000):
                await call.send(Int64Value(value=1))
            await call.end()

        nursery.start_soon(send)
        got.extend([response.value async for response in call])
    assert got == [*range(1, 20_001)]
    await world.settle()


@simulated(world_on, network=LINK)
async def test_a_slow_handler_holds_its_caller_back(world: World) -> None:
    may_read = trio.Event()

    async def slow(requests: Any, context: Any) -> Int64Value:
        await may_read.wait()
        return Int64Value(value=sum([request.value async for request in requests]))

    world.serve(total=slow)
    sent = 0
    async with world.total() as call, trio.open_nursery() as nursery:

        async def send() -> None:
            nonlocal sent
            for _ in range(100_000):
                await call.send(Int64Value(value=1))
                sent += 1

        nursery.start_soon(send)
        await trio.sleep(100)
        held = sent
        assert held < 100_000, "no more than a window is on its way"
        await trio.sleep(100)
        assert sent == held
        may_read.set()
        await eventually(lambda: sent == 100_000)
        assert (await call.finish()).value == 100_000
    await world.settle()


@simulated(world_on, network=LINK)
async def test_leaving_cancels_the_handler(world: World) -> None:
    async with world.total() as call:
        await call.send(Int64Value(value=1))
        await trio.sleep(1)
    await world.settle()
    assert world.handler.ended == ["Cancelled"]
    assert world.counters.abandoned == {"SumsService.Total": 1}


@simulated(world_on, network=LINK)
async def test_the_deadline_ends_both_sides(world: World) -> None:
    began = trio.current_time()
    async with world.total(timeout_s=3.0) as call:
        await call.send(Int64Value(value=1))
        await trio.sleep(5)
        with pytest.raises(DeadlineExceededError) as caught:
            await call.finish()
    assert caught.value.may_have_executed
    assert trio.current_time() - began == pytest.approx(5, abs=0.1)
    await world.settle()
    assert world.handler.ended == ["Cancelled"]


@simulated(world_on, network=LINK)
async def test_a_send_that_waits_ends_by_the_deadline(world: World) -> None:
    async def never(requests: Any, context: Any) -> None:
        await trio.sleep_forever()

    world.serve(total=never)
    began = trio.current_time()
    async with world.total(timeout_s=3.0) as call:
        with pytest.raises(DeadlineExceededError):
            await send_for_ever(call)
    assert trio.current_time() - began == pytest.approx(3, abs=0.1)
    await world.settle()


@simulated(world_on, network=LINK)
async def test_an_error_before_the_last_request_reaches_a_caller_that_sends_on(world: World) -> None:
    async def refuse(requests: Any, context: Any) -> None:
        assert (await requests.__anext__()).value == 7
        raise RpcError("enough", status=StatusCode.FAILED_PRECONDITION, reason="ENOUGH")

    world.serve(total=refuse)
    async with world.total() as call:
        with pytest.raises(RpcError) as caught:
            await send_for_ever(call)
    assert (caught.value.status, caught.value.reason) == (StatusCode.FAILED_PRECONDITION, "ENOUGH")
    await world.settle()


@simulated(world_on, network=LINK)
async def test_a_status_that_sending_met_is_what_finishing_meets(world: World) -> None:
    async def refuse(requests: Any, context: Any) -> None:
        raise RpcError("enough", status=StatusCode.FAILED_PRECONDITION)

    world.serve(total=refuse)
    async with world.total() as call:
        with pytest.raises(RpcError):
            await send_for_ever(call)
        with trio.fail_after(1), pytest.raises(RpcError) as caught:
            await call.finish()
    assert caught.value.status is StatusCode.FAILED_PRECONDITION
    await world.settle()


@simulated(world_on, network=LINK)
async def test_an_answer_before_the_last_request_is_kept_for_finish(world: World) -> None:
    async def first(requests: Any, context: Any) -> Int64Value:
        return await requests.__anext__()

    world.serve(total=first)
    async with world.total() as call:
        with pytest.raises(UsageError, match="answered already") as caught:
            await send_for_ever(call)
        assert "finish" in caught.value.remedy
        assert (await call.finish()).value == 7
        with pytest.raises(UsageError, match="finished"):
            await call.finish()
    await world.settle()


@simulated(world_on, network=LINK)
async def test_after_the_answer_a_caller_that_sends_on_is_let_finish(world: World) -> None:
    """More than a window, which is read and dropped: no reset overtakes the answer at one that reads later."""

    async def at_once(requests: Any, context: Any) -> Int64Value:
        return Int64Value(value=1)

    world.serve(total=at_once)
    stream = await world.near.sdk._running().node.open_stream(world.far.peer_id, PROTOCOL)
    await stream.send(encode_header_frame(b"\x0a\x05Total"))
    for _ in range(16):
        await stream.send(bytes(64 * 1024))
    await stream.close_write()
    assert await stream.receive() == bytes.fromhex("0612020801" + "1a00")
    assert await stream.receive() == b""
    await stream.close()
    await world.settle()
    assert world.counters.calls == {("SumsService.Total", "OK"): 1}


@simulated(world_on, network=LINK)
async def test_a_handler_that_gives_up_waiting_loses_no_request(world: World) -> None:
    """It is cancelled at the very moment at which a request has come."""
    waiting, got = trio.CancelScope(), []

    async def impatient(requests: Any, context: Any) -> Int64Value:
        nonlocal waiting
        while True:
            with trio.CancelScope() as waiting:
                try:
                    got.append((await requests.__anext__()).value)
                except StopAsyncIteration:
                    return Int64Value(value=len(got))

    world.serve(total=impatient)
    take_data = NodeStream.take_data

    def take_and_cancel(stream: NodeStream, data: Any) -> None:
        take_data(stream, data)
        waiting.cancel()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NodeStream, "take_data", take_and_cancel)
        async with world.total() as call:
            for value in range(20):
                await call.send(Int64Value(value=value))
                await trio.sleep(0.1)
            assert (await call.finish()).value == 20
    assert got == [*range(20)]
    await world.settle()


@simulated(world_on, network=LINK)
async def test_an_answer_without_reading_ends_a_caller_that_sends_nothing(world: World) -> None:
    async def at_once(requests: Any, context: Any) -> Int64Value:
        return Int64Value(value=1)

    world.serve(total=at_once)
    async with world.total() as call:
        await trio.sleep(1)
        assert (await call.finish()).value == 1
    await world.settle()


@simulated(world_on, network=LINK)
async def test_after_the_status_of_a_bidirectional_call_sending_says_how_it_ended(world: World) -> None:
    async def refuse(requests: Any, context: Any, send: Any) -> None:
        await send(Int64Value(value=1))
        raise RpcError("enough", status=StatusCode.OUT_OF_RANGE)

    world.serve(running=refuse)
    async with world.running() as call:
        assert (await call.__anext__()).value == 1
        with pytest.raises(RpcError):
            await call.__anext__()
        with pytest.raises(RpcError) as caught:
            await call.send(Int64Value(value=1))
        assert caught.value.status is StatusCode.OUT_OF_RANGE
    await world.settle()


@pytest.mark.parametrize("status", [StatusCode.OK, StatusCode.OUT_OF_RANGE])
@simulated(world_on, network=LINK)
async def test_a_bidirectional_call_that_only_sends_learns_how_it_ended_and_loses_no_response(
    world: World, status: StatusCode
) -> None:
    async def two(requests: Any, context: Any, send: Any) -> None:
        assert (await requests.__anext__()).value == 7
        await send(Int64Value(value=1))
        await send(Int64Value(value=2))
        if status is not StatusCode.OK:
            raise RpcError("enough", status=status)

    world.serve(running=two)
    async with world.running() as call:
        for _ in range(2):
            with pytest.raises((RpcError, UsageError)) as caught:
                await send_for_ever(call)
            assert getattr(caught.value, "status", StatusCode.OK) is status
        await call.end()
        assert [(await call.__anext__()).value, (await call.__anext__()).value] == [1, 2]
        with pytest.raises((RpcError, StopAsyncIteration)) as caught:
            await call.__anext__()
        assert getattr(caught.value, "status", StatusCode.OK) is status
    await world.settle()


@simulated(world_on, network=LINK)
async def test_ending_a_bidirectional_call_that_has_ended_loses_no_response(world: World) -> None:
    async def one(requests: Any, context: Any, send: Any) -> None:
        await send(Int64Value(value=1))

    world.serve(running=one)
    async with world.running() as call:
        await trio.sleep(10.0)  # longer than the server waits for the end
        await call.end()
        assert [each.value async for each in call] == [1]
    await world.settle()


@pytest.mark.parametrize("seed", range(8))
@simulated(world_on, network=LINK)
async def test_a_task_that_sends_takes_nothing_from_the_one_that_reads(world: World, seed: int) -> None:
    async def some(requests: Any, context: Any, send: Any) -> None:
        for value in range(5 + seed):
            await requests.__anext__()
            await send(Int64Value(value=value))
        raise RpcError("enough", status=StatusCode.OUT_OF_RANGE)

    world.serve(running=some)
    seen: list[int] = []
    async with world.running() as call, trio.open_nursery() as nursery:

        async def read() -> None:
            with suppress(RpcError):
                async for response in call:
                    seen.append(response.value)  # noqa: PERF401 - what came before the error counts

        nursery.start_soon(read)
        with pytest.raises(RpcError) as caught:
            await send_for_ever(call)
        assert caught.value.status is StatusCode.OUT_OF_RANGE
    assert seen == [*range(5 + seed)]
    await world.settle()


@simulated(world_on, network=LINK)
async def test_the_deadline_of_a_bidirectional_call_ends_the_task_that_sends_and_the_one_that_reads(
    world: World,
) -> None:
    async def never(requests: Any, context: Any, send: Any) -> None:
        await trio.sleep_forever()

    world.serve(running=never)
    ends: list[Exception] = []
    async with world.running(timeout_s=3.0) as call, trio.open_nursery() as nursery:

        async def note(function: Any, *arguments: Any) -> None:
            with pytest.raises((DeadlineExceededError, ConnectionLostError)) as caught:
                await function(*arguments)
            ends.append(caught.value)

        nursery.start_soon(note, send_for_ever, call)
        nursery.start_soon(note, call.__anext__)
    assert [type(each) for each in ends] == [DeadlineExceededError] * 2
    await world.settle()


@simulated(world_on, network=LINK)
async def test_a_bidirectional_call_whose_connection_breaks_says_so(world: World) -> None:
    async with world.running() as call:
        await call.send(Int64Value(value=1))
        await trio.sleep(1)
        world.network.cut(world.near.machine, world.far.machine)
        with pytest.raises(ConnectionLostError) as caught:
            await send_for_ever(call)
        assert caught.value.may_have_executed
        assert (await call.__anext__()).value == 1
        with pytest.raises(ConnectionLostError):
            await call.__anext__()
        with pytest.raises(ConnectionLostError):
            await call.end()
    await world.settle()


@simulated(world_on, network=LINK)
async def test_what_is_no_request_is_refused_before_it_leaves(world: World) -> None:
    async with world.total() as call:
        with pytest.raises(UsageError, match="takes Int64Value"):
            await call.send(BytesValue(value=b"x"))
        await call.send(Int64Value(value=3))
        assert (await call.finish()).value == 3
        with pytest.raises(UsageError, match="ended"):
            await call.send(Int64Value(value=3))
    await world.settle()


@simulated(world_on, network=LINK)
async def test_a_call_of_another_shape_is_refused_before_anything_is_sent(world: World) -> None:
    count = method(SUMS, "Count", Int64Value, Int64Value)
    with pytest.raises(UsageError, match="client stream method"):
        await world.client.unary(world.far.peer_id, TOTAL, Int64Value(), timeout_s=1.0)
    for call in (
        world.client.server_stream(world.far.peer_id, TOTAL, Int64Value(), timeout_s=1.0),
        world.client.client_stream(world.far.peer_id, count, timeout_s=1.0),
        world.client.bidi_stream(world.far.peer_id, count, timeout_s=1.0),
    ):
        with pytest.raises(UsageError, match="stream method"):
            await call.__aenter__()
    assert PROTOCOL not in world.near.sdk.get_usage().outbound_streams
