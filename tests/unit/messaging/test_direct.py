"""Direct messages over streams in memory, under a mock clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import trio
from memory_stream import MemoryNetwork, MemoryNode
from trio.testing import MockClock

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
from hostmesh.messaging.methods import MESSAGE_SERVICE, SEND
from hostmesh.net.stream import Stream
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.server import RpcServer
from hostmesh.system import System
from hostmesh.v1 import message_pb2

SYSTEM = System(monotonic_s=trio.current_time)
PROTOCOL = "/hostmesh/message/1.0.0"


class Peer:
    """A node that sends and takes messages."""

    def __init__(self, network: MemoryNetwork, number: int, limits: DeliveryLimits | None = None) -> None:
        self.node: MemoryNode = network.node(number)
        self.messenger = DirectMessenger(RpcClient(self.node, prefix="/hostmesh", system=SYSTEM), SYSTEM, limits=limits)
        server = RpcServer(prefix="/hostmesh", system=SYSTEM)
        server.add_service(MESSAGE_SERVICE, self.messenger.inbox)
        self.node.serve(server.stream_handlers())
        self.got: list[Message] = []


class World:
    def __init__(self, nursery: trio.Nursery) -> None:
        assert isinstance(trio.lowlevel.current_clock(), MockClock)
        self.network = MemoryNetwork(nursery)
        self.nursery = nursery
        self.a = Peer(self.network, 1)
        self.b = Peer(self.network, 2)

    @property
    def to(self):  # type: ignore[no-untyped-def]
        return self.b.node.peer_id

    def lose_answers(self, count: int, *, after: bool = True) -> None:
        """Make b's next streams die, after or before the request was handled."""
        handler = self.b.node.handlers[PROTOCOL]
        left = count

        async def lossy(stream: Stream) -> None:
            nonlocal left
            if left > 0:
                left -= 1
                if after:
                    await handler(Muted(stream))
                await stream.reset()
                return
            await handler(stream)

        self.b.node.handlers[PROTOCOL] = lossy


