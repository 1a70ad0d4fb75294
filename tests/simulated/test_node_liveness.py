"""Nodes notice that their machine slept or lost its address, and what an idle connection costs.

Times are the simulation's. What happened is read off the other nodes and the network's trace.
"""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from tests.simulated.nodes import ECHO, Diary, Nodes, nodes_on
from tests.support.simulated import eventually, simulated

from hostmesh.errors import ConnectionLostError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.connection_keeper import TICK_S
from hostmesh.net.events import (
    CloseCause,
    ConnectionClosed,
    ConnectionOpened,
    NetworkChanged,
    RetryPlanned,
    RetryReason,
)
from hostmesh.net.node import Node
from hostmesh.net.pinger import MEASURE_S, PING_S
from hostmesh.testing import SimMachine, make_peer_key

CONFIGURED = AddressOrigin.CONFIGURED
NOTICED_S = 15.0
"""What the issue allows."""


# --- the machine ---


async def _pair(nodes: Nodes, machine: SimMachine | None = None) -> tuple[Node, Node]:
    """Return a host and a client that wants it; the client's machine has one address."""
    host, client = await nodes.start(), await nodes.start(on=machine)
    nodes.nursery.start_soon(_keep, client, host)
    await eventually(lambda: client.is_connected(host.peer_id), within_s=1)
    await trio.sleep(60)
    return host, client


async def _keep(client: Node, host: Node) -> None:
    with client.want(host.peer_id, host.listen_addresses(), origin=CONFIGURED):
        await trio.sleep_forever()


@simulated(nodes_on)
async def test_connections_over_a_lost_address_end_at_once_and_come_back_with_it(nodes: Nodes):
    host, client = await _pair(nodes)
    machine, diary = nodes.machine_of(client), Diary(nodes, client)
    stream = await client.open_stream(host.peer_id, ECHO)
    lost_s = trio.current_time()
    machine.lose_address()
    await eventually(lambda: not client.is_connected(host.peer_id), within_s=NOTICED_S)
    assert trio.current_time() - lost_s <= 4.1, "the next look"
    with pytest.raises(ConnectionLostError):
        await stream.receive()
    (change,) = diary.of(NetworkChanged)
    assert (change.added, change.removed) == (frozenset(), frozenset({machine.address}))
    (closed,) = diary.of(ConnectionClosed)
    assert (closed.cause, closed.is_last, closed.is_outbound) == (CloseCause.ADDRESS_GONE, True, True)
    assert closed.lasted_s > 60
    await trio.sleep(300)
    gained_s = trio.current_time()
    machine.gain_address()
    await eventually(lambda: client.is_connected(host.peer_id), within_s=NOTICED_S)
    assert trio.current_time() - gained_s <= 4.5, "the next look, and no pause: they had grown to half a minute"
    assert diary.of(NetworkChanged)[-1].added == {machine.address}
    assert diary.of(ConnectionOpened)[-1].is_first


@simulated(nodes_on)
async def test_a_machine_that_moves_is_connected_again_within_the_bound(nodes: Nodes):
    machine = nodes.net.machine("mobile")
    bootstrap = await nodes.start()
    client = await nodes.start(
        on=machine, listen_addresses=(machine.listen_address,), bootstrap_addresses=bootstrap.peer_addresses()
    )
    host = await nodes.start()
    nodes.nursery.start_soon(_keep, client, host)
    await eventually(lambda: len(client.connected_peers()) == 2, within_s=2)
    await trio.sleep(30)
    diaries = Diary(nodes, host), Diary(nodes, bootstrap)
    moved_s = trio.current_time()
    machine.move("12.0.0.1")
    await trio.sleep(NOTICED_S)
    for diary in diaries:
        (opened,) = diary.of(ConnectionOpened)
        assert opened.at_s - moved_s <= 4.5
    assert host.remote_ip(client.peer_id) is not None
    assert client.announced_addresses() == ("/ip4/12.0.0.1/tcp/4001",)
    assert "/ip4/12.0.0.1/tcp/4001" in bootstrap.addresses_of(client.peer_id), "it told its new address"


