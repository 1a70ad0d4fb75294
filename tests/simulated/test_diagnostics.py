"""Faults that are made to happen to a node of a simulated network, and the code by which the node tells each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
from tests.support.simulated import simulated

from hostmesh import SDK, ConfigError, NodeNotRunningError
from hostmesh.discovery.diagnostics import Finding, LinkProbe, Severity
from hostmesh.discovery.record import open_body
from hostmesh.discovery.source import Source
from hostmesh.net.node import Node
from hostmesh.rpc.client import RpcClient
from hostmesh.testing import FakeEngine, SimMachine, SimNetwork, make_description, make_peer_key, make_wallet
from hostmesh.testing.machine import NETWORK_NAME
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.v1.discovery_hostmesh import DiscoveryServiceClient


@asynccontextmanager
async def an_sdk(
    machine: SimMachine, *bootstrap: str, serve_dht: bool = False, sources: Any = None, **settings: object
) -> AsyncIterator[SDK]:
    given = {"listen_addresses": (f"/ip4/{machine.address}/tcp/4001",), **settings}
    more = {} if sources is None else {"sources": sources}
    async with machine.open_sdk(
        ephemeral_key=True, serve_dht=serve_dht, bootstrap_nodes=bootstrap, **given, **more
    ) as sdk:
        await sdk.authenticate(wallet=make_wallet(machine.name))
        await sdk.get_discovery_manager().create_node()
        yield sdk


def address_of(sdk: SDK) -> str:
    return sdk.get_discovery_manager().listen_addresses()[0]


async def findings(sdk: SDK, *, after_s: float = 3.0) -> dict[str, Finding]:
    """What is wrong with a node: the findings by code, after it has had so long to join the network."""
    await trio.sleep(after_s)
    told: list[Finding] = []
    found = await sdk.get_discovery_manager().diagnostics(timeout_s=40, found=told.append)
    assert told == found
    return {each.code: each for each in found}


@simulated()
async def test_a_healthy_client_has_nothing_to_look_at(net: SimNetwork) -> None:
    async with (
        an_sdk(net.machine("bootstrap"), serve_dht=True) as bootstrap,
        an_sdk(net.machine("client"), address_of(bootstrap)) as client,
    ):
        found = await findings(client)
    assert {code for code, each in found.items() if each.severity is not Severity.OK} == set()
    assert {"LISTENING", "REACHABLE", "BOOTSTRAP_CONNECTED", "PEERS_CONNECTED", "CLOCK_RIGHT", "DHT_WORKS"} <= set(
        found
    )


# --- faults ---


@simulated()
async def test_a_bootstrap_node_that_is_down(net: SimNetwork) -> None:
    absent = f"/ip4/{net.machine('empty').address}/tcp/4001/p2p/{make_peer_key('absent').peer_id}"
    async with an_sdk(net.machine("client"), absent) as client:
        found = await findings(client)
    assert found["BOOTSTRAP_DOWN"].subject == absent
    assert found["BOOTSTRAP_DOWN"].severity is found["NO_PEERS"].severity is Severity.FAIL
    assert {"DHT_NO_SERVERS", "CLOCK_UNKNOWN", "REACHABILITY_UNKNOWN"} <= set(found)


@simulated()
async def test_a_bootstrap_node_behind_a_firewall(net: SimNetwork) -> None:
    machine = net.machine("dropped")
    machine.power_off()
    address = f"/ip4/{machine.address}/tcp/4001/p2p/{make_peer_key('absent').peer_id}"
    async with an_sdk(net.machine("client"), address, connection_timeout_ms=500) as client:
        assert "BOOTSTRAP_SILENT" in await findings(client)


@simulated()
async def test_something_else_at_the_bootstrap_address(net: SimNetwork) -> None:
    machine = net.machine("other")
    address = f"/ip4/{machine.address}/tcp/4001/p2p/{make_peer_key('absent').peer_id}"
    async with an_sdk(machine), an_sdk(net.machine("client"), address) as client:
        assert "BOOTSTRAP_IMPOSTOR" in await findings(client)


@simulated()
async def test_a_bootstrap_name_that_does_not_resolve(net: SimNetwork) -> None:
    address = f"/dns4/name.invalid/tcp/4001/p2p/{make_peer_key('absent').peer_id}"
    async with an_sdk(net.machine("client"), address) as client:
        assert "BOOTSTRAP_UNRESOLVED" in await findings(client)


@simulated()
async def test_no_bootstrap_no_dht_no_mdns_no_listener(net: SimNetwork) -> None:
    async with an_sdk(net.machine("client"), enable_dht=False, listen_addresses=()) as client:
        found = await findings(client)
    assert {"BOOTSTRAP_NONE", "NO_PEERS", "DHT_OFF", "MDNS_OFF", "NOT_LISTENING"} <= set(found)


@simulated()
async def test_a_clock_that_is_off(net: SimNetwork) -> None:
    async with (
        an_sdk(net.machine("bootstrap"), serve_dht=True) as bootstrap,
        an_sdk(net.machine("client", clock_skew_s=-41.0), address_of(bootstrap)) as client,
    ):
        found = await findings(client)
    assert found["CLOCK_OFF"].severity is Severity.FAIL
    assert "41.0 s behind" in found["CLOCK_OFF"].seen


@simulated()
async def test_strangers_whose_clocks_differ_are_a_warning_and_the_host_renews_its_record(net: SimNetwork) -> None:
    """A host without bootstrap nodes, and three who dialled it and say that it is late."""
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(an_sdk(net.machine("host")))
        manager = host.get_discovery_manager()
        info = await manager.announce(make_description("m"))
        for number in range(3):
            machine = net.machine(f"liar{number}", clock_skew_s=100.0)
            liar = await stack.enter_async_context(
                machine.open_bootstrap_node(bootstrap_nodes=(address_of(host),), enable_dht=False)
            )
        await trio.sleep(300)
        found = await findings(host)
        asked = DiscoveryServiceClient(liar.get_rpc_client(), info.peer_id)
        record = (await asked.get_record(pb.GetRecordRequest(), timeout_s=5)).record
    assert found["CLOCK_DOUBTED"].severity is Severity.WARN
    assert "100.0 s behind that of 3 strangers" in found["CLOCK_DOUBTED"].seen
    renewed = open_body(record.envelope, network=NETWORK_NAME).record
    assert renewed.issued_at_unix_s >= info.issued_at_unix_s + 240


@simulated()
async def test_an_address_that_nobody_reaches(net: SimNetwork) -> None:
    wrong = "/ip4/20.9.9.9/tcp/4001"
    async with an_sdk(net.machine("bootstrap"), serve_dht=True) as bootstrap:
        async with an_sdk(net.machine("client"), address_of(bootstrap), announce_addresses=(wrong,)) as client:
            found = await findings(client)
            assert (found["UNREACHABLE"].subject, found["UNREACHABLE"].severity) == (wrong, Severity.WARN)
        async with an_sdk(net.machine("host"), address_of(bootstrap), announce_addresses=(wrong,)) as host:
            async with host.get_host_manager().serve(make_description("idle"), FakeEngine(["idle"])):
                found = await findings(host)
            assert found["UNREACHABLE"].severity is Severity.FAIL
            assert "BINDING_GOOD" in found


@simulated()
async def test_a_network_of_another_prefix(net: SimNetwork) -> None:
    async with (
        an_sdk(net.machine("bootstrap"), serve_dht=True, protocol_prefix="/elsewhere") as bootstrap,
        an_sdk(net.machine("client"), address_of(bootstrap)) as client,
    ):
        found = await findings(client)
    assert {"OTHER_PREFIX", "DHT_NO_SERVERS", "CLOCK_UNKNOWN"} <= set(found)


@simulated()
async def test_listening_on_loopback_only(net: SimNetwork) -> None:
    async with an_sdk(net.machine("client"), listen_addresses=("/ip4/127.0.0.1/tcp/4001",)) as client:
        assert "LOOPBACK_ONLY" in await findings(client)


class Links:
    """An mDNS source whose links are as a test says."""

    name = "mdns"

    def __init__(self, *probes: LinkProbe) -> None:
        self._probes = probes

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def find(self, query: object, found: object) -> None:
        """Nobody."""

    async def advertise(self, advert: object) -> None:
        """Not here."""

    async def probe_links(self) -> Sequence[LinkProbe]:
        return self._probes


@simulated()
async def test_links(net: SimNetwork) -> None:
    def sources(node: Node, rpc: RpcClient) -> Sequence[Source]:
        return (
            Links(
                LinkProbe(interface="eth0", address="10.0.0.2", sent=True, heard_itself=True, packets=4, responders=2),
                LinkProbe(interface="wlan0", address="10.1.0.2", sent=True),
                LinkProbe(interface="tun0", address="10.2.0.2", sent=False, error="Network is unreachable"),
            ),
        )

    async with an_sdk(net.machine("client"), sources=sources) as client:
        found = await findings(client)
    assert found["MDNS_WORKS"].subject == "eth0 10.0.0.2"
    assert "2 machines answered" in found["MDNS_WORKS"].seen
    assert found["MDNS_BLOCKED"].subject == "wlan0 10.1.0.2"
    assert found["MDNS_CANNOT_SEND"].seen == "Network is unreachable"


# --- bounds ---


@simulated()
async def test_peers_that_do_not_answer_cost_the_time_that_was_given(net: SimNetwork) -> None:
    machine = net.machine("bootstrap")
    async with (
        an_sdk(machine, serve_dht=True) as bootstrap,
        an_sdk(net.machine("client"), address_of(bootstrap)) as client,
    ):
        await trio.sleep(3)
        machine.freeze()
        began_s = trio.current_time()
        found = await client.get_discovery_manager().diagnostics(timeout_s=4)
        assert trio.current_time() - began_s <= 6
        assert {"REACHABILITY_UNKNOWN", "CLOCK_UNKNOWN"} <= {each.code for each in found}
        machine.resume()


@simulated()
async def test_what_it_refuses(net: SimNetwork) -> None:
    async with an_sdk(net.machine("client")) as client:
        discovery = client.get_discovery_manager()
        with pytest.raises(ConfigError):
            await discovery.diagnostics(timeout_s=0)
        await discovery.stop()
        with pytest.raises(NodeNotRunningError):
            await discovery.diagnostics()
        with pytest.raises(NodeNotRunningError):
            discovery.network_topology()
