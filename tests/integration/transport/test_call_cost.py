"""What calls between two nodes cost in operations, counted: they do not depend on the machine, and may not grow.

The clock stands still while calls run, so that no timer adds to what is counted and a connection is as quiet, or as
busy, as the test says. The sockets are real.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from tests.integration.transport import kit
from tests.support.jobs_unsigned import UnsignedJobs
from tests.support.yamux_wire import ACK, DATA, FIN, PING, SYN, WINDOW_UPDATE, Frame, FrameReader

from hostmesh.net.connection import Connection
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.server import CallContext, RpcServer, SendResponse
from hostmesh.system import System
from hostmesh.v1 import job_pb2
from hostmesh.wire.yamux import MAX_FRAME_BYTES

CALLS = 50
AT_ONCE = 32
MESSAGES = 1000
QUIET_S = 0.001
"""So long after its last write a connection is quiet."""
SEALED_BYTES = 18
"""What Noise adds to a message: its length and its tag."""


class Jobs(UnsignedJobs):
    """Answers at once."""

    async def quote(self, request: job_pb2.QuoteRequest, context: CallContext) -> job_pb2.QuoteResponse:
        return job_pb2.QuoteResponse(quote=bytes(300))

    async def run(self, request: job_pb2.RunRequest, context: CallContext, send: SendResponse) -> None:
        (count,) = (each.integer for each in request.parameters)
        for _ in range(count):
            await send(job_pb2.RunResponse(text=job_pb2.TextDelta(index=0, text="x" * 32)))


def run_request(messages: int) -> job_pb2.RunRequest:
    request = job_pb2.RunRequest()
    request.CopyFrom(kit.RUN_REQUEST)
    request.parameters.add(name="count", integer=messages)
    return request


class Counted:
    """Stands for an object, and counts the calls of its methods."""

    def __init__(self, real: Any, *, free: tuple[str, ...] = ()) -> None:
        self._real = real
        self._free = free
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)
        if name in self._free:
            return method

        def counted(*arguments: Any, **named: Any) -> Any:
            self.calls[name] += 1
            return method(*arguments, **named)

        return counted


@dataclass
class Side:
    """One end of the connection: its system calls, and what it received."""

    connection: Connection
    socket: Counted = field(init=False)
    messages: int = 0
    """Sealed ones that came."""
    frames: list[Frame] = field(default_factory=list)
    """That came."""
    received_bytes: int = 0
    """On the wire."""

    def __post_init__(self) -> None:
        muxer = self.connection.muxer
        link: Any = muxer._link
        self.socket = link._socket = Counted(link._socket, free=("fileno", "close"))
        channel, reader = muxer._channel, FrameReader()

        class Channel:
            seal_parts = staticmethod(channel.seal_parts)

            @staticmethod
            def open(data: bytes) -> list[bytes]:
                plaintexts = channel.open(data)
                self.messages += len(plaintexts)
                self.received_bytes += len(data)
                self.frames += [frame for text in plaintexts for frame in reader.feed(bytes(text))]
                return plaintexts

        muxer._channel = Channel  # type: ignore[assignment]

    @property
    def sends(self) -> int:
        return sum(count for name, count in self.socket.calls.items() if name.startswith("send"))

    @property
    def receives(self) -> int:
        return sum(count for name, count in self.socket.calls.items() if name.startswith("recv"))

    @property
    def system_calls(self) -> int:
        return self.socket.calls.total()

    def clear(self) -> None:
        self.socket.calls.clear()
        self.messages = self.received_bytes = 0
        self.frames.clear()


class Scheduler(trio.abc.Instrument):
    """Counts the steps of tasks, and the times that the scheduler asks the kernel what is ready."""

    def __init__(self) -> None:
        self.steps = self.polls = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1

    def before_io_wait(self, timeout: float) -> None:
        self.polls += 1


@dataclass
class World:
    """Two nodes, one connection, and the counts of both ends."""

    rpc: RpcClient
    peer_id: Any
    client: Side
    server: Side
    scheduler: Scheduler
    clock: trio.testing.MockClock

    async def call(self) -> None:
        response = await self.rpc.unary(self.peer_id, kit.QUOTE, kit.QUOTE_REQUEST, timeout_s=5)
        assert len(response.quote) == 300

    async def stream(self, messages: int) -> None:
        seen = 0
        async with self.rpc.server_stream(self.peer_id, kit.RUN, run_request(messages), timeout_s=5) as responses:
            async for _ in responses:
                seen += 1
        assert seen == messages

    async def measure(self, work: Callable[[], Awaitable[None]], times: int, *, is_quiet: bool = False) -> None:
        """Count what ``times`` of some work cost, after one that is not counted."""
        for remaining in range(times, -1, -1):
            if is_quiet:
                self.clock.jump(QUIET_S)
            await work()
            await trio.testing.wait_all_tasks_blocked()
            if remaining == times:
                self.client.clear()
                self.server.clear()
                self.scheduler.steps = self.scheduler.polls = 0
        # Waiting for the others to be blocked takes steps of its own.
        self.scheduler.steps -= times * self.settling[0]
        self.scheduler.polls -= times * self.settling[1]

    async def calibrate(self) -> None:
        """Find out what waiting until all is done costs by itself."""
        self.settling = (0, 0)

        async def nothing() -> None:
            pass

        await self.measure(nothing, CALLS)
        self.settling = (self.scheduler.steps // CALLS, self.scheduler.polls // CALLS)

    settling: tuple[int, int] = (0, 0)


@pytest.fixture
async def world(mock_clock, start_node) -> World:
    assert trio.lowlevel.current_clock() is mock_clock, "a test must ask for the clock itself"
    server, client = await start_node(), await start_node(listen_addresses=())
    rpc_server = RpcServer(prefix="/hostmesh", system=System())
    rpc_server.add_service(kit.JOBS, Jobs())
    for protocol_id, handler in rpc_server.stream_handlers().items():
        server.set_stream_handler(protocol_id, handler)
    ours = await kit.connect(client, server)
    await trio.testing.wait_all_tasks_blocked(0.01)
    scheduler = Scheduler()
    trio.lowlevel.add_instrument(scheduler)
    world = World(
        RpcClient(client, prefix="/hostmesh", system=System()),
        server.peer_id,
        Side(ours),
        Side(kit.connection_of(server, client.peer_id)),
        scheduler,
        mock_clock,
    )
    await world.calibrate()
    return world


async def test_a_unary_call_is_two_frames_and_one_message_each_way(mock_clock, world):
    await world.measure(world.call, CALLS)
    there, back = world.server.frames, world.client.frames
    opened_with = [(DATA, SYN), (WINDOW_UPDATE, FIN)]
    assert [(frame.kind, frame.flags) for frame in there] == opened_with * CALLS
    assert [(frame.kind, frame.flags) for frame in back] == [(DATA, ACK), (WINDOW_UPDATE, FIN)] * CALLS
    assert world.server.messages == world.client.messages == CALLS
    # Two headers, both sides' lines of multistream-select, and the call's own frames; the payloads are 3 and 303 bytes.
    proposal_bytes = 20 + 1 + len(kit.JOB_PROTOCOL) + 1
    assert world.server.received_bytes / CALLS <= SEALED_BYTES + 24 + proposal_bytes + 3 + 16
    assert world.client.received_bytes / CALLS <= SEALED_BYTES + 24 + proposal_bytes + 303 + 8


@pytest.mark.parametrize(("is_quiet", "steps"), [(True, 4), (False, 6)], ids=["quiet", "busy"])
async def test_a_unary_call_is_one_system_call_each_way_and_few_steps(mock_clock, world, is_quiet, steps):
    """Steps on both sides: the server's reader and handler, the client's reader and caller; and the writers of a busy
    line, which join what other tasks may say in the same pass."""
    await world.measure(world.call, CALLS, is_quiet=is_quiet)
    for side in (world.client, world.server):
        assert (side.sends, side.receives, side.system_calls) == (CALLS, CALLS, 2 * CALLS)
    assert world.scheduler.steps <= steps * CALLS
    assert world.scheduler.polls <= steps * CALLS


@pytest.mark.skipif(sys.platform != "linux", reason="counts the calls of epoll")
async def test_waiting_for_a_call_arms_the_socket_once_on_each_side(mock_clock, world):
    """Trio's own system calls: it takes the socket out of the set when it is ready, and back in for the next wait."""
    manager = trio._core._run.GLOBAL_RUN_CONTEXT.runner.io_manager
    epoll = manager._epoll = Counted(manager._epoll)
    try:
        await world.measure(world.call, 1)
        epoll.calls.clear()
        await world.measure(world.call, CALLS - 1)
    finally:
        manager._epoll = epoll._real
    changes = sum(count for name, count in epoll.calls.items() if name != "poll")
    assert changes <= 2 * CALLS
    assert epoll.calls["poll"] > 0


