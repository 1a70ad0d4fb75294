"""What scores of neighbours do to a node: who makes room, who is dialled, and what of it outlasts a restart."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio
from tests.simulated.nodes import ECHO, Nodes, nodes_on
from tests.support.simulated import eventually, simulated

from hostmesh.errors import DialError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.events import CloseCause, ConnectionClosed
from hostmesh.net.node import Node
from hostmesh.net.pool import IDLE_S, KEPT_IDLE
from hostmesh.reputation.peer_score import PeerEvent
from hostmesh.reputation.peer_score_book import PeerScoreBook

CONFIGURED = AddressOrigin.CONFIGURED


async def _connect(client: Node, server: Node) -> None:
    await client.connect(server.peer_id, server.listen_addresses(), origin=CONFIGURED)


def _blacklist(scores: PeerScoreBook, server: Node) -> None:
    for _ in range(5):
        scores.record(server.peer_id, PeerEvent.TIMED_OUT)


@simulated(nodes_on)
async def test_a_poor_neighbour_makes_room_before_the_least_recently_used(nodes: Nodes):
    scores = PeerScoreBook()
    client = await nodes.start(max_connections=3, peer_scores=scores)
    servers = [await nodes.start() for _ in range(4)]
    for server in servers[:3]:
        await _connect(client, server)
        await eventually(partial(client.protocols_of, server.peer_id))
    scores.record(servers[2].peer_id, PeerEvent.TIMED_OUT)  # that used last
    await _connect(client, servers[3])
    assert set(client.connected_peers()) == {servers[index].peer_id for index in (0, 1, 3)}


@simulated(nodes_on)
async def test_poor_neighbours_are_not_among_the_idle_ones_that_are_kept(nodes: Nodes):
    scores = PeerScoreBook()
    client = await nodes.start(peer_scores=scores)
    servers = [await nodes.start() for _ in range(KEPT_IDLE + 2)]
    for server in servers:
        await _connect(client, server)
        await eventually(partial(client.protocols_of, server.peer_id))
    poor = {server.peer_id for server in servers[-2:]}
    for peer_id in poor:
        scores.record(peer_id, PeerEvent.TIMED_OUT)
    await trio.sleep(2 * IDLE_S)
    assert set(client.connected_peers()) == {server.peer_id for server in servers} - poor


@simulated(nodes_on)
async def test_who_is_blacklisted_is_not_dialled_until_its_time_is_over(nodes: Nodes):
    machine = nodes.net.machine("client")
    scores = PeerScoreBook(system=machine.system)
    client = await nodes.start(on=machine, peer_scores=scores)
    server, other = await nodes.start(), await nodes.start()
    _blacklist(scores, server)
    before = nodes.dials(client)
    with pytest.raises(DialError, match="blacklisted as a neighbour") as caught:
        await _connect(client, server)
    assert (caught.value.stage, nodes.dials(client)) == ("limit", before)
    await _connect(client, other)
    await trio.sleep(600)
    await _connect(client, server)
    assert client.is_connected(server.peer_id)


@simulated(nodes_on)
async def test_a_connection_that_there_is_stays_usable_and_who_is_wanted_is_dialled(nodes: Nodes):
    scores = PeerScoreBook()
    client = await nodes.start(peer_scores=scores)
    server, wanted = await nodes.start(), await nodes.start()
    await _connect(client, server)
    for each in (server, wanted):
        _blacklist(scores, each)
    stream = await client.open_stream(server.peer_id, ECHO)
    await stream.send(b"x")
    assert await stream.receive() == b"x"
    with client.want(wanted.peer_id, wanted.listen_addresses(), origin=CONFIGURED):
        await eventually(lambda: client.is_connected(wanted.peer_id))


@simulated(nodes_on)
async def test_a_bootstrap_peer_is_dialled_whatever_is_thought_of_it(nodes: Nodes):
    bootstrap = await nodes.start()
    scores = PeerScoreBook()
    _blacklist(scores, bootstrap)
    client = await nodes.start(bootstrap_addresses=bootstrap.peer_addresses(), peer_scores=scores)
    await client.wait_connected(1, 5.0)


@simulated(nodes_on)
async def test_a_node_tells_the_book_how_connections_ended_and_their_round_trip(nodes: Nodes):
    scores = PeerScoreBook()
    client = await nodes.start(peer_scores=scores)
    server, frozen = await nodes.start(), await nodes.start()
    heard: list[ConnectionClosed] = []
    client.on_event(lambda event: heard.append(event) if isinstance(event, ConnectionClosed) else None)
    for each in (server, frozen):
        await _connect(client, each)
    await eventually(lambda: client.rtt_s(server.peer_id) is not None, within_s=300)
    measured = client.rtt_s(server.peer_id)
    await client.disconnect(server.peer_id)
    assert scores.score_of(server.peer_id) > 0.5
    assert [(each.peer_id, each.cause, each.rtt_s) for each in heard if each.peer_id == server.peer_id] == [
        (server.peer_id, CloseCause.CLOSED, measured)
    ]


@simulated(nodes_on)
async def test_last_known_peers_that_are_poor_are_dialled_last(nodes: Nodes):
    scores = PeerScoreBook()
    servers = [await nodes.start() for _ in range(6)]
    known = [address for server in servers for address in server.peer_addresses()]
    for poor in servers[:3]:
        scores.record(poor.peer_id, PeerEvent.TIMED_OUT)
    client = await nodes.start(peer_scores=scores, fallback_peers=lambda: known)
    await eventually(lambda: len(client.connected_peers()) >= 3)
    assert {server.peer_id for server in servers[3:]} <= set(client.connected_peers())


@simulated(nodes_on)
async def test_a_peer_that_falls_silent_again_and_again_is_left_alone_also_by_the_next_process(
    nodes: Nodes, tmp_path: Path
):
    """The truth is the network's: the peer's machine answers a handshake and then nothing."""
    machine = nodes.net.machine("client")
    server = await nodes.start()
    scores = PeerScoreBook(tmp_path / "neighbours.sqlite3", system=machine.system)
    client = await nodes.start(on=machine, peer_scores=scores)
    failures = 0
    while scores.may_dial(server.peer_id) and failures < 20:
        await _connect(client, server)
        nodes.machine_of(server).freeze()
        await eventually(lambda: not client.is_connected(server.peer_id), within_s=120)
        nodes.machine_of(server).resume()
        failures += 1
    assert failures < 20
    with pytest.raises(DialError, match="blacklisted"):
        await _connect(client, server)
    again = PeerScoreBook(tmp_path / "neighbours.sqlite3", system=machine.system)
    assert not again.may_dial(server.peer_id)
    for each in (scores, again):
        each.close()
