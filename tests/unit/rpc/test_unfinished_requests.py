"""Requests that come in part: how much of them is held, of one peer and of all, and when it is given back."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
import trio
from memory_stream import MemoryNetwork, MemoryNode
from tests.support.jobs_unsigned import UnsignedJobs
from trio.testing import MockClock, wait_all_tasks_blocked

from hostmesh.errors import ConnectionLostError, RpcError, StatusCode
from hostmesh.net.stream import Stream
from hostmesh.rpc.call import CallEnded, ClientCall
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.frames import encode_end, encode_header_frame, encode_message_head
from hostmesh.rpc.header import Header
from hostmesh.rpc.limits import BUSY_RETRY_MS, CallLimits, RpcLimits
from hostmesh.rpc.method import method, methods_of
from hostmesh.rpc.outcome import OK, Outcome
from hostmesh.rpc.served_call import ServerCall
from hostmesh.rpc.server import RpcServer
from hostmesh.rpc.shapes import RequestStream
from hostmesh.system import System
from hostmesh.testing import make_service
from hostmesh.v1 import job_pb2
from hostmesh.wire.framing import encode_length

JOBS = job_pb2.DESCRIPTOR.services_by_name["JobService"]
RUN = method(JOBS, "Run", job_pb2.RunRequest, job_pb2.RunResponse)
PROTOCOL = "/hostmesh/job/1.0.0"
KIB = 1024
ANNOUNCED = encode_length(1024 * KIB)
"""As much as a request to this service may have."""


class Jobs(UnsignedJobs):
    """Runs every job at once, without a response."""

    def __init__(self) -> None:
        self.runs = 0

    async def quote(self, *_: object) -> None:
        raise AssertionError("nobody asks")

    async def run(self, *_: object) -> None:
        self.runs += 1


class World:
    """A server, and peers that call it by hand."""

    def __init__(self, nursery: trio.Nursery, **limits: object) -> None:
        # A test that forgets to ask for the clock would wait for real.
        assert isinstance(trio.lowlevel.current_clock(), MockClock)
        self.network = MemoryNetwork(nursery)
        self.host: MemoryNode = self.network.node(1)
        self.jobs = Jobs()
        many = CallLimits(max_concurrent=1000, calls_per_s=1e6, burst=10**6)
        self.server = RpcServer(
            prefix="/hostmesh",
            system=System(monotonic_s=trio.current_time),
            limits=RpcLimits(per_peer=many, per_service=many, **limits),  # type: ignore[arg-type]
        )
        self.server.add_service(JOBS, self.jobs)
        self.host.serve(self.server.stream_handlers())
        self._peers = 1

    def peer(self) -> MemoryNode:
        self._peers += 1
        return self.network.node(self._peers)

    async def begin(self, peer: MemoryNode, size: int, *, pieces: int = 1) -> Stream:
        """Send a part of a request."""
        stream = await peer.open_stream(self.host.peer_id, PROTOCOL)
        await stream.send(ANNOUNCED)
        for _ in range(pieces):
            await stream.send(bytes(size // pieces))
            await wait_all_tasks_blocked()
        return stream

    async def call(self, peer: MemoryNode, text_bytes: int, *, pieces: int = 1) -> StatusCode:
        """Make a whole call with a request of about this size, and return its status."""
        call, request = run_call(text_bytes)
        stream = await peer.open_stream(self.host.peer_id, PROTOCOL)
        size = -(-len(request) // pieces)
        for start in range(0, len(request), size):
            await stream.send(request[start : start + size])
            if pieces > 1:
                await wait_all_tasks_blocked()
        await stream.close_write()
        outcome = await read_outcome(stream, call)
        await stream.close()
        return outcome.status

    async def is_refused(self, stream: Stream) -> bool:
        """Whether a call has been refused for what its peer, or all, have unfinished."""
        with trio.move_on_after(0.1):
            outcome = await read_outcome(stream, run_call(1)[0])
            assert (outcome.status, outcome.reason) == (StatusCode.RESOURCE_EXHAUSTED, "BUSY")
            assert outcome.retry_after_ms == BUSY_RETRY_MS
            return True
        return False


def run_call(text_bytes: int) -> tuple[ClientCall[job_pb2.RunRequest, job_pb2.RunResponse], bytes]:
    """Return a call with a request of about this size, and its bytes."""
    chat = job_pb2.ChatInput(messages=[job_pb2.ChatMessage(role="user", content="x" * text_bytes)])
    call = ClientCall(RUN, Header(method="Run"), job_pb2.RunRequest(quote_id=bytes(16), chat=chat))
    return call, call.start(5.0)


async def read_outcome(stream: Stream, call: ClientCall[job_pb2.RunRequest, job_pb2.RunResponse]) -> Outcome:
    """Read to the end of an answer without responses."""
    while piece := await stream.receive():
        call.feed(piece)
    event = call.next_event()
    assert isinstance(event, CallEnded)
    return event.outcome


@pytest.fixture
def world(nursery: trio.Nursery) -> Callable[..., World]:
    def make(**limits: object) -> World:
        return World(nursery, **limits)

    return make


# --- who is refused ---


async def test_a_peer_with_too_much_unfinished_is_refused_and_no_other(autojump_clock: MockClock, world) -> None:
    there = world(max_unfinished_peer_bytes=100 * KIB)
    greedy, other = there.peer(), there.peer()
    streams = [await there.begin(greedy, 30 * KIB) for _ in range(4)]
    assert [await there.is_refused(stream) for stream in streams] == [False, False, False, True]
    assert there.server.counters.calls == {("JobService", "RESOURCE_EXHAUSTED"): 1}
    assert there.server.counters.violations == {}
    assert not await there.is_refused(await there.begin(other, 90 * KIB))
    # What comes whole is none of these, the greedy one's as well.
    assert await there.call(greedy, 50 * KIB) is StatusCode.OK
    assert await there.call(other, 5 * KIB, pieces=5) is StatusCode.OK
    assert there.jobs.runs == 2


async def test_all_peers_together_are_bounded(autojump_clock: MockClock, world) -> None:
    there = world(max_unfinished_bytes=100 * KIB, max_unfinished_peer_bytes=60 * KIB)
    streams = [await there.begin(there.peer(), 30 * KIB) for _ in range(4)]
    assert [await there.is_refused(stream) for stream in streams] == [False, False, False, True]
    assert await there.call(there.peer(), 50 * KIB) is StatusCode.OK


async def test_one_request_counts_in_pieces_as_it_does_whole(autojump_clock: MockClock, world) -> None:
    there = world(max_unfinished_peer_bytes=100 * KIB)
    assert await there.is_refused(await there.begin(there.peer(), 120 * KIB, pieces=40))
    assert not await there.is_refused(await there.begin(there.peer(), 90 * KIB, pieces=40))


async def test_a_refused_caller_that_pours_on_is_cut_off(autojump_clock: MockClock, world) -> None:
    there = world(max_unfinished_peer_bytes=100 * KIB)
    stream = await there.begin(there.peer(), 120 * KIB)
    with trio.fail_after(5), pytest.raises(ConnectionLostError):
        await stream.send(bytes(8 * 1024 * KIB))
    await stream.reset()


# --- given back ---


@pytest.mark.parametrize("how", ["whole", "reset", "end", "too late", "nonsense", "refused"])
async def test_what_was_unfinished_is_given_back(autojump_clock: MockClock, world, how: str) -> None:
    there = world(max_unfinished_bytes=100 * KIB, max_unfinished_peer_bytes=100 * KIB)
    peer = there.peer()
    for _ in range(5):
        size = 120 * KIB if how == "refused" else 90 * KIB
        if how == "whole":
            assert await there.call(peer, size, pieces=2) is StatusCode.OK
            continue
        stream = await there.begin(peer, size)
        # Nobody has room beside it, or it was refused.
        beside = await there.begin(there.peer(), 20 * KIB)
        assert await there.is_refused(beside) is (how != "refused")
        await beside.reset()
        if how == "reset":
            await stream.reset()
        elif how == "end":
            await stream.close_write()
        elif how == "too late":
            await trio.sleep(10)
        elif how == "nonsense":
            await stream.send(b"\xff" * (1024 * KIB))
        else:
            assert await there.is_refused(stream)
            await stream.reset()
        await trio.sleep(5)
    stream = await there.begin(peer, 95 * KIB)
    assert not await there.is_refused(stream)
    await stream.reset()
    await trio.sleep(20)
    assert there.server.active_calls(peer.peer_id) == 0
    assert there.host.handler_errors == []


async def test_a_request_whose_end_is_awaited_is_held_to_the_bounds_too(autojump_clock: MockClock, world) -> None:
    """It came in pieces and is whole, and its caller does not close its side: its bytes are here still."""
    there = world(max_unfinished_peer_bytes=100 * KIB)
    peer = there.peer()
    _, request = run_call(90 * KIB)
    stream = await peer.open_stream(there.host.peer_id, PROTOCOL)
    await stream.send(request[: 80 * KIB])
    await wait_all_tasks_blocked()
    await stream.send(request[80 * KIB :])
    await wait_all_tasks_blocked()
    assert await there.is_refused(await there.begin(peer, 40 * KIB))
    await stream.reset()


# --- memory ---


async def test_unfinished_requests_hold_no_more_memory_than_the_bounds(autojump_clock: MockClock, world) -> None:
    """Sixteen peers with eight requests of 200 KiB each, of which nobody sends the rest: 25 MiB."""
    there = world(max_unfinished_bytes=4096 * KIB, max_unfinished_peer_bytes=1024 * KIB)
    streams: list[Stream] = []
    tracemalloc.start()
    try:
        for _ in range(16):
            peer = there.peer()
            streams += [await there.begin(peer, 200 * KIB, pieces=4) for _ in range(8)]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 5 * 1024 * KIB
    for stream in streams:
        await stream.reset()


def test_a_call_that_is_dropped_holds_nothing_of_its_request() -> None:
    call = ServerCall(methods_of(JOBS))
    call.feed(ANNOUNCED)
    tracemalloc.start()
    try:
        for _ in range(10):
            call.feed(bytes(50 * KIB))
        call.drop()
        call.feed(bytes(50 * KIB))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert call.next_event() is None
    assert held < 10 * KIB


@pytest.mark.parametrize("before", [0, 1])
async def test_a_stream_that_is_refused_later_may_have_run(autojump_clock: MockClock, nursery, before: int) -> None:
    service = make_service("uploads", request_streams=["Put"], Put=(job_pb2.RunResponse, job_pb2.RunResponse))
    put = method(service, "Put", job_pb2.RunResponse, job_pb2.RunResponse)
    taken = 0

    class Uploads:
        async def put(self, requests: RequestStream[job_pb2.RunResponse], _: object) -> job_pb2.RunResponse:
            nonlocal taken
            async for _request in requests:
                taken += 1
            return job_pb2.RunResponse()

    network, system = MemoryNetwork(nursery), System(monotonic_s=trio.current_time)
    server = RpcServer(prefix="/hostmesh", system=system, limits=RpcLimits(max_unfinished_peer_bytes=20 * KIB))
    server.add_service(service, Uploads())
    host = network.node(1)
    host.serve(server.stream_handlers())
    client = RpcClient(network.node(2), prefix="/hostmesh", system=system)

    async def upload() -> None:
        async with client.client_stream(host.peer_id, put, timeout_s=10) as call:
            for size in (*[10] * before, 60 * KIB):
                await wait_all_tasks_blocked()
                await call.send(job_pb2.RunResponse(text=job_pb2.TextDelta(text="x" * size)))
            await call.finish()

    with pytest.raises(RpcError) as caught:
        await upload()
    assert taken == before
    expected = (StatusCode.UNKNOWN, True) if before else (StatusCode.RESOURCE_EXHAUSTED, False)
    assert (caught.value.status, caught.value.may_have_executed, caught.value.reason) == (*expected, "BUSY")


@pytest.mark.parametrize("how", ["the caller leaves", "the handler leaves"])
async def test_what_was_unfinished_of_a_stream_is_given_back(autojump_clock: MockClock, nursery, how: str) -> None:
    service = make_service("uploads", request_streams=["Put"], Put=(job_pb2.RunResponse, job_pb2.RunResponse))

    class Uploads:
        async def put(self, requests: RequestStream[job_pb2.RunResponse], _: object) -> job_pb2.RunResponse:
            with trio.move_on_after(1 if how == "the handler leaves" else 60):
                async for _request in requests:
                    pass
            return job_pb2.RunResponse()

    network, system = MemoryNetwork(nursery), System(monotonic_s=trio.current_time)
    server = RpcServer(prefix="/hostmesh", system=system, limits=RpcLimits(max_unfinished_peer_bytes=20 * KIB))
    server.add_service(service, Uploads())
    host, peer = network.node(1), network.node(2)
    host.serve(server.stream_handlers())
    request = job_pb2.RunResponse(text=job_pb2.TextDelta(text="x" * 15 * KIB)).SerializeToString()
    first_part = encode_message_head(len(request)) + request[:-1]

    async def begin() -> Stream:
        stream = await peer.open_stream(host.peer_id, "/hostmesh/uploads/1.0.0")
        for part in (encode_header_frame(b"\x0a\x03Put"), first_part):
            await stream.send(part)
            await wait_all_tasks_blocked()
        return stream

    for _ in range(3):
        stream = await begin()
        await trio.sleep(5)
        await stream.reset()
        await trio.sleep(5)
    stream = await begin()
    await stream.send(request[-1:], end=True)
    assert await stream.receive() == encode_end(OK, b"")
