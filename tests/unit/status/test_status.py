"""Ping, snapshot and watch over streams in memory, under a mock clock."""

from __future__ import annotations

import dataclasses
import itertools
import random

import pytest
import trio
from memory_stream import MemoryNetwork
from trio.testing import MockClock

from hostmesh.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    DialError,
    MalformedMessageError,
    RpcError,
    StatusCode,
)
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.server import RpcServer
from hostmesh.status.client import StatusClient
from hostmesh.status.methods import STATUS_SERVICE
from hostmesh.status.server import MAX_WATCHERS_PER_PEER, MIN_WATCH_INTERVAL_S, StatusServer
from hostmesh.status.snapshot import HostStatus, ModelStatus, ServingState, status_from_proto, status_to_proto
from hostmesh.system import System
from hostmesh.v1 import status_pb2
from hostmesh.wire.bounds import check_bounds

SYSTEM = System(monotonic_s=trio.current_time, random_bytes=random.Random(7).randbytes)

IDLE = HostStatus(
    state=ServingState.AVAILABLE,
    active_jobs=0,
    queued_jobs=0,
    max_concurrent_jobs=4,
    max_queued_jobs=16,
    models=(ModelStatus(model_id="smollm2-135m-instruct", ready=True), ModelStatus(model_id="m", ready=False)),
    uptime_s=12.5,
    time_unix_s=1_790_000_000.25,
)


class World:
    def __init__(self, nursery: trio.Nursery) -> None:
        assert isinstance(trio.lowlevel.current_clock(), MockClock)
        self.network = MemoryNetwork(nursery)
        self.nursery = nursery
        self.near, self.far = self.network.node(1), self.network.node(2)
        self.status = IDLE
        self.server = StatusServer(lambda: self.status, SYSTEM)
        self.rpc_server = RpcServer(prefix="/hostmesh", system=SYSTEM)
        self.rpc_server.add_service(STATUS_SERVICE, self.server)
        self.far.serve(self.rpc_server.stream_handlers())
        self.client = StatusClient(RpcClient(self.near, prefix="/hostmesh", system=SYSTEM), SYSTEM)

    @property
    def host(self):  # type: ignore[no-untyped-def]
        return self.far.peer_id

    def set_jobs(self, active: int) -> None:
        self.status = dataclasses.replace(self.status, active_jobs=active, uptime_s=trio.current_time())
        self.server.changed()

    async def settle(self) -> None:
        await trio.sleep(1.0)
        assert (self.near.open_streams, self.far.open_streams) == (0, 0)
        assert self.server.watchers == 0
        assert self.far.handler_errors == []


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    return World(nursery)


# --- ping and snapshot ---


async def test_a_ping_is_the_time_of_the_answer(autojump_clock: MockClock, world: World) -> None:
    async def dial() -> None:
        await trio.sleep(2.0)

    world.near.before_open = dial
    answer = world.server.ping

    async def far_away(request: status_pb2.PingRequest, context: object) -> status_pb2.PingResponse:
        await trio.sleep(0.038)
        return await answer(request, context)  # type: ignore[arg-type]

    world.server.ping = far_away  # type: ignore[method-assign]
    rpc_server = RpcServer(prefix="/hostmesh", system=SYSTEM)
    rpc_server.add_service(STATUS_SERVICE, world.server)
    world.far.serve(rpc_server.stream_handlers())
    assert await world.client.ping(world.host) == pytest.approx(0.038)
    await world.settle()


async def test_a_ping_answered_with_another_nonce_is_none(autojump_clock: MockClock, world: World) -> None:
    async def cheat(stream) -> None:  # type: ignore[no-untyped-def]
        await stream.receive()
        # message: nonce "x", status OK
        await stream.send(bytes.fromhex("0712030a01781a00"))

    world.far.handlers["/hostmesh/status/1.0.0"] = cheat
    with pytest.raises(MalformedMessageError, match="nonce"):
        await world.client.ping(world.host)


