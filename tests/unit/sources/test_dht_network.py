"""DHT nodes among each other, honest and hostile, on a mock clock."""

from __future__ import annotations

import hashlib
import itertools

import trio
from libp2p.kad_dht.pb.kademlia_pb2 import Message

from hostmesh.errors import ConnectionLostError
from hostmesh.net.dht import QUERY_TIMEOUT_S
from hostmesh.net.dht_message import MAX_REQUEST_BYTES, content_key
from hostmesh.net.dht_server import MAX_INBOUND_PER_PEER
from hostmesh.net.peer_id import peer_id_from_public_key, peer_id_to_bytes
from hostmesh.net.stream import Stream

KEY = content_key("a model")
PROTOCOL = "/hostmesh/kad/1.0.0"


def frame(message: Message) -> bytes:
    data = message.SerializeToString()
    size, prefix = len(data), b""
    while size > 0x7F:
        prefix += bytes([size & 0x7F | 0x80])
        size >>= 7
    return prefix + bytes([size]) + data


async def test_client_finds_client_through_a_server(memory_network, eventually, autojump_clock):
    server = await memory_network.dht(1, server=True)
    host = await memory_network.dht(2, server=False)
    client = await memory_network.dht(3, server=False)
    memory_network.connect(host, server)
    memory_network.connect(client, server)
    await eventually(lambda: host[1].servers() and client[1].servers())

    assert await host[1].provide(KEY) == 1
    found = await client[1].find_providers(KEY, limit=5, timeout_s=10)

    assert found == [(host[0].peer_id, (host[0].address,))]


async def test_clients_never_enter_a_server_s_table(memory_network, eventually, autojump_clock):
    server = await memory_network.dht(1, server=True)
    client = await memory_network.dht(2, server=False)
    memory_network.connect(client, server)
    await eventually(lambda: client[1].servers())
    await client[1].provide(KEY)
    await trio.sleep(300)

    assert server[1].servers() == ()
    # It was asked once, said that it does not serve the DHT, and was left alone.
    assert server[0].dialled == [client[0].peer_id]


async def test_provide_says_zero_when_nobody_is_there(memory_network, autojump_clock):
    _, lonely = await memory_network.dht(1, server=True)
    assert await lonely.provide(KEY) == 0


async def test_find_waits_for_the_first_server(memory_network, eventually, nursery, autojump_clock):
    server = await memory_network.dht(1, server=True)
    host = await memory_network.dht(2, server=False)
    client = await memory_network.dht(3, server=False)
    memory_network.connect(host, server)
    await eventually(lambda: host[1].servers())
    await host[1].provide(KEY)

    found = []

    async def find():
        found.extend(await client[1].find_providers(KEY, limit=1, timeout_s=30))

    nursery.start_soon(find)
    await trio.sleep(5)
    assert not found
    memory_network.connect(client, server)
    await eventually(lambda: bool(found))


async def test_find_without_any_server_ends_at_its_timeout(memory_network, autojump_clock):
    _, client = await memory_network.dht(1, server=False)
    began = trio.current_time()
    assert await client.find_providers(KEY, limit=1, timeout_s=7) == []
    assert trio.current_time() - began == 7


async def test_two_prefixes_in_one_process_are_two_networks(memory_network, eventually, autojump_clock):
    ours = await memory_network.dht(1, server=True)
    theirs = await memory_network.dht(2, server=True, prefix="/fabstir-llm")
    client = await memory_network.dht(3, server=False, prefix="/fabstir-llm")
    memory_network.connect(ours, theirs)
    memory_network.connect(client, ours)
    memory_network.connect(client, theirs)
    await eventually(lambda: client[1].servers())
    await trio.sleep(120)

    assert client[1].servers() == (theirs[0].peer_id,)
    assert ours[1].servers() == theirs[1].servers() == ()
    assert set(theirs[0].handlers) == {"/fabstir-llm/kad/1.0.0"}


async def test_network_is_asked_before_what_is_kept_here(memory_network, eventually, autojump_clock):
    """A server that keeps one provider itself still hears of the other from its neighbours."""
    asking = await memory_network.dht(1, server=True)
    other = await memory_network.dht(2, server=True)
    early = await memory_network.dht(3, server=False)
    late = await memory_network.dht(4, server=False)
    memory_network.connect(early, asking)
    await eventually(lambda: early[1].servers())
    await early[1].provide(KEY)
    memory_network.connect(late, other)
    await eventually(lambda: late[1].servers())
    await late[1].provide(KEY)
    memory_network.connect(asking, other)
    await eventually(lambda: asking[1].servers())

    found = await asking[1].find_providers(KEY, limit=10, timeout_s=10)
    assert {peer_id for peer_id, _ in found} == {early[0].peer_id, late[0].peer_id}
    assert len(found) == 2


