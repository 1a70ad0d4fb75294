"""The last frame of a call whose caller does not read it: how long it waits, and what becomes of the call's place."""

from __future__ import annotations

import pytest
import trio
from tests.unit.rpc.call_kit import PING, PROTOCOL, WATCH, Pair
from trio.testing import MockClock

from hostmesh.errors import ConnectionLostError, RpcError, StatusCode
from hostmesh.rpc.call import CallEnded, ClientCall
from hostmesh.rpc.header import Header
from hostmesh.rpc.served_call import encode_response
from hostmesh.rpc.server import CallContext, SendResponse
from hostmesh.v1 import status_pb2

WINDOW_BYTES = 8
"""No last frame fits."""
LINGER_S = 2.0
SOON_S = 0.1


@pytest.fixture
def pair(nursery: trio.Nursery) -> Pair:
    return Pair(nursery, window_bytes=WINDOW_BYTES)


async def fail(*_: object) -> None:
    raise RpcError("no" * 100, status=StatusCode.ABORTED, reason="MINE")


class Caller:
    """A caller by hand: it sends its request, and reads when a test says so."""

    def __init__(self, pair: Pair, deadline_s: float | None) -> None:
        self._pair = pair
        self._deadline_s = deadline_s
        self._call = ClientCall(PING, Header(method="Ping"), status_pb2.PingRequest(nonce=bytes(32)))

    async def start(self) -> None:
        self._stream = await self._pair.near.open_stream(self._pair.far.peer_id, PROTOCOL)
        await self._stream.send(self._call.start(self._deadline_s), end=True)

    async def read(self) -> StatusCode | None:
        """Return the status of the call; None where its stream is lost."""
        try:
            while piece := await self._stream.receive():
                self._call.feed(piece)
        except ConnectionLostError:
            await self._stream.reset()
            return None
        await self._stream.close()
        while not isinstance(event := self._call.next_event(), CallEnded):
            assert event is not None
        return event.outcome.status


def is_over(pair: Pair) -> bool:
    """Whether nothing of any call is left at the server."""
    return (pair.server.active_calls(pair.near.peer_id), pair.far.open_streams) == (0, 0)


# --- an answer ---


async def test_answers_that_nobody_reads_keep_their_places_until_the_callers_deadlines(
    autojump_clock: MockClock, pair: Pair
) -> None:
    callers = [Caller(pair, 0.5) for _ in range(20)]
    for caller in callers:
        await caller.start()
    await trio.sleep(0.4)
    assert pair.server.active_calls(pair.near.peer_id) == 20
    await trio.sleep(0.2)
    assert is_over(pair)
    assert pair.server.counters.abandoned == {"StatusService.Ping": 20}
    assert pair.server.counters.calls == {}
    assert [await caller.read() for caller in callers] == [None] * 20
    await pair.settle()


@pytest.mark.parametrize(("deadline_s", "read_after_s"), [(None, 10_000.0), (30.0, 29.0), (1.0, 0.9)])
async def test_an_answer_waits_as_long_as_the_caller_has_time(
    autojump_clock: MockClock, pair: Pair, deadline_s: float | None, read_after_s: float
) -> None:
    caller = Caller(pair, deadline_s)
    await caller.start()
    await trio.sleep(read_after_s)
    assert await caller.read() is StatusCode.OK
    await pair.settle()
    assert pair.server.counters.calls == {("StatusService.Ping", "OK"): 1}
    assert pair.server.counters.abandoned == {}


# --- an error ---