async def test_a_ping_has_its_timeout(autojump_clock: MockClock, world: World) -> None:
    async def silent(stream: object) -> None:
        await trio.sleep_forever()

    world.far.handlers["/hostmesh/status/1.0.0"] = silent
    with pytest.raises(DeadlineExceededError):
        await world.client.ping(world.host, timeout_s=0.5)
    assert trio.current_time() == pytest.approx(0.5)
    world.far.reachable = False
    with pytest.raises(DialError):
        await world.client.ping(world.host)


async def test_a_snapshot(autojump_clock: MockClock, world: World) -> None:
    assert await world.client.get_snapshot(world.host) == IDLE
    assert IDLE.free_slots == 4
    world.set_jobs(5)
    assert (await world.client.get_snapshot(world.host)).free_slots == 0


# --- watch ---


async def test_the_first_status_comes_at_once_and_then_each_change(autojump_clock: MockClock, world: World) -> None:
    async with world.client.watch_status(world.host, min_interval_s=1.0) as watch:
        assert await anext(watch) == IDLE
        assert trio.current_time() == pytest.approx(0.0)
        for number in (1, 2, 3):
            await trio.sleep(10.0)
            changed_at = trio.current_time()
            world.set_jobs(number)
            assert (await anext(watch)).active_jobs == number
            assert trio.current_time() == pytest.approx(changed_at)
    await world.settle()


async def test_nothing_is_sent_where_nothing_changed(autojump_clock: MockClock, world: World) -> None:
    async with world.client.watch_status(world.host) as watch:
        await anext(watch)
        for _ in range(5):
            await trio.sleep(2.0)
            # Called without need; and only the times differ.
            world.set_jobs(0)
        with trio.move_on_after(5.0) as scope:
            await anext(watch)
        assert scope.cancelled_caught


@pytest.mark.parametrize(("asked_s", "least_s"), [(1.0, 1.0), (0.0, MIN_WATCH_INTERVAL_S), (0.01, 0.1)])
async def test_statuses_are_spaced_and_the_latest_wins(
    autojump_clock: MockClock, world: World, asked_s: float, least_s: float
) -> None:
    async def work() -> None:
        for number in range(1, 1001):
            world.set_jobs(number)
            await trio.sleep(0.01)

    seen: list[tuple[float, int]] = []
    async with world.client.watch_status(world.host, min_interval_s=asked_s) as watch:
        world.nursery.start_soon(work)
        async for status in watch:
            seen.append((trio.current_time(), status.active_jobs))
            if status.active_jobs == 1000:
                break
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(seen)]
    assert min(gaps) >= least_s - 1e-6
    assert max(gaps) < least_s + 0.1
    assert len(seen) == pytest.approx(10.0 / least_s, abs=3)
    # What is sent is the state of that moment, and the last change is never lost.
    assert all(abs(number - at * 100) <= 2 for at, number in seen[1:-1])
    await world.settle()


async def test_a_slow_reader_gets_the_newest(autojump_clock: MockClock, world: World) -> None:
    async with world.client.watch_status(world.host, min_interval_s=0.1) as watch:
        await anext(watch)
        for number in range(1, 101):
            world.set_jobs(number)
            await trio.sleep(1.0)
        assert (await anext(watch)).active_jobs == 100
        with trio.move_on_after(5.0) as scope:
            await anext(watch)
        assert scope.cancelled_caught
    await world.settle()


