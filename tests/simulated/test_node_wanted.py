"""Peers that somebody wants come back, and last-known ones stand in for bootstrap nodes that are gone.

Times are the simulation's. What happened is read off the other nodes and the network's trace.
"""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from tests.simulated.nodes import Diary, Nodes, nodes_on
from tests.support.simulated import eventually, simulated

from hostmesh.errors import UsageError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.events import DialEnded, DialStarted, RetryPlanned, RetryReason
from hostmesh.net.muxer import SILENCE_S
from hostmesh.testing import make_peer_key

CONFIGURED = AddressOrigin.CONFIGURED


# --- wanted peers ---


@simulated(nodes_on)
async def test_a_wanted_peer_is_dialled_and_dialled_again_when_it_was_killed(nodes: Nodes):
    host, client = await nodes.start(), await nodes.start(listen_addresses=())
    machine = nodes.machine_of(host)
    with client.want(host.peer_id, host.listen_addresses(), origin=CONFIGURED):
        assert not client.is_connected(host.peer_id), "to begin waits for nothing"
        await eventually(lambda: client.is_connected(host.peer_id), within_s=1)
        machine.kill()
        await eventually(lambda: not client.is_connected(host.peer_id), within_s=1)
        await trio.sleep(7)
        dials = nodes.dials(client)
        assert 3 <= dials <= 7, "with pauses of a second, two, four"
        again = await nodes.restart(host)
        # The pause after four failures is 8 s at most.
        await eventually(lambda: again.is_connected(client.peer_id), within_s=8.5)
    await trio.sleep(600)
    assert again.is_connected(client.peer_id), "a connection that nobody wants any more stays as it is"
    await again.stop()
    before = nodes.dials(client)
    await trio.sleep(600)
    assert nodes.dials(client) == before, "nobody wants it"


@simulated(nodes_on)
async def test_who_is_not_wanted_is_not_dialled_again(nodes: Nodes):
    host, client = await nodes.start(), await nodes.start(listen_addresses=())
    await client.connect(host.peer_id, host.listen_addresses(), origin=CONFIGURED)
    nodes.machine_of(host).kill()
    await nodes.restart(host)
    await trio.sleep(600)
    assert nodes.dials(client) == 1


@simulated(nodes_on)
async def test_pauses_grow_and_stop_growing(nodes: Nodes):
    client = await nodes.start(listen_addresses=())
    dead = nodes.net.machine("dead")
    diary = Diary(nodes, client)
    peer_id = make_peer_key("dead").peer_id
    with client.want(peer_id, (f"/ip4/{dead.address}/tcp/4001",), origin=CONFIGURED):
        await trio.sleep(3600)
    pauses = diary.of(RetryPlanned)
    assert [event.failures for event in pauses] == [*range(1, len(pauses) + 1)]
    assert {(event.peer_id, event.reason, event.stage) for event in pauses} == {(peer_id, RetryReason.WANTED, "dial")}
    for event in pauses:
        longest = min(30.0, 2.0 ** (event.failures - 1))
        assert longest / 2 <= event.delay_s <= longest
    assert 3600 / 30 <= len(pauses) <= 3600 / 15 + 6
    ended = diary.of(DialEnded)
    assert len(diary.of(DialStarted)) == len(ended) == nodes.dials(client)
    assert {event.stage for event in ended} == {"dial"}
    assert [*ended[0].attempts] == [f"/ip4/{dead.address}/tcp/4001"]
    before = nodes.dials(client)
    await trio.sleep(600)
    assert nodes.dials(client) == before


@simulated(nodes_on)
async def test_a_wanted_peer_is_back_after_a_partition_of_a_minute(nodes: Nodes):
    host, client = await nodes.start(), await nodes.start(listen_addresses=())
    ends = nodes.machine_of(host), nodes.machine_of(client)
    with client.want(host.peer_id, host.listen_addresses(), origin=CONFIGURED):
        await eventually(lambda: client.is_connected(host.peer_id), within_s=1)
        nodes.net.stall(*ends)
        await eventually(lambda: not client.is_connected(host.peer_id), within_s=SILENCE_S + 4.1)
        await trio.sleep(20)
        assert not client.is_connected(host.peer_id)
        nodes.net.heal(*ends)
        await eventually(lambda: client.is_connected(host.peer_id) and host.is_connected(client.peer_id), within_s=10)


@simulated(nodes_on)
async def test_a_wanted_peer_that_was_frozen_is_back(nodes: Nodes):
    host, client = await nodes.start(), await nodes.start(listen_addresses=())
    with client.want(host.peer_id, host.listen_addresses(), origin=CONFIGURED):
        await eventually(lambda: client.is_connected(host.peer_id), within_s=1)
        nodes.machine_of(host).freeze()
        await eventually(lambda: not client.is_connected(host.peer_id), within_s=SILENCE_S + 4.1)
        await trio.sleep(300)
        assert not client.is_connected(host.peer_id)
        nodes.machine_of(host).resume()
        # A pause of 30 s, and an attempt that began before.
        await eventually(lambda: client.is_connected(host.peer_id), within_s=41)


