"""What a server does with keys that a client of ours does not send, or that come when they cannot be served."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from google.protobuf.wrappers_pb2 import Int64Value
from memory_stream import MemoryNetwork, MemoryNode
from trio.testing import MockClock, wait_all_tasks_blocked

from hostmesh.errors import HostmeshError, RpcError, StatusCode
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.context import CallContext
from hostmesh.rpc.frames import encode_header_frame, encode_request, read_frame
from hostmesh.rpc.interceptors import IncomingCall
from hostmesh.rpc.keyed import ALONE_S
from hostmesh.rpc.method import method
from hostmesh.rpc.outcome import Outcome
from hostmesh.rpc.server import RpcServer
from hostmesh.system import System
from hostmesh.testing import make_service
from hostmesh.v1 import rpc_pb2
from hostmesh.wire.framing import FrameDecoder, encode_length

SHAPES = make_service(
    "shapes",
    streams=["Watch", "Chat"],
    request_streams=["Upload", "Chat"],
    Get=(Int64Value, Int64Value),
    Watch=(Int64Value, Int64Value),
    Upload=(Int64Value, Int64Value),
    Chat=(Int64Value, Int64Value),
)
GET = method(SHAPES, "Get", Int64Value, Int64Value)
PROTOCOL = "/hostmesh/shapes/1.0.0"
SYSTEM = System(monotonic_s=trio.current_time, unix_s=trio.current_time)


class Handler:
    def __init__(self) -> None:
        self.contexts: list[CallContext] = []
        self.waits = False
        self.response: Int64Value | None = None
        """None = the request."""
        self.cancelled_at_s = math.nan

    async def get(self, request: Int64Value, context: CallContext) -> Int64Value:
        self.contexts.append(context)
        try:
            if self.waits:
                await trio.sleep_forever()
        finally:
            self.cancelled_at_s = trio.current_time()
        return request if self.response is None else self.response

    async def watch(self, *arguments: Any) -> None:
        raise AssertionError("no handler starts")

    upload = chat = watch


class Refusing:
    """An interceptor that lets nobody in whose metadata lacks a word."""

    def __init__(self) -> None:
        self.entered = 0

    @asynccontextmanager
    async def intercept(self, call: IncomingCall) -> AsyncIterator[None]:
        self.entered += 1
        if call.context.metadata.get("word") != "please":
            raise RpcError("no", status=StatusCode.PERMISSION_DENIED)
        yield


class Pair:
    def __init__(self, nursery: trio.Nursery, *interceptors: Any) -> None:
        network = MemoryNetwork(nursery)
        self.near: MemoryNode = network.node(1)
        self.far: MemoryNode = network.node(2)
        self.handler = Handler()
        self.server = RpcServer(prefix="/hostmesh", system=SYSTEM, interceptors=interceptors)
        self.server.add_service(SHAPES, self.handler)
        self.far.serve(self.server.stream_handlers())
        self.client = RpcClient(self.near, prefix="/hostmesh", system=SYSTEM)

    async def get(self, value: int = 7, **more: Any) -> int:
        options = {"timeout_s": 5.0, "idempotency_key": b"key", **more}
        return (await self.client.unary(self.far.peer_id, GET, Int64Value(value=value), **options)).value

    async def status_of(self, data: bytes) -> Outcome:
        """Send the bytes of a call by hand; return how it ended."""
        stream = await self.near.open_stream(self.far.peer_id, PROTOCOL)
        await stream.send(data, end=True)
        decoder = FrameDecoder(1 << 20)
        while True:
            decoder.feed(await stream.receive())
            if (frame := read_frame(decoder)) is not None:
                assert frame.outcome is not None
                return frame.outcome


@pytest.fixture
def pair(nursery: trio.Nursery) -> Pair:
    return Pair(nursery)


def header(name: str, key: bytes = b"key") -> bytes:
    return rpc_pb2.CallHeader(method=name, idempotency_key=key).SerializeToString()


@pytest.mark.parametrize("name", ["Watch", "Upload", "Chat"])
async def test_a_stream_with_a_key_is_refused_before_its_handler(
    autojump_clock: MockClock, nursery: trio.Nursery, pair: Pair, name: str
) -> None:
    await nursery.start(pair.server.run)
    data = encode_request(header(name), b"") if name == "Watch" else encode_header_frame(header(name))
    outcome = await pair.status_of(data)
    assert (outcome.status, outcome.reason) == (StatusCode.INVALID_ARGUMENT, "KEY_NOT_TAKEN")
    await trio.sleep(5.0)
    assert pair.server.active_calls(pair.near.peer_id) == 0
    assert pair.server.counters.handler_failures == {}


async def test_a_call_with_a_key_and_no_deadline_ends_after_it_was_left_alone(
    autojump_clock: MockClock, nursery: trio.Nursery, pair: Pair
) -> None:
    await nursery.start(pair.server.run)
    pair.handler.waits = True
    stream = await pair.near.open_stream(pair.far.peer_id, PROTOCOL)
    await stream.send(encode_request(header("Get"), b""), end=True)
    await trio.sleep(3 * ALONE_S)
    (context,) = pair.handler.contexts
    assert (context.deadline, context.idempotency_key) == (None, b"key")
    assert math.isnan(pair.handler.cancelled_at_s)
    await stream.reset()
    left_at_s = trio.current_time()
    await trio.sleep(2 * ALONE_S)
    assert pair.handler.cancelled_at_s - left_at_s == pytest.approx(ALONE_S, abs=0.1)


async def test_a_server_that_does_not_run_refuses_keys_and_serves_the_rest(
    autojump_clock: MockClock, nursery: trio.Nursery, pair: Pair
) -> None:
    assert await pair.get(idempotency_key=b"") == 7
    with pytest.raises(RpcError) as caught:
        await pair.get()
    assert (caught.value.status, caught.value.reason) == (StatusCode.UNAVAILABLE, "STOPPING")
    await nursery.start(pair.server.run)
    assert await pair.get() == 7
    assert len(pair.handler.contexts) == 2


async def test_a_server_that_is_stopped_tells_the_caller_that_its_call_may_have_run(
    autojump_clock: MockClock, nursery: trio.Nursery, pair: Pair
) -> None:
    pair.handler.waits = True
    scope = trio.CancelScope()

    async def serve(*, task_status: Any) -> None:
        with scope:
            await pair.server.run(task_status=task_status)

    await nursery.start(serve)
    errors: list[HostmeshError] = []

    async def get() -> None:
        with pytest.raises(HostmeshError) as caught:
            await pair.get()
        errors.append(caught.value)

    nursery.start_soon(get)
    await wait_all_tasks_blocked()
    scope.cancel()
    await trio.sleep(1.0)
    (error,) = errors
    assert isinstance(error, RpcError)
    assert (error.status, error.reason, error.may_have_executed) == (StatusCode.ABORTED, "OUTCOME_UNKNOWN", True)


@pytest.mark.parametrize("key", [b"", b"key"], ids=["no key", "a key"])
async def test_a_response_over_its_size_is_an_error_of_the_handler(
    autojump_clock: MockClock, nursery: trio.Nursery, pair: Pair, key: bytes
) -> None:
    await nursery.start(pair.server.run)
    # All of it is a field that the type does not know.
    pair.handler.response = Int64Value.FromString(b"\x12" + encode_length(1 << 20) + bytes(1 << 20))
    with pytest.raises(RpcError) as caught:
        await pair.get(idempotency_key=key)
    error = caught.value
    assert (error.status, error.message, error.reason) == (StatusCode.INTERNAL, "internal error", "")
    assert error.may_have_executed
    assert pair.server.counters.handler_failures == {"ShapesService.Get": 1}


async def test_interceptors_stand_before_what_is_kept(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    door = Refusing()
    pair = Pair(nursery, door)
    await nursery.start(pair.server.run)
    for number, word in enumerate(["no", "please", "please", "no"], 1):
        if word == "please":
            assert await pair.get(metadata={"word": word}) == 7
        else:
            # Neither is a key that nobody may use taken, nor what it holds told to whom it does not concern.
            with pytest.raises(RpcError) as caught:
                await pair.get(metadata={"word": word})
            assert caught.value.status is StatusCode.PERMISSION_DENIED
        assert door.entered == number
    assert len(pair.handler.contexts) == 1