async def test_own_record_is_told_to_others_and_not_to_oneself(memory_network, eventually, autojump_clock):
    one = await memory_network.dht(1, server=True)
    two = await memory_network.dht(2, server=True)
    memory_network.connect(one, two)
    await eventually(lambda: one[1].servers() and two[1].servers())
    assert await one[1].provide(KEY) == 1
    assert await one[1].find_providers(KEY, limit=9, timeout_s=5) == []
    assert await two[1].find_providers(KEY, limit=9, timeout_s=5) == [(one[0].peer_id, (one[0].address,))]


async def test_record_ends_after_thirty_minutes(memory_network, eventually, autojump_clock):
    server = await memory_network.dht(1, server=True)
    host = await memory_network.dht(2, server=False)
    memory_network.connect(host, server)
    await eventually(lambda: host[1].servers())
    await host[1].provide(KEY)
    told_at = trio.current_time()
    client = await memory_network.dht(3, server=False)
    memory_network.connect(client, server)

    await trio.sleep_until(told_at + 1799)
    assert len(await client[1].find_providers(KEY, limit=9, timeout_s=5)) == 1
    await trio.sleep_until(told_at + 1801)
    assert await client[1].find_providers(KEY, limit=9, timeout_s=5) == []


async def test_forty_servers_in_a_chain(memory_network, autojump_clock):
    """The record is with the twenty nearest to its key and no others, and is found from the other end."""
    dhts = [await memory_network.dht(number, server=True) for number in range(1, 41)]
    for left, right in itertools.pairwise(dhts):
        memory_network.connect(left, right)
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


async def test_dead_servers_do_not_stop_a_lookup(memory_network, eventually, autojump_clock):
    dhts = [await memory_network.dht(number, server=True) for number in range(1, 13)]
    hub = dhts[0]
    for other in dhts[1:]:
        memory_network.connect(hub, other)
    await eventually(lambda: len(hub[1].servers()) == 11)
    await trio.sleep(60)
    for node, _ in dhts[1:8]:
        node.is_silent = True

    began = trio.current_time()
    assert await hub[1].provide(KEY) == 4
    # Seven silent peers, six at a time: two rounds of timeouts.
    assert trio.current_time() - began <= 2 * QUERY_TIMEOUT_S + 0.1
    assert len(hub[1].servers()) == 4


async def hostile_client(memory_network, eventually, handler):
    """Return a client whose one server is run by ``handler``."""
    server = memory_network.node(90)
    server.set_stream_handler(PROTOCOL, handler)
    client = await memory_network.dht(91, server=False)
    client[0].connected.append(server.peer_id)
    client[1].note_connected(server.peer_id)
    return client


async def test_server_that_answers_garbage_is_not_kept(memory_network, eventually, autojump_clock):
    async def garbage(stream: Stream) -> None:
        await stream.receive()
        await stream.send(b"\x05\xff\xff\xff\xff\xff")

    node, dht = await hostile_client(memory_network, eventually, garbage)
    await eventually(lambda: bool(node.dialled))
    await trio.sleep(1)
    assert dht.servers() == ()


async def test_server_that_announces_a_huge_answer_is_not_kept(memory_network, eventually, autojump_clock):
    received = []

    async def huge(stream: Stream) -> None:
        received.append(await stream.receive())
        await stream.send(b"\xff\xff\xff\x7f")

    _, dht = await hostile_client(memory_network, eventually, huge)
    await eventually(lambda: bool(received))
    await trio.sleep(1)
    assert dht.servers() == ()


async def test_server_that_invents_peers_costs_a_bounded_number_of_dials(memory_network, eventually, autojump_clock):
    numbers = iter(range(1000, 1_000_000))

    async def liar(stream: Stream) -> None:
        request = Message()
        data = await stream.receive()
        request.ParseFromString(data[1:])
        answer = Message(type=request.type, key=request.key)
        for _ in range(60):
            peer = answer.closerPeers.add()
            peer.id = peer_id_to_bytes(peer_id_from_public_key(next(numbers).to_bytes(32, "big")))
            peer.addrs.append(bytes.fromhex("047f000001060fa1"))
        await stream.send(frame(answer))

    node, dht = await hostile_client(memory_network, eventually, liar)
    await eventually(lambda: bool(dht.servers()))
    await trio.sleep(600)
    before = len(node.dialled)
    assert before < 200
    assert await dht.find_providers(KEY, limit=5, timeout_s=60) == []
    assert len(node.dialled) - before <= 80


