"""Nodes in processes of their own find each other over loopback: through a third node's DHT, or by mDNS.

Every node draws its key and the third node its port before it starts, so that all start at once and in any order.
"""

from __future__ import annotations

import trio

from hostmesh.net.peer_key import PeerKey


class Plan:
    """Keys and the third node's address, known beforehand."""

    def __init__(self, port):
        self.third, self.host = PeerKey.generate(), PeerKey.generate()
        self.listen = [f"/ip4/127.0.0.1/tcp/{port}"]
        self.bootstrap = [f"{self.listen[0]}/p2p/{self.third.peer_id}"]

    @property
    def server_role(self):
        return {"role": "server", "dht_server": True, "listen": self.listen, "seed": self.third.private_bytes.hex()}

    @property
    def host_role(self):
        return {"role": "host", "bootstrap": self.bootstrap, "seed": self.host.private_bytes.hex()}

    @property
    def client_role(self):
        return {"role": "client", "bootstrap": self.bootstrap, "wanted": self.host.peer_id}


async def start_all(start_node, *roles):
    """Start nodes at once; return them in the order of their roles."""
    nodes = {}

    async def one(index, role):
        nodes[index] = await start_node(**role)

    async with trio.open_nursery() as nursery:
        for index, role in enumerate(roles):
            nursery.start_soon(one, index, role)
    return [nodes[index] for index in range(len(roles))]


async def test_dht_alone_finds_a_host_through_a_third_node(start_node, free_port):
    plan = Plan(free_port)
    _, host, client = await start_all(
        start_node,
        plan.server_role,
        plan.host_role | {"country": "NZ"},
        plan.client_role | {"country": "NZ"},
    )
    assert (await client.event("found"))["source"] == "dht"
    reached = await client.event("reached")
    assert [f"{address}/p2p/{host.peer_id}" for address in reached["addresses"]] == host.addresses
    # Host and client serve no DHT, so neither stands in the other's table.
    assert reached["dht_servers"] == [plan.third.peer_id]


async def test_a_third_node_that_comes_later_is_told_at_once(start_node, free_port):
    """The host looks for its bootstrap node before that runs, and has nobody to tell until it does."""
    plan = Plan(free_port)
    _, client = await start_all(start_node, plan.host_role, plan.client_role)
    await start_node(**plan.server_role)
    assert (await client.event("found"))["source"] == "dht"


async def test_mdns_alone_finds_a_host_on_the_same_machine(start_node, free_port):
    plan = Plan(free_port)
    mdns = {"dht": False, "mdns": True, "bootstrap": []}
    host, client = await start_all(start_node, plan.host_role | mdns, plan.client_role | mdns)
    assert (await client.event("found"))["source"] == "mdns"
    reached = await client.event("reached")
    assert [f"{address}/p2p/{host.peer_id}" for address in reached["addresses"]] == host.addresses


async def test_a_node_that_stops_leaves_no_socket_and_no_thread(start_node):
    node = await start_node(role="host", dht_server=True, mdns=True)
    stopped = await node.stop()
    assert stopped["sockets"] == []
    assert stopped["threads"] == []
