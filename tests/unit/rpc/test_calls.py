"""Client and server over streams in memory, under a mock clock."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import pytest
import trio
from memory_stream import MemoryNetwork, MemoryNode
from trio.testing import MockClock, wait_all_tasks_blocked

from hostmesh.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    DialError,
    EngineError,
    FrameTooLargeError,
    HostmeshError,
    JobError,
    MalformedMessageError,
    ProtocolNotSupportedError,
    RpcError,
    SessionError,
    StatusCode,
    UsageError,
)
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.limits import CallLimits, RpcLimits
from hostmesh.rpc.method import method
from hostmesh.rpc.server import CallContext, RpcServer, SendResponse
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2, status_pb2

SERVICE = status_pb2.DESCRIPTOR.services_by_name["StatusService"]
DISCOVERY = discovery_pb2.DESCRIPTOR.services_by_name["DiscoveryService"]
PING = method(SERVICE, "Ping", status_pb2.PingRequest, status_pb2.PingResponse)
WATCH = method(SERVICE, "WatchStatus", status_pb2.WatchStatusRequest, status_pb2.StatusSnapshot)
GET_RECORD = method(DISCOVERY, "GetRecord", discovery_pb2.GetRecordRequest, discovery_pb2.GetRecordResponse)
PROTOCOL = "/hostmesh/status/1.0.0"

SYSTEM = System(monotonic_s=trio.current_time)


class Handler:
    """A status service whose methods a test replaces."""

    def __init__(self) -> None:
        self.contexts: list[CallContext] = []
        self.started = trio.Event()
        self.cancelled = trio.Event()
        self.calls = 0

    async def ping(self, request: status_pb2.PingRequest, context: CallContext) -> status_pb2.PingResponse:
        self.calls += 1
        self.contexts.append(context)
        return status_pb2.PingResponse(nonce=request.nonce)

    async def get_snapshot(
        self, request: status_pb2.GetSnapshotRequest, context: CallContext
    ) -> status_pb2.StatusSnapshot:
        return status_pb2.StatusSnapshot()

    async def watch_status(
        self, request: status_pb2.WatchStatusRequest, context: CallContext, send: SendResponse
    ) -> None:
        for number in range(request.min_interval_ms):
            await send(status_pb2.StatusSnapshot(active_jobs=number))

    async def hang(self, *arguments: object) -> None:
        """Stand in for a handler that never returns."""
        self.started.set()
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()


class Pair:
    """A client, a server and the handler between them."""

    def __init__(self, nursery: trio.Nursery, rpc_limits: RpcLimits | None = None, window_bytes: int = 262144) -> None:
        # A test that forgets to ask for the clock would wait for real.
        assert isinstance(trio.lowlevel.current_clock(), MockClock)
        self.network = MemoryNetwork(nursery, window_bytes=window_bytes)
        self.near: MemoryNode = self.network.node(1)
        self.far: MemoryNode = self.network.node(2)
        self.handler = Handler()
        self.server = RpcServer(prefix="/hostmesh", system=SYSTEM, limits=rpc_limits)
        self.server.add_service(SERVICE, self.handler)
        self.far.serve(self.server.stream_handlers())
        self.client = RpcClient(self.near, prefix="/hostmesh", system=SYSTEM)

    def replace(self, name: str, function: Callable[..., object]) -> None:
        setattr(self.handler, name, function)
        server = RpcServer(prefix="/hostmesh", system=SYSTEM, limits=self.server._book.limits)
        server.add_service(SERVICE, self.handler)
        self.server = server
        self.far.serve(server.stream_handlers())

    async def ping(self, nonce: bytes = b"n", timeout_s: float = 5.0, **more: object) -> status_pb2.PingResponse:
        request = status_pb2.PingRequest(nonce=nonce)
        return await self.client.unary(self.far.peer_id, PING, request, timeout_s=timeout_s, **more)  # type: ignore[arg-type]

    def watch(self, count: int, timeout_s: float | None = None):  # type: ignore[no-untyped-def]
        request = status_pb2.WatchStatusRequest(min_interval_ms=count)
        return self.client.server_stream(self.far.peer_id, WATCH, request, timeout_s=timeout_s)

    async def settle(self) -> None:
        """Wait until every stream is over, then check that nothing is left."""
        await trio.sleep(5.0)
        assert (self.near.open_streams, self.far.open_streams) == (0, 0)
        assert self.server.active_calls(self.near.peer_id) == 0
        assert self.far.handler_errors == []


@pytest.fixture
def pair(nursery: trio.Nursery) -> Pair:
    return Pair(nursery)


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


# --- what handlers raise ---


def after_a_lost_one(error: HostmeshError) -> HostmeshError:
    """Return the error of a call that was made again, and of which an earlier attempt may have run."""
    error.may_have_executed = True
    return error


@pytest.mark.parametrize(
    ("raised", "status", "reason"),
    [
        (RpcError("no such", status=StatusCode.NOT_FOUND, reason="GONE"), StatusCode.NOT_FOUND, "GONE"),
        (SessionError("no", reason="UNAUTHORIZED"), StatusCode.UNAUTHENTICATED, "UNAUTHORIZED"),
        (JobError("no", reason="QUOTE_EXPIRED"), StatusCode.FAILED_PRECONDITION, "QUOTE_EXPIRED"),
        (EngineError("http://127.0.0.1:1234 says no"), StatusCode.INTERNAL, "ENGINE_FAILED"),
        (DialError("no", stage="dial"), StatusCode.UNAVAILABLE, "DIAL_FAILED"),
        (ConnectionLostError("no", may_have_executed=False), StatusCode.UNAVAILABLE, "CONNECTION_LOST"),
        (ConnectionLostError("no"), StatusCode.UNKNOWN, "CONNECTION_LOST"),
        (JobError("no", reason="WORD", may_have_executed=True), StatusCode.UNKNOWN, "WORD"),
        (after_a_lost_one(RpcError("no", status=StatusCode.UNAVAILABLE, reason="WORD")), StatusCode.UNKNOWN, "WORD"),
        (after_a_lost_one(MalformedMessageError("no")), StatusCode.UNKNOWN, "MESSAGE_MALFORMED"),
        (
            FrameTooLargeError("big", size_bytes=2, limit_bytes=1),
            StatusCode.INVALID_ARGUMENT,
            "TOO_LARGE",
        ),
    ],
)
async def test_an_error_of_hostmesh_is_an_answer(
    autojump_clock: MockClock, pair: Pair, raised: HostmeshError, status: StatusCode, reason: str
) -> None:
    async def fail(*arguments: object) -> None:
        raise raised

    pair.replace("ping", fail)
    with pytest.raises(RpcError) as caught:
        await pair.ping()
    assert (caught.value.status, caught.value.reason) == (status, reason)
    assert caught.value.may_have_executed >= raised.may_have_executed
    assert "127.0.0.1" not in str(caught.value)
    assert pair.server.counters.handler_failures == {}
    await pair.settle()


@pytest.mark.parametrize(
    "raised",
    [
        ValueError("secret path /root/key"),
        UsageError("secret state"),
        ExceptionGroup("many", [ValueError("secret"), KeyError("secret")]),
    ],
)
async def test_anything_else_is_internal_without_its_text(
    autojump_clock: MockClock, pair: Pair, raised: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*arguments: object) -> None:
        raise raised

    pair.replace("ping", fail)
    with caplog.at_level(logging.ERROR, "hostmesh.rpc"), pytest.raises(RpcError) as caught:
        await pair.ping()
    assert caught.value.status is StatusCode.INTERNAL
    assert "secret" not in str(caught.value)
    assert caught.value.may_have_executed
    assert "the handler of StatusService.Ping failed" in caplog.text
    assert pair.server.counters.handler_failures == {"StatusService.Ping": 1}
    await pair.settle()


async def test_an_error_out_of_a_handlers_nursery_is_unwrapped(autojump_clock: MockClock, pair: Pair) -> None:
    async def refuse() -> None:
        raise RpcError("no", status=StatusCode.NOT_FOUND, reason="INNER")

    async def fail(*arguments: object) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(refuse)

    pair.replace("ping", fail)
    with pytest.raises(RpcError) as caught:
        await pair.ping()
    assert caught.value.reason == "INNER"


async def test_an_error_while_the_deadline_passes_is_no_crash(autojump_clock: MockClock, pair: Pair) -> None:
    # The group of both is an exception that `except Exception` does not see.
    async def fail(*arguments: object) -> None:
        async def late() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("on the way out")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(late)
            nursery.start_soon(trio.sleep_forever)

    pair.replace("ping", fail)
    with pytest.raises((RpcError, DeadlineExceededError)):
        await pair.ping(timeout_s=1.0)
    await pair.settle()
    await pair.settle()


@pytest.mark.parametrize("response", [None, status_pb2.PingResponse(nonce=bytes(33)), status_pb2.StatusSnapshot()])
async def test_a_handler_that_returns_nonsense_is_internal(
    autojump_clock: MockClock, pair: Pair, response: object
) -> None:
    async def nonsense(*arguments: object) -> object:
        return response

    pair.replace("ping", nonsense)
    with pytest.raises(RpcError) as caught:
        await pair.ping()
    assert caught.value.status is StatusCode.INTERNAL
    await pair.settle()


async def test_an_error_after_some_responses_comes_after_them(autojump_clock: MockClock, pair: Pair) -> None:
    async def fail(request: object, context: CallContext, send: SendResponse) -> None:
        await send(status_pb2.StatusSnapshot(active_jobs=1))
        raise RpcError("later", status=StatusCode.ABORTED, reason="LATER", retry_after_ms=7, details={"a": "b"})

    pair.replace("watch_status", fail)
    async with pair.watch(0) as stream:
        assert (await anext(stream)).active_jobs == 1
        for _ in range(2):
            with pytest.raises(RpcError) as caught:
                await anext(stream)
            assert (caught.value.reason, caught.value.retry_after_ms) == ("LATER", 7)
            assert caught.value.details == {"a": "b"}
    await pair.settle()


async def test_several_tasks_of_a_handler_may_send(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    pair = Pair(nursery, window_bytes=7)

    async def fan_out(request: object, context: CallContext, send: SendResponse) -> None:
        async with trio.open_nursery() as inner:
            for number in range(20):
                inner.start_soon(send, status_pb2.StatusSnapshot(active_jobs=number + 1))

    pair.replace("watch_status", fan_out)
    async with pair.watch(0) as stream:
        assert sorted([response.active_jobs async for response in stream]) == list(range(1, 21))


async def test_what_is_still_being_sent_comes_before_the_status(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """A handler may return while a task that it does not wait for sends a response, which comes whole."""
    pair = Pair(nursery, window_bytes=7)

    async def hasty(request: object, context: CallContext, send: SendResponse) -> None:
        for number in range(3):
            model = status_pb2.ModelStatus(model_id="x" * 50)
            nursery.start_soon(send, status_pb2.StatusSnapshot(active_jobs=number, models=[model]))
        await wait_all_tasks_blocked()

    pair.replace("watch_status", hasty)
    async with pair.watch(0) as stream:
        await trio.sleep(1.0)
        assert sorted([response.active_jobs async for response in stream]) == [0, 1, 2]
    await pair.settle()


# --- what was sent and what not ---


async def test_nothing_was_executed_where_nothing_was_sent(autojump_clock: MockClock, pair: Pair) -> None:
    other = method(DISCOVERY, "GetRecord", discovery_pb2.GetRecordRequest, discovery_pb2.GetRecordResponse)
    with pytest.raises(ProtocolNotSupportedError) as unknown:
        await pair.client.unary(pair.far.peer_id, other, discovery_pb2.GetRecordRequest(), timeout_s=1.0)
    assert unknown.value.needed == "/hostmesh/discovery/1.2.0"
    pair.far.reachable = False
    with pytest.raises(DialError) as unreachable:
        await pair.ping()
    for error in (unknown.value, unreachable.value):
        assert not error.may_have_executed
    with pytest.raises(UsageError):
        await pair.ping(nonce=bytes(33))
    with pytest.raises(UsageError):
        await pair.ping(metadata={"k": "v" * 2000})
    assert pair.near.opened == []


async def test_a_lost_stream_may_have_executed(autojump_clock: MockClock, pair: Pair) -> None:
    pair.replace("ping", pair.handler.hang)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def lose() -> None:
            await pair.handler.started.wait()
            (stream,) = pair.near.opened
            # As a connection that ends: both sides find the stream lost.
            await stream.reset()

        with pytest.raises(ConnectionLostError) as caught:
            await pair.ping()
    assert caught.value.may_have_executed
    assert not caught.value.retry_safe
    await pair.settle()


# --- registration ---


async def test_a_handler_must_have_every_method() -> None:
    server = RpcServer(prefix="/hostmesh", system=SYSTEM)
    with pytest.raises(UsageError, match="get_record"):
        server.add_service(DISCOVERY, Handler.__new__(Handler))


async def test_a_protocol_has_one_handler(autojump_clock: MockClock, pair: Pair) -> None:
    # W16: two handlers would answer twice.
    with pytest.raises(UsageError, match="served already"):
        pair.server.add_service(SERVICE, pair.handler)
    await pair.ping()
    assert pair.handler.calls == 1


async def test_the_prefix_changes_every_protocol_id(autojump_clock: MockClock, pair: Pair) -> None:
    server = RpcServer(prefix="/fabstir-llm", system=SYSTEM)
    server.add_service(SERVICE, pair.handler)
    assert list(server.stream_handlers()) == ["/fabstir-llm/status/1.0.0"]
    client = RpcClient(pair.near, prefix="/fabstir-llm", system=SYSTEM)
    with pytest.raises(ProtocolNotSupportedError) as caught:
        await client.unary(pair.far.peer_id, PING, status_pb2.PingRequest(), timeout_s=1.0)
    assert caught.value.offered == ("/hostmesh/status/1.0.0",)


async def test_a_service_that_was_removed_may_be_added_again(autojump_clock: MockClock, pair: Pair) -> None:
    pair.replace("ping", pair.handler.hang)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.ping)
        await pair.handler.started.wait()
        assert pair.server.remove_service(SERVICE) == (PROTOCOL,)
        assert pair.server.stream_handlers() == {}
        assert pair.server.remove_service(SERVICE) == ()
        pair.server.add_service(SERVICE, pair.handler)
        # What ran goes on.
        assert pair.server.active_calls(pair.near.peer_id) == 1
        nursery.cancel_scope.cancel()
    await pair.settle()


# --- limits ---


def tight(**changes: object) -> RpcLimits:
    values: dict[str, object] = {"per_peer": CallLimits(max_concurrent=2, calls_per_s=1.0, burst=5)}
    return RpcLimits(**(values | changes))  # type: ignore[arg-type]


async def test_too_many_calls_at_once_are_answered(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    # W10: an explicit answer, keyed on the remote peer.
    pair = Pair(nursery, tight())
    pair.replace("watch_status", pair.handler.hang)
    async with pair.watch(0), pair.watch(0):
        await pair.handler.started.wait()
        await wait_all_tasks_blocked()
        with pytest.raises(RpcError) as caught:
            await pair.ping()
        assert (caught.value.status, caught.value.reason) == (StatusCode.RESOURCE_EXHAUSTED, "BUSY")
        assert caught.value.retry_after_ms
        assert caught.value.retry_safe
        assert not caught.value.may_have_executed
        other = RpcClient(pair.network.node(3), prefix="/hostmesh", system=SYSTEM)
        await other.unary(pair.far.peer_id, PING, status_pb2.PingRequest(), timeout_s=1.0)
    await pair.settle()
    await pair.ping()
    assert pair.server.counters.calls[("StatusService", "RESOURCE_EXHAUSTED")] == 1


async def test_too_many_calls_a_second_are_answered_with_a_true_hint(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    pair = Pair(nursery, tight())
    for _ in range(5):
        await pair.ping()
    with pytest.raises(RpcError) as caught:
        await pair.ping()
    assert caught.value.reason == "RATE_LIMITED"
    assert caught.value.retry_after_ms is not None
    await trio.sleep(caught.value.retry_after_ms / 1000)
    await pair.ping()
    await pair.settle()


async def test_refused_callers_that_linger_are_bounded(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    limits = tight(per_peer=CallLimits(max_concurrent=1, calls_per_s=1.0, burst=1), max_lingering=3)
    pair = Pair(nursery, limits)
    await pair.ping()
    answers: list[bytes] = []

    async def stay() -> None:
        stream = await pair.near.open_stream(pair.far.peer_id, PROTOCOL)
        try:
            answers.append(await stream.receive())
            await trio.sleep_forever()
        except ConnectionLostError:
            answers.append(b"")
        finally:
            await stream.reset()

    async with trio.open_nursery() as callers:
        for _ in range(10):
            callers.start_soon(stay)
        await trio.sleep(0.1)
        assert sorted(b"RATE_LIMITED" in answer for answer in answers) == [False] * 7 + [True] * 3
        assert pair.far.open_streams == 3
        await trio.sleep(limits.linger_timeout_s)
        assert pair.far.open_streams == 0
        callers.cancel_scope.cancel()


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
