"""Direct messages that fail: why, and whether they may have arrived."""

from __future__ import annotations

import pytest
import trio
from tests.simulated.messaging import PROTOCOL, ROUND_TRIP_S, World, start_peer, world_of
from tests.simulated.nodes import Nodes, nodes_on
from tests.support.simulated import simulated

from hostmesh.errors import (
    AlreadyRunningError,
    ConnectionLostError,
    DeadlineExceededError,
    DialError,
    FrameTooLargeError,
    HostmeshError,
    ProtocolNotSupportedError,
    RpcError,
    StatusCode,
    UsageError,
)
from hostmesh.messaging.body import decode_body
from hostmesh.messaging.deliveries import DeliveryLimits
from hostmesh.messaging.direct import DirectMessenger
from hostmesh.messaging.inbox import Message
from hostmesh.net.autonat_message import DIAL_BACK_ID
from hostmesh.net.identify import IDENTIFY_ID, PUSH_ID
from hostmesh.net.ping import PING_ID
from hostmesh.rpc.client import RpcClient
from hostmesh.v1 import message_pb2
from hostmesh.v1.message_hostmesh import MessageServiceMethods


@simulated(world_of)
async def test_an_unreachable_peer(world: World) -> None:
    world.cut()
    await world.a.node.wait_disconnected(world.to)
    with pytest.raises(DialError) as caught:
        await world.a.messenger.send(world.to, b"x")
    assert not caught.value.may_have_executed
    assert caught.value.retry_safe
    assert world.took_s < 5.0


@simulated(world_of)
async def test_a_peer_that_comes_back_in_time(world: World) -> None:
    world.b.messenger.on_message(world.b.got.append)
    world.cut()

    async def come_back() -> None:
        await trio.sleep(0.15)
        world.net.heal()

    world.nursery.start_soon(come_back)
    ack = await world.a.messenger.send(world.to, b"x")
    assert ack.attempts in (2, 3)


@simulated(world_of)
async def test_another_protocol(world: World) -> None:
    system = world.a.system
    other = DirectMessenger(RpcClient(world.a.node, prefix="/fabstir-llm", system=system), system)
    with pytest.raises(ProtocolNotSupportedError) as caught:
        await other.send(world.to, b"x")
    assert caught.value.needed == "/fabstir-llm/message/1.0.0"
    assert set(caught.value.offered) - {IDENTIFY_ID, PUSH_ID, PING_ID, DIAL_BACK_ID} == {PROTOCOL}
    assert world.took_s <= 1.01 * ROUND_TRIP_S


@pytest.mark.parametrize(
    ("body", "size"),
    [(bytes(262145), 262145), ({"t": "x" * 262144}, 262152), ({"t": "é" * 131072}, 262152)],
)
@simulated(world_of)
async def test_too_large_a_message_is_never_sent(world: World, body: object, size: int) -> None:
    with pytest.raises(FrameTooLargeError) as caught:
        await world.a.messenger.send(world.to, body)  # type: ignore[arg-type]
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (size, 262144)
    await trio.sleep(1)
    assert world.net.trace.counts["data"] == world.sent


@pytest.mark.parametrize("body", [bytes(262144), {"t": "x" * 262136}])
@simulated(world_of)
async def test_the_largest_message_passes(world: World, body: object) -> None:
    world.b.messenger.on_message(world.b.got.append)
    await world.a.messenger.send(world.to, body)  # type: ignore[arg-type]
    assert world.b.got[0].body == body


@simulated(world_of)
async def test_a_lost_connection_says_that_it_may_have_arrived(world: World) -> None:
    world.b.messenger.on_message(world.b.got.append)
    world.lose_answers(100)
    with pytest.raises(ConnectionLostError) as caught:
        await world.a.messenger.send(world.to, b"x", retries=2)
    assert caught.value.may_have_executed
    assert not caught.value.retry_safe
    assert len(world.b.got) == 1


@simulated(world_of)
async def test_a_later_failure_does_not_hide_an_earlier_delivery(world: World) -> None:
    def leave(message: Message) -> None:
        world.cut()

    world.b.messenger.on_message(leave)
    world.lose_answers(1)
    with pytest.raises(DialError) as caught:
        await world.a.messenger.send(world.to, b"x")
    assert caught.value.may_have_executed
    assert not caught.value.retry_safe


@simulated(world_of)
async def test_a_peer_that_takes_no_messages_any_more_does_not_hide_an_earlier_delivery(world: World) -> None:
    world.b.messenger.on_message(lambda message: world.b.node.remove_stream_handler(PROTOCOL))
    world.lose_answers(1)
    with pytest.raises(ProtocolNotSupportedError) as caught:
        await world.a.messenger.send(world.to, b"x")
    assert caught.value.may_have_executed
    assert not caught.value.retry_safe


