"""One network of strangers cannot fill a node: connections and handshakes by the address that they come from."""

from __future__ import annotations

import pytest
import trio
from tests.simulated.nodes import ECHO, Nodes, nodes_on
from tests.support.simulated import simulated

from hostmesh.errors import ConnectionLostError, DialError
from hostmesh.net import listening
from hostmesh.net.address import AddressOrigin
from hostmesh.net.network import Network
from hostmesh.net.node import Node
from hostmesh.testing import LinkProfile, SimOptions

CONFIGURED = AddressOrigin.CONFIGURED


class SeenFrom:
    """A machine's sockets, to which all that connect seem to come from one address: of IPv6 too, or of one network."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.ip = "198.51.100.1"

    def __getattr__(self, name: str) -> object:
        return getattr(self._network, name)

    def remote_endpoint(self, stream: trio.abc.Stream) -> tuple[str, int]:
        return (self.ip, 5000)


async def _crowded(nodes: Nodes, **config: object) -> tuple[Node, SeenFrom]:
    """Start a node; return it with where its peers seem to come from."""
    machine = nodes.net.machine("server")
    seen = machine.network = SeenFrom(machine.network)
    return await nodes.start(on=machine, **config), seen


async def _try_to_use(client, server) -> bool:
    """Whether a stream works, which tells more than a handshake: a refused dialler learns it afterwards."""
    client.add_addresses(server.peer_id, server.listen_addresses(), CONFIGURED)
    try:
        stream = await client.open_stream(server.peer_id, ECHO, timeout_s=2.0)
        await stream.send(b"x")
        return await stream.receive() == b"x"
    except (DialError, ConnectionLostError):
        return False


@simulated(nodes_on)
async def test_one_network_holds_only_its_share_of_the_connections(nodes: Nodes):
    server, seen = await _crowded(nodes, max_connections=32)
    worked = []
    for index in range(12):
        seen.ip = f"203.0.113.{index}"
        worked.append(await _try_to_use(await nodes.start(), server))
    assert worked == [True] * 8 + [False] * 4
    seen.ip = "198.51.100.1"
    assert await _try_to_use(await nodes.start(), server)
    leaver = server.connected_peers()[0]
    await server.disconnect(leaver)
    seen.ip = "203.0.113.77"
    assert await _try_to_use(await nodes.start(), server)
    assert not await _try_to_use(await nodes.start(), server)


@pytest.mark.parametrize(
    ("ips", "share", "expected"),
    [
        (["2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:3::1"], 0.1, 4),
        (["::ffff:203.0.113.1", "203.0.113.2"], 0.1, 4),
        (["127.0.0.1", "::1"], 0.1, 6),
        (["203.0.113.1"], 1.0, 6),
    ],
)
@simulated(nodes_on)
async def test_which_diallers_share_a_network(nodes: Nodes, ips, share, expected):
    server, seen = await _crowded(nodes, max_connections=30, max_inbound_share=share)
    worked = 0
    for index in range(6):
        seen.ip = ips[index % len(ips)]
        worked += await _try_to_use(await nodes.start(), server)
    assert worked == expected


@simulated(nodes_on)
async def test_what_this_node_dialled_is_in_no_share(nodes: Nodes):
    client = await nodes.start(max_connections=10, max_inbound_share=0.1)
    for _ in range(6):
        assert await _try_to_use(client, await nodes.start())
    assert len(client.connected_peers()) == 6


@simulated(nodes_on, network=SimOptions(link=LinkProfile(latency_s=0.001)))
async def test_idle_connections_of_one_network_do_not_end_the_handshakes_of_others(nodes: Nodes):
    server, seen = await _crowded(nodes)
    stranger, host = nodes.net.machine("stranger").network, nodes.machine_of(server).address
    seen.ip = "198.51.100.1"
    slow = await stranger.dial(host, 4001)
    await trio.sleep(0.002)
    seen.ip = "203.0.113.1"
    idle = []
    for _ in range(2 * listening.MAX_HANDSHAKES):
        idle.append(await stranger.dial(host, 4001))
        await trio.sleep(0.002)
    hello = b"\x13/multistream/1.0.0\n"
    await slow.send_all(hello)
    with trio.fail_after(2):
        assert bytes(await slow.receive_some()) == hello
        while await idle[0].receive_some():
            pass
