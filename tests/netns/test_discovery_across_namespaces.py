"""A host is found, and runs a job, from another network namespace over a bridge: by mDNS, and by the DHT.

Hosts that are connected are asked, and tell, of hosts as well, whatever the settings say; who named a host first is
seen by leaving mDNS and DHT out.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.netns

PEERS = ("announce", "bootstrap", "exchange")
"""Sources that are there whatever the settings say; ``bootstrap`` names the peers that the client is connected to: a
host that introduced itself meanwhile is among them."""
FAMILIES = [
    pytest.param("10.77.0.{}/24", "/ip4/0.0.0.0/tcp/{}", "/ip4/10.77.0.{}/tcp/", id="ipv4"),
    pytest.param("fd77::{}/64", "/ip6/::/tcp/{}", "/ip6/fd77::{}/tcp/", id="ipv6"),
]


@pytest.mark.parametrize(("network", "listen", "address"), FAMILIES)
async def test_mdns_alone(lan, start_mesh_node, network, listen, address):
    here, there = lan.join(network.format(1)), lan.join(network.format(2))
    host = await start_mesh_node(here, "host", listen_addresses=[listen.format(0)], enable_mdns=True)
    client = await start_mesh_node(there, "client", enable_mdns=True)
    found = await client.event("found")
    assert found["peer_id"] == host.peer_id
    assert {"mdns"} <= set(found["sources"]) <= {"mdns", *PEERS}
    assert any(text.startswith(address.format(1)) for text in found["addresses"])
    assert (await client.event("answered"))["text"] == "ALL IS WELL "
    await client.stop()
    await host.stop()


@pytest.mark.parametrize(("network", "listen", "address"), FAMILIES)
async def test_dht_alone_through_a_third_node(lan, start_mesh_node, network, listen, address):
    third_place, here, there = (lan.join(network.format(number)) for number in (1, 2, 3))
    third = await start_mesh_node(third_place, "bootstrap", listen_addresses=[listen.format(4001)], enable_dht=True)
    settings = {"enable_dht": True, "bootstrap_nodes": [f"{address.format(1)}4001/p2p/{third.peer_id}"]}
    host = await start_mesh_node(here, "host", listen_addresses=[listen.format(0)], **settings)
    client = await start_mesh_node(there, "client", **settings)
    found = await client.event("found")
    assert found["peer_id"] == host.peer_id
    assert {"dht"} <= set(found["sources"]) <= {"dht", *PEERS}
    assert any(text.startswith(address.format(2)) for text in found["addresses"])
    assert (await client.event("answered"))["text"] == "ALL IS WELL "


async def test_without_mdns_and_dht_nobody_is_found(lan, start_mesh_node):
    """What the tests above see does not come from somewhere else."""
    here, there = lan.join("10.77.0.1/24"), lan.join("10.77.0.2/24")
    await start_mesh_node(here, "host", listen_addresses=["/ip4/0.0.0.0/tcp/0"], enable_mdns=True, enable_dht=True)
    client = await start_mesh_node(there, "client")
    assert (await client.event("missed"))["seen"] == 0


async def test_an_interface_that_comes_later_is_used(lan, start_mesh_node):
    """The client starts unplugged; its cable comes while it looks."""
    here = lan.join("10.77.0.1/24")
    there = lan.join("10.77.0.2/24")
    lan.unplug(there)
    host = await start_mesh_node(here, "host", listen_addresses=["/ip4/0.0.0.0/tcp/0"], enable_mdns=True)
    client = await start_mesh_node(there, "client", enable_mdns=True)
    assert (await client.event("missed"))["seen"] == 0
    lan.plug_in(there, "10.77.0.2/24")
    assert (await client.event("found"))["peer_id"] == host.peer_id
