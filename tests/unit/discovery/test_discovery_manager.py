"""The manager's node: start, stop, peers, messages, and the goodbye."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from discovery_world import (
    EPOCH,
    FakeBook,
    FakeFactory,
    FakeNetwork,
    FakePeer,
    FakeSource,
    make_description,
    make_key,
    make_records,
    trio_system,
)
from trio.testing import MockClock, wait_all_tasks_blocked

from hostmesh.discovery.collaborators import NodeOptions
from hostmesh.discovery.manager import DiscoveryManager
from hostmesh.discovery.table import Merge
from hostmesh.errors import (
    AlreadyRunningError,
    ConfigError,
    DialError,
    InvalidAddressError,
    NodeNotRunningError,
    ReadyTimeoutError,
    StartFailedError,
)
from hostmesh.reputation.standing_book import StandingBook
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2 as pb

CLIENT = make_key("client").peer_id


class Bench:
    def __init__(self) -> None:
        self.network = FakeNetwork()
        self.source = FakeSource("dht")
        self.records = make_records()
        self.factory = FakeFactory(self.network, [self.source], self.records)

    def manager(self, nursery: trio.Nursery) -> DiscoveryManager:
        return DiscoveryManager(
            nursery=nursery,
            open_node=self.factory,
            records=self.records,
            reputation=FakeBook(),
            standings=StandingBook(system=trio_system()),
            system=trio_system(),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[DiscoveryManager]:
        async with trio.open_nursery() as nursery:
            manager = self.manager(nursery)
            await manager.create_node()
            yield manager
            await manager.stop()


async def test_a_node_is_created_with_what_was_asked(autojump_clock: MockClock) -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        manager = bench.manager(nursery)
        assert not manager.is_running()
        bootstrap = f"/ip4/192.0.2.1/tcp/4001/p2p/{make_key('b').peer_id}"
        assert await manager.create_node(listen=["/ip4/0.0.0.0/tcp/4001"], bootstrap=[bootstrap]) == CLIENT
        assert manager.is_running()
        assert bench.factory.options == [
            NodeOptions(listen=("/ip4/0.0.0.0/tcp/4001",), bootstrap=(bootstrap,), announce=None)
        ]
        assert manager.listen_addresses() == (f"/ip4/192.0.2.9/tcp/4001/p2p/{CLIENT}",)
        await manager.stop()
        assert not manager.is_running()
        assert bench.factory.open == 0
        assert manager.listen_addresses() == ()


async def test_a_second_node_is_refused_and_the_first_goes_on(autojump_clock: MockClock) -> None:
    """D14."""
    bench = Bench()
    async with bench.running() as manager:
        with pytest.raises(AlreadyRunningError):
            await manager.create_node()
        assert manager.is_running()
        assert bench.factory.open == 1


async def test_a_second_start_during_the_first_is_refused(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.factory.waits = True
    async with trio.open_nursery() as nursery:
        manager = bench.manager(nursery)
        nursery.start_soon(manager.create_node)
        await wait_all_tasks_blocked()
        with pytest.raises(AlreadyRunningError):
            await manager.create_node()
        nursery.cancel_scope.cancel()


async def test_stop_is_idempotent_and_the_node_can_start_again(autojump_clock: MockClock) -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        manager = bench.manager(nursery)
        await manager.stop()
        for _ in range(2):
            await manager.create_node()
            async with trio.open_nursery() as stoppers:
                stoppers.start_soon(manager.stop)
                stoppers.start_soon(manager.stop)
            await manager.stop()
            assert bench.factory.open == 0


async def test_a_start_that_fails_leaves_nothing_and_can_be_repeated(autojump_clock: MockClock) -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        manager = bench.manager(nursery)
        bench.factory.error = StartFailedError("port 4001 is in use")
        with pytest.raises(StartFailedError, match="4001"):
            await manager.create_node()
        assert not manager.is_running()
        bench.factory.error = None
        assert await manager.create_node() == CLIENT
        await manager.stop()


async def test_a_cancelled_start_leaves_nothing_and_can_be_repeated(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.factory.waits = True
    async with trio.open_nursery() as nursery:
        manager = bench.manager(nursery)
        with trio.move_on_after(1) as scope:
            await manager.create_node()
        assert scope.cancelled_caught
        assert not manager.is_running()
        bench.factory.waits = False
        assert await manager.create_node() == CLIENT
        await manager.stop()


@pytest.mark.parametrize("listen", ["/ip4/0.0.0.0/tcp/4001", [4001]])
async def test_addresses_are_lists(listen: Any, autojump_clock: MockClock) -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        with pytest.raises(ConfigError) as caught:
            await bench.manager(nursery).create_node(listen=listen)
        assert caught.value.name == "listen"


async def test_everything_says_that_there_is_no_node(autojump_clock: MockClock) -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        manager = bench.manager(nursery)
        address = f"/ip4/192.0.2.1/tcp/1/p2p/{make_key('b').peer_id}"
        for call in (
            lambda: manager.find_host(),
            lambda: manager.find_all_hosts(),
            lambda: manager.explain(),
            lambda: manager.connect_to_peer(address),
            lambda: manager.disconnect_peer(CLIENT),
            lambda: manager.send_message(CLIENT, b"hello"),
            lambda: manager.wait_ready(),
            lambda: manager.announce(make_description()),
            lambda: manager.withdraw(),
            lambda: manager.drain(),
        ):
            with pytest.raises(NodeNotRunningError):
                await call()
        assert manager.get_connected_peers() == ()
        assert manager.stats().sources == {}


async def test_connected_peers_are_listed_once(autojump_clock: MockClock) -> None:
    """D12."""
    bench = Bench()
    peer = bench.network.add_host("peer")
    async with bench.running() as manager:
        address = f"/ip4/192.0.2.1/tcp/4001/p2p/{peer.peer_id}"
        assert await manager.connect_to_peer(address) == peer.peer_id
        await manager.connect_to_peer(address)
        twice = (*bench.factory.node.connected_peers(), peer.peer_id)
        bench.factory.node.connected_peers = lambda: twice  # type: ignore[method-assign]
        assert manager.get_connected_peers() == (peer.peer_id,)


async def test_peers_are_disconnected(autojump_clock: MockClock) -> None:
    bench = Bench()
    peer = bench.network.add_host("peer")
    async with bench.running() as manager:
        await manager.connect_to_peer(f"/ip4/192.0.2.1/tcp/4001/p2p/{peer.peer_id}", timeout_s=5)
        await manager.disconnect_peer(peer.peer_id)
        assert manager.get_connected_peers() == ()
        with pytest.raises(InvalidAddressError):
            await manager.disconnect_peer("nonsense")


async def test_an_address_without_peer_id_is_refused(autojump_clock: MockClock) -> None:
    bench = Bench()
    async with bench.running() as manager:
        with pytest.raises(InvalidAddressError, match="names no peer"):
            await manager.connect_to_peer("/ip4/192.0.2.1/tcp/4001")
        with pytest.raises(InvalidAddressError):
            await manager.connect_to_peer("192.0.2.1:4001")
        with pytest.raises(DialError):
            await manager.connect_to_peer(f"/ip4/192.0.2.1/tcp/4001/p2p/{make_key('nobody').peer_id}")


async def test_waiting_for_peers_ends_with_the_reasons(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.factory.node.outcomes = {"/dns4/boot.example/tcp/4001": "dns"}
    async with bench.running() as manager:
        with pytest.raises(ReadyTimeoutError) as caught:
            await manager.wait_ready(1, timeout_s=2)
        assert caught.value.outcomes == {"/dns4/boot.example/tcp/4001": "dns"}
        bench.factory.node.connected[make_key("peer").peer_id] = None
        bench.factory.node.became_connected.set()
        await manager.wait_ready(1, timeout_s=2)


async def test_message_handlers_outlive_the_node(autojump_clock: MockClock) -> None:
    bench = Bench()
    got: list[Any] = []
    async with trio.open_nursery() as nursery:
        manager = bench.manager(nursery)
        remove_early = manager.on_message(got.append)
        await manager.create_node()
        remove_late = manager.on_message(got.append)
        assert len(bench.factory.messenger.handlers) == 2
        remove_early()
        remove_early()
        assert len(bench.factory.messenger.handlers) == 1
        await manager.stop()
        bench.factory.messenger.handlers.clear()
        await manager.create_node()
        assert len(bench.factory.messenger.handlers) == 1
        remove_late()
        assert bench.factory.messenger.handlers == []
        await manager.stop()


async def test_messages_go_to_the_messenger(autojump_clock: MockClock) -> None:
    bench = Bench()
    async with bench.running() as manager:
        assert await manager.send_message(CLIENT, {"type": "hello"}) == "ack"
        assert bench.factory.messenger.sent == [(CLIENT, {"type": "hello"})]
        with pytest.raises(InvalidAddressError):
            await manager.send_message("nobody", b"")


async def test_stopping_withdraws_the_record(autojump_clock: MockClock) -> None:
    bench = Bench()
    peer = FakePeer(make_key("peer").peer_id)
    bench.network.peers[peer.peer_id] = peer
    async with bench.running() as manager:
        await manager.connect_to_peer(f"/ip4/192.0.2.1/tcp/1/p2p/{peer.peer_id}")
        await manager.announce(make_description("m"))
    assert_told_and_taken_back(peer)
    assert bench.source.adverts[-1] is None


async def test_a_cancelled_program_still_says_goodbye(autojump_clock: MockClock) -> None:
    bench = Bench()
    peer = FakePeer(make_key("peer").peer_id)
    bench.network.peers[peer.peer_id] = peer
    async with trio.open_nursery() as nursery:
        manager = bench.manager(nursery)
        await manager.create_node()
        await manager.connect_to_peer(f"/ip4/192.0.2.1/tcp/1/p2p/{peer.peer_id}")
        await manager.announce(make_description("m"))
        nursery.cancel_scope.cancel()
    assert_told_and_taken_back(peer)
    assert bench.factory.open == 0


async def test_a_deaf_peer_does_not_hold_the_goodbye_up(autojump_clock: MockClock) -> None:
    bench = Bench()
    deaf = FakePeer(make_key("peer").peer_id, is_silent=True)
    bench.network.peers[deaf.peer_id] = deaf
    async with bench.running() as manager:
        bench.factory.node.connected[deaf.peer_id] = None
        await manager.announce(make_description("m"))
        began = trio.current_time()
    assert trio.current_time() - began <= 3


def assert_told_and_taken_back(peer: FakePeer) -> None:
    records = make_records(System(unix_s=lambda: EPOCH + 1))
    infos = [records.accept(signed)[0] for signed in peer.got]
    assert [info.state.value for info in infos] == ["available", "withdrawn"]
    assert infos[0].sequence < infos[1].sequence
    assert records.live() == []


async def test_a_source_that_dies_is_started_again(autojump_clock: MockClock) -> None:
    bench = Bench()
    runs = 0

    async def run(*, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        nonlocal runs
        runs += 1
        task_status.started()
        await trio.sleep(1)
        raise OSError("the interface went away")

    bench.source.run = run  # type: ignore[method-assign]
    async with bench.running() as manager:
        await trio.sleep(30)
        assert 3 <= runs <= 6, "again, but with growing pauses"
        assert manager.is_running()


async def test_expired_records_are_purged_in_the_background(autojump_clock: MockClock) -> None:
    bench = Bench()
    host = bench.network.add_host("host")
    async with bench.running():
        record = host.record()
        assert record is not None
        assert bench.records.accept(record)[1] is Merge.ADDED
        assert len(bench.records._table) == 1
        await trio.sleep(240)
        assert len(bench.records._table) == 0


async def test_what_a_host_serves_is_its_current_record(autojump_clock: MockClock) -> None:
    bench = Bench()
    async with bench.running() as manager:
        context: Any = SimpleNamespace(peer_id=make_key("asker").peer_id)
        info = await manager.announce(make_description("m"))
        response = await bench.factory.server.get_record(pb.GetRecordRequest(), context)
        assert response.record.SerializeToString() == info.signed