class Muted:
    """A stream whose answers never arrive."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.peer_id = stream.peer_id
        self.protocol_id = stream.protocol_id
        self.receive = stream.receive
        self.receive_chunk = stream.receive_chunk

    async def send(self, data: bytes, *, head: bytes = b"", end: bool = False) -> None:
        await trio.lowlevel.checkpoint()

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        self._stream.on_lost(callback)

    async def wait_reset(self) -> None:
        await self._stream.wait_reset()

    async def close_write(self) -> None:
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()

    async def reset(self) -> None:
        await self._stream.reset()


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    world = World(nursery)
    for peer in (world.a, world.b):
        await nursery.start(peer.messenger.run)
    yield world
    nursery.cancel_scope.cancel()


BODIES = [b"", b"\x00\xff" * 10, {}, {"text": "Grüße", "n": [1, 2.5, None, True], "deep": {"a": {"b": []}}}]


@pytest.mark.parametrize("body", BODIES)
async def test_a_message_arrives_with_its_sender(autojump_clock: MockClock, world: World, body: object) -> None:
    # W34
    world.b.messenger.on_message(world.b.got.append)
    ack = await world.a.messenger.send(world.to, body)  # type: ignore[arg-type]
    assert ack.attempts == 1
    assert world.b.got == [Message(sender=world.a.node.peer_id, message_id=ack.message_id, body=body)]  # type: ignore[arg-type]


async def test_both_directions_and_many_messages(autojump_clock: MockClock, world: World) -> None:
    for peer in (world.a, world.b):
        peer.messenger.on_message(peer.got.append)
    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(world.a.messenger.send, world.to, {"n": number})
            nursery.start_soon(world.b.messenger.send, world.a.node.peer_id, {"n": number})
    for peer in (world.a, world.b):
        assert sorted(message.body["n"] for message in peer.got) == list(range(40))  # type: ignore[index, call-overload]
        assert len({message.message_id for message in peer.got}) == 40


async def test_a_lost_acknowledgement_delivers_once(autojump_clock: MockClock, world: World) -> None:
    world.b.messenger.on_message(world.b.got.append)
    world.lose_answers(2)
    ack = await world.a.messenger.send(world.to, b"once")
    assert ack.attempts == 3
    assert [message.body for message in world.b.got] == [b"once"]
    assert world.b.messenger.inbox.counters == {"delivered": 1, "repeated": 2}


async def test_a_lost_request_is_sent_again(autojump_clock: MockClock, world: World) -> None:
    world.b.messenger.on_message(world.b.got.append)
    world.lose_answers(1, after=False)
    ack = await world.a.messenger.send(world.to, b"again")
    assert ack.attempts == 2
    assert len(world.b.got) == 1


async def test_a_slow_handler_runs_once_though_the_sender_tries_again(autojump_clock: MockClock, world: World) -> None:
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
    assert trio.current_time() == pytest.approx(10.0, abs=0.5)
    assert (len(world.b.got), finished) == (1, 1)


async def test_acknowledged_means_that_every_handler_had_it(autojump_clock: MockClock, world: World) -> None:
    async def slow(message: Message) -> None:
        await trio.sleep(3.0)
        world.b.got.append(message)

    world.b.messenger.on_message(slow)
    world.b.messenger.on_message(world.b.got.append)
    await world.a.messenger.send(world.to, b"x")
    assert len(world.b.got) == 2


async def test_a_failing_handler_stops_no_other(
    autojump_clock: MockClock, world: World, caplog: pytest.LogCaptureFixture
) -> None:
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


async def test_unsubscribing(autojump_clock: MockClock, world: World) -> None:
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


async def test_nobody_listening_is_an_answer_and_the_message_may_come_again(
    autojump_clock: MockClock, world: World
) -> None:
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


# --- the causes of failure ---


async def test_an_unreachable_peer(autojump_clock: MockClock, world: World) -> None:
    world.b.node.reachable = False
    with pytest.raises(DialError) as caught:
        await world.a.messenger.send(world.to, b"x")
    assert not caught.value.may_have_executed
    assert caught.value.retry_safe
    assert trio.current_time() < 5.0


async def test_a_peer_that_comes_back_in_time(autojump_clock: MockClock, world: World) -> None:
    world.b.messenger.on_message(world.b.got.append)
    world.b.node.reachable = False

    async def come_back() -> None:
        await trio.sleep(0.15)
        world.b.node.reachable = True

    world.nursery.start_soon(come_back)
    ack = await world.a.messenger.send(world.to, b"x")
    assert ack.attempts in (2, 3)


async def test_another_protocol(autojump_clock: MockClock, world: World) -> None:
    other = DirectMessenger(RpcClient(world.a.node, prefix="/fabstir-llm", system=SYSTEM), SYSTEM)
    with pytest.raises(ProtocolNotSupportedError) as caught:
        await other.send(world.to, b"x")
    assert caught.value.needed == "/fabstir-llm/message/1.0.0"
    assert caught.value.offered == (PROTOCOL,)
    assert trio.current_time() == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize(
    ("body", "size"),
    [(bytes(262145), 262145), ({"t": "x" * 262144}, 262152), ({"t": "é" * 131072}, 262152)],
)
async def test_too_large_a_message_is_never_sent(
    autojump_clock: MockClock, world: World, body: object, size: int
) -> None:
    with pytest.raises(FrameTooLargeError) as caught:
        await world.a.messenger.send(world.to, body)  # type: ignore[arg-type]
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (size, 262144)
    assert world.a.node.opened == []


@pytest.mark.parametrize("body", [bytes(262144), {"t": "x" * 262136}])
async def test_the_largest_message_passes(autojump_clock: MockClock, world: World, body: object) -> None:
    world.b.messenger.on_message(world.b.got.append)
    await world.a.messenger.send(world.to, body)  # type: ignore[arg-type]
    assert world.b.got[0].body == body


async def test_a_lost_connection_says_that_it_may_have_arrived(autojump_clock: MockClock, world: World) -> None:
    world.b.messenger.on_message(world.b.got.append)
    world.lose_answers(100)
    with pytest.raises(ConnectionLostError) as caught:
        await world.a.messenger.send(world.to, b"x", retries=2)
    assert caught.value.may_have_executed
    assert not caught.value.retry_safe
    assert len(world.b.got) == 1


async def test_a_later_failure_does_not_hide_an_earlier_delivery(autojump_clock: MockClock, world: World) -> None:
    def leave(message: Message) -> None:
        world.b.node.reachable = False

    world.b.messenger.on_message(leave)
    world.lose_answers(1)
    with pytest.raises(DialError) as caught:
        await world.a.messenger.send(world.to, b"x")
    assert caught.value.may_have_executed
    assert not caught.value.retry_safe


async def test_a_peer_that_takes_no_messages_any_more_does_not_hide_an_earlier_delivery(
    autojump_clock: MockClock, world: World
) -> None:
    world.b.messenger.on_message(lambda message: world.b.node.handlers.clear())
    world.lose_answers(1)
    with pytest.raises(ProtocolNotSupportedError) as caught:
        await world.a.messenger.send(world.to, b"x")
    assert caught.value.may_have_executed
    assert not caught.value.retry_safe


async def test_one_sender_to_a_slow_handler_does_not_keep_others_out(autojump_clock: MockClock, world: World) -> None:
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
        other = Peer(world.network, 3)
        await other.messenger.send(world.to, b"quick", retries=0, timeout_s=1.0)
        release.set()


async def test_a_peer_that_never_answers_takes_the_time_and_no_more(autojump_clock: MockClock, world: World) -> None:
    async def hang(message: Message) -> None:
        await trio.sleep_forever()

    world.b.messenger.on_message(hang)
    with pytest.raises(DeadlineExceededError) as caught:
        await world.a.messenger.send(world.to, b"x", timeout_s=12.0)
    assert trio.current_time() == pytest.approx(12.0, abs=0.1)
    assert caught.value.may_have_executed


@pytest.mark.parametrize("body", ["text", None, 7, {"x": object()}, {"x": float("nan")}, {"x": "\ud800"}])
async def test_what_is_no_message_is_refused(autojump_clock: MockClock, world: World, body: object) -> None:
    with pytest.raises(UsageError):
        await world.a.messenger.send(world.to, body)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        await world.a.messenger.send(world.to, b"", retries=-1)
    assert world.a.node.opened == []


# --- the receiving side's bounds ---


async def test_too_many_deliveries_at_once_are_answered(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    network = MemoryNetwork(nursery)
    sender = Peer(network, 1)
    receiver = Peer(network, 2, DeliveryLimits(max_in_progress=2))
    await nursery.start(receiver.messenger.run)
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
    nursery.cancel_scope.cancel()


async def test_stopping_refuses_what_was_not_delivered(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    network = MemoryNetwork(nursery)
    sender, receiver = Peer(network, 1), Peer(network, 2)
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

        nursery.start_soon(stop)
        with trio.CancelScope(shield=True), pytest.raises(RpcError) as caught:
            await sender.messenger.send(receiver.node.peer_id, b"x", retries=0)
    assert caught.value.reason == "STOPPING"
    assert cancelled.is_set()
    nursery.cancel_scope.cancel()


HOSTILE_BODIES = {
    "no body": message_pb2.SendRequest(message_id=bytes(16)),
    "no JSON": message_pb2.SendRequest(message_id=bytes(16), json="{"),
    "a constant": message_pb2.SendRequest(message_id=bytes(16), json='{"x":NaN}'),
    "no object": message_pb2.SendRequest(message_id=bytes(16), json="[1]"),
    "depth": message_pb2.SendRequest(message_id=bytes(16), json='{"x":' + "[" * 100_000),
    "a long number": message_pb2.SendRequest(message_id=bytes(16), json='{"x":' + "1" * 100_000 + "}"),
}


@pytest.mark.parametrize("request_", HOSTILE_BODIES.values(), ids=HOSTILE_BODIES.keys())
async def test_a_hostile_body_is_refused_and_never_delivered(
    autojump_clock: MockClock, world: World, request_: message_pb2.SendRequest
) -> None:
    world.b.messenger.on_message(world.b.got.append)
    client = RpcClient(world.a.node, prefix="/hostmesh", system=SYSTEM)
    with pytest.raises(RpcError) as caught:
        await client.unary(world.to, SEND, request_, timeout_s=5.0)
    assert caught.value.status is StatusCode.INVALID_ARGUMENT
    assert world.b.got == []
    assert world.b.node.handler_errors == []


def test_a_body_of_both_kinds_cannot_be_told_apart_by_length() -> None:
    # An empty JSON text is present, and no JSON; empty bytes are a message.
    assert decode_body(message_pb2.SendRequest(data=b"")) == b""
    with pytest.raises(HostmeshError):
        decode_body(message_pb2.SendRequest(json=""))
