"""Interceptors of clients and servers, between two nodes of a simulated network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

import pytest
import trio
from google.protobuf.wrappers_pb2 import Int64Value
from tests.support.simulated import eventually, simulated

from hostmesh import (
    DeadlineExceededError,
    DialError,
    HostmeshError,
    IncomingCall,
    OutgoingCall,
    ProtocolNotSupportedError,
    RetryPolicy,
    RpcClient,
    RpcError,
    StatusCode,
    UsageError,
    method,
    parse_peer_id,
)
from hostmesh.testing import LinkProfile, SimNetwork, SimNode, SimOptions, make_service, open_nodes

SUMS = make_service(
    "sums",
    streams=["Running", "Count"],
    request_streams=["Total", "Running"],
    Double=(Int64Value, Int64Value),
    Total=(Int64Value, Int64Value),
    Running=(Int64Value, Int64Value),
    Count=(Int64Value, Int64Value),
)
DOUBLE = method(SUMS, "Double", Int64Value, Int64Value)
TOTAL = method(SUMS, "Total", Int64Value, Int64Value)
RUNNING = method(SUMS, "Running", Int64Value, Int64Value)
COUNT = method(SUMS, "Count", Int64Value, Int64Value)
NOBODY = method(make_service("nobody", Ask=(Int64Value, Int64Value)), "Ask", Int64Value, Int64Value)
LINK = SimOptions(link=LinkProfile(latency_s=0.01))
CALLER: ContextVar[str] = ContextVar("CALLER", default="nobody")


class Log:
    """Notes every call: when it is entered, how it ended, and the order among several."""

    def __init__(self, name: str = "log", notes: list[str] | None = None) -> None:
        self.name = name
        self.notes: list[str] = [] if notes is None else notes
        self.calls: list[Any] = []
        self.refusal: Exception | None = None

    @asynccontextmanager
    async def intercept(self, call: IncomingCall | OutgoingCall) -> AsyncIterator[None]:
        assert call.status is None
        self.calls.append(call)
        self.notes.append(f"{self.name} in")
        if self.refusal is not None:
            raise self.refusal
        try:
            yield
        finally:
            self.notes.append(f"{self.name} {'None' if call.status is None else call.status.name}")

    @property
    def ends(self) -> list[str]:
        return ["in progress" if each.status is None else each.status.name for each in self.calls]


class Handler:
    """Adds up."""

    def __init__(self) -> None:
        self.calls = 0
        self.callers: list[str] = []
        self.metadata: dict[str, str] = {}
        self.error: Exception | None = None

    async def double(self, request: Int64Value, context: Any) -> Int64Value:
        self.calls += 1
        self.callers.append(CALLER.get())
        self.metadata = dict(context.metadata)
        if self.error is not None:
            raise self.error
        if request.value < 0:
            await trio.sleep_forever()
        return Int64Value(value=2 * request.value)

    async def total(self, requests: Any, context: Any) -> Int64Value:
        return Int64Value(value=sum([each.value async for each in requests]))

    async def running(self, requests: Any, context: Any, send: Any) -> None:
        async for request in requests:
            await send(request)

    async def count(self, request: Int64Value, context: Any, send: Any) -> None:
        for value in range(request.value):
            await send(Int64Value(value=value))
        if self.error is not None:
            raise self.error


class World:
    """A node that serves the sums, and one that calls it; both with a log around each call."""

    def __init__(self, network: SimNetwork, far: SimNode, near: SimNode) -> None:
        self.network, self.far, self.near = network, far, near
        self.handler = Handler()
        self.made, self.served = Log(), Log()
        self.serve(self.served)
        self.client = self.client_with(self.made)

    def client_with(self, *interceptors: Any) -> RpcClient:
        return self.near.sdk.get_rpc_client().with_interceptors(*interceptors)

    def serve(self, *interceptors: Any) -> None:
        self.far.sdk.withdraw(SUMS)
        self.far.sdk.serve(SUMS, self.handler, interceptors=interceptors)

    async def double(self, value: int, timeout_s: float = 5.0, **more: Any) -> int:
        request = Int64Value(value=value)
        return (await self.client.unary(self.far.peer_id, DOUBLE, request, timeout_s=timeout_s, **more)).value

    def count(self, value: int, timeout_s: float | None = None) -> Any:
        return self.client.server_stream(self.far.peer_id, COUNT, Int64Value(value=value), timeout_s=timeout_s)


@asynccontextmanager
async def world_on(network: SimNetwork) -> AsyncIterator[World]:
    async with open_nodes(network, 2) as (far, near):
        yield World(network, far, near)


@simulated(world_on, network=LINK)
async def test_every_shape_of_a_call_is_seen_on_both_sides(world: World) -> None:
    assert await world.double(4) == 8
    async with world.client.client_stream(world.far.peer_id, TOTAL, timeout_s=5) as call:
        await call.send(Int64Value(value=3))
        assert (await call.finish()).value == 3
    async with world.count(3) as responses:
        assert [each.value async for each in responses] == [0, 1, 2]
    async with world.client.bidi_stream(world.far.peer_id, RUNNING, timeout_s=None) as call:
        await call.send(Int64Value(value=7))
        assert (await call.__anext__()).value == 7
        await call.end()
        assert [each async for each in call] == []
    for log in (world.made, world.served):
        assert [each.method.full_name.removeprefix("SumsService.") for each in log.calls] == [
            "Double",
            "Total",
            "Count",
            "Running",
        ]
        assert log.ends == ["OK"] * 4
    assert [each.timeout_s for each in world.made.calls] == [5.0, 5, None, None]
    assert {each.peer_id for each in world.made.calls} == {world.far.peer_id}
    assert {each.context.peer_id for each in world.served.calls} == {world.near.peer_id}


@simulated(world_on, network=LINK)
async def test_the_first_is_the_outermost(world: World) -> None:
    notes: list[str] = []
    world.serve(Log("a", notes), Log("b", notes))
    await world.double(1)
    assert notes == ["a in", "b in", "b OK", "a OK"]
    notes.clear()
    client = world.client_with(Log("c", notes)).with_interceptors(Log("d", notes))
    await client.unary(world.far.peer_id, DOUBLE, Int64Value(), timeout_s=5)
    assert notes == ["c in", "d in", "a in", "b in", "b OK", "a OK", "d OK", "c OK"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RpcError("no", status=StatusCode.NOT_FOUND), "NOT_FOUND"),
        (KeyError("a bug"), "INTERNAL"),
        (ExceptionGroup("one", [RpcError("no", status=StatusCode.ABORTED)]), "ABORTED"),
    ],
)
@simulated(world_on, network=LINK)
async def test_a_failing_handler(world: World, error: Exception, status: str) -> None:
    world.handler.error = error
    with pytest.raises(RpcError) as raised:
        await world.double(1)
    assert raised.value.status.name == status
    async with world.count(1) as responses:
        with pytest.raises(RpcError):
            assert [each.value async for each in responses] == [0]
    assert world.made.ends == world.served.ends == [status, status]


@simulated(world_on, network=LINK)
async def test_a_handler_whose_response_is_none_of_its_method(world: World) -> None:
    async def nothing(*_: object) -> None:
        return None

    world.handler.double = world.handler.total = nothing  # type: ignore[assignment]
    world.serve(world.served)
    for options in ({}, {"idempotency_key": b"key"}):
        with pytest.raises(RpcError) as raised:
            await world.double(1, **options)
        assert raised.value.status is StatusCode.INTERNAL
        assert raised.value.may_have_executed
    async with world.client.client_stream(world.far.peer_id, TOTAL, timeout_s=None) as call:
        with pytest.raises(RpcError):
            await call.finish()
    assert world.made.ends == world.served.ends == ["INTERNAL"] * 3


@simulated(world_on, network=LINK)
async def test_a_deadline_on_both_sides(world: World) -> None:
    with pytest.raises(DeadlineExceededError):
        await world.double(-1, timeout_s=0.5)
    await eventually(lambda: world.served.ends == ["DEADLINE_EXCEEDED"])
    assert world.made.ends == ["DEADLINE_EXCEEDED"]


@simulated(world_on, network=LINK)
async def test_a_caller_that_leaves(world: World) -> None:
    with trio.move_on_after(0.5):
        await world.double(-1)
    async with world.count(10**6) as responses:
        await responses.__anext__()
    with pytest.raises(ValueError, match="of the block"):  # noqa: PT012
        async with world.count(10**6):
            await eventually(lambda: len(world.served.calls) == 3)
            raise ValueError("of the block")
    await eventually(lambda: world.served.ends == ["CANCELLED"] * 3)
    assert world.made.ends == ["CANCELLED"] * 3


async def fail_after(responses: list[Any]) -> None:
    assert len(responses) == 1
    raise ValueError("later")


@simulated(world_on, network=LINK)
async def test_what_ended_well_stays_so_whatever_the_block_does_then(world: World) -> None:
    with pytest.raises(ValueError, match="later"):
        async with world.count(1) as responses:
            await fail_after([each async for each in responses])
    assert world.made.ends == ["OK"]


@simulated(world_on, network=LINK)
async def test_an_error_that_the_block_swallows_is_still_how_the_call_ended(world: World) -> None:
    world.handler.error = RpcError("no", status=StatusCode.DATA_LOSS)
    async with world.count(0) as responses:
        with pytest.raises(RpcError):
            await responses.__anext__()
    assert world.made.ends == ["DATA_LOSS"]


@simulated(world_on, network=LINK)
async def test_calls_that_never_leave_have_a_status_too(world: World) -> None:
    stranger = parse_peer_id("12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN")
    with pytest.raises(DialError):
        await world.client.unary(stranger, DOUBLE, Int64Value(), timeout_s=2)
    with pytest.raises(ProtocolNotSupportedError):
        await world.client.unary(world.far.peer_id, NOBODY, Int64Value(), timeout_s=2)
    with pytest.raises(UsageError):
        await world.double(1, session_id=b"short")
    assert world.made.ends == ["UNAVAILABLE", "UNIMPLEMENTED", "INVALID_ARGUMENT"]
    assert world.served.calls == []


@simulated(world_on, network=LINK)
async def test_a_lost_connection(world: World) -> None:
    async def break_it() -> None:
        await eventually(lambda: world.handler.calls)
        world.far.machine.kill()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(break_it)
        with pytest.raises(HostmeshError):
            await world.double(-1, timeout_s=600)
    assert world.made.ends == ["UNAVAILABLE"]


@simulated(world_on, network=LINK)
async def test_a_server_refuses_before_the_handler(world: World) -> None:
    outer, inner = Log("outer"), Log("inner")
    inner.refusal = RpcError("not you", status=StatusCode.PERMISSION_DENIED, reason="NOT_YOU")
    world.serve(outer, inner)
    with pytest.raises(RpcError) as raised:
        await world.double(1)
    assert (raised.value.status, raised.value.reason) == (StatusCode.PERMISSION_DENIED, "NOT_YOU")
    with pytest.raises(RpcError):
        async with world.client.bidi_stream(world.far.peer_id, RUNNING, timeout_s=5) as call:
            await call.__anext__()
    assert world.handler.calls == 0
    assert outer.ends == ["PERMISSION_DENIED"] * 2
    inner.refusal = KeyError("a bug of an interceptor")
    with pytest.raises(RpcError) as raised:
        await world.double(1)
    assert (raised.value.status, raised.value.message) == (StatusCode.INTERNAL, "internal error")
    counters = world.far.sdk._running().server.counters
    assert counters.handler_failures == {"SumsService.Double": 1}


@simulated(world_on, network=LINK)
async def test_a_client_refuses_before_anything_is_sent(world: World) -> None:
    outer, inner = Log("outer"), Log("inner")
    inner.refusal = UsageError("not now")
    client = world.client_with(outer, inner)
    with pytest.raises(UsageError, match="not now"):
        await client.unary(world.far.peer_id, DOUBLE, Int64Value(), timeout_s=5)
    with pytest.raises(UsageError, match="not now"):
        async with client.server_stream(world.far.peer_id, COUNT, Int64Value(), timeout_s=5):
            pass
    assert outer.ends == ["INVALID_ARGUMENT"] * 2
    assert world.served.calls == []


@simulated(world_on, network=LINK)
async def test_metadata_is_added_to_that_of_the_call(world: World) -> None:
    class Tenant:
        @asynccontextmanager
        async def intercept(self, call: OutgoingCall) -> AsyncIterator[None]:
            call.metadata["tenant"] = "blue"
            yield

    given = {"colour": "red"}
    client = world.client_with(Tenant())
    await client.unary(world.far.peer_id, DOUBLE, Int64Value(), timeout_s=5, metadata=given)
    assert world.handler.metadata == {"colour": "red", "tenant": "blue"}
    assert given == {"colour": "red"}


@simulated(world_on, network=LINK)
async def test_what_an_interceptor_sets_is_there_for_its_call_alone(world: World) -> None:
    class Named:
        @asynccontextmanager
        async def intercept(self, call: IncomingCall) -> AsyncIterator[None]:
            token = CALLER.set(call.context.metadata.get("name", "anybody"))
            try:
                yield
            finally:
                CALLER.reset(token)

    world.serve(Named())
    async with trio.open_nursery() as nursery:
        for name in ("alice", "bob"):

            async def call(name: str = name) -> None:
                await world.double(1, metadata={"name": name})

            nursery.start_soon(call)
    await world.double(1)
    assert sorted(world.handler.callers) == ["alice", "anybody", "bob"]


@simulated(world_on, network=LINK)
async def test_one_that_swallows_the_error_of_its_call(world: World) -> None:
    class Swallows:
        @asynccontextmanager
        async def intercept(self, call: IncomingCall | OutgoingCall) -> AsyncIterator[None]:
            with suppress(RpcError):
                yield

    world.handler.error = RpcError("no", status=StatusCode.NOT_FOUND)
    with pytest.raises(UsageError, match="swallowed"):
        await world.client_with(Swallows()).unary(world.far.peer_id, DOUBLE, Int64Value(), timeout_s=5)
    world.serve(Swallows())
    with pytest.raises(RpcError) as raised:
        await world.double(1)
    assert raised.value.status is StatusCode.INTERNAL


@pytest.mark.parametrize("side", ["client", "server"])
@simulated(world_on, network=LINK)
async def test_one_that_fails_when_it_is_left_does_not_say_that_nothing_ran(world: World, side: str) -> None:
    """Its error means that *its* dial reached nobody; made again, the call would run twice."""

    class Audit:
        @asynccontextmanager
        async def intercept(self, call: IncomingCall | OutgoingCall) -> AsyncIterator[None]:
            yield
            raise DialError("the audit service is away", stage="dial")

    interceptors = [Audit()]
    if side == "server":
        world.far.sdk.withdraw(SUMS)
        world.far.sdk.serve(SUMS, world.handler, interceptors=interceptors)
        interceptors = []
    with pytest.raises(HostmeshError) as caught:
        await world.client_with(*interceptors).unary(
            world.far.peer_id, DOUBLE, Int64Value(value=1), timeout_s=30, retry=RetryPolicy()
        )
    assert (caught.value.may_have_executed, caught.value.retry_safe, world.handler.calls) == (True, False, 1)


@pytest.mark.parametrize("wait_s", [1.0, 100.0])
@simulated(world_on, network=LINK)
async def test_what_entering_takes_is_of_the_calls_time(world: World, wait_s: float) -> None:
    class Wait:
        @asynccontextmanager
        async def intercept(self, call: OutgoingCall) -> AsyncIterator[None]:
            await trio.sleep(wait_s)
            yield

    client = world.client_with(Wait())

    async def total() -> None:
        async with client.client_stream(world.far.peer_id, TOTAL, timeout_s=3) as call:
            await trio.sleep(5)
            await call.finish()

    async def double() -> None:
        await client.unary(world.far.peer_id, DOUBLE, Int64Value(value=-1), timeout_s=3)

    for make, takes_s in ((double, 3), (total, 3 if wait_s > 3 else wait_s + 5)):
        began_s = trio.current_time()
        with pytest.raises(DeadlineExceededError) as caught:
            await make()
        assert trio.current_time() - began_s == pytest.approx(takes_s, abs=0.05)
        assert caught.value.may_have_executed is (wait_s < 3)
    assert world.handler.calls == (wait_s < 3)


@simulated(network=LINK)
async def test_those_of_a_node_are_around_hostmeshs_own_calls_too(network: SimNetwork) -> None:
    made, served = Log(), Log()
    async with open_nodes(network, 2, client_interceptors=[made], server_interceptors=[served]) as (far, near):
        before = len(made.calls), len(served.calls)
        await near.sdk.get_status_client().ping(far.peer_id, timeout_s=5)
        assert len(made.calls) > before[0]
        assert "StatusService.Ping" in {each.method.full_name for each in made.calls}
        assert "StatusService.Ping" in {each.context.method for each in served.calls}
