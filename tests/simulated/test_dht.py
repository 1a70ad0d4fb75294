"""DHT nodes among each other, honest and hostile."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import pytest
import trio
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from tests.simulated.nodes import Nodes, nodes_on
from tests.support.simulated import eventually, simulated

from hostmesh.errors import ConnectionLostError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.dht import QUERY_TIMEOUT_S, Dht
from hostmesh.net.dht_message import MAX_REQUEST_BYTES, content_key
from hostmesh.net.dht_server import MAX_INBOUND_PER_PEER
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId, peer_id_from_public_key, peer_id_to_bytes
from hostmesh.net.stream import Stream, StreamHandler

KEY = content_key("a model")
PROTOCOL = "/hostmesh/kad/1.0.0"


def frame(message: Message) -> bytes:
    data = message.SerializeToString()
    size, prefix = len(data), b""
    while size > 0x7F:
        prefix += bytes([size & 0x7F | 0x80])
        size >>= 7
    return prefix + bytes([size]) + data


async def start(nodes: Nodes, *, server: bool, prefix: str = "/hostmesh") -> tuple[Node, Dht]:
    """Start a node with a DHT."""
    node = await nodes.start(enable_dht=True, dht_server=server, protocol_prefix=prefix, max_connections=1000)
    assert node.dht is not None
    return node, node.dht


async def connect(one: tuple[Node, Dht], other: tuple[Node, Dht]) -> None:
    await one[0].connect(other[0].peer_id, other[0].listen_addresses(), origin=AddressOrigin.CONFIGURED)


def note_asked(node: Node) -> list[PeerId]:
    """Return a list of whom the node's DHT asks from now on."""
    asked: list[PeerId] = []
    open_stream = node.open_stream

    async def note(peer_id: PeerId, protocol_id: str, **options: Any) -> Stream:
        if protocol_id == PROTOCOL:
            asked.append(peer_id)
        return await open_stream(peer_id, protocol_id, **options)

    node.open_stream = note  # type: ignore[method-assign]
    return asked


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


async def hostile_client(nodes: Nodes, handler: StreamHandler) -> tuple[Node, Dht, list[PeerId]]:
    """Return a client whose one server is run by ``handler``, and whom it asks."""
    server = await nodes.start()
    server.set_stream_handler(PROTOCOL, handler)
    node, dht = await start(nodes, server=False)
    asked = note_asked(node)
    await node.connect(server.peer_id, server.listen_addresses(), origin=AddressOrigin.CONFIGURED)
    return node, dht, asked


@simulated(nodes_on)
async def test_server_that_answers_garbage_is_not_kept(nodes: Nodes):
    async def garbage(stream: Stream) -> None:
        await stream.receive()
        await stream.send(b"\x05\xff\xff\xff\xff\xff")

    _, dht, asked = await hostile_client(nodes, garbage)
    await eventually(lambda: bool(asked))
    await trio.sleep(1)
    assert dht.servers() == ()


@simulated(nodes_on)
async def test_server_that_announces_a_huge_answer_is_not_kept(nodes: Nodes):
    received = []

    async def huge(stream: Stream) -> None:
        received.append(await stream.receive())
        await stream.send(b"\xff\xff\xff\x7f")

    _, dht, _ = await hostile_client(nodes, huge)
    await eventually(lambda: bool(received))
    await trio.sleep(1)
    assert dht.servers() == ()


@simulated(nodes_on)
async def test_server_that_invents_peers_costs_a_bounded_number_of_dials(nodes: Nodes):
    numbers = iter(range(1000, 1_000_000))

    async def liar(stream: Stream) -> None:
        request = Message()
        data = await stream.receive()
        request.ParseFromString(data[1:])
        answer = Message(type=request.type, key=request.key)
        for _ in range(60):
            peer = answer.closerPeers.add()
            peer.id = peer_id_to_bytes(peer_id_from_public_key(next(numbers).to_bytes(32, "big")))
            peer.addrs.append(bytes.fromhex("040b006301060fa1"))  # a machine that is not there
        await stream.send(frame(answer))

    node, dht, asked = await hostile_client(nodes, liar)
    await eventually(lambda: bool(dht.servers()))
    await trio.sleep(600)
    before = len(asked)
    assert before < 200
    assert await dht.find_providers(KEY, limit=5, timeout_s=60) == []
    assert len(asked) - before <= 80
    assert nodes.dials(node) <= 1 + len(asked)