async def test_watchers_are_bounded_per_peer(autojump_clock: MockClock, world: World) -> None:
    async def keep(task_status) -> None:  # type: ignore[no-untyped-def]
        async with world.client.watch_status(world.host) as watch:
            await anext(watch)
            task_status.started()
            await trio.sleep_forever()

    async with trio.open_nursery() as watchers:
        for _ in range(MAX_WATCHERS_PER_PEER):
            await watchers.start(lambda task_status: keep(task_status))
        assert world.server.watchers == MAX_WATCHERS_PER_PEER
        with pytest.raises(RpcError) as caught:
            async with world.client.watch_status(world.host):
                pass
        assert (caught.value.status, caught.value.reason) == (StatusCode.RESOURCE_EXHAUSTED, "BUSY")
        other = StatusClient(RpcClient(world.network.node(3), prefix="/hostmesh", system=SYSTEM), SYSTEM)
        async with other.watch_status(world.host) as watch:
            assert await anext(watch) == IDLE
        watchers.cancel_scope.cancel()
    await world.settle()
    async with world.client.watch_status(world.host) as watch:
        assert await anext(watch) == IDLE


async def test_a_lost_watch_tells_its_reader(autojump_clock: MockClock, world: World) -> None:
    async with world.client.watch_status(world.host) as watch:
        assert await anext(watch) == IDLE
        await world.near.opened[0].reset()
        for _ in range(2):
            with pytest.raises(ConnectionLostError):
                await anext(watch)
    await world.settle()


async def test_a_host_that_sends_no_status_is_given_up(autojump_clock: MockClock, world: World) -> None:
    async def silent(stream: object) -> None:
        await trio.sleep_forever()

    world.far.handlers["/hostmesh/status/1.0.0"] = silent
    with pytest.raises(DeadlineExceededError):
        async with world.client.watch_status(world.host, timeout_s=3.0):
            raise AssertionError("entered")
    assert trio.current_time() == pytest.approx(3.0)
    assert world.near.open_streams == 0


async def test_a_watch_that_the_host_ends_in_order_ends(autojump_clock: MockClock, world: World) -> None:
    async def once(stream) -> None:  # type: ignore[no-untyped-def]
        await stream.receive()
        await stream.send(bytes.fromhex("06120210011a00"))

    world.far.handlers["/hostmesh/status/1.0.0"] = once
    async with world.client.watch_status(world.host) as watch:
        assert [status.active_jobs async for status in watch] == [1]


async def test_the_callers_own_error_comes_out_as_it_is(autojump_clock: MockClock, world: World) -> None:
    with pytest.raises(ZeroDivisionError):
        async with world.client.watch_status(world.host):
            _ = 1 // 0
    await world.settle()


async def test_an_error_that_answers_a_cancellation_comes_out_as_it_is(autojump_clock: MockClock, world: World) -> None:
    async def watch_until_cancelled() -> None:
        async with world.client.watch_status(world.host):
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                raise KeyError("mine") from None

    with pytest.raises(KeyError, match="mine"), trio.move_on_after(1.0):
        await watch_until_cancelled()
    await world.settle()


async def test_cancelling_a_watch_leaves_nothing(autojump_clock: MockClock, world: World) -> None:
    with trio.move_on_after(3.0) as scope:
        async with world.client.watch_status(world.host) as watch:
            async for _ in watch:
                pass
    assert scope.cancelled_caught
    await world.settle()


# --- the codec ---


def test_a_status_of_a_later_version_is_unknown() -> None:
    assert status_from_proto(status_pb2.StatusSnapshot(state=77)).state is ServingState.UNKNOWN  # type: ignore[arg-type]


@pytest.mark.parametrize("state", list(ServingState))
def test_states_pass_through(state: ServingState) -> None:
    status = dataclasses.replace(IDLE, state=state)
    assert status_from_proto(status_to_proto(status)) == status


def test_a_status_is_always_sendable() -> None:
    wild = dataclasses.replace(
        IDLE,
        active_jobs=-1,
        queued_jobs=2**40,
        uptime_s=-5.0,
        models=tuple(ModelStatus(model_id=f"model {number}", ready=True) for number in range(100)),
    )
    message = status_to_proto(wild)
    check_bounds(message)
    assert (message.active_jobs, message.queued_jobs, message.uptime_ms) == (0, 2**32 - 1, 0)
    assert len(message.models) == 64
