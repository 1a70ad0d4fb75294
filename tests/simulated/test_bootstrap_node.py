"""What ``hostmesh bootstrap`` runs: it keeps hosts' records, tells them to who asks, and publishes nothing itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
from tests.support.simulated import eventually, simulated

from hostmesh import SDK, HostCriteria, PeerId, RpcError, StatusCode
from hostmesh.discovery.introductions import MAX_INTRODUCED
from hostmesh.discovery.table import MAX_PER_INTRODUCER
from hostmesh.settings import BOOTSTRAP_CONNECTIONS
from hostmesh.testing import SimNetwork, make_description, make_host_record, make_wallet
from hostmesh.testing.machine import NETWORK_NAME
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.v1.discovery_hostmesh import DiscoveryServiceClient

MODEL = "m"
ALONE = {"enable_dht": False}
"""Peer exchange is all that is left: a machine of the simulator has no mDNS."""


class World:
    """A bootstrap node in a task of its own, so that it can be killed, and who asks it."""

    def __init__(self, net: SimNetwork, nursery: trio.Nursery) -> None:
        self.net = net
        self.machine = net.machine("bootstrap")
        self._nursery = nursery
        self.peer_id = PeerId("")

    async def start_bootstrap(self) -> SDK:
        sdk: SDK = await self._nursery.start(self._live)
        self.peer_id = sdk.get_discovery_manager().network_topology().peer_id
        return sdk

    async def _live(self, *, task_status: Any) -> None:
        async with self.machine.open_bootstrap_node() as sdk:
            task_status.started(sdk)
            await trio.sleep_forever()

    @asynccontextmanager
    async def a_node(self, name: str, **settings: Any) -> AsyncIterator[SDK]:
        """Run a node that knows the bootstrap node and nothing else."""
        address = f"/ip4/{self.machine.address}/tcp/4001/p2p/{self.peer_id}"
        async with self.net.machine(name).open_sdk(bootstrap_nodes=(address,), **settings) as sdk:
            await sdk.authenticate(wallet=make_wallet(name))
            await sdk.get_discovery_manager().create_node()
            await sdk.get_discovery_manager().wait_ready()
            yield sdk

    def asking(self, sdk: SDK) -> DiscoveryServiceClient:
        """Return what asks the bootstrap node from another."""
        return DiscoveryServiceClient(sdk.get_rpc_client(), self.peer_id)


@asynccontextmanager
async def world_on(net: SimNetwork) -> AsyncIterator[World]:
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            world = World(net, nursery)
            await world.start_bootstrap()
            yield world
        except Exception as error:  # noqa: BLE001 - raised again below, without the nursery's group around it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


@simulated(world_on)
async def test_without_dht_and_mdns_a_client_finds_a_host_that_only_the_bootstrap_node_knows(world: World) -> None:
    async with world.a_node("host", **ALONE) as host, world.a_node("client", **ALONE) as client:
        info = await host.get_discovery_manager().announce(make_description(MODEL))
        choice = await client.get_discovery_manager().find_host(HostCriteria(required_models=[MODEL]))
        assert choice.peer_id == info.peer_id
        assert choice.sources == ("exchange",)


@simulated(world_on)
async def test_a_record_is_told_until_its_host_withdraws_it(world: World) -> None:
    async with world.a_node("host") as host, world.a_node("client") as client:
        manager, asking = host.get_discovery_manager(), world.asking(client)
        info = await manager.announce(make_description(MODEL))
        told = await asking.query(pb.QueryRequest(model_ids=[MODEL]), timeout_s=5)
        assert [record.SerializeToString() for record in told.records] == [info.signed]
        assert not (await asking.query(pb.QueryRequest(model_ids=["other"]), timeout_s=5)).records
        await manager.withdraw()
        assert not (await asking.query(pb.QueryRequest(model_ids=[MODEL]), timeout_s=5)).records


@simulated(world_on)
async def test_it_is_no_host_and_tells_the_time(world: World) -> None:
    async with world.a_node("client") as client:
        with pytest.raises(RpcError) as caught:
            await world.asking(client).get_record(pb.GetRecordRequest(), timeout_s=5)
        assert (caught.value.status, caught.value.reason) == (StatusCode.NOT_FOUND, "NOT_A_HOST")
        status = await client.get_status_client().get_snapshot(world.peer_id, timeout_s=5)
        assert status.time_unix_s == pytest.approx(world.machine.system.unix_s(), abs=1)


@simulated(world_on)
async def test_a_peer_hands_over_records_of_so_many_others_and_none_of_them_is_told(world: World) -> None:
    """Hearsay is bounded, and nobody is believed about a third."""
    async with world.a_node("crier") as crier:
        asking = world.asking(crier)
        now = int(world.machine.system.unix_s())
        for number in range(MAX_PER_INTRODUCER + 1):
            record = make_host_record(
                f"made-up-{number}", make_description(MODEL), network=NETWORK_NAME, issued_at_unix_s=now
            )
            if number < MAX_PER_INTRODUCER:
                await asking.announce(pb.AnnounceRequest(record=record), timeout_s=5)
                continue
            with pytest.raises(RpcError) as caught:
                await asking.announce(pb.AnnounceRequest(record=record), timeout_s=5)
            assert (caught.value.status, caught.value.reason) == (StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert not (await asking.query(pb.QueryRequest(model_ids=[MODEL]), timeout_s=5)).records


@simulated(world_on)
async def test_after_a_kill_its_id_is_the_same_and_its_hosts_hand_their_records_over_again(world: World) -> None:
    before = world.peer_id
    async with world.a_node("host", **ALONE) as host, world.a_node("client", **ALONE) as client:
        await host.get_discovery_manager().announce(make_description(MODEL))
        await world.machine.restart()
        again = await world.start_bootstrap()
        assert world.peer_id == before
        assert again.settings.max_connections == BOOTSTRAP_CONNECTIONS
        await eventually(lambda: again.get_discovery_manager().network_topology().hosts)
        choice = await client.get_discovery_manager().find_host(HostCriteria(required_models=[MODEL]))
        assert choice.sources == ("exchange",)


@simulated(world_on)
async def test_after_a_restart_it_hears_of_each_renewal_though_strangers_stayed_with_the_host(world: World) -> None:
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(world.a_node("host", **ALONE))
        info = await host.get_discovery_manager().announce(make_description(MODEL))
        address = f"/ip4/{world.net.machines['host'].address}/tcp/4001/p2p/{info.peer_id}"
        for number in range(MAX_INTRODUCED):
            stranger = await stack.enter_async_context(world.a_node(f"stranger{number}", **ALONE))
            await stranger.get_discovery_manager().connect_to_peer(address)
        await world.machine.restart()
        again = await world.start_bootstrap()
        await trio.sleep(400)  # more than the life of a record
        assert again.get_discovery_manager().network_topology().hosts
