"""Direct messages between nodes: each is delivered once to every handler, and acknowledged then."""

from __future__ import annotations

import pytest
import trio
from tests.simulated.messaging import World, world_of
from tests.support.simulated import simulated

from hostmesh.errors import (
    RpcError,
    StatusCode,
)
from hostmesh.messaging.inbox import Message

BODIES = [b"", b"\x00\xff" * 10, {}, {"text": "Grüße", "n": [1, 2.5, None, True], "deep": {"a": {"b": []}}}]


@pytest.mark.parametrize("body", BODIES)
@simulated(world_of)
async def test_a_message_arrives_with_its_sender(world: World, body: object) -> None:
    # W34
    world.b.messenger.on_message(world.b.got.append)
    ack = await world.a.messenger.send(world.to, body)  # type: ignore[arg-type]
    assert ack.attempts == 1
    assert world.b.got == [Message(sender=world.a.node.peer_id, message_id=ack.message_id, body=body)]  # type: ignore[arg-type]


@simulated(world_of)
async def test_both_directions_and_many_messages(world: World) -> None:
    for peer in (world.a, world.b):
        peer.messenger.on_message(peer.got.append)
    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(world.a.messenger.send, world.to, {"n": number})
            nursery.start_soon(world.b.messenger.send, world.a.node.peer_id, {"n": number})
    for peer in (world.a, world.b):
        assert sorted(message.body["n"] for message in peer.got) == list(range(40))  # type: ignore[index, call-overload]
        assert len({message.message_id for message in peer.got}) == 40


@simulated(world_of)
async def test_a_lost_acknowledgement_delivers_once(world: World) -> None:
    world.b.messenger.on_message(world.b.got.append)
    world.lose_answers(2)
    ack = await world.a.messenger.send(world.to, b"once")
    assert ack.attempts == 3
    assert [message.body for message in world.b.got] == [b"once"]
    assert world.b.messenger.inbox.counters == {"delivered": 1, "repeated": 2}


@simulated(world_of)
async def test_a_lost_request_is_sent_again(world: World) -> None:
    world.b.messenger.on_message(world.b.got.append)
    world.lose_answers(1, after=False)
    ack = await world.a.messenger.send(world.to, b"again")
    assert ack.attempts == 2
    assert len(world.b.got) == 1


@simulated(world_of)
async def test_a_slow_handler_runs_once_though_the_sender_tries_again(world: World) -> None:
    finished = 0

    async def slow(message: Message) -> None:
        nonlocal finished
        world.b.got.append(message)
        await trio.sleep(10.0)
        finished += 1

    world.b.messenger.on_message(slow)
    ack = await world.a.messenger.send(world.to, b"slow", timeout_s=16.0, retries=3)
    # 4 s, then 4 s, then it is there.
    assert ack.attempts == 3
    assert world.took_s == pytest.approx(10.0, abs=0.5)
    assert (len(world.b.got), finished) == (1, 1)


@simulated(world_of)
async def test_acknowledged_means_that_every_handler_had_it(world: World) -> None:
    async def slow(message: Message) -> None:
        await trio.sleep(3.0)
        world.b.got.append(message)

    world.b.messenger.on_message(slow)
    world.b.messenger.on_message(world.b.got.append)
    await world.a.messenger.send(world.to, b"x")
    assert len(world.b.got) == 2


@simulated(world_of)
async def test_a_failing_handler_stops_no_other(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def fail(message: Message) -> None:
        raise ValueError("sync")

    async def fail_later(message: Message) -> None:
        await trio.sleep(0.1)
        raise ValueError("async")

    def meddle(message: Message) -> None:
        assert isinstance(message.body, dict)
        message.body.clear()

    for handler in (fail, meddle, fail_later, world.b.got.append):
        world.b.messenger.on_message(handler)
    await world.a.messenger.send(world.to, {"secret": "prompt"})
    assert [message.body for message in world.b.got] == [{"secret": "prompt"}]
    assert world.b.messenger.inbox.counters["handler_failed"] == 2
    assert caplog.text.count("a message handler failed") == 2
    assert "prompt" not in caplog.text


@simulated(world_of)
async def test_unsubscribing(world: World) -> None:
    first: list[Message] = []
    remove = world.b.messenger.on_message(first.append)
    again = world.b.messenger.on_message(first.append)
    world.b.messenger.on_message(world.b.got.append)
    await world.a.messenger.send(world.to, b"1")
    assert len(first) == 2
    remove()
    remove()
    await world.a.messenger.send(world.to, b"2")
    assert len(first) == 3
    again()
    await world.a.messenger.send(world.to, b"3")
    assert (len(first), len(world.b.got)) == (3, 3)


@simulated(world_of)
async def test_nobody_listening_is_an_answer_and_the_message_may_come_again(world: World) -> None:
    with pytest.raises(RpcError) as caught:
        await world.a.messenger.send(world.to, b"early", retries=1)
    assert (caught.value.status, caught.value.reason) == (StatusCode.UNAVAILABLE, "NO_HANDLER")
    assert not caught.value.may_have_executed
    assert caught.value.retry_safe

    async def listen_later() -> None:
        await trio.sleep(0.2)
        world.b.messenger.on_message(world.b.got.append)

    world.nursery.start_soon(listen_later)
    ack = await world.a.messenger.send(world.to, b"later")
    assert ack.attempts > 1
    assert len(world.b.got) == 1
