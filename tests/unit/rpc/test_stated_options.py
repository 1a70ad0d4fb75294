"""What a service states in its .proto of limits and deadlines, at a server: before anything is read of a call."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import trio
from google.protobuf.wrappers_pb2 import Int64Value
from hypothesis import example, given
from hypothesis import strategies as st
from memory_stream import MemoryNetwork, MemoryNode, memory_stream_pair, peer_number
from tests.support.stated_options import stating
from trio.testing import MockClock

import hostmesh.rpc.server
from hostmesh.errors import ConnectionLostError, DeadlineExceededError, RpcError
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.frames import encode_request
from hostmesh.rpc.limits import (
    BUILT_IN_LIMITS,
    CallLimits,
    LimitTable,
    OverLimit,
    RpcLimits,
    ServiceLimits,
    stated_limits,
    with_stated,
)
from hostmesh.rpc.method import method, methods_of
from hostmesh.rpc.served_call import ServerCall
from hostmesh.rpc.server import CallContext, RpcServer
from hostmesh.system import System
from hostmesh.testing import make_service
from hostmesh.v1 import options_pb2

SYSTEM = System(monotonic_s=trio.current_time)
SUMS = make_service(
    "sums",
    streams=["Count"],
    request_streams=["Total"],
    Ask=(Int64Value, Int64Value),
    Count=(Int64Value, Int64Value),
    Total=(Int64Value, Int64Value),
)
PROTOCOL = "/hostmesh/sums/1.0.0"
OWN = CallLimits(max_concurrent=256, calls_per_s=100.0, burst=200)


# --- the options as limits ---


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, OWN),
        ({"max_concurrent": 3}, CallLimits(max_concurrent=3, calls_per_s=100.0, burst=200)),
        ({"burst": 7}, CallLimits(max_concurrent=256, calls_per_s=100.0, burst=7)),
        ({"calls_per_s": 2.0}, CallLimits(max_concurrent=256, calls_per_s=2.0, burst=2)),
        ({"calls_per_s": 0.01}, CallLimits(max_concurrent=256, calls_per_s=0.01, burst=1)),
        ({"calls_per_s": 1000.5}, CallLimits(max_concurrent=256, calls_per_s=1000.5, burst=1001)),
        (
            {"max_concurrent": 999, "calls_per_s": 5.0, "burst": 1},
            CallLimits(max_concurrent=999, calls_per_s=5.0, burst=1),
        ),
    ],
)
def test_what_is_stated_takes_the_place_of_the_servers_own(stated: dict[str, float], expected: CallLimits) -> None:
    assert with_stated(options_pb2.CallLimits(**stated), OWN) == expected  # type: ignore[arg-type]


@example(5e-324, 0, 0)
@example(1.7e308, 0, 0)
@given(st.floats(), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_every_statement_is_a_limit_or_refused(rate: float, burst: int, most: int) -> None:
    stated = options_pb2.CallLimits(calls_per_s=rate, burst=burst, max_concurrent=most)
    if math.isnan(rate) or math.isinf(rate) or rate < 0:
        with pytest.raises(ValueError, match="is no rate"):
            with_stated(stated, OWN)
        return
    limits = with_stated(stated, OWN)
    assert limits.burst == (burst or (max(math.ceil(rate), 1) if rate else 200))
    # And one that a table can work with: a first call passes, whatever is refused says when to come again.
    table = LimitTable(RpcLimits(per_peer=limits, per_service=limits))
    service = table.service("s")
    assert table.admit("a", service, 0.0) is None
    over = table.admit("a", service, 0.0)
    assert over is None or 1 <= over.retry_after_ms <= 10**12


def test_a_service_that_states_nothing_has_the_servers_limits() -> None:
    assert stated_limits(SUMS, RpcLimits()) is None
    assert stated_limits(stating(SUMS, per_peer={}, of_all={"burst": 0}), RpcLimits()) is None


def test_a_service_that_states_any_is_counted_by_itself() -> None:
    server = RpcLimits(per_peer=OWN)
    one = stating(SUMS, per_peer={"max_concurrent": 1})
    assert stated_limits(one, server) == ServiceLimits(
        group=one.full_name,
        per_peer=CallLimits(max_concurrent=1, calls_per_s=100.0, burst=200),
        per_service=server.per_service,
    )
    two = stating(make_service("more", Ask=(Int64Value, Int64Value)), per_peer={"max_concurrent": 1})
    table = LimitTable(server)
    calls = [table.service(each.full_name, stated_limits(each, server)) for each in (one, two)]
    assert [table.admit("a", each, 0.0) for each in (*calls, *calls)] == [None, None, *[OverLimit("BUSY", 250)] * 2]
    assert table.admit("b", calls[0], 0.0) is None


@pytest.mark.parametrize("rate", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("option", ["per_peer", "of_all"])
def test_a_rate_that_is_none_is_a_bug_of_the_proto(option: str, rate: float) -> None:
    service = stating(SUMS, **{option: {"calls_per_s": rate}})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"SumsService: calls_per_s of -?\w+ is no rate"):
        RpcServer(prefix="/hostmesh", system=SYSTEM).add_service(service, Handler())


def test_a_default_deadline_of_0_is_a_bug_of_the_proto() -> None:
    service = stating(SUMS, timeouts_ms={"Ask": 0})
    with pytest.raises(TypeError, match=r"Ask has a default_timeout_ms of 0"):
        method(service, "Ask", Int64Value, Int64Value)
    with pytest.raises(TypeError, match=r"Ask has a default_timeout_ms of 0"):
        RpcServer(prefix="/hostmesh", system=SYSTEM).add_service(service, Handler())
    methods = methods_of(stating(SUMS, timeouts_ms={"Ask": 1500}))
    assert (methods["Ask"].default_timeout_s, methods["Count"].default_timeout_s) == (1.5, None)


# --- admission ---


class Handler:
    """Sums that are never done, and what was known of each call."""

    def __init__(self) -> None:
        self.contexts: list[CallContext] = []
        self.ended_at: list[float] = []

    async def ask(self, request: Int64Value, context: CallContext) -> Int64Value:
        self.contexts.append(context)
        try:
            await trio.sleep(request.value)
        finally:
            self.ended_at.append(trio.current_time())
        return request

    async def count(self, request: Int64Value, context: CallContext, send: Any) -> None:
        await send(Int64Value(value=1))
        await self.ask(request, context)

    async def total(self, requests: Any, context: CallContext) -> Int64Value:
        return await self.ask(Int64Value(value=10**6), context)


class World:
    """A server of the sums in memory, and clients of it."""

    def __init__(self, nursery: trio.Nursery, **stated: Any) -> None:
        assert isinstance(trio.lowlevel.current_clock(), MockClock)
        self.service = stating(SUMS, **stated)
        self.methods = methods_of(self.service)
        self.network = MemoryNetwork(nursery)
        self.far: MemoryNode = self.network.node(1)
        self.handler = Handler()
        self.server = RpcServer(prefix="/hostmesh", system=SYSTEM)
        self.server.add_service(self.service, self.handler)
        self.far.serve(self.server.stream_handlers())
        nursery.start_soon(self.server.run)

    def client(self, number: int) -> RpcClient:
        return RpcClient(self.network.node(number), prefix="/hostmesh", system=SYSTEM)

    async def ask(self, client: RpcClient, seconds: int = 0, timeout_s: float = 1e6) -> None:
        await client.unary(self.far.peer_id, self.methods["Ask"], Int64Value(value=seconds), timeout_s=timeout_s)


@pytest.fixture
def world_of(nursery: trio.Nursery) -> Callable[..., World]:
    return lambda **stated: World(nursery, **stated)


async def test_a_peer_has_as_many_calls_at_once_as_the_service_states(
    autojump_clock: MockClock, nursery: trio.Nursery, world_of: Callable[..., World]
) -> None:
    world = world_of(per_peer={"max_concurrent": 2}, of_all={"max_concurrent": 3})
    one, two = world.client(2), world.client(3)
    for _ in range(2):
        nursery.start_soon(world.ask, one, 100)
    await trio.sleep(1)
    with pytest.raises(RpcError) as refused:
        await world.ask(one)
    assert (refused.value.reason, refused.value.may_have_executed) == ("BUSY", False)
    nursery.start_soon(world.ask, two, 100)
    await trio.sleep(1)
    with pytest.raises(RpcError, match="too many calls"):
        await world.ask(world.client(4))
    await trio.sleep(100)
    await world.ask(one)
    assert len(world.handler.contexts) == 4


async def test_the_stated_rate_refills_as_the_refusal_says(
    autojump_clock: MockClock, world_of: Callable[..., World]
) -> None:
    world = world_of(per_peer={"calls_per_s": 0.5, "burst": 2})
    client = world.client(2)
    await world.ask(client)
    await world.ask(client)
    with pytest.raises(RpcError) as refused:
        await world.ask(client)
    assert (refused.value.reason, refused.value.retry_after_ms) == ("RATE_LIMITED", 2000)
    await trio.sleep(1.9)
    with pytest.raises(RpcError):
        await world.ask(client)
    await trio.sleep(0.1)
    await world.ask(client)


async def test_limits_that_the_application_names_hold_in_place_of_the_stated(
    autojump_clock: MockClock, world_of: Callable[..., World]
) -> None:
    world = world_of(per_peer={"calls_per_s": 1.0})
    world.server.remove_service(world.service)
    world.server.add_service(world.service, world.handler, limits=BUILT_IN_LIMITS)
    world.far.serve(world.server.stream_handlers())
    client = world.client(2)
    for _ in range(50):
        await world.ask(client)


class LoggedStream:
    """The server's end of a stream, with what is done to it, in order."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.log: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._stream, name)
        if name not in ("send", "receive", "receive_chunk", "close", "reset"):
            return found

        async def logged(*arguments: Any, **named: Any) -> Any:
            self.log.append(name)
            return await found(*arguments, **named)

        return logged


