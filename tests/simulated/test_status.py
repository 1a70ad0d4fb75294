"""Ping, snapshot and watch between nodes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from tests.simulated.nodes import Nodes, nodes_on
from tests.support.simulated import simulated

from hostmesh.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    DialError,
    MalformedMessageError,
    RpcError,
    StatusCode,
)
from hostmesh.net.address import AddressOrigin
from hostmesh.net.node import Node
from hostmesh.net.stream import Stream, StreamHandler
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.server import RpcServer
from hostmesh.status.client import StatusClient
from hostmesh.status.server import MAX_WATCHERS_PER_PEER, MIN_WATCH_INTERVAL_S, StatusServer
from hostmesh.status.snapshot import HostStatus, ModelStatus, ServingState
from hostmesh.testing import SimNetwork
from hostmesh.v1 import status_pb2
from hostmesh.v1.status_hostmesh import STATUS_SERVICE

PROTOCOL = "/hostmesh/status/1.0.0"
LATENCY_S = 0.02
"""One way between two machines, by default."""
ROUND_TRIP_S = 2 * LATENCY_S

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
    """Two nodes, of which one tells its status."""

    def __init__(self, nodes: Nodes, near: Node, far: Node) -> None:
        self.nodes, self.net, self.nursery = nodes, nodes.net, nodes.nursery
        self.near, self.far = near, far
        self.host = far.peer_id
        self.status = IDLE
        self.handler_errors: list[Exception] = []
        system = nodes.machine_of(far).system
        self.server = StatusServer(lambda: self.status, system)
        rpc_server = RpcServer(prefix="/hostmesh", system=system)
        rpc_server.add_service(STATUS_SERVICE, self.server)
        handler = rpc_server.stream_handlers()[PROTOCOL]

        async def noting(stream: Stream) -> None:
            try:
                await handler(stream)
            except Exception as error:
                self.handler_errors.append(error)
                raise

        self.serve(noting)
        self.client = self.client_of(near)
        self.began_s = trio.current_time()

    def serve(self, handler: StreamHandler) -> None:
        self.far.set_stream_handler(PROTOCOL, handler)

    def client_of(self, node: Node) -> StatusClient:
        node.add_addresses(self.host, self.far.listen_addresses(), AddressOrigin.CONFIGURED)
        system = self.nodes.machine_of(node).system
        return StatusClient(RpcClient(node, prefix="/hostmesh", system=system), system)

    def cut(self) -> None:
        self.net.cut(self.nodes.machine_of(self.near), self.nodes.machine_of(self.far))

    @property
    def took_s(self) -> float:
        return trio.current_time() - self.began_s

    def set_jobs(self, active: int) -> None:
        self.status = dataclasses.replace(self.status, active_jobs=active, uptime_s=trio.current_time())
        self.server.changed()

    async def settle(self) -> None:
        await trio.sleep(1.0)
        assert (self.near.usage().outbound_streams, self.far.usage().inbound_streams) == ({}, {})
        assert self.server.watchers == 0
        assert self.handler_errors == []


@asynccontextmanager
async def apart(net: SimNetwork) -> AsyncIterator[World]:
    """The nodes have not met."""
    async with nodes_on(net, {}) as nodes:
        yield World(nodes, await nodes.start(), await nodes.start())


@asynccontextmanager
async def world_of(net: SimNetwork) -> AsyncIterator[World]:
    """The nodes are connected and know each other's protocols."""
    async with apart(net) as world:
        await world.near.connect(world.host)
        await trio.sleep(1)
        world.began_s = trio.current_time()
        yield world


# --- ping and snapshot ---


@simulated(apart)
async def test_a_ping_is_the_time_of_the_answer(world: World) -> None:
    answer = world.server.ping

    async def thoughtful(request: status_pb2.PingRequest, context: object) -> status_pb2.PingResponse:
        await trio.sleep(0.038)
        return await answer(request, context)  # type: ignore[arg-type]

    world.server.ping = thoughtful  # type: ignore[method-assign]
    rpc_server = RpcServer(prefix="/hostmesh", system=world.nodes.machine_of(world.far).system)
    rpc_server.add_service(STATUS_SERVICE, world.server)
    world.serve(rpc_server.stream_handlers()[PROTOCOL])
    assert await world.client.ping(world.host) == pytest.approx(ROUND_TRIP_S + 0.038)
    assert world.took_s > 3 * ROUND_TRIP_S, "it was dialled first"
    await world.settle()


@simulated(world_of)
async def test_a_ping_answered_with_another_nonce_is_none(world: World) -> None:
    async def cheat(stream) -> None:  # type: ignore[no-untyped-def]
        await stream.receive()
        # message: nonce "x", status OK
        await stream.send(bytes.fromhex("0712030a01781a00"))

    world.serve(cheat)
    with pytest.raises(MalformedMessageError, match="nonce"):
        await world.client.ping(world.host)


