"""The bootstrap loop of a whole node; its own timing is tested in tests/unit/net."""

from __future__ import annotations

import pytest
import trio
from tests.simulated.nodes import Nodes, nodes_on
from tests.support.simulated import eventually, simulated

from hostmesh.errors import ReadyTimeoutError
from hostmesh.net.backoff import FIRST_RETRY_S, MAX_RETRY_S
from hostmesh.testing import SimMachine, make_peer_key


def address_of(machine: SimMachine) -> str:
    """Where a node is or will be, when it is the machine's one."""
    return f"/ip4/{machine.address}/tcp/4001/p2p/{make_peer_key(machine.name).peer_id}"


@simulated(nodes_on)
async def test_start_does_not_wait_for_a_dead_bootstrap_node(nodes: Nodes):
    address = address_of(nodes.net.machine("dead"))
    began_s = trio.current_time()
    client = await nodes.start(bootstrap_addresses=(address,))
    assert trio.current_time() == began_s
    assert client.is_running
    with pytest.raises(ReadyTimeoutError) as caught:
        await client.wait_connected(1, 0.1)
    assert trio.current_time() - began_s == pytest.approx(0.1)
    assert caught.value.outcomes == {address: "dial"}
    assert caught.value.remedy


@simulated(nodes_on)
async def test_a_bootstrap_node_that_comes_up_late_is_joined(nodes: Nodes):
    late = nodes.net.machine("late")
    client = await nodes.start(bootstrap_addresses=(address_of(late),))
    with pytest.raises(ReadyTimeoutError):
        await client.wait_connected(1, 3600)
    await nodes.start(on=late)
    await client.wait_connected(1, MAX_RETRY_S + 1)
    await eventually(lambda: client.bootstrap_outcomes() == {address_of(late): "connected"}, within_s=1)


@simulated(nodes_on)
async def test_a_bootstrap_node_that_restarts_is_joined_again(nodes: Nodes):
    machine = nodes.net.machine("bootstrap")
    first = await nodes.start(on=machine)
    client = await nodes.start(bootstrap_addresses=first.peer_addresses())
    await client.wait_connected(1, 2.0)
    await first.stop()
    await client.wait_disconnected(first.peer_id)
    await nodes.start(on=machine)
    await client.wait_connected(1, 2 * FIRST_RETRY_S)


@simulated(nodes_on)
async def test_each_address_has_its_outcome(nodes: Nodes):
    good, other = await nodes.start(), await nodes.start()
    tarpit, dead = nodes.net.machine("tarpit"), nodes.net.machine("dead")
    # Takes connections and says nothing.
    await tarpit.network.listen(tarpit.address, 4001)
    expected = {
        good.peer_addresses()[0]: "connected",
        f"{other.listen_addresses()[0]}/p2p/{make_peer_key('stranger').peer_id}": "handshake",
        address_of(dead): "dial",
        f"/dns4/name.invalid/tcp/4001/p2p/{make_peer_key('named').peer_id}": "dns",
        address_of(tarpit): "timeout",
    }
    client = await nodes.start(bootstrap_addresses=tuple(expected), connection_timeout_s=0.3)
    await client.wait_connected(1, 2.0)
    await eventually(lambda: client.bootstrap_outcomes() == expected, within_s=2)


@simulated(nodes_on)
async def test_own_address_in_the_list_is_ignored(nodes: Nodes):
    machine = nodes.net.machine("own")
    node = await nodes.start(on=machine, bootstrap_addresses=(address_of(machine),))
    assert node.bootstrap_outcomes() == {}


@simulated(nodes_on)
async def test_ready_timeout_without_bootstrap_nodes(nodes: Nodes):
    node = await nodes.start()
    with pytest.raises(ReadyTimeoutError) as caught:
        await node.wait_connected(1, 0.05)
    assert caught.value.outcomes == {}
    await node.wait_connected(0, 0.05)