@simulated(world_of)
async def test_one_sender_to_a_slow_handler_does_not_keep_others_out(world: World) -> None:
    release = trio.Event()

    async def slow(message: Message) -> None:
        if message.body == b"slow":
            await release.wait()

    world.b.messenger.on_message(slow)
    refused: list[str] = []

    async def occupy() -> None:
        try:
            await world.a.messenger.send(world.to, b"slow", retries=0, timeout_s=60.0)
        except RpcError as error:
            refused.append(error.reason)

    async with trio.open_nursery() as nursery:
        for _ in range(80):
            nursery.start_soon(occupy)
        await trio.sleep(1.0)
        assert refused == ["BUSY"] * (80 - DeliveryLimits().max_in_progress_per_sender)
        other = await start_peer(world.nodes, world.b)
        await other.messenger.send(world.to, b"quick", retries=0, timeout_s=1.0)
        release.set()


@simulated(world_of)
async def test_a_peer_that_never_answers_takes_the_time_and_no_more(world: World) -> None:
    async def hang(message: Message) -> None:
        await trio.sleep_forever()

    world.b.messenger.on_message(hang)
    with pytest.raises(DeadlineExceededError) as caught:
        await world.a.messenger.send(world.to, b"x", timeout_s=12.0)
    assert world.took_s == pytest.approx(12.0, abs=0.1)
    assert caught.value.may_have_executed


@pytest.mark.parametrize("body", ["text", None, 7, {"x": object()}, {"x": float("nan")}, {"x": "\ud800"}])
@simulated(world_of)
async def test_what_is_no_message_is_refused(world: World, body: object) -> None:
    with pytest.raises(UsageError):
        await world.a.messenger.send(world.to, body)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        await world.a.messenger.send(world.to, b"", retries=-1)
    await trio.sleep(1)
    assert world.net.trace.counts["data"] == world.sent


# --- the receiving side's bounds ---


@simulated(nodes_on)
async def test_too_many_deliveries_at_once_are_answered(nodes: Nodes) -> None:
    receiver = await start_peer(nodes, limits=DeliveryLimits(max_in_progress=2))
    sender = await start_peer(nodes, receiver)
    await nodes.nursery.start(receiver.messenger.run)
    go_on = trio.Event()

    async def wait(message: Message) -> None:
        receiver.got.append(message)
        await go_on.wait()

    receiver.messenger.on_message(wait)
    refused: list[HostmeshError] = []

    async def send() -> None:
        try:
            await sender.messenger.send(receiver.node.peer_id, b"x", retries=0)
        except RpcError as error:
            refused.append(error)
            if len(refused) == 3:
                go_on.set()

    async with trio.open_nursery() as senders:
        for _ in range(5):
            senders.start_soon(send)
    assert [error.reason for error in refused if isinstance(error, RpcError)] == ["BUSY"] * 3
    assert len(receiver.got) == 2


@simulated(nodes_on)
async def test_stopping_refuses_what_was_not_delivered(nodes: Nodes) -> None:
    receiver = await start_peer(nodes)
    sender = await start_peer(nodes, receiver)
    started = trio.Event()
    cancelled = trio.Event()

    async def hang(message: Message) -> None:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    receiver.messenger.on_message(hang)
    async with trio.open_nursery() as running:
        await running.start(receiver.messenger.run)
        with pytest.raises(AlreadyRunningError):
            await receiver.messenger.run()

        async def stop() -> None:
            await started.wait()
            running.cancel_scope.cancel()

        nodes.nursery.start_soon(stop)
        with trio.CancelScope(shield=True), pytest.raises(RpcError) as caught:
            await sender.messenger.send(receiver.node.peer_id, b"x", retries=0)
    assert caught.value.reason == "STOPPING"
    assert cancelled.is_set()


HOSTILE_BODIES = {
    "no body": message_pb2.SendRequest(message_id=bytes(16)),
    "no JSON": message_pb2.SendRequest(message_id=bytes(16), json="{"),
    "a constant": message_pb2.SendRequest(message_id=bytes(16), json='{"x":NaN}'),
    "no object": message_pb2.SendRequest(message_id=bytes(16), json="[1]"),
    "depth": message_pb2.SendRequest(message_id=bytes(16), json='{"x":' + "[" * 100_000),
    "a long number": message_pb2.SendRequest(message_id=bytes(16), json='{"x":' + "1" * 100_000 + "}"),
}


@pytest.mark.parametrize("request_", HOSTILE_BODIES.values(), ids=HOSTILE_BODIES.keys())
@simulated(world_of)
async def test_a_hostile_body_is_refused_and_never_delivered(
    world: World, request_: message_pb2.SendRequest, caplog: pytest.LogCaptureFixture
) -> None:
    world.b.messenger.on_message(world.b.got.append)
    with pytest.raises(RpcError) as caught:
        await world.a.rpc.unary(world.to, MessageServiceMethods.SEND, request_, timeout_s=5.0)
    assert caught.value.status is StatusCode.INVALID_ARGUMENT
    assert world.b.got == []
    assert "failed" not in caplog.text


def test_a_body_of_both_kinds_cannot_be_told_apart_by_length() -> None:
    # An empty JSON text is present, and no JSON; empty bytes are a message.
    assert decode_body(message_pb2.SendRequest(data=b"")) == b""
    with pytest.raises(HostmeshError):
        decode_body(message_pb2.SendRequest(json=""))
