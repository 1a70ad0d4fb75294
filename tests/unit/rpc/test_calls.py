"""Client and server over streams in memory, under a mock clock."""

from __future__ import annotations

import math

import pytest
import trio
from tests.support.memory_stream import MemoryNetwork
from tests.unit.rpc.call_kit import PING, PROTOCOL, SYSTEM, Pair
from trio.testing import MockClock, wait_all_tasks_blocked

from hostmesh.errors import (
    ConnectionLostError,
    DeadlineExceededError,
)
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.server import CallContext, SendResponse
from hostmesh.v1 import status_pb2

# --- the good way ---


async def test_a_unary_call(autojump_clock: MockClock, pair: Pair, nursery: trio.Nursery) -> None:
    await nursery.start(pair.server.run)  # calls with keys need it
    response = await pair.ping(b"hello", session_id=bytes(range(16)), idempotency_key=b"key", metadata={"trace": "7"})
    assert response.nonce == b"hello"
    (context,) = pair.handler.contexts
    assert context == CallContext(
        peer_id=pair.near.peer_id,
        method="StatusService.Ping",
        deadline=context.deadline,
        version="1.0.0",
        session_id=bytes(range(16)),
        idempotency_key=b"key",
        metadata={"trace": "7"},
    )
    assert context.deadline == pytest.approx(trio.current_time() + 5.0, abs=0.01)
    await pair.settle()
    assert pair.server.counters.calls == {("StatusService.Ping", "OK"): 1}


async def test_a_stream_of_responses(autojump_clock: MockClock, pair: Pair) -> None:
    async with pair.watch(300) as stream:
        assert [response.active_jobs async for response in stream] == list(range(300))
        assert [response async for response in stream] == []
    await pair.settle()
    assert pair.server.counters.calls == {("StatusService.WatchStatus", "OK"): 1}


async def test_an_empty_stream(autojump_clock: MockClock, pair: Pair) -> None:
    async with pair.watch(0) as stream:
        assert [response async for response in stream] == []
    await pair.settle()


async def test_a_timed_call_counts_the_answer_and_not_the_dial(autojump_clock: MockClock, pair: Pair) -> None:
    async def dial() -> None:
        await trio.sleep(3.0)

    async def slow(request: status_pb2.PingRequest, context: CallContext) -> status_pb2.PingResponse:
        await trio.sleep(0.25)
        return status_pb2.PingResponse()

    pair.near.before_open = dial
    pair.replace("ping", slow)
    _, seconds = await pair.client.unary_timed(pair.far.peer_id, PING, status_pb2.PingRequest(), timeout_s=9.0)
    assert seconds == pytest.approx(0.25, abs=0.01)


async def test_50_calls_at_once_and_200_in_a_row_end_each_once(autojump_clock: MockClock, pair: Pair) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(pair.ping, b"%d" % number)
    for number in range(200):
        assert (await pair.ping(b"%d" % number)).nonce == b"%d" % number
    await pair.settle()
    assert pair.handler.calls == 250
    assert pair.server.counters.calls == {("StatusService.Ping", "OK"): 250}


# --- deadlines ---


async def test_the_clients_deadline_reaches_the_handler(autojump_clock: MockClock, pair: Pair) -> None:
    pair.replace("ping", pair.handler.hang)
    started = trio.current_time()
    with pytest.raises(DeadlineExceededError) as caught:
        await pair.ping(timeout_s=2.0)
    assert trio.current_time() - started == pytest.approx(2.0, abs=0.3)
    assert caught.value.may_have_executed
    await pair.handler.cancelled.wait()
    await pair.settle()


async def test_the_server_enforces_the_deadline_itself(autojump_clock: MockClock, pair: Pair) -> None:
    pair.replace("ping", pair.handler.hang)
    stream = await pair.near.open_stream(pair.far.peer_id, PROTOCOL)
    # header: method Ping, deadline_left_ms 5000; an empty request
    await stream.send(bytes.fromhex("0d0a090a0450696e671088271200"))
    await stream.close_write()
    started = trio.current_time()
    answer = await stream.receive()
    assert trio.current_time() - started == pytest.approx(5.0, abs=0.01)
    assert b"deadline" in answer
    assert pair.handler.cancelled.is_set()
    await stream.close()
    await pair.settle()
    assert pair.server.counters.calls == {("StatusService.Ping", "DEADLINE_EXCEEDED"): 1}


async def test_a_deadline_in_the_dial_is_never_executed(autojump_clock: MockClock, pair: Pair) -> None:
    pair.near.before_open = trio.sleep_forever
    with pytest.raises(DeadlineExceededError) as caught:
        await pair.ping(timeout_s=2.0)
    assert not caught.value.may_have_executed
    assert caught.value.retry_safe


async def test_the_dial_is_part_of_the_time_that_the_server_gets(autojump_clock: MockClock, pair: Pair) -> None:
    async def dial() -> None:
        await trio.sleep(3.0)

    pair.near.before_open = dial
    await pair.ping(timeout_s=5.0)
    (context,) = pair.handler.contexts
    assert context.deadline == pytest.approx(trio.current_time() + 2.0, abs=0.01)


