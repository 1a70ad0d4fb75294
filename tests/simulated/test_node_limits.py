"""How many connections a node keeps, which, and who is told of them."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from tests.simulated.nodes import ECHO, Nodes, nodes_on
from tests.support.simulated import eventually, simulated

from hostmesh.errors import ConnectionLostError, DialError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.connection import FAREWELL_S
from hostmesh.net.connection_keeper import TICK_S
from hostmesh.net.pool import IDLE_S, KEPT_IDLE

CONFIGURED = AddressOrigin.CONFIGURED


async def _connect(client, server) -> None:
    await client.connect(server.peer_id, server.listen_addresses(), origin=CONFIGURED)


@simulated(nodes_on)
async def test_least_recently_used_idle_connection_makes_room(nodes: Nodes):
    client = await nodes.start(max_connections=3)
    servers = [await nodes.start() for _ in range(5)]
    for server in servers[:3]:
        await _connect(client, server)
        await eventually(partial(client.protocols_of, server.peer_id))
    stream = await client.open_stream(servers[0].peer_id, ECHO)
    await stream.send(b"x")
    await _connect(client, servers[3])
    assert set(client.connected_peers()) == {servers[index].peer_id for index in (0, 2, 3)}
    await _connect(client, servers[4])
    assert len(client.connected_peers()) == 3
    assert await stream.receive() == b"x"
    assert client.is_connected(servers[0].peer_id)
    with trio.fail_after(1):
        await servers[1].wait_disconnected(client.peer_id)


@simulated(nodes_on)
async def test_connections_in_use_are_not_trimmed(nodes: Nodes):
    client = await nodes.start(max_connections=2)
    servers = [await nodes.start() for _ in range(3)]
    streams = []
    for server in servers[:2]:
        await _connect(client, server)
        streams.append(await client.open_stream(server.peer_id, ECHO))
    with pytest.raises(DialError) as caught:
        await _connect(client, servers[2])
    assert caught.value.stage == "limit"
    assert "max_connections" in caught.value.remedy
    for stream in streams:
        await stream.send(b"x")
        assert await stream.receive() == b"x"
    await streams[0].close()
    await _connect(client, servers[2])


@simulated(nodes_on)
async def test_bootstrap_connections_are_kept(nodes: Nodes):
    bootstrap = await nodes.start()
    client = await nodes.start(max_connections=2, bootstrap_addresses=bootstrap.peer_addresses())
    await client.wait_connected(1, 2.0)
    for _ in range(4):
        await _connect(client, await nodes.start())
    assert client.is_connected(bootstrap.peer_id)


@simulated(nodes_on)
async def test_idle_connections_that_are_retained_stay_up_to_a_bound_until_they_are_released(nodes: Nodes):
    client = await nodes.start(max_connections=46)
    servers = [await nodes.start() for _ in range(KEPT_IDLE + 26)]
    peers = [server.peer_id for server in servers]
    stranger = await nodes.start()
    last = peers[KEPT_IDLE:]
    releases = [
        client.retain(lambda: [stranger.peer_id, *peers[0:18]]),
        client.retain(lambda: peers[5:10]),
        client.retain(lambda: peers[12:14]),
    ]
    for server in servers:
        await _connect(client, server)
        await trio.sleep(1)
    later_s = IDLE_S + 3 * TICK_S + FAREWELL_S
    await trio.sleep(later_s)
    # Half of 46, the first ones of each: 5 to 9 and 12 and 13 are of two, and who is not connected takes no place.
    assert set(client.connected_peers()) == {*peers[:18], *last[-KEPT_IDLE:]}
    releases[0]()
    await trio.sleep(later_s)
    assert set(client.connected_peers()) == {*peers[5:10], *peers[12:14], *last[-KEPT_IDLE:]}
    releases[1]()
    releases[1]()
    releases[2]()
    await trio.sleep(later_s)
    assert set(client.connected_peers()) == set(last[-KEPT_IDLE:])


@simulated(nodes_on)
async def test_more_are_not_retained_than_half_of_the_connections(nodes: Nodes):
    client = await nodes.start(max_connections=40)
    servers = [await nodes.start() for _ in range(KEPT_IDLE + 22)]
    peers = [server.peer_id for server in servers]
    client.retain(lambda: peers[:22])
    client.retain(lambda: peers[18:22])
    for server in servers:
        await _connect(client, server)
        await trio.sleep(1)
    await trio.sleep(IDLE_S + 3 * TICK_S + FAREWELL_S)
    assert set(client.connected_peers()) == {*peers[:16], *peers[18:]}, "20, in turn, and those used last"


@simulated(nodes_on)
async def test_a_retained_connection_is_the_last_to_make_room(nodes: Nodes):
    client = await nodes.start(max_connections=3)
    servers = [await nodes.start() for _ in range(5)]
    client.retain(lambda: [servers[0].peer_id])
    for server in servers[:4]:
        await _connect(client, server)
        await trio.sleep(1)
    assert set(client.connected_peers()) == {servers[index].peer_id for index in (0, 2, 3)}
    for server in servers[2:4]:
        await client.open_stream(server.peer_id, ECHO)
    await _connect(client, servers[4])
    assert not client.is_connected(servers[0].peer_id), "somebody else was needed"


@simulated(nodes_on)
async def test_idle_connections_are_kept_up_to_a_number_for_as_long_as_they_were_used_last(nodes: Nodes):
    bootstrap = await nodes.start()
    client = await nodes.start(bootstrap_addresses=bootstrap.peer_addresses())
    await client.wait_connected(1, 2.0)
    servers = [await nodes.start() for _ in range(KEPT_IDLE + 4)]
    for server in servers:
        await _connect(client, server)
        await trio.sleep(1)
    inbound = await nodes.start()
    await inbound.connect(client.peer_id, client.listen_addresses(), origin=CONFIGURED)
    held = await client.open_stream(servers[0].peer_id, ECHO)
    with client.want(servers[1].peer_id):
        await trio.sleep(IDLE_S + 3 * TICK_S + FAREWELL_S)
        # Neither what is in use, wanted or a bootstrap node's counts, nor what others dialled.
        kept = {bootstrap, servers[0], servers[1], inbound, *servers[-KEPT_IDLE:]}
        assert set(client.connected_peers()) == {node.peer_id for node in kept}
        assert not servers[2].is_connected(client.peer_id)
        await trio.sleep(10 * IDLE_S)
        assert set(client.connected_peers()) == {node.peer_id for node in kept}
        await held.send(b"x")
        assert await held.receive() == b"x"
        # Who is used again stays, and somebody else goes.
        again = await client.open_stream(servers[2].peer_id, ECHO)
        await again.close()
        await trio.sleep(IDLE_S + 3 * TICK_S + FAREWELL_S)
        assert client.is_connected(servers[2].peer_id)
        assert not client.is_connected(servers[4].peer_id)


@simulated(nodes_on)
async def test_inbound_beyond_the_limit_is_refused(nodes: Nodes):
    server = await nodes.start(max_connections=3)
    clients = [await nodes.start() for _ in range(4)]
    for client in clients[:3]:
        await _connect(client, server)
    clients[3].add_addresses(server.peer_id, server.listen_addresses(), CONFIGURED)
    with pytest.raises((DialError, ConnectionLostError)):
        await clients[3].open_stream(server.peer_id, ECHO)
    assert len(server.connected_peers()) == 3
    stream = await clients[0].open_stream(server.peer_id, ECHO)
    await stream.send(b"x")
    assert await stream.receive() == b"x"
    await clients[1].disconnect(server.peer_id)
    await server.wait_disconnected(clients[1].peer_id)
    await _connect(clients[3], server)


@simulated(nodes_on)
async def test_every_connection_event_is_told_once(nodes: Nodes):
    client, server = await nodes.start(), await nodes.start()
    with client.watch_connections() as watch:
        events = aiter(watch)
        await _connect(client, server)
        event = await anext(events)
        assert (event.peer_id, event.connected) == (server.peer_id, True)
        await client.disconnect(server.peer_id)
        event = await anext(events)
        assert (event.peer_id, event.connected) == (server.peer_id, False)


@simulated(nodes_on)
async def test_a_slow_watcher_gets_the_latest_of_each_peer(nodes: Nodes):
    client, server = await nodes.start(), await nodes.start()
    with client.watch_connections() as watch:
        for _ in range(5):
            await _connect(client, server)
            await client.disconnect(server.peer_id)
        await _connect(client, server)
        event = await anext(aiter(watch))
        assert event.connected
        with trio.move_on_after(0) as scope:
            await anext(aiter(watch))
        assert scope.cancelled_caught


@simulated(nodes_on)
async def test_both_dial_at_once(nodes: Nodes):
    one, two = await nodes.start(), await nodes.start()
    for _ in range(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_connect, one, two)
            nursery.start_soon(_connect, two, one)
        for caller, callee in ((one, two), (two, one)):
            stream = await caller.open_stream(callee.peer_id, ECHO)
            await stream.send(b"x")
            assert await stream.receive() == b"x"
            await stream.close()
        await one.disconnect(two.peer_id)
        await two.disconnect(one.peer_id)
