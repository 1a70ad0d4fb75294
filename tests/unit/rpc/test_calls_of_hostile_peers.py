"""Calls of callers and servers that break the protocol."""

from __future__ import annotations

import pytest
import trio
from tests.unit.rpc.call_kit import PROTOCOL, Pair
from trio.testing import MockClock, wait_all_tasks_blocked

from hostmesh.errors import (
    ConnectionLostError,
    HostmeshError,
    RpcError,
    StatusCode,
)
from hostmesh.rpc.server import CallContext, SendResponse
from hostmesh.v1 import status_pb2

# --- hostile callers ---


async def raw(pair: Pair, data: bytes, *, half_close: bool = True) -> bytes:
    """Send bytes as a caller and return everything that comes back until the end or a reset."""
    stream = await pair.near.open_stream(pair.far.peer_id, PROTOCOL)
    received = b""
    try:
        await stream.send(data)
        if half_close:
            await stream.close_write()
        while piece := await stream.receive():
            received += piece
    except ConnectionLostError:
        await stream.reset()
        return received + b"<reset>"
    await stream.close()
    return received


async def test_an_announced_gibibyte_is_refused_with_an_answer(autojump_clock: MockClock, pair: Pair) -> None:
    answer = await raw(pair, bytes.fromhex("8080808004") + bytes(1000))
    assert b"TOO_LARGE" in answer
    assert b"<reset>" not in answer
    await pair.settle()
    assert pair.server.counters.violations == {"StatusService": 1}
    assert (await pair.ping(b"still here")).nonce == b"still here"


async def test_a_caller_that_pours_is_cut_off_with_its_answer(autojump_clock: MockClock, pair: Pair) -> None:
    stream = await pair.near.open_stream(pair.far.peer_id, PROTOCOL)
    with pytest.raises(ConnectionLostError):
        await stream.send(bytes.fromhex("8080808004") + bytes(16 * 1024 * 1024))
    assert pair.near.opened[0].sent_bytes < 4 * 1024 * 1024
    await stream.reset()
    await pair.settle()


async def test_a_request_that_dribbles_in_is_cut_off(autojump_clock: MockClock, pair: Pair) -> None:
    stream = await pair.near.open_stream(pair.far.peer_id, PROTOCOL)
    started = trio.current_time()
    with pytest.raises(ConnectionLostError):  # noqa: PT012
        for byte in bytes.fromhex("170a090a0450696e67108827120a0a086162636465666768"):
            await stream.send(bytes([byte]))
            await trio.sleep(1.0)
    assert trio.current_time() - started == pytest.approx(10.0, abs=1.1)
    await stream.reset()
    await pair.settle()
    assert pair.handler.calls == 0
    assert pair.server.counters.violations == {"StatusService": 1}


async def test_a_caller_that_says_nothing_is_cut_off(autojump_clock: MockClock, pair: Pair) -> None:
    stream = await pair.near.open_stream(pair.far.peer_id, PROTOCOL)
    started = trio.current_time()
    with pytest.raises(ConnectionLostError):
        await stream.receive()
    assert trio.current_time() - started == pytest.approx(10.0, abs=0.1)
    await stream.reset()
    await pair.settle()


PING_REQUEST = bytes.fromhex("100a060a0450696e6712060a0461626364")


async def test_bytes_after_the_request_break_the_call_before_it_starts(autojump_clock: MockClock, pair: Pair) -> None:
    for more in (b"\x00", PING_REQUEST):
        assert await raw(pair, PING_REQUEST + more) == b"<reset>"
    await pair.settle()
    assert pair.handler.calls == 0
    assert pair.server.counters.violations == {"StatusService": 2}


async def test_bytes_later_than_the_request_break_the_call_before_it_starts(
    autojump_clock: MockClock, pair: Pair
) -> None:
    stream = await pair.near.open_stream(pair.far.peer_id, PROTOCOL)
    await stream.send(PING_REQUEST)
    await trio.sleep(5.0)
    await stream.send(b"\x00")
    with pytest.raises(ConnectionLostError):
        await stream.receive()
    await stream.reset()
    await pair.settle()
    assert pair.handler.calls == 0
    assert pair.server.counters.violations == {"StatusService": 1}