@pytest.mark.parametrize(("is_quiet", "writes"), [(True, 2), (False, 1)], ids=["quiet", "busy"])
async def test_calls_of_one_pass_share_their_system_calls(mock_clock, world, is_quiet, writes):
    """On a quiet line the first leaves at once, and the others together after it."""

    async def calls() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(world.call)

    await world.measure(calls, 10, is_quiet=is_quiet)
    for side in (world.client, world.server):
        assert side.sends <= 10 * writes
        assert side.receives <= 10 * (writes + 1)
        assert side.messages <= 10 * writes
        assert len(side.frames) == 2 * 10 * AT_ONCE
    # The callers and the handlers one step each, and the nursery, the readers and the writers a few for all.
    assert world.scheduler.steps <= 10 * (3 * AT_ONCE + 12)


@pytest.mark.parametrize("is_quiet", [True, False], ids=["quiet", "busy"])
async def test_messages_of_a_stream_share_frames_and_system_calls(mock_clock, world, is_quiet):
    await world.measure(partial(world.stream, MESSAGES), 5, is_quiet=is_quiet)
    bursts = 5 * (MESSAGES // 128 + 3)  # a sender gives way after 128 messages
    assert (world.client.sends, world.server.receives, len(world.server.frames)) == (5, 5, 10)
    assert world.server.sends <= bursts
    assert world.client.receives <= bursts
    assert world.client.messages <= bursts
    assert len(world.client.frames) <= bursts + 5
    assert world.scheduler.steps <= 5 * bursts
    assert world.client.received_bytes <= 5 * MESSAGES * (36 + 4) + bursts * (SEALED_BYTES + 12)


async def test_bulk_goes_in_the_largest_frames_and_few_updates_of_the_window(mock_clock, start_node, world):
    client = world.client.connection
    total = 16 * kit.MIB

    async def download() -> None:
        stream = await client.open_stream(kit.SOURCE)
        await stream.send(total.to_bytes(8, "big"), end=True)
        left = total
        while piece := await stream.receive_chunk():
            left -= len(piece)
        assert left == 0
        await stream.close()

    await world.measure(download, 1)
    frames = [frame for frame in world.client.frames if frame.kind == DATA]
    # The source sends 256 KiB at a time: four frames, and a small one for what does not fit.
    assert len(frames) <= 5 * total // (256 * 1024) + 2
    assert sum(frame.length > MAX_FRAME_BYTES // 2 for frame in frames) >= 0.99 * total / MAX_FRAME_BYTES
    assert world.client.messages <= len(frames) + 2
    assert world.client.received_bytes <= total * 1.001
    print(f"16 MiB: {len(frames)} frames there, {len(world.server.frames)} back")
    # The window doubles from 256 KiB to 4 MiB, and half of it goes back at a time.
    assert len(world.server.frames) <= 2 + 5 + total // (2 * kit.MIB)


async def test_an_idle_connection_costs_a_ping_and_its_answer_in_fifteen_seconds(mock_clock, world):
    """One side asks: the other has heard it."""
    world.client.clear()
    world.server.clear()
    for _ in range(120):
        mock_clock.jump(1.0)
        await trio.testing.wait_all_tasks_blocked(0.001)
    frames = [*world.client.frames, *world.server.frames]
    pings = [frame for frame in frames if frame.kind == PING and frame.flags & SYN]
    # The side that dialled asks each 15 s or up to a tick later; the other for the round trip, once in three minutes.
    assert 6 <= len(pings) <= 8 + 1
    assert len(frames) == 2 * len(pings)
    for side in (world.client, world.server):
        assert len(side.frames) == len(pings)
        assert side.sends <= len(pings)
        assert side.receives <= len(pings)
