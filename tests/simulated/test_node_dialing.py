"""What a dial shares, wants and leaves behind."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from tests.simulated.nodes import ECHO, Nodes, nodes_on
from tests.support.simulated import simulated

from hostmesh.errors import ConnectionLostError, DialError, InvalidAddressError, NodeNotRunningError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.node import Node, NodeConfig
from hostmesh.testing import make_peer_key

CONFIGURED, REMOTE = AddressOrigin.CONFIGURED, AddressOrigin.REMOTE


@simulated(nodes_on)
async def test_concurrent_calls_share_one_dial(nodes: Nodes):
    server, client = await nodes.start(), await nodes.start()
    client.add_addresses(server.peer_id, server.listen_addresses(), CONFIGURED)

    async def call() -> None:
        stream = await client.open_stream(server.peer_id, ECHO)
        await stream.send(b"x")
        assert await stream.receive() == b"x"
        await stream.close()

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(call)
    assert len(client._pool) == len(server._pool) == nodes.dials(client) == 1


@simulated(nodes_on)
async def test_who_had_less_time_for_a_shared_dial_fails_alone(nodes: Nodes):
    """A call that gives up early takes no patient one with it."""
    server, client = await nodes.start(), await nodes.start()
    client.add_addresses(server.peer_id, server.listen_addresses(), CONFIGURED)
    opened = []

    async def hurry() -> None:
        with pytest.raises(DialError):
            await client.open_stream(server.peer_id, ECHO, timeout_s=0.05)

    async def wait() -> None:
        opened.append(await client.open_stream(server.peer_id, ECHO, timeout_s=30))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hurry)
        await trio.sleep(0.001)
        for _ in range(5):
            nursery.start_soon(wait)
    assert len(opened) == 5
    assert nodes.dials(client) == 2


@simulated(nodes_on)
async def test_concurrent_calls_share_one_failure(nodes: Nodes):
    client, peer_id = await nodes.start(), make_peer_key("nobody").peer_id
    # Takes connections and says nothing.
    tarpit = nodes.net.machine("tarpit")
    await tarpit.network.listen(tarpit.address, 4001)
    client.add_addresses(peer_id, [f"/ip4/{tarpit.address}/tcp/4001"], CONFIGURED)
    failures = []

    async def call() -> None:
        with pytest.raises(DialError) as caught:
            await client.open_stream(peer_id, ECHO, timeout_s=0.3)
        failures.append(caught.value)

    began_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(call)
    assert trio.current_time() - began_s == pytest.approx(0.3)
    assert nodes.dials(client) == 1
    assert len({id(failure) for failure in failures}) == 20


@simulated(nodes_on)
async def test_unknown_peer_without_addresses(nodes: Nodes):
    client = await nodes.start()
    with pytest.raises(DialError) as caught:
        await client.open_stream(make_peer_key("nobody").peer_id, ECHO)
    assert caught.value.stage == "address"


@simulated(nodes_on)
async def test_configured_addresses_must_be_right(nodes: Nodes):
    client, server, other = await nodes.start(), await nodes.start(), make_peer_key("nobody").peer_id
    with pytest.raises(InvalidAddressError):
        await client.connect(server.peer_id, ["/ip4/127.0.0.1/udp/1/quic-v1"], origin=CONFIGURED)
    with pytest.raises(InvalidAddressError):
        await client.connect(other, server.peer_addresses(), origin=CONFIGURED)
    await client.connect(server.peer_id, server.peer_addresses(), origin=CONFIGURED)


@simulated(nodes_on)
async def test_a_dead_connection_is_replaced_by_the_next_call(nodes: Nodes):
    """The server's process vanishes without a goodbye and comes back with its key and port."""
    first, client = await nodes.start(), await nodes.start()
    await client.connect(first.peer_id, first.listen_addresses(), origin=CONFIGURED)
    machine = nodes.machine_of(first)
    machine.kill()
    await machine.wait_ready()
    await client.wait_disconnected(first.peer_id)
    await nodes.start(on=machine)
    stream = await client.open_stream(first.peer_id, ECHO)
    await stream.send(b"again")
    assert await stream.receive() == b"again"


@simulated(nodes_on)
async def test_a_node_that_does_not_run_says_so(nodes: Nodes):
    server = await nodes.start()
    idle = Node(NodeConfig(enable_dht=False), make_peer_key("idle"))
    assert not idle.is_running
    with pytest.raises(NodeNotRunningError):
        await idle.open_stream(server.peer_id, ECHO)
    with pytest.raises(NodeNotRunningError):
        await idle.connect(server.peer_id, server.listen_addresses())
    await server.stop()
    with pytest.raises(NodeNotRunningError):
        await server.connect(idle.peer_id, ["/ip4/127.0.0.1/tcp/1"])


@simulated(nodes_on)
async def test_lost_connection_before_the_request_was_sent_is_safe_to_retry(nodes: Nodes):
    server, client = await nodes.start(), await nodes.start()
    await client.connect(server.peer_id, server.listen_addresses(), origin=CONFIGURED)
    await server.stop()
    with pytest.raises((DialError, ConnectionLostError)) as caught:
        await client.open_stream(server.peer_id, ECHO)
    assert caught.value.retry_safe
    assert not caught.value.may_have_executed
