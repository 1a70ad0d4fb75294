"""Faults of docs/troubleshooting.md that are the network's, made to happen; the machine's are in tests/integration."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from tests.support.simulated import simulated

import hostmesh
from hostmesh import SDK, DiscoveryManager, HostCriteria
from hostmesh.testing import FakeEngine, SimMachine, SimNetwork, make_description, make_peer_key, make_wallet

MODEL = "idle"


@asynccontextmanager
async def an_sdk(
    machine: SimMachine, *bootstrap: str, serve_dht: bool = False, **settings: object
) -> AsyncIterator[SDK]:
    """An SDK whose node runs."""
    address = f"/ip4/{machine.address}/tcp/4001"
    async with machine.open_sdk(
        ephemeral_key=True, serve_dht=serve_dht, listen_addresses=(address,), bootstrap_nodes=bootstrap, **settings
    ) as sdk:
        await sdk.authenticate(wallet=make_wallet(machine.name))
        await sdk.get_discovery_manager().create_node()
        yield sdk


def address_of(sdk: SDK) -> str:
    return sdk.get_discovery_manager().listen_addresses()[0]


# --- bootstrap nodes ---


async def outcome_of(net: SimNetwork, address: str, **settings: object) -> str:
    async with an_sdk(net.machine("client"), address, **settings) as sdk:
        with pytest.raises(hostmesh.ReadyTimeoutError) as raised:
            await sdk.get_discovery_manager().wait_ready(timeout_s=1.5)
        return raised.value.outcomes[address]


def address_on(machine: SimMachine) -> str:
    return f"/ip4/{machine.address}/tcp/4001/p2p/{make_peer_key('absent').peer_id}"


@simulated()
async def test_bootstrap_offline(net: SimNetwork) -> None:
    assert await outcome_of(net, address_on(net.machine("without-a-node"))) == "dial"


@simulated()
async def test_bootstrap_behind_a_firewall(net: SimNetwork) -> None:
    machine = net.machine("dropped")
    machine.power_off()  # packets to it get lost, as a firewall drops them
    assert await outcome_of(net, address_on(machine), connection_timeout_ms=500) == "timeout"


@simulated()
async def test_bootstrap_with_another_peer_id(net: SimNetwork) -> None:
    machine = net.machine("other")
    async with an_sdk(machine):
        assert await outcome_of(net, address_on(machine)) == "handshake"


@simulated()
async def test_bootstrap_that_is_there(net: SimNetwork) -> None:
    async with an_sdk(net.machine("there")) as there, an_sdk(net.machine("client"), address_of(there)) as sdk:
        await sdk.get_discovery_manager().wait_ready(timeout_s=10)
        assert sdk.get_discovery_manager().get_connected_peers()


# --- no peers ---


@simulated()
async def test_nobody_there(net: SimNetwork) -> None:
    async with an_sdk(net.machine("client")) as sdk:
        began_s = trio.current_time()
        with pytest.raises(hostmesh.NoHostFoundError) as raised:
            await sdk.get_discovery_manager().find_host(HostCriteria(), timeout_s=2)
        assert raised.value.seen == 0
        assert trio.current_time() - began_s <= 2


@asynccontextmanager
async def a_network(net: SimNetwork) -> AsyncIterator[tuple[str, SDK]]:
    """A bootstrap node, and a host that it knows."""
    async with an_sdk(net.machine("bootstrap"), serve_dht=True) as bootstrap:
        address = address_of(bootstrap)
        async with an_sdk(net.machine("host"), address, serve_dht=True) as host:
            await host.get_discovery_manager().wait_ready(timeout_s=10)
            offer = make_description(MODEL, price_micros_per_mtok=500)
            async with host.get_host_manager().serve(offer, FakeEngine([MODEL])):
                yield address, host


@simulated()
async def test_dht_off(net: SimNetwork) -> None:
    async with a_network(net) as (known, _), an_sdk(net.machine("other"), known, serve_dht=True) as other:
        address = address_of(other)  # it never met the host
        await other.get_discovery_manager().wait_ready(timeout_s=10)
        for enable_dht, seen in ((False, 0), (True, 1)):
            async with an_sdk(net.machine(f"client-{seen}"), address, enable_dht=enable_dht) as sdk:
                discovery = sdk.get_discovery_manager()
                await discovery.wait_ready(timeout_s=10)
                explanation = await discovery.explain(HostCriteria(required_models=[MODEL]))
                assert explanation.funnel.seen == seen


@simulated()
async def test_a_criterion_that_is_too_strict_is_named_with_what_would_do(net: SimNetwork) -> None:
    async with a_network(net) as (address, _), an_sdk(net.machine("client"), address) as sdk:
        discovery = sdk.get_discovery_manager()
        await discovery.wait_ready(timeout_s=10)
        with pytest.raises(hostmesh.NoHostFoundError) as raised:
            await discovery.find_host(HostCriteria(required_models=[MODEL], min_reputation=500))
        assert raised.value.seen == sum(raised.value.rejected.values()) == 1
        assert raised.value.rejected["reputation"] == 1
        assert "100" in raised.value.relaxation
        await discovery.find_host(HostCriteria(required_models=[MODEL], min_reputation=100))


@simulated()
async def test_a_host_that_left_is_gone(net: SimNetwork) -> None:
    async with an_sdk(net.machine("client")) as sdk:
        discovery = sdk.get_discovery_manager()
        async with a_network(net) as (_, host):
            await discovery.connect_to_peer(address_of(host))
            await discovery.find_host(HostCriteria(required_models=[MODEL]))
        with pytest.raises(hostmesh.NoHostFoundError):
            await discovery.find_host(HostCriteria(required_models=[MODEL]), timeout_s=2)


# --- messages ---


@asynccontextmanager
async def two(net: SimNetwork, **second: object) -> AsyncIterator[tuple[DiscoveryManager, DiscoveryManager, str]]:
    async with an_sdk(net.machine("a")) as one, an_sdk(net.machine("b"), **second) as other:
        a, b = one.get_discovery_manager(), other.get_discovery_manager()
        yield a, b, await a.connect_to_peer(address_of(other))


@simulated()
async def test_message_to_a_peer_that_is_gone(net: SimNetwork) -> None:
    async with two(net) as (a, b, peer_id):
        await b.stop()
        with pytest.raises((hostmesh.DialError, hostmesh.ConnectionLostError)):
            await a.send_message(peer_id, {"type": "x"}, timeout_s=3, retries=0)


@simulated()
async def test_message_to_another_protocol(net: SimNetwork) -> None:
    async with two(net, protocol_prefix="/another") as (a, _, peer_id):
        with pytest.raises(hostmesh.ProtocolNotSupportedError) as raised:
            await a.send_message(peer_id, {"type": "x"}, timeout_s=5)
        assert raised.value.needed == "/hostmesh/message/1.0.0"
        assert "/another/message/1.0.0" in raised.value.offered


@simulated()
async def test_message_too_large(net: SimNetwork) -> None:
    async with two(net) as (a, _, peer_id):
        with pytest.raises(hostmesh.FrameTooLargeError) as raised:
            await a.send_message(peer_id, b"x" * (256 * 1024 + 1))
        assert raised.value.limit_bytes == 256 * 1024


@simulated()
async def test_message_is_delivered_once(net: SimNetwork) -> None:
    async with two(net) as (a, b, peer_id):
        got: list[object] = []
        b.on_message(got.append)
        await a.send_message(peer_id, {"type": "job_request", "data": {"n": 1}})
        await trio.sleep(60)
        assert len(got) == 1


@simulated()
async def test_a_wrong_clock_is_named_and_not_the_bootstrap_node(net: SimNetwork) -> None:
    """The records that the bootstrap node hands over are refused, as those are that hosts give themselves."""
    async with a_network(net) as (address, _):
        for enable_dht, skew_s in ((False, -100.0), (True, 200.0)):
            machine = net.machine(f"client-{enable_dht}", clock_skew_s=skew_s)
            async with an_sdk(machine, address, enable_dht=enable_dht) as sdk:
                discovery = sdk.get_discovery_manager()
                await discovery.wait_ready(timeout_s=10)
                with pytest.raises(hostmesh.NoHostFoundError) as raised:
                    await discovery.find_host(HostCriteria(required_models=[MODEL]))
            assert raised.value.rejected == {"record": 1}
            assert "hostmesh doctor" in raised.value.remedy