@pytest.mark.parametrize("has_sent", [False, True], ids=["nothing was sent", "a mebibyte was sent"])
async def test_a_refusal_reads_nothing_and_keeps_nothing(
    autojump_clock: MockClock,
    world_of: Callable[..., World],
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
    has_sent: bool,
) -> None:
    world = world_of(per_peer={"max_concurrent": 1})
    client = world.client(2)
    nursery.start_soon(world.ask, client, 1000)
    await trio.sleep(1)
    parsed: list[int] = []
    parse = hostmesh.rpc.server.parse

    def counted(message_type: Any, data: bytes, max_bytes: int) -> Any:
        parsed.append(len(data))
        return parse(message_type, data, max_bytes)

    monkeypatch.setattr(hostmesh.rpc.server, "parse", counted)
    feed = ServerCall.feed

    def fed(call: ServerCall, data: bytes) -> None:
        parsed.append(len(data))
        feed(call, data)

    monkeypatch.setattr(ServerCall, "feed", fed)

    near, inner = memory_stream_pair(peer_number(2), world.far.peer_id, PROTOCOL, window_bytes=2**21)
    far = LoggedStream(inner)
    if has_sent:
        await near.send(bytes(2**20), end=True)
    nursery.start_soon(world.server.stream_handlers()[PROTOCOL], far)
    answer = await near.receive()
    assert b"BUSY" in answer
    # The answer is out, and nothing was read by then.
    assert far.log[0] == "send"
    assert inner.sent_bytes == len(answer)
    await trio.sleep(5)
    # What comes after is dropped, for the time that a refused caller has to find the answer.
    assert far.log == ["send", *["receive"] * (2 if has_sent else 1), "close" if has_sent else "reset"]
    assert parsed == []
    assert len(world.handler.contexts) == 1
    assert world.server.counters.calls == {("SumsService", "RESOURCE_EXHAUSTED"): 1}

    # With a place for it a call is read: what was counted above is what counts.
    await ask_raw(world, seconds=0)
    assert parsed
    assert len(world.handler.contexts) == 2