async def test_server_that_names_a_crowd_gives_no_more_than_the_limit(memory_network, eventually, autojump_clock):
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

    _, dht = await hostile_client(memory_network, eventually, crowd)
    await eventually(lambda: bool(dht.servers()))
    found = await dht.find_providers(KEY, limit=7, timeout_s=10)
    assert len(found) == 7
    assert {len(addresses) for _, addresses in found} == {16}


async def ask_raw(memory_network, server, data: bytes, number: int = 70) -> bytes:
    """Send bytes to a server as a peer of its own; return what comes back until the end."""
    node = memory_network.node(number)
    node.connected.append(server.peer_id)
    stream = await node.open_stream(server.peer_id, PROTOCOL)
    await stream.send(data)
    await stream.close_write()
    out = b""
    while piece := await stream.receive():
        out += piece
    return out


async def test_server_refuses_values_and_foreign_providers(memory_network, autojump_clock):
    node, dht = await memory_network.dht(1, server=True)
    put = Message(type=Message.PUT_VALUE, key=b"/app/x")
    put.record.key, put.record.value = b"/app/x", b"v"
    get = Message(type=Message.GET_VALUE, key=b"/app/x")
    foreign = Message(type=Message.ADD_PROVIDER, key=KEY)
    foreign.providerPeers.add().id = peer_id_to_bytes(node.peer_id)
    keyless = Message(type=Message.FIND_NODE)
    for message in (put, get, foreign, keyless):
        try:
            answer = await ask_raw(memory_network, node, frame(message))
        except ConnectionLostError:
            answer = None
        assert answer is None, message
    assert dht.statistics.provider_records == 0
    assert dht.statistics.refused == {"message_malformed": 3, "remote_protocol": 1}
    # The server lives on.
    assert await ask_raw(memory_network, node, frame(Message(type=Message.PING)))


async def test_server_refuses_a_frame_over_its_bound(memory_network, autojump_clock):
    node, dht = await memory_network.dht(1, server=True)
    size = MAX_REQUEST_BYTES + 1
    announced = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
    try:
        answer = await ask_raw(memory_network, node, announced)
    except ConnectionLostError:
        answer = None
    assert answer is None
    assert dht.statistics.refused == {"frame_too_large": 1}


async def test_a_peer_has_a_bounded_number_of_streams_and_others_are_served(memory_network, autojump_clock):
    node, dht = await memory_network.dht(1, server=True)
    greedy = memory_network.node(70)
    greedy.connected.append(node.peer_id)
    streams = [await greedy.open_stream(node.peer_id, PROTOCOL) for _ in range(MAX_INBOUND_PER_PEER + 5)]
    await trio.testing.wait_all_tasks_blocked()
    assert dht.statistics.refused == {"streams": 5}
    assert await ask_raw(memory_network, node, frame(Message(type=Message.PING)), number=71)
    await trio.sleep(61)
    # Idle streams were reset and their places are free again.
    try:
        await streams[0].receive()
    except ConnectionLostError:
        streams = []
    assert streams == []
    assert await ask_raw(memory_network, node, frame(Message(type=Message.PING)))


async def test_parallel_requests_over_twelve_are_all_answered(memory_network, eventually, autojump_clock):
    server = await memory_network.dht(1, server=True)
    client = await memory_network.dht(2, server=False)
    memory_network.connect(client, server)
    await eventually(lambda: client[1].servers())
    host = await memory_network.dht(3, server=False)
    memory_network.connect(host, server)
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


async def test_a_server_that_became_one_is_noticed_when_it_comes_back(memory_network, eventually, autojump_clock):
    server = await memory_network.dht(1, server=True)
    other = await memory_network.dht(2, server=False)
    memory_network.connect(server, other)
    await eventually(lambda: bool(server[0].dialled))
    await trio.sleep(100)
    assert server[1].servers() == ()
    other[0].set_stream_handler(PROTOCOL, other[1]._answers.serve)
    server[1].note_connected(other[0].peer_id)
    await eventually(lambda: server[1].servers() == (other[0].peer_id,))