@simulated(world_of)
async def test_a_ping_has_its_timeout(world: World) -> None:
    async def silent(stream: object) -> None:
        await trio.sleep_forever()

    world.serve(silent)
    with pytest.raises(DeadlineExceededError):
        await world.client.ping(world.host, timeout_s=0.5)
    assert world.took_s == pytest.approx(0.5)
    world.cut()
    await world.near.wait_disconnected(world.host)
    with pytest.raises(DialError):
        await world.client.ping(world.host)


@simulated(world_of)
async def test_a_snapshot(world: World) -> None:
    assert await world.client.get_snapshot(world.host) == IDLE
    assert IDLE.free_slots == 4
    world.set_jobs(5)
    assert (await world.client.get_snapshot(world.host)).free_slots == 0


# --- watch ---


@simulated(world_of)
async def test_the_first_status_comes_at_once_and_then_each_change(world: World) -> None:
    async with world.client.watch_status(world.host, min_interval_s=1.0) as watch:
        assert await anext(watch) == IDLE
        assert world.took_s == pytest.approx(ROUND_TRIP_S)
        for number in (1, 2, 3):
            await trio.sleep(10.0)
            changed_at = trio.current_time()
            world.set_jobs(number)
            assert (await anext(watch)).active_jobs == number
            assert trio.current_time() == pytest.approx(changed_at + LATENCY_S)
    await world.settle()


@simulated(world_of)
async def test_nothing_is_sent_where_nothing_changed(world: World) -> None:
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
@simulated(world_of)
async def test_statuses_are_spaced_and_the_latest_wins(world: World, asked_s: float, least_s: float) -> None:
    async def work() -> None:
        for number in range(1, 1001):
            world.set_jobs(number)
            await trio.sleep(0.01)

    seen: list[tuple[float, int]] = []
    async with world.client.watch_status(world.host, min_interval_s=asked_s) as watch:
        began_s = trio.current_time()
        world.nursery.start_soon(work)
        async for status in watch:
            seen.append((trio.current_time() - LATENCY_S - began_s, status.active_jobs))
            if status.active_jobs == 1000:
                break
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(seen)]
    assert min(gaps) >= least_s - 1e-6
    assert max(gaps) < least_s + 0.1
    assert len(seen) == pytest.approx(10.0 / least_s, abs=3)
    # What is sent is the state of that moment, and the last change is never lost.
    assert all(abs(number - at * 100) <= 2 for at, number in seen[1:-1])
    await world.settle()


@simulated(world_of)
async def test_a_slow_reader_gets_the_newest(world: World) -> None:
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


@simulated(world_of)
async def test_watchers_are_bounded_per_peer(world: World) -> None:
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
        other = world.client_of(await world.nodes.start())
        async with other.watch_status(world.host) as watch:
            assert await anext(watch) == IDLE
        watchers.cancel_scope.cancel()
    await world.settle()
    async with world.client.watch_status(world.host) as watch:
        assert await anext(watch) == IDLE


@simulated(world_of)
async def test_a_lost_watch_tells_its_reader(world: World) -> None:
    async with world.client.watch_status(world.host) as watch:
        assert await anext(watch) == IDLE
        world.cut()
        for _ in range(2):
            with pytest.raises(ConnectionLostError):
                await anext(watch)
    await world.settle()


@simulated(world_of)
async def test_a_host_that_sends_no_status_is_given_up(world: World) -> None:
    async def silent(stream: object) -> None:
        await trio.sleep_forever()

    world.serve(silent)
    with pytest.raises(DeadlineExceededError):
        async with world.client.watch_status(world.host, timeout_s=3.0):
            raise AssertionError("entered")
    assert world.took_s == pytest.approx(3.0)
    assert world.near.usage().outbound_streams == {}


@simulated(world_of)
async def test_a_watch_that_the_host_ends_in_order_ends(world: World) -> None:
    async def once(stream) -> None:  # type: ignore[no-untyped-def]
        await stream.receive()
        await stream.send(bytes.fromhex("06120210011a00"))

    world.serve(once)
    async with world.client.watch_status(world.host) as watch:
        assert [status.active_jobs async for status in watch] == [1]


@simulated(world_of)
async def test_the_callers_own_error_comes_out_as_it_is(world: World) -> None:
    with pytest.raises(ZeroDivisionError):
        async with world.client.watch_status(world.host):
            _ = 1 // 0
    await world.settle()


@simulated(world_of)
async def test_an_error_that_answers_a_cancellation_comes_out_as_it_is(world: World) -> None:
    async def watch_until_cancelled() -> None:
        async with world.client.watch_status(world.host):
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                raise KeyError("mine") from None

    with pytest.raises(KeyError, match="mine"), trio.move_on_after(1.0):
        await watch_until_cancelled()
    await world.settle()


@simulated(world_of)
async def test_cancelling_a_watch_leaves_nothing(world: World) -> None:
    with trio.move_on_after(3.0) as scope:
        async with world.client.watch_status(world.host) as watch:
            async for _ in watch:
                pass
    assert scope.cancelled_caught
    await world.settle()