async def test_a_slow_reader_is_never_timed_out_but_by_itself(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    # W19: ten virtual minutes of a stream whose window is full most of the time.
    pair = Pair(nursery, window_bytes=64)
    seen = 0
    async with pair.watch(600) as stream:
        async for _ in stream:
            seen += 1
            await trio.sleep(1.0)
    assert seen == 600
    await pair.settle()


async def test_the_deadline_of_a_stream_never_cancels_the_callers_block(autojump_clock: MockClock, pair: Pair) -> None:
    async def one(request: object, context: CallContext, send: SendResponse) -> None:
        await send(status_pb2.StatusSnapshot())
        await trio.sleep_forever()

    pair.replace("watch_status", one)
    async with pair.watch(0, timeout_s=5.0) as stream:
        assert (await anext(stream)).active_jobs == 0
        started = trio.current_time()
        await trio.sleep(60.0)
        assert trio.current_time() == started + 60.0
        with pytest.raises(DeadlineExceededError):
            await anext(stream)
    await pair.settle()


async def test_the_deadline_of_a_stream_ends_the_waiting(autojump_clock: MockClock, pair: Pair) -> None:
    pair.replace("watch_status", pair.handler.hang)
    with pytest.raises(DeadlineExceededError):
        async with pair.watch(1, timeout_s=5.0) as stream:
            await anext(stream)
    await pair.handler.cancelled.wait()
    await pair.settle()


# --- cancellation ---


async def test_leaving_a_stream_early_cancels_the_handler(autojump_clock: MockClock, pair: Pair) -> None:
    pair.replace("watch_status", pair.handler.hang)
    async with pair.watch(1):
        await pair.handler.started.wait()
        await trio.sleep(10.0)
    # At once, though the caller had closed its side long before.
    started = trio.current_time()
    await pair.handler.cancelled.wait()
    assert trio.current_time() == started
    await pair.settle()
    assert pair.server.counters.abandoned == {"StatusService.WatchStatus": 1}
    assert pair.server.counters.calls == {}


async def test_cancelling_the_caller_cancels_the_handler(autojump_clock: MockClock, pair: Pair) -> None:
    pair.replace("ping", pair.handler.hang)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as inner:
            inner.start_soon(pair.ping, b"", math.inf)
            await pair.handler.started.wait()
            scope.cancel()
    await pair.handler.cancelled.wait()
    await pair.settle()


async def test_a_caller_that_leaves_while_its_responses_wait_frees_the_handler(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    pair = Pair(nursery, window_bytes=64)
    async with pair.watch(1000) as stream:
        await anext(stream)
        await wait_all_tasks_blocked()
    await pair.settle()
    assert pair.server.counters.abandoned == {"StatusService.WatchStatus": 1}


async def test_a_cancelled_iteration_loses_no_response(autojump_clock: MockClock, pair: Pair) -> None:
    async def slowly(request: object, context: CallContext, send: SendResponse) -> None:
        for number in range(10):
            await trio.sleep(1.0)
            await send(status_pb2.StatusSnapshot(active_jobs=number))

    pair.replace("watch_status", slowly)
    seen = []
    async with pair.watch(0) as stream:
        while len(seen) < 10:
            with trio.move_on_after(0.3):
                seen.append((await anext(stream)).active_jobs)
    assert seen == list(range(10))


async def test_an_error_in_the_callers_block_passes_and_resets(autojump_clock: MockClock, pair: Pair) -> None:
    pair.replace("watch_status", pair.handler.hang)
    with pytest.raises(ZeroDivisionError):
        async with pair.watch(1):
            _ = 1 // 0
    await pair.settle()


async def test_no_leak_after_1000_timeouts(autojump_clock: MockClock, pair: Pair) -> None:
    # W11
    pair.replace("ping", pair.handler.hang)

    async def late() -> None:
        with pytest.raises(DeadlineExceededError):
            await pair.ping(timeout_s=0.5)

    for _ in range(20):
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(late)
        # Stay under the rate limit, which is not what this is about.
        await trio.sleep(5.0)
    await pair.settle()
    assert pair.near.open_streams == pair.far.open_streams == 0
    assert len(pair.near.opened) == 1000
    tasks = trio.lowlevel.current_statistics().tasks_living
    await pair.settle()
    assert tasks < 20


async def test_a_server_that_stops_cancels_its_handlers_and_resets(autojump_clock: MockClock, pair: Pair) -> None:
    pair.replace("ping", pair.handler.hang)
    async with trio.open_nursery() as connection:
        far = MemoryNetwork(connection)
        far.nodes[pair.far.peer_id] = pair.far
        near = far.node(1)
        client = RpcClient(near, prefix="/hostmesh", system=SYSTEM)

        async def stop() -> None:
            await pair.handler.started.wait()
            connection.cancel_scope.cancel()

        async def call() -> None:
            # Not of the server's nursery, so that it lives to see the end.
            with pytest.raises(ConnectionLostError):
                await client.unary(pair.far.peer_id, PING, status_pb2.PingRequest(), timeout_s=60.0)

        pair.network.nursery.start_soon(call)
        connection.start_soon(stop)
    assert pair.handler.cancelled.is_set()
    assert pair.server.counters.abandoned == {"StatusService.Ping": 1}
    await pair.settle()