@simulated(nodes_on)
async def test_wishes_overlap_and_are_bounded(nodes: Nodes):
    client = await nodes.start(listen_addresses=(), max_connections=6)
    peers = [make_peer_key(f"peer{number}").peer_id for number in range(4)]
    with client.want(peers[0]), client.want(peers[1]), client.want(peers[2]):
        with client.want(peers[0]):
            pass
        with pytest.raises(UsageError) as caught, client.want(peers[3]):
            pass
        assert caught.value.remedy
        with pytest.raises(UsageError), client.want(client.peer_id):
            pass
    with client.want(peers[3]):
        pass


@simulated(nodes_on)
async def test_a_wanted_peer_is_not_trimmed(nodes: Nodes):
    client = await nodes.start(listen_addresses=(), max_connections=4)
    wanted = await nodes.start()
    with client.want(wanted.peer_id, wanted.listen_addresses(), origin=CONFIGURED):
        await eventually(lambda: client.is_connected(wanted.peer_id), within_s=1)
        for _ in range(12):
            other = await nodes.start()
            await client.connect(other.peer_id, other.listen_addresses(), origin=CONFIGURED)
            await trio.sleep(1)
            assert client.is_connected(wanted.peer_id)
        assert len(client.connected_peers()) == 4
        assert Counter(event.kind for event in nodes.net.trace)["dial"] == 13


@simulated(nodes_on)
async def test_many_wanted_peers_are_dialled_a_few_at_a_time(nodes: Nodes):
    client = await nodes.start(listen_addresses=())
    # Each takes the connection and says nothing: a dial lasts until its deadline.
    tarpits = [nodes.net.machine(f"tarpit{number}") for number in range(20)]
    for tarpit in tarpits:
        await tarpit.network.listen(tarpit.address, 4001)
    blocks = [
        client.want(make_peer_key(tarpit.name).peer_id, (f"/ip4/{tarpit.address}/tcp/4001",), origin=CONFIGURED)
        for tarpit in tarpits
    ]
    for block in blocks:
        block.__enter__()
    await trio.sleep(5)
    assert nodes.dials(client) == 8
    await trio.sleep(10)
    assert nodes.dials(client) > 8
    for block in blocks:
        block.__exit__(None, None, None)
    before = nodes.dials(client)
    await trio.sleep(100)
    assert nodes.dials(client) == before
    assert not nodes.machine_of(client).streams, "dials that nobody wants any more are called off"


# --- restarting without bootstrap nodes ---


@simulated(nodes_on)
async def test_last_known_peers_are_dialled_where_no_bootstrap_node_answers(nodes: Nodes):
    friends = [await nodes.start() for _ in range(5)]
    gone = nodes.net.machine("gone")
    known = [
        "nonsense",
        f"/ip4/{gone.address}/tcp/4001",
        f"/ip4/{gone.address}/tcp/4001/p2p/{make_peer_key('gone').peer_id}",
        *(friend.peer_addresses()[0] for friend in friends),
    ]
    bootstrap = nodes.net.machine("bootstrap")
    address = f"/ip4/{bootstrap.address}/tcp/4001/p2p/{make_peer_key('bootstrap').peer_id}"
    client = await nodes.start(listen_addresses=(), bootstrap_addresses=(address,), fallback_peers=lambda: known)
    await client.wait_connected(3, 3.0)
    await trio.sleep(600)
    assert 3 <= len(client.connected_peers()) <= 6, "a few are enough"
    # It comes up after all, and is joined as ever.
    await nodes.start(on=bootstrap)
    await eventually(lambda: make_peer_key("bootstrap").peer_id in client.connected_peers(), within_s=61)


@simulated(nodes_on)
async def test_last_known_peers_are_left_alone_where_a_bootstrap_node_answers(nodes: Nodes):
    bootstrap, friend = await nodes.start(), await nodes.start()
    client = await nodes.start(
        listen_addresses=(), bootstrap_addresses=bootstrap.peer_addresses(), fallback_peers=friend.peer_addresses
    )
    await trio.sleep(600)
    assert client.connected_peers() == (bootstrap.peer_id,)
    assert nodes.dials(client) == 1
    # The bootstrap node goes for good; the friend stands in.
    nodes.machine_of(bootstrap).power_off()
    await eventually(lambda: client.is_connected(friend.peer_id), within_s=SILENCE_S + 4.1 + 3.0)


@simulated(nodes_on)
async def test_without_a_bootstrap_list_last_known_peers_are_dialled_at_once(nodes: Nodes):
    friend = await nodes.start()
    client = await nodes.start(listen_addresses=(), fallback_peers=friend.peer_addresses)
    await client.wait_connected(1, 0.5)


@simulated(nodes_on)
async def test_last_known_peers_that_are_all_gone_are_tried_ever_less(nodes: Nodes):
    gone = nodes.net.machine("gone")
    client = await nodes.start(
        listen_addresses=(),
        fallback_peers=lambda: [f"/ip4/{gone.address}/tcp/4001/p2p/{make_peer_key('gone').peer_id}"],
    )
    await trio.sleep(3600)
    assert 3600 / 60 <= nodes.dials(client) <= 3600 / 30 + 7


@simulated(nodes_on)
async def test_a_small_node_does_not_trim_one_last_known_peer_for_the_next(nodes: Nodes):
    friends = [await nodes.start() for _ in range(5)]
    known = [friend.peer_addresses()[0] for friend in friends]
    client = await nodes.start(listen_addresses=(), max_connections=2, fallback_peers=lambda: known)
    await trio.sleep(3600)
    assert nodes.dials(client) <= 4
    assert client.connected_peers()