@simulated(nodes_on)
async def test_loopback_outlives_a_lost_address(nodes: Nodes):
    machine = nodes.net.machine("m")
    one = await nodes.start(on=machine, listen_addresses=("/ip4/127.0.0.1/tcp/4001",), key=make_peer_key("one"))
    two = await nodes.start(on=machine, listen_addresses=(), key=make_peer_key("two"))
    await two.connect(one.peer_id, one.listen_addresses(), origin=CONFIGURED)
    machine.lose_address()
    await trio.sleep(60)
    assert two.is_connected(one.peer_id)
    assert nodes.dials(two) == 1


@simulated(nodes_on)
async def test_what_died_while_the_machine_slept_is_noticed_and_replaced(nodes: Nodes):
    host, client = await _pair(nodes)
    # The client hears nothing of it: its machine sleeps.
    nodes.net.stall(nodes.machine_of(host), nodes.machine_of(client))
    await nodes.restart(host)
    machine, diary = nodes.machine_of(client), Diary(nodes, client)
    woke_s = trio.current_time()
    machine.clock.skew_s += 3600
    await eventually(lambda: not client.is_connected(host.peer_id), within_s=NOTICED_S)
    assert trio.current_time() - woke_s <= 9.1, "a look after 4 s, and 5 s to answer"
    assert diary.of(NetworkChanged)[0].slept_s == pytest.approx(3600)
    assert diary.of(ConnectionClosed)[0].cause is CloseCause.SILENT
    nodes.net.heal(nodes.machine_of(host), nodes.machine_of(client))
    await eventually(lambda: client.is_connected(host.peer_id), within_s=4)


@simulated(nodes_on)
async def test_who_answers_after_a_sleep_is_kept(nodes: Nodes):
    host, client = await _pair(nodes)
    diary = Diary(nodes, client)
    stream = await client.open_stream(host.peer_id, ECHO)
    nodes.machine_of(client).clock.skew_s += 3600
    await trio.sleep(60)
    assert diary.of(NetworkChanged)[0].slept_s == pytest.approx(3600)
    assert diary.of(ConnectionClosed) == []
    assert nodes.dials(client) == 1
    await stream.send(b"still there")
    assert await stream.receive() == b"still there"


@simulated(nodes_on)
async def test_a_bootstrap_peer_is_dialled_without_a_pause_once_there_is_a_network(nodes: Nodes):
    bootstrap = await nodes.start()
    machine = nodes.net.machine("client")
    machine.lose_address()
    client = await nodes.start(on=machine, listen_addresses=(), bootstrap_addresses=bootstrap.peer_addresses())
    diary = Diary(nodes, client)
    await trio.sleep(600)
    pauses = diary.of(RetryPlanned)
    assert pauses[-1].failures > 6
    assert {(event.reason, event.stage) for event in pauses} == {(RetryReason.BOOTSTRAP, "dial")}
    machine.gain_address()
    await client.wait_connected(1, 4.5)


@simulated(nodes_on)
async def test_callbacks_are_told_until_they_are_taken_back(nodes: Nodes):
    client = await nodes.start()
    machine, told = nodes.machine_of(client), []
    end = client.on_network_change(told.append)
    machine.lose_address()
    await trio.sleep(5)
    assert [event.removed for event in told] == [{machine.address}]
    end()
    end()
    machine.gain_address()
    await trio.sleep(5)
    assert len(told) == 1


# --- what it costs ---


@simulated(nodes_on)
async def test_an_idle_connection_costs_one_ping_and_its_answer_in_twenty_seconds(nodes: Nodes):
    """One side asks: the question tells the other that it lives. Each measures once in three minutes beside that."""
    await _pair(nodes)
    before = Counter(event.kind for event in nodes.net.trace)
    await trio.sleep(3600)
    told = Counter(event.kind for event in nodes.net.trace) - before
    pings = 3600 / (PING_S + TICK_S), 3600 / PING_S
    measures = 2 * 3600 / MEASURE_S
    assert 2 * pings[0] <= told["data"] <= 2 * (pings[1] + measures)
    assert set(told) == {"data"}
