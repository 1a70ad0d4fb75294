"""DHT nodes and strangers that lie, say too much, or ask for what is not served."""

from __future__ import annotations

import trio
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from tests.simulated.dht_nodes import KEY, PROTOCOL, frame, note_asked, start
from tests.simulated.nodes import Nodes, nodes_on
from tests.support.simulated import eventually, simulated

from hostmesh.errors import ConnectionLostError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.dht import Dht
from hostmesh.net.dht_message import MAX_REQUEST_BYTES
from hostmesh.net.dht_server import MAX_INBOUND_PER_PEER
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId, peer_id_from_public_key, peer_id_to_bytes
from hostmesh.net.stream import Stream, StreamHandler


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