async def test_a_caller_that_closes_its_side_later_is_served_then(autojump_clock: MockClock, pair: Pair) -> None:
    stream = await pair.near.open_stream(pair.far.peer_id, PROTOCOL)
    await stream.send(PING_REQUEST)
    await trio.sleep(5.0)
    assert pair.handler.calls == 0
    await stream.close_write()
    assert await stream.receive() == bytes.fromhex("0a12060a04616263641a00")
    assert await stream.receive() == b""
    await stream.close()
    await pair.settle()
    assert pair.server.counters.violations == {}


async def test_a_caller_that_never_closes_its_side_is_cut_off(autojump_clock: MockClock, pair: Pair) -> None:
    stream = await pair.near.open_stream(pair.far.peer_id, PROTOCOL)
    started = trio.current_time()
    await stream.send(PING_REQUEST)
    with pytest.raises(ConnectionLostError):
        await stream.receive()
    assert trio.current_time() - started == pytest.approx(10.0, abs=0.1)
    await stream.reset()
    await pair.settle()
    assert pair.handler.calls == 0
    assert pair.server.counters.violations == {"StatusService": 1}


async def test_a_stream_lost_while_the_handler_works_cancels_it_at_once(autojump_clock: MockClock, pair: Pair) -> None:
    pair.replace("ping", pair.handler.hang)
    stream = await pair.near.open_stream(pair.far.peer_id, PROTOCOL)
    await stream.send(PING_REQUEST, end=True)
    await pair.handler.started.wait()
    started = trio.current_time()
    pair.near.opened[0].break_connection()
    await pair.handler.cancelled.wait()
    assert trio.current_time() == started
    await stream.reset()
    await pair.settle()
    assert pair.server.counters.abandoned == {"StatusService.Ping": 1}
    assert pair.server.counters.calls == {}


