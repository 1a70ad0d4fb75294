"""DHT nodes among each other."""

from __future__ import annotations

import hashlib
import itertools

import pytest
import trio
from tests.simulated.dht_nodes import KEY, connect, note_asked, start
from tests.simulated.nodes import Nodes, nodes_on
from tests.support.simulated import eventually, simulated

from hostmesh.net.address import AddressOrigin
from hostmesh.net.dht import QUERY_TIMEOUT_S
from hostmesh.net.dht_message import content_key
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.testing import LinkProfile, SimOptions


@simulated(nodes_on)
async def test_client_finds_client_through_a_server(nodes: Nodes):
    server = await start(nodes, server=True)
    host = await start(nodes, server=False)
    client = await start(nodes, server=False)
    await connect(host, server)
    await connect(client, server)
    await eventually(lambda: host[1].servers() and client[1].servers())

    assert await host[1].provide(KEY) == 1
    found = await client[1].find_providers(KEY, limit=5, timeout_s=10)

    assert found == [(host[0].peer_id, host[0].listen_addresses())]


@simulated(nodes_on)
async def test_clients_never_enter_a_server_s_table(nodes: Nodes):
    server = await start(nodes, server=True)
    asked = note_asked(server[0])
    client = await start(nodes, server=False)
    await connect(client, server)
    await eventually(lambda: client[1].servers())
    await client[1].provide(KEY)
    await trio.sleep(300)

    assert server[1].servers() == ()
    # It was asked once, said that it does not serve the DHT, and was left alone.
    assert asked == [client[0].peer_id]


@simulated(nodes_on)
async def test_provide_says_zero_when_nobody_is_there(nodes: Nodes):
    _, lonely = await start(nodes, server=True)
    assert await lonely.provide(KEY) == 0


@simulated(nodes_on)
async def test_find_waits_for_the_first_server(nodes: Nodes):
    server = await start(nodes, server=True)
    host = await start(nodes, server=False)
    client = await start(nodes, server=False)
    await connect(host, server)
    await eventually(lambda: host[1].servers())
    await host[1].provide(KEY)

    found = []

    async def find():
        found.extend(await client[1].find_providers(KEY, limit=1, timeout_s=30))

    nodes.nursery.start_soon(find)
    await trio.sleep(5)
    assert not found
    await connect(client, server)
    await eventually(lambda: bool(found))


@simulated(nodes_on)
async def test_a_server_is_found_by_its_id(nodes: Nodes):
    """The client knows one server, which knows another: who asks it hears where that one is."""
    known, sought = await start(nodes, server=True), await start(nodes, server=True)
    client, hidden = await start(nodes, server=False), await start(nodes, server=False)
    await connect(known, sought)
    await connect(hidden, known)
    await connect(client, known)
    await eventually(lambda: client[1].servers() and sought[0].peer_id in known[1].servers())
    found: list[tuple[tuple[str, ...], PeerId]] = []

    await client[1].find_peer(sought[0].peer_id, timeout_s=10, found=lambda *named: found.append(named))
    assert (sought[0].listen_addresses(), known[0].peer_id) in found

    found.clear()
    await client[1].find_peer(hidden[0].peer_id, timeout_s=10, found=lambda *named: found.append(named))
    assert found == [], "of who serves no DHT it tells nobody"


@simulated(nodes_on)
async def test_find_without_any_server_ends_at_its_timeout(nodes: Nodes):
    _, client = await start(nodes, server=False)
    began = trio.current_time()
    assert await client.find_providers(KEY, limit=1, timeout_s=7) == []
    assert trio.current_time() - began == pytest.approx(7)


@simulated(nodes_on)
async def test_two_prefixes_in_one_process_are_two_networks(nodes: Nodes):
    ours = await start(nodes, server=True)
    theirs = await start(nodes, server=True, prefix="/fabstir-llm")
    client = await start(nodes, server=False, prefix="/fabstir-llm")
    await connect(ours, theirs)
    await connect(client, ours)
    await connect(client, theirs)
    await eventually(lambda: client[1].servers())
    await trio.sleep(120)

    assert client[1].servers() == (theirs[0].peer_id,)
    assert ours[1].servers() == theirs[1].servers() == ()
    spoken = {name for name in client[0].protocols_of(theirs[0].peer_id) if "/kad/" in name}
    assert spoken == {"/fabstir-llm/kad/1.0.0"}


@simulated(nodes_on)
async def test_network_is_asked_before_what_is_kept_here(nodes: Nodes):
    """A server that keeps one provider itself still hears of the other from its neighbours."""
    asking = await start(nodes, server=True)
    other = await start(nodes, server=True)
    early = await start(nodes, server=False)
    late = await start(nodes, server=False)
    await connect(early, asking)
    await eventually(lambda: early[1].servers())
    await early[1].provide(KEY)
    await connect(late, other)
    await eventually(lambda: late[1].servers())
    await late[1].provide(KEY)
    await connect(asking, other)
    await eventually(lambda: asking[1].servers())

    found = await asking[1].find_providers(KEY, limit=10, timeout_s=10)
    assert {peer_id for peer_id, _ in found} == {early[0].peer_id, late[0].peer_id}
    assert len(found) == 2