@pytest.mark.parametrize(
    ("deadline_s", "waits_s"), [(None, 10_000.0), (30.0, 30.0), (LINGER_S + 1, LINGER_S + 1), (0.5, LINGER_S)]
)
@pytest.mark.parametrize("is_read", [True, False], ids=["read", "unread"])
async def test_an_error_waits_as_long_as_the_caller_has_time_and_a_moment_at_least(
    autojump_clock: MockClock, pair: Pair, deadline_s: float | None, waits_s: float, is_read: bool
) -> None:
    pair.replace("ping", fail)
    caller = Caller(pair, deadline_s)
    await caller.start()
    await trio.sleep(waits_s - SOON_S)
    assert not is_over(pair)
    if is_read:
        assert await caller.read() is StatusCode.ABORTED
    elif deadline_s is not None:
        await trio.sleep(2 * SOON_S)
        assert is_over(pair)
        assert pair.server.counters.abandoned == {"StatusService.Ping": 1}
        assert await caller.read() is None
    else:
        pair.near.opened[0].break_connection()
        assert await caller.read() is None
    await pair.settle()


@pytest.mark.parametrize("read_after_s", [LINGER_S - SOON_S, LINGER_S + SOON_S])
async def test_that_the_time_is_up_is_told_for_a_moment(
    autojump_clock: MockClock, pair: Pair, read_after_s: float
) -> None:
    pair.replace("ping", pair.handler.hang)
    caller = Caller(pair, 5.0)
    await caller.start()
    await trio.sleep(5.0 + read_after_s)
    assert pair.handler.cancelled.is_set()
    if read_after_s < LINGER_S:
        assert await caller.read() is StatusCode.DEADLINE_EXCEEDED
    else:
        assert is_over(pair)
        assert await caller.read() is None
    await pair.settle()


@pytest.mark.parametrize("timeout_s", [None, 60.0])
async def test_a_slow_reader_of_a_stream_hears_how_it_ended(
    autojump_clock: MockClock, nursery: trio.Nursery, timeout_s: float | None
) -> None:
    """The responses fill its window, and the error comes behind them."""
    pair = Pair(nursery, window_bytes=20_000)
    sent = trio.Event()

    async def fill(request: object, context: CallContext, send: SendResponse) -> None:
        for number in range(10):
            models = [status_pb2.ModelStatus(model_id="x" * 60) for _ in range(30)]
            await send(status_pb2.StatusSnapshot(active_jobs=number, models=models))
        sent.set()
        await fail()

    pair.replace("watch_status", fill)
    received = []

    async def read_slowly() -> None:
        async with pair.watch(0, timeout_s=timeout_s) as responses:
            with trio.move_on_after(10):
                await sent.wait()
            await trio.sleep(30)
            async for response in responses:
                received.append(response.active_jobs)
                if len(received) == 10:
                    await trio.sleep(10)

    with pytest.raises(RpcError) as caught:
        await read_slowly()
    assert (caught.value.status, caught.value.reason) == (StatusCode.ABORTED, "MINE")
    assert received == list(range(10))
    await pair.settle()


@pytest.mark.parametrize("timeout_s", [None, 300.0])
async def test_a_heartbeat_that_has_no_room_takes_no_error_with_it(
    autojump_clock: MockClock, nursery: trio.Nursery, timeout_s: float | None
) -> None:
    snapshot = status_pb2.StatusSnapshot(active_jobs=7)
    pair = Pair(nursery, window_bytes=sum(map(len, encode_response(WATCH, snapshot))))

    async def fill_and_fail(request: object, context: CallContext, send: SendResponse) -> None:
        await send(snapshot)
        await trio.sleep(60)
        await fail()

    pair.replace("watch_status", fill_and_fail)
    await nursery.start(pair.server.run)
    async with pair.watch(0, timeout_s=timeout_s) as responses:
        await trio.sleep(120)
        assert (await anext(responses)).active_jobs == 7
        with pytest.raises(RpcError) as caught:
            await anext(responses)
    assert (caught.value.status, caught.value.reason) == (StatusCode.ABORTED, "MINE")
    await pair.settle()


# --- no time at all ---


async def test_no_handler_starts_for_a_caller_whose_time_is_up(autojump_clock: MockClock, pair: Pair) -> None:
    caller = Caller(pair, 0.0)
    await caller.start()
    assert await caller.read() is StatusCode.DEADLINE_EXCEEDED
    assert pair.handler.calls == 0
    await pair.settle()
    assert pair.server.counters.calls == {("StatusService.Ping", "DEADLINE_EXCEEDED"): 1}
