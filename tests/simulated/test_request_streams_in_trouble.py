"""Calls with a stream of requests whose peer breaks the protocol, the connection or its silence."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from google.protobuf.wrappers_pb2 import Int64Value
from tests.support.simulated import simulated
from tests.support.sums_service import LINK, PROTOCOL, SUMS, World, world_on

from hostmesh.errors import ConnectionLostError, DeadlineExceededError
from hostmesh.rpc.frames import encode_header_frame, encode_message_head
from hostmesh.rpc.method import method
from hostmesh.testing import make_service

HOSTILE = {
    "a second header": encode_header_frame(b"\x0a\x05Total"),
    "a status": bytes.fromhex("021a00"),
    "garbage": bytes.fromhex("03ffffff"),
    "no Int64Value": encode_message_head(1) + b"\xff",
    "a gibibyte": bytes.fromhex("8080808004"),
    "an end within a request": encode_message_head(9) + b"\x08",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
@simulated(world_on, network=LINK)
async def test_a_caller_that_breaks_the_protocol_is_told_so_and_ends_alone(world: World, data: bytes) -> None:
    stream = await world.near.sdk._running().node.open_stream(world.far.peer_id, PROTOCOL)
    good = encode_message_head(2) + Int64Value(value=4).SerializeToString()
    await stream.send(encode_header_frame(b"\x0a\x05Total") + good + data, end=True)
    answer = b""
    while chunk := await stream.receive():
        answer += chunk
    assert b"MESSAGE_MALFORMED" in answer or b"TOO_LARGE" in answer
    await stream.close()
    await world.settle()
    assert world.counters.violations == {"SumsService": 1}
    async with world.total() as call:
        assert (await call.finish()).value == 0


@simulated(world_on, network=LINK)
async def test_heartbeats_among_requests_mean_nothing(world: World) -> None:
    stream = await world.near.sdk._running().node.open_stream(world.far.peer_id, PROTOCOL)
    one = encode_message_head(2) + Int64Value(value=4).SerializeToString()
    await stream.send(encode_header_frame(b"\x0a\x05Total") + b"\0" * 1000 + one + b"\0" + one, end=True)
    answer = await stream.receive()
    assert answer == bytes.fromhex("0612020808" + "1a00")
    await stream.close()
    await world.settle()


@simulated(world_on, network=LINK)
async def test_a_lost_connection_ends_both_sides(world: World) -> None:
    async with world.total() as call:
        await call.send(Int64Value(value=1))
        await trio.sleep(1)
        world.network.cut(world.near.machine, world.far.machine)
        with pytest.raises(ConnectionLostError) as caught:
            await call.finish()
    assert caught.value.may_have_executed
    await world.settle()
    assert world.handler.ended == ["Cancelled"]


# --- heartbeats and silence ---


@simulated(world_on, network=LINK)
async def test_a_handler_that_takes_long_is_waited_for(world: World) -> None:
    """Its node says that it has the call; nothing else passes, and no timer ends it."""

    async def slow(requests: Any, context: Any) -> Int64Value:
        await trio.sleep(3600)
        return Int64Value(value=5)

    async def slow_and_many(request: Int64Value, context: Any, send: Any) -> None:
        for value in range(3):
            await trio.sleep(600)
            await send(Int64Value(value=value))

    world.serve(total=slow, count=slow_and_many)
    async with trio.open_nursery() as nursery:

        async def wait_for_total() -> None:
            async with world.total() as call:
                assert (await call.finish()).value == 5

        nursery.start_soon(wait_for_total)
        count = method(SUMS, "Count", Int64Value, Int64Value)
        async with world.client.server_stream(world.far.peer_id, count, Int64Value(), timeout_s=None) as responses:
            assert [each.value async for each in responses] == [0, 1, 2]
    await world.settle()


@simulated(world_on, network=LINK)
async def test_a_slow_unary_call_is_waited_for_until_its_deadline(world: World) -> None:
    ask = make_service("ask", Ask=(Int64Value, Int64Value))
    ask_method = method(ask, "Ask", Int64Value, Int64Value)

    class Slow:
        async def ask(self, request: Int64Value, context: Any) -> Int64Value:
            await trio.sleep(request.value)
            return request

    world.far.sdk.serve(ask, Slow())
    peer_id = world.far.peer_id
    assert (await world.client.unary(peer_id, ask_method, Int64Value(value=500), timeout_s=600)).value == 500
    began = trio.current_time()
    with pytest.raises(DeadlineExceededError):
        await world.client.unary(peer_id, ask_method, Int64Value(value=500), timeout_s=200)
    assert trio.current_time() - began == pytest.approx(200, abs=0.1)


@pytest.mark.parametrize("timeout_s", [None, 600.0])
@simulated(world_on, network=LINK)
async def test_a_peer_that_says_nothing_of_a_call_is_given_up(world: World, timeout_s: float | None) -> None:
    """Its connection lives, and it takes the call: then it forgets it, as a node that is no hostmesh might."""

    async def forget(stream: Any) -> None:
        await trio.sleep_forever()

    world.far.sdk._running().node.set_stream_handler(PROTOCOL, forget)
    began = trio.current_time()
    async with world.total(timeout_s) as call:
        with pytest.raises(ConnectionLostError, match="said nothing of the call for 45 s") as caught:
            await call.finish()
    assert caught.value.may_have_executed
    assert trio.current_time() - began == pytest.approx(45, abs=0.2)
    assert world.near.sdk.get_discovery_manager().get_connected_peers() == (world.far.peer_id,)


@simulated(world_on, network=LINK)
async def test_a_caller_that_does_not_read_gets_its_heartbeats_later_and_holds_up_nobody(world: World) -> None:
    async def fill_and_wait(request: Int64Value, context: Any, send: Any) -> None:
        for _ in range(200_000):
            await send(Int64Value(value=2**60))

    async def slow(requests: Any, context: Any) -> Int64Value:
        await trio.sleep(200)
        return Int64Value(value=5)

    world.serve(total=slow, count=fill_and_wait)
    count = method(SUMS, "Count", Int64Value, Int64Value)
    async with world.client.server_stream(world.far.peer_id, count, Int64Value(), timeout_s=None) as responses:
        await trio.sleep(300)
        async with world.total() as call:
            assert (await call.finish()).value == 5
        assert len([each async for each in responses]) == 200_000
    await world.settle()
