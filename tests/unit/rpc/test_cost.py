"""What a call costs, in scheduler passes and memory, which do not depend on the machine."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import AsyncIterator

import pytest
import trio
from memory_stream import memory_stream_pair, peer_number
from tests.benchmarks.rpc_cost import (
    BURST,
    MESSAGE_BYTES,
    PEER,
    REQUEST_BYTES,
    RESPONSE_BYTES,
    SERVICE,
    UNARY,
    CannedStream,
    Handler,
    Opener,
    client_of,
    payload,
    recorded,
    server_of,
    stream_costs,
    unary_costs,
    waiting_call_bytes,
)

from hostmesh.errors import ConnectionLostError, DeadlineExceededError
from hostmesh.rpc.call import ClientCall, ResponseReceived
from hostmesh.rpc.header import Header
from hostmesh.rpc.method import methods_of
from hostmesh.rpc.served_call import ServerCall, encode_response


class Steps(trio.abc.Instrument):
    """Counts how often the scheduler runs any task of the test."""

    count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


@pytest.fixture
async def steps() -> AsyncIterator[Steps]:
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    yield steps
    trio.lowlevel.remove_instrument(steps)


async def test_the_steps_are_counted(steps: Steps) -> None:
    before = steps.count
    await trio.lowlevel.checkpoint()
    assert steps.count > before


async def test_a_unary_call_whose_answer_is_there_waits_for_nothing(steps: Steps) -> None:
    _, answer = await recorded(Handler(payload(RESPONSE_BYTES)), streaming=False)
    client, request = client_of(Opener(answer)), payload(REQUEST_BYTES)
    before = steps.count
    for _ in range(100):
        response = await client.unary(PEER, UNARY, request, timeout_s=5.0)
        assert response == payload(RESPONSE_BYTES)
    assert steps.count == before


async def test_a_unary_call_whose_request_is_there_is_served_at_once(steps: Steps) -> None:
    handler = Handler(payload(RESPONSE_BYTES))
    request, answer = await recorded(handler, streaming=False)
    serve = server_of(handler)
    before = steps.count
    for _ in range(100):
        stream = CannedStream([request], keep=True)
        await serve(stream)
        # The answer and the end of the stream's side go in one piece.
        assert stream.sent == answer
    assert steps.count == before


async def test_a_unary_call_over_a_stream_takes_a_pass_on_each_side(steps: Steps) -> None:
    # The client waits for the server's task, and nothing else does.
    serve = server_of(Handler(payload(RESPONSE_BYTES)))
    async with trio.open_nursery() as nursery:

        class Wire:
            def start_stream(self, *_: object) -> None:
                return None

            async def open_stream(self, peer_id: object, protocol_id: str, *, timeout_s: float | None = None) -> object:
                near, far = memory_stream_pair(peer_number(1), peer_number(2), protocol_id)
                nursery.start_soon(serve, far)
                return near

        client, request = client_of(Wire()), payload(REQUEST_BYTES)  # type: ignore[arg-type]
        before = steps.count
        for _ in range(100):
            await client.unary(PEER, UNARY, request, timeout_s=5.0)
        assert steps.count - before <= 200


@pytest.mark.parametrize("timeout_s", [None, 60.0])
async def test_the_messages_of_a_stream_take_few_passes_and_not_none(steps: Steps, timeout_s: float | None) -> None:
    count = 10_000
    handler = Handler(payload(MESSAGE_BYTES), count)
    request, answer = await recorded(handler, streaming=True)
    client = client_of(Opener(answer))
    before = steps.count
    async with client.server_stream(PEER, BURST, payload(REQUEST_BYTES), timeout_s=timeout_s) as stream:
        seen = 0
        async for _ in stream:
            seen += 1
    assert seen == count
    # A loop over what has arrived gives way to others, though it never waits.
    assert count / 150 < steps.count - before < count / 100
    before = steps.count
    await server_of(handler)(CannedStream([request]))
    # The sending side gives way too: that is the stream's part.
    assert steps.count == before


async def test_a_fast_stream_starves_nobody() -> None:
    _, answer = await recorded(Handler(payload(MESSAGE_BYTES), 2000), streaming=True)
    others = 0

    async def other() -> None:
        nonlocal others
        while True:
            await trio.lowlevel.checkpoint()
            others += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        async with client_of(Opener(answer)).server_stream(
            PEER, BURST, payload(REQUEST_BYTES), timeout_s=None
        ) as stream:
            async for _ in stream:
                pass
        assert others >= 10
        nursery.cancel_scope.cancel()


async def test_a_loop_over_what_has_arrived_can_be_cancelled_and_loses_nothing() -> None:
    _, answer = await recorded(Handler(payload(MESSAGE_BYTES), 1000), streaming=True)
    async with client_of(Opener(answer)).server_stream(PEER, BURST, payload(REQUEST_BYTES), timeout_s=None) as stream:
        seen = 0
        for _ in range(3):
            with trio.CancelScope() as scope:
                scope.cancel()
                async for _ in stream:
                    seen += 1
            assert scope.cancelled_caught
        assert 0 < seen < 500
        async for _ in stream:
            seen += 1
    assert seen == 1000


async def test_a_call_that_waits_takes_less_than_four_kibibytes() -> None:
    assert await waiting_call_bytes(200) < 4096


def test_a_large_message_is_copied_never_into_its_frame_and_once_out_of_it() -> None:
    method, large = methods_of(SERVICE)["Burst"], payload(262144)
    caller, server = ClientCall(method, Header(method="Burst"), payload(1)), ServerCall({"Burst": method})
    server.feed(caller.start(None))
    assert server.next_event() is not None
    tracemalloc.start()
    try:
        head, data = encode_response(method, large)
        _, peak = tracemalloc.get_traced_memory()
        # Its serialised form.
        assert peak < len(data) + 4096
        frame = head + data
        chunks = [frame[start : start + 65536] for start in range(0, len(frame), 65536)]
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for chunk in chunks:
            caller.feed(chunk)
            event = caller.next_event()
        _, peak = tracemalloc.get_traced_memory()
        assert peak - before < len(frame) + 4096
    finally:
        tracemalloc.stop()
    assert event == ResponseReceived(large)


async def test_the_benchmark_measures() -> None:
    figures = await unary_costs(10) | await stream_costs("message", MESSAGE_BYTES, 100)
    assert list(figures) == ["unary, client", "unary, server", "message, client", "message, server"]


# --- a deadline that passes at every stage ---


class Stalling(CannedStream):
    """A stream that stands still at one of its methods."""

    def __init__(self, where: str, answer: list[bytes]) -> None:
        super().__init__(answer)
        self._where = where
        self._read_deadline = math.inf
        self.was_reset = False

    def send_nowait(self, data: bytes, *, end: bool = False) -> bool:
        return self._where != "send"

    def set_read_deadline(self, deadline: float) -> None:
        self._read_deadline = deadline

    async def send(self, data: bytes, *, head: bytes = b"", end: bool = False) -> None:
        await self._stall("send")

    async def receive_chunk(self) -> bytes | memoryview:
        with trio.CancelScope(deadline=self._read_deadline):
            await self._stall("receive")
            return await super().receive_chunk()
        raise DeadlineExceededError("nothing came in time")

    async def reset(self) -> None:
        self.was_reset = True

    async def _stall(self, where: str) -> None:
        if where == self._where:
            await trio.sleep_forever()


@pytest.mark.parametrize("where", ["open", "send", "receive"])
async def test_the_deadline_ends_a_unary_call_wherever_it_stands(
    autojump_clock: trio.testing.MockClock, where: str
) -> None:
    _, answer = await recorded(Handler(payload(RESPONSE_BYTES)), streaming=False)
    stream = Stalling(where, answer)

    class Node:
        def start_stream(self, *_: object) -> None:
            return None

        async def open_stream(self, *arguments: object, timeout_s: float | None = None) -> Stalling:
            if where == "open":
                await trio.sleep_forever()
            return stream

    started = trio.current_time()
    with pytest.raises(DeadlineExceededError) as caught:
        await client_of(Node()).unary(PEER, UNARY, payload(REQUEST_BYTES), timeout_s=3.0)  # type: ignore[arg-type]
    # The node has a second more, to say what is wrong with the path.
    assert trio.current_time() - started == pytest.approx(4.0 if where == "open" else 3.0, abs=0.01)
    assert caught.value.may_have_executed is (where != "open")
    assert stream.was_reset is (where != "open")


async def test_a_send_that_fails_leaves_the_answer_to_be_read() -> None:
    _, answer = await recorded(Handler(payload(RESPONSE_BYTES)), streaming=False)

    class Deaf(CannedStream):
        def send_nowait(self, data: bytes, *, end: bool = False) -> bool:
            raise ConnectionLostError("the peer reads no more")

    class Node:
        def start_stream(self, *_: object) -> None:
            return None

        async def open_stream(self, *arguments: object, timeout_s: float | None = None) -> Deaf:
            return Deaf(answer)

    response = await client_of(Node()).unary(PEER, UNARY, payload(REQUEST_BYTES), timeout_s=3.0)  # type: ignore[arg-type]
    assert response == payload(RESPONSE_BYTES)