# --- deadlines ---


async def ask_raw(world: World, *, seconds: int) -> bytes:
    """Make a call that names no deadline, as a caller that is no hostmesh may, and return what is answered."""
    near, far = memory_stream_pair(peer_number(9), world.far.peer_id, PROTOCOL)
    world.network.nursery.start_soon(world.server.stream_handlers()[PROTOCOL], far)
    await near.send(encode_request(b"\x0a\x03Ask", Int64Value(value=seconds).SerializeToString()), end=True)
    answer = b""
    while data := await near.receive():
        answer += data
    return answer


async def test_a_call_without_a_deadline_has_that_of_its_method(
    autojump_clock: MockClock, world_of: Callable[..., World]
) -> None:
    world = world_of(timeouts_ms={"Ask": 1500})
    began = trio.current_time()
    assert b"the deadline of the call has passed" in await ask_raw(world, seconds=1000)
    assert world.handler.ended_at == [pytest.approx(began + 1.5, abs=0.01)]
    (context,) = world.handler.contexts
    assert context.deadline == pytest.approx(began + 1.5, abs=0.01)
    assert world.server.counters.calls == {("SumsService.Ask", "DEADLINE_EXCEEDED"): 1}
    # One that is done in time is answered.
    assert (await ask_raw(world, seconds=1)).endswith(b"\x1a\x00")