@simulated(nodes_on)
async def test_server_that_names_a_crowd_gives_no_more_than_the_limit(nodes: Nodes):
    async def crowd(stream: Stream) -> None:
        request = Message()
        data = await stream.receive()
        request.ParseFromString(data[1:])
        answer = Message(type=request.type, key=request.key)
        for number in range(200):
            peer = answer.providerPeers.add()
            peer.id = peer_id_to_bytes(peer_id_from_public_key((5000 + number).to_bytes(32, "big")))
            for port in range(40):
                peer.addrs.append(bytes.fromhex("04c633640106") + (4000 + port).to_bytes(2, "big"))
        await stream.send(frame(answer))

    _, dht, _ = await hostile_client(nodes, crowd)
    await eventually(lambda: bool(dht.servers()))
    found = await dht.find_providers(KEY, limit=7, timeout_s=10)
    assert len(found) == 7
    assert {len(addresses) for _, addresses in found} == {16}


async def ask_raw(nodes: Nodes, server: Node, data: bytes) -> bytes:
    """Send bytes to a server as a peer of its own; return what comes back until the end."""
    stream = await open_raw(await nodes.start(), server)
    await stream.send(data)
    await stream.close_write()
    out = b""
    while piece := await stream.receive():
        out += piece
    return out


async def open_raw(node: Node, server: Node) -> Stream:
    node.add_addresses(server.peer_id, server.listen_addresses(), AddressOrigin.CONFIGURED)
    return await node.open_stream(server.peer_id, PROTOCOL)


@simulated(nodes_on)
async def test_server_refuses_values_and_foreign_providers(nodes: Nodes):
    node, dht = await start(nodes, server=True)
    put = Message(type=Message.PUT_VALUE, key=b"/app/x")
    put.record.key, put.record.value = b"/app/x", b"v"
    get = Message(type=Message.GET_VALUE, key=b"/app/x")
    foreign = Message(type=Message.ADD_PROVIDER, key=KEY)
    foreign.providerPeers.add().id = peer_id_to_bytes(node.peer_id)
    keyless = Message(type=Message.FIND_NODE)
    for message in (put, get, foreign, keyless):
        try:
            answer = await ask_raw(nodes, node, frame(message))
        except ConnectionLostError:
            answer = None
        assert answer is None, message
    assert dht.statistics.provider_records == 0
    assert dht.statistics.refused == {"message_malformed": 3, "remote_protocol": 1}
    # The server lives on.
    assert await ask_raw(nodes, node, frame(Message(type=Message.PING)))


@simulated(nodes_on)
async def test_server_refuses_a_frame_over_its_bound(nodes: Nodes):
    node, dht = await start(nodes, server=True)
    size = MAX_REQUEST_BYTES + 1
    announced = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
    try:
        answer = await ask_raw(nodes, node, announced)
    except ConnectionLostError:
        answer = None
    assert answer is None
    assert dht.statistics.refused == {"frame_too_large": 1}


@simulated(nodes_on)
async def test_a_peer_has_a_bounded_number_of_streams_and_others_are_served(nodes: Nodes):
    node, dht = await start(nodes, server=True)
    greedy = await nodes.start()
    streams = [await open_raw(greedy, node) for _ in range(MAX_INBOUND_PER_PEER + 5)]
    for stream in streams:
        stream.send_prefix()  # type: ignore[attr-defined] # nothing is said on it, and yet it is opened
    await trio.sleep(1)
    assert dht.statistics.refused == {"streams": 5}
    assert await ask_raw(nodes, node, frame(Message(type=Message.PING)))
    await trio.sleep(61)
    # Idle streams were reset and their places are free again.
    try:
        await streams[0].receive()
    except ConnectionLostError:
        streams = []
    assert streams == []
    assert await ask_raw(nodes, node, frame(Message(type=Message.PING)))


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