@simulated(nodes_on)
async def test_own_record_is_told_to_others_and_not_to_oneself(nodes: Nodes):
    one = await start(nodes, server=True)
    two = await start(nodes, server=True)
    await connect(one, two)
    await eventually(lambda: one[1].servers() and two[1].servers())
    assert await one[1].provide(KEY) == 1
    assert await one[1].find_providers(KEY, limit=9, timeout_s=5) == []
    assert await two[1].find_providers(KEY, limit=9, timeout_s=5) == [(one[0].peer_id, one[0].listen_addresses())]


@simulated(nodes_on)
async def test_record_ends_after_thirty_minutes(nodes: Nodes):
    server = await start(nodes, server=True)
    host = await start(nodes, server=False)
    await connect(host, server)
    await eventually(lambda: host[1].servers())
    await host[1].provide(KEY)
    told_at = trio.current_time()
    client = await start(nodes, server=False)
    await connect(client, server)

    await trio.sleep_until(told_at + 1799)
    assert len(await client[1].find_providers(KEY, limit=9, timeout_s=5)) == 1
    await trio.sleep_until(told_at + 1801)
    assert await client[1].find_providers(KEY, limit=9, timeout_s=5) == []


@simulated(nodes_on)
async def test_twenty_eight_servers_in_a_chain(nodes: Nodes):
    """The record is with the twenty nearest to its key and no others, and is found from the other end."""
    dhts = [await start(nodes, server=True) for _ in range(28)]
    for left, right in itertools.pairwise(dhts):
        await connect(left, right)
    await trio.sleep(60)
    assert await dhts[0][1].provide(KEY) == 20

    def distance(node):
        place = hashlib.sha256(peer_id_to_bytes(node.peer_id)).digest()
        return bytes(a ^ b for a, b in zip(place, hashlib.sha256(KEY).digest(), strict=True))

    nearest = sorted((node for node, _ in dhts[1:]), key=distance)[:20]
    holders = [node for node, dht in dhts[1:] if dht.statistics.provider_records]
    assert {node.peer_id for node in holders} == {node.peer_id for node in nearest}
    found = await dhts[-1][1].find_providers(KEY, limit=1, timeout_s=30)
    assert [peer_id for peer_id, _ in found] == [dhts[0][0].peer_id]


@simulated(nodes_on)
async def test_dead_servers_do_not_stop_a_lookup(nodes: Nodes):
    dhts = [await start(nodes, server=True) for _ in range(12)]
    hub = dhts[0]
    for other in dhts[1:]:
        await connect(hub, other)
    await eventually(lambda: len(hub[1].servers()) == 11)
    await trio.sleep(60)
    for node, _ in dhts[1:8]:
        nodes.machine_of(node).freeze()

    began = trio.current_time()
    assert await hub[1].provide(KEY) == 4
    # Seven silent peers, six at a time: two rounds of timeouts.
    assert trio.current_time() - began <= 2 * QUERY_TIMEOUT_S + 1
    assert len(hub[1].servers()) == 4


@simulated(nodes_on, network=SimOptions(link=LinkProfile(latency_s=0.03)))
async def test_a_node_with_fewer_connections_than_queries_asks_everybody(nodes: Nodes):
    """Twelve servers, four connections, lookups of six queries at once: who found no connection free is asked later."""
    hub, *others = [await start(nodes, server=True) for _ in range(12)]
    for other in others:
        await connect(hub, other)
    await eventually(lambda: len(hub[1].servers()) == 11)
    client = await nodes.start(enable_dht=True, max_connections=4)
    dht = client.dht
    assert dht is not None
    await client.connect(hub[0].peer_id, hub[0].listen_addresses(), origin=AddressOrigin.CONFIGURED)

    await eventually(dht.servers)
    assert await dht.provide(KEY) == 12
    assert {node.peer_id for node, _ in (hub, *others)} == set(dht.servers())


@simulated(nodes_on)
async def test_parallel_requests_over_twelve_are_all_answered(nodes: Nodes):
    server = await start(nodes, server=True)
    client = await start(nodes, server=False)
    await connect(client, server)
    await eventually(lambda: client[1].servers())
    host = await start(nodes, server=False)
    await connect(host, server)
    await eventually(lambda: host[1].servers())
    keys = [content_key(f"model {number}") for number in range(30)]
    for key in keys:
        assert await host[1].provide(key) == 1
    found = []

    async def find(key):
        found.append(await client[1].find_providers(key, limit=1, timeout_s=10))

    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(find, key)
    assert [len(each) for each in found] == [1] * 30


@simulated(nodes_on)
async def test_a_server_that_became_one_is_noticed_when_it_comes_back(nodes: Nodes):
    server = await start(nodes, server=True)
    asked = note_asked(server[0])
    other = await start(nodes, server=False)
    await connect(server, other)
    await eventually(lambda: bool(asked))
    await trio.sleep(100)
    assert server[1].servers() == ()
    await other[0].stop()
    again = await nodes.start(on=nodes.machine_of(other[0]), enable_dht=True, dht_server=True)
    assert again.peer_id == other[0].peer_id
    await again.connect(server[0].peer_id, server[0].listen_addresses(), origin=AddressOrigin.CONFIGURED)
    await eventually(lambda: server[1].servers() == (again.peer_id,))