@pytest.mark.parametrize("timeout_s", [0.5, 600.0])
async def test_a_deadline_that_the_caller_names_holds(
    autojump_clock: MockClock, world_of: Callable[..., World], timeout_s: float
) -> None:
    world = world_of(timeouts_ms={"Ask": 1500})
    began = trio.current_time()
    with pytest.raises(DeadlineExceededError):
        await world.ask(world.client(2), seconds=1000, timeout_s=timeout_s)
    await trio.sleep(1)
    assert world.handler.ended_at == [pytest.approx(began + timeout_s, abs=0.01)]
    assert world.handler.contexts[0].deadline == pytest.approx(began + timeout_s, abs=0.01)


async def test_a_method_without_a_default_waits_without_end(
    autojump_clock: MockClock, world_of: Callable[..., World]
) -> None:
    world = world_of(timeouts_ms={"Count": 1500})
    assert (await ask_raw(world, seconds=10**5)).endswith(b"\x1a\x00")
    assert world.handler.contexts[0].deadline is None


async def test_streams_both_ways_are_held_to_the_default(
    autojump_clock: MockClock, world_of: Callable[..., World]
) -> None:
    world = world_of(timeouts_ms={"Count": 1500, "Total": 2500})
    client, peer_id = world.client(2), world.far.peer_id
    began = trio.current_time()
    count = client.server_stream(peer_id, world.methods["Count"], Int64Value(value=10), timeout_s=None)
    with pytest.raises((DeadlineExceededError, ConnectionLostError)):
        async with count as responses:
            assert [response.value async for response in responses] == [1]
    assert trio.current_time() - began == pytest.approx(1.5, abs=0.01)
    async with client.client_stream(peer_id, world.methods["Total"], timeout_s=None) as call:
        await call.send(Int64Value(value=1))
        with pytest.raises(DeadlineExceededError):
            await call.finish()
    assert trio.current_time() - began == pytest.approx(4.0, abs=0.02)
    assert [round(each - began, 1) for each in world.handler.ended_at] == [1.5, 4.0]