async def test_a_response_that_was_cut_off_ends_the_stream(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    # The handler gives up waiting for a slow reader in the middle of a frame, and tries to go on.
    pair = Pair(nursery, window_bytes=8)
    errors: list[ConnectionLostError] = []

    async def impatient(request: object, context: CallContext, send: SendResponse) -> None:
        snapshot = status_pb2.StatusSnapshot(models=[status_pb2.ModelStatus(model_id="x" * 50)])
        with trio.move_on_after(1.0):
            await send(snapshot)
        try:
            await send(snapshot)
        except ConnectionLostError as error:
            errors.append(error)

    pair.replace("watch_status", impatient)
    async with pair.watch(0) as stream:
        await trio.sleep(10.0)
        with pytest.raises(ConnectionLostError):
            await anext(stream)
    assert len(errors) == 1
    await pair.settle()
    assert pair.server.counters.abandoned == {"StatusService.WatchStatus": 1}


async def test_tasks_that_wait_to_send_have_their_turn_one_after_the_other(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    pair = Pair(nursery, window_bytes=7)

    async def greedy(request: object, context: CallContext, send: SendResponse) -> None:
        async def one(number: int) -> None:
            await send(status_pb2.StatusSnapshot(active_jobs=number))

        async with trio.open_nursery() as inner:
            inner.start_soon(send, status_pb2.StatusSnapshot(models=[status_pb2.ModelStatus(model_id="x" * 50)]))
            await wait_all_tasks_blocked()
            for number in range(1, 4):
                inner.start_soon(one, number)
                await wait_all_tasks_blocked()
            # One that is cancelled in the line does not take its turn with it.
            with trio.move_on_after(0):
                await send(status_pb2.StatusSnapshot(active_jobs=99))
            for number in range(4, 7):
                await send(status_pb2.StatusSnapshot(active_jobs=number))

    pair.replace("watch_status", greedy)
    async with pair.watch(0) as stream:
        await trio.sleep(1.0)
        assert [response.active_jobs async for response in stream] == [0, 1, 2, 3, 4, 5, 6]
    await pair.settle()


async def test_garbage_and_wrong_types_are_answered(autojump_clock: MockClock, pair: Pair) -> None:
    for data in (b"\x03\xff\xff\xff", b"\x00", bytes.fromhex("060a0208011200"), bytes.fromhex("8000")):
        assert b"MESSAGE_MALFORMED" in await raw(pair, data)
    unknown = bytes.fromhex("0a0a060a04506f6e671200")
    assert b"UNIMPLEMENTED" not in (answer := await raw(pair, unknown))
    assert b"VERSION" in answer
    assert b"Pong" in answer
    await pair.settle()
    assert pair.server.counters.violations == {"StatusService": 4}
    assert pair.handler.calls == 0


async def test_a_stream_that_opens_and_closes_is_no_harm(autojump_clock: MockClock, pair: Pair) -> None:
    assert await raw(pair, b"") == b"<reset>"
    await pair.settle()
    assert (await pair.ping(b"x")).nonce == b"x"


# --- hostile servers ---


HOSTILE_ANSWERS = {
    "no status": (bytes.fromhex("0212000000"[:6]), "CONNECTION_LOST"),
    "half a frame": (bytes.fromhex("0e120a0a08"), "CONNECTION_LOST"),
    "nothing": (b"", "CONNECTION_LOST"),
    "two statuses": (bytes.fromhex("041a020805" * 2), "MESSAGE_MALFORMED"),
    "a message after the status": (bytes.fromhex("041a020805021200"), "MESSAGE_MALFORMED"),
    "a byte after the status": (bytes.fromhex("0412001a00ff"), "MESSAGE_MALFORMED"),
    "a status of the wrong type": (bytes.fromhex("021805"), "MESSAGE_MALFORMED"),
    "a gibibyte": (bytes.fromhex("8080808004"), "FRAME_TOO_LARGE"),
    "two messages": (bytes.fromhex("0212000412001a00"), "MESSAGE_MALFORMED"),
}


@pytest.mark.parametrize(("data", "code"), HOSTILE_ANSWERS.values(), ids=HOSTILE_ANSWERS.keys())
async def test_what_a_hostile_server_sends(autojump_clock: MockClock, pair: Pair, data: bytes, code: str) -> None:
    async def answer(stream: object) -> None:
        await stream.receive()  # type: ignore[attr-defined]
        await stream.send(data)  # type: ignore[attr-defined]
        await stream.close_write()  # type: ignore[attr-defined]
        await trio.sleep_forever()

    pair.far.handlers[PROTOCOL] = answer
    with pytest.raises(HostmeshError) as caught:
        await pair.ping()
    assert caught.value.code == code
    assert caught.value.may_have_executed
    assert pair.near.open_streams == 0


async def test_a_server_that_dribbles_is_cut_off_by_the_deadline(autojump_clock: MockClock, pair: Pair) -> None:
    async def dribble(stream: object) -> None:
        while True:
            await stream.send(b"\x01")  # type: ignore[attr-defined]
            await trio.sleep(1.0)

    async def silent(stream: object) -> None:
        await trio.sleep(100.0)

    for behaviour in (dribble, silent):
        pair.far.handlers[PROTOCOL] = behaviour
        started = trio.current_time()
        with pytest.raises(HostmeshError):
            await pair.ping(timeout_s=3.0)
        assert trio.current_time() - started < 3.1


async def test_an_answer_before_the_request_was_read_is_heard(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    # The server refuses and hangs up while the caller is still sending.
    pair = Pair(nursery, window_bytes=4)

    async def refuse(stream: object) -> None:
        await stream.send(bytes.fromhex("041a0208"))  # type: ignore[attr-defined]
        await stream.send(bytes.fromhex("05"))  # type: ignore[attr-defined]
        await stream.close_write()  # type: ignore[attr-defined]
        while await stream.receive():  # type: ignore[attr-defined]
            pass

    pair.far.handlers[PROTOCOL] = refuse
    # Reading and writing do not wait for each other on the server's side only; give the answer room.
    pair.network.window_bytes = 8
    with pytest.raises(RpcError) as caught:
        await pair.ping()
    assert caught.value.status is StatusCode.NOT_FOUND


async def test_what_a_handler_raises_while_its_node_ends_goes_no_further(autojump_clock: MockClock) -> None:
    entered = trio.Event()

    async def fails_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("of the handler")

    async def ping(request: status_pb2.PingRequest, context: CallContext) -> status_pb2.PingResponse:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails_when_cancelled)
            entered.set()
            await trio.sleep_forever()
        raise AssertionError("unreachable")

    async with trio.open_nursery() as node:
        pair = Pair(node)
        pair.handler.ping = ping  # type: ignore[method-assign]
        pair.replace("ping", ping)
        node.start_soon(pair.ping, b"n", 60.0)
        await entered.wait()
        node.cancel_scope.cancel()
