"""What a node of a simulated network sees of it: connections, known hosts, and of whom it heard of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from tests.support.simulated import simulated

from hostmesh import SDK
from hostmesh.cli.topology_page import topology_page
from hostmesh.discovery.topology import PeerKind, RelationKind
from hostmesh.testing import FakeEngine, SimMachine, SimNetwork, make_description, make_wallet

MODEL = "idle"


@asynccontextmanager
async def an_sdk(machine: SimMachine, *bootstrap: str, serve_dht: bool = False) -> AsyncIterator[SDK]:
    async with machine.open_sdk(
        ephemeral_key=True,
        serve_dht=serve_dht,
        listen_addresses=(f"/ip4/{machine.address}/tcp/4001",),
        bootstrap_nodes=bootstrap,
    ) as sdk:
        await sdk.authenticate(wallet=make_wallet(machine.name))
        await sdk.get_discovery_manager().create_node()
        yield sdk


def address_of(sdk: SDK) -> str:
    return sdk.get_discovery_manager().listen_addresses()[0]


@simulated()
async def test_a_client_a_bootstrap_node_and_a_host(net: SimNetwork) -> None:
    async with an_sdk(net.machine("bootstrap"), serve_dht=True) as bootstrap:
        address = address_of(bootstrap)
        async with (
            an_sdk(net.machine("host"), address, serve_dht=True) as host,
            host.get_host_manager().serve(make_description(MODEL), FakeEngine([MODEL])),
            an_sdk(net.machine("client"), address) as client,
        ):
            await trio.sleep(20)
            discovery = client.get_discovery_manager()
            await discovery.explain(timeout_s=5)
            seen = discovery.network_topology()
            from_bootstrap = bootstrap.get_discovery_manager().network_topology()

    (via,) = (each for each in seen.peers if each.is_bootstrap)
    assert via.peer_id == id_of_address(address)
    assert [each.is_outbound for each in via.connections] == [True]
    assert f"{via.connections[0].address}/p2p/{via.peer_id}" == address
    assert via.rtt_ms is not None
    assert via.rtt_ms > 0
    assert {PeerKind.DHT, PeerKind.DIAL_BACK, PeerKind.NODE} <= set(via.kinds)

    (known,) = seen.hosts
    host_id = known.peer_id
    assert known.models == (MODEL,)
    assert known.operator == make_wallet("host").address.lower()
    assert known.sources
    assert {each.peer_id for each in seen.peers} == {via.peer_id, host_id}
    assert {(each.by, each.of) for each in seen.relations} == {(via.peer_id, host_id)}
    assert PeerKind.HOST in next(each for each in seen.peers if each.peer_id == host_id).kinds
    assert host_id in topology_page(seen)

    # The bootstrap node was dialled by both, and the host handed its record over itself.
    assert {each.peer_id: each.connections[0].is_outbound for each in from_bootstrap.peers} == {
        host_id: False,
        seen.peer_id: False,
    }
    assert [(each.peer_id, each.introducer) for each in from_bootstrap.hosts] == [(host_id, None)]
    assert not any(each.kind is RelationKind.INTRODUCED for each in from_bootstrap.relations)


def id_of_address(address: str) -> str:
    return address.rpartition("/")[2]


@simulated()
async def test_the_last_check_of_reachability_stands_in_it(net: SimNetwork) -> None:
    async with (
        an_sdk(net.machine("bootstrap"), serve_dht=True) as bootstrap,
        an_sdk(net.machine("client"), address_of(bootstrap)) as client,
    ):
        await trio.sleep(3)
        discovery = client.get_discovery_manager()
        assert discovery.network_topology().reachability is None
        await discovery.diagnostics(timeout_s=40)
        assert discovery.network_topology().reachability == "public"
