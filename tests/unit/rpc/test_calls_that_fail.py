"""Calls that do not end well: what handlers raise, what was sent, what was not registered, what is too much."""

from __future__ import annotations

import logging

import pytest
import trio
from tests.unit.rpc.call_kit import PING, PROTOCOL, SERVICE, SYSTEM, Handler, Pair
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
from hostmesh.v1 import discovery_pb2, status_pb2

DISCOVERY = discovery_pb2.DESCRIPTOR.services_by_name["DiscoveryService"]


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
