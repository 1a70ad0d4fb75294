"""DHT messages against libp2p's own protobuf, and against bytes written by hand."""

from __future__ import annotations

import pytest
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from multiaddr import Multiaddr

from hostmesh.errors import FrameTooLargeError, MalformedMessageError
from hostmesh.net.dht_message import (
    MAX_ADDRESSES,
    DhtMessage,
    MessageKind,
    PeerAddresses,
    content_key,
    decode_message,
    encode_message,
)
from hostmesh.net.peer_id import peer_id_from_public_key, peer_id_to_bytes

ALICE = peer_id_from_public_key(bytes(range(32)))
BOB = peer_id_from_public_key(bytes(range(1, 33)))
KEY = bytes.fromhex("1220") + bytes(32)
# /ip4/127.0.0.1/tcp/4001 by the multiaddr table: 04 = ip4, 06 = tcp.
LOCAL = bytes.fromhex("047f000001060fa1")


def test_golden_bytes():
    message = DhtMessage(
        kind=MessageKind.ADD_PROVIDER,
        key=KEY,
        providers=(PeerAddresses(peer_id=ALICE, addresses=("/ip4/127.0.0.1/tcp/4001",)),),
    )
    peer = "0a26" + "002408011220" + bytes(range(32)).hex() + "1208" + LOCAL.hex()
    golden = bytes.fromhex("0802" + "1222" + KEY.hex() + "4a" + f"{len(peer) // 2:02x}" + peer)
    assert encode_message(message) == golden
    assert decode_message(golden) == message


def test_libp2p_reads_what_is_written():
    message = DhtMessage(
        kind=MessageKind.GET_PROVIDERS,
        key=KEY,
        closer=(PeerAddresses(peer_id=ALICE, addresses=("/ip6/2001:db8::1/tcp/1/ws",)),),
        providers=(PeerAddresses(peer_id=BOB, addresses=()),),
    )
    stock = Message()
    stock.ParseFromString(encode_message(message))
    assert stock.type == Message.GET_PROVIDERS
    assert stock.key == KEY
    assert [peer.id for peer in stock.closerPeers] == [peer_id_to_bytes(ALICE)]
    assert Multiaddr(stock.closerPeers[0].addrs[0]) == Multiaddr("/ip6/2001:db8::1/tcp/1/ws")
    assert [peer.id for peer in stock.providerPeers] == [peer_id_to_bytes(BOB)]


def test_what_libp2p_writes_is_read_with_its_extras_left_out():
    stock = Message(type=Message.FIND_NODE, key=b"k", clusterLevelRaw=1, senderRecord=b"x" * 300)
    good = stock.closerPeers.add(id=peer_id_to_bytes(ALICE), signedRecord=b"y" * 300, connection=Message.CONNECTED)
    good.addrs.append(Multiaddr(f"/ip4/127.0.0.1/tcp/4001/p2p/{ALICE}").to_bytes())
    good.addrs.append(Multiaddr("/ip4/127.0.0.1/udp/4001/quic-v1").to_bytes())
    good.addrs.append(Multiaddr(f"/ip4/127.0.0.2/tcp/4001/p2p/{BOB}").to_bytes())
    good.addrs.append(b"\xff\xff")
    # A secp256k1 peer id, and nonsense.
    stock.closerPeers.add(id=bytes.fromhex("00250802122102") + bytes(32))
    stock.closerPeers.add(id=b"nonsense")
    message = decode_message(stock.SerializeToString())
    assert message.kind is MessageKind.FIND_NODE
    assert message.closer == (PeerAddresses(peer_id=ALICE, addresses=("/ip4/127.0.0.1/tcp/4001",)),)


@pytest.mark.parametrize("kind", [Message.PUT_VALUE, Message.GET_VALUE])
def test_values_are_refused(kind):
    with pytest.raises(MalformedMessageError) as caught:
        decode_message(Message(type=kind, key=b"/app/x").SerializeToString())
    assert caught.value.field == "type"


def test_an_answer_need_not_repeat_the_key():
    """py-libp2p's answers to FIND_NODE do not."""
    answer = decode_message(Message(type=Message.FIND_NODE).SerializeToString())
    assert (answer.kind, answer.key) == (MessageKind.FIND_NODE, b"")


def test_bounds_are_refused():
    with pytest.raises(MalformedMessageError):
        decode_message(Message(type=Message.FIND_NODE, key=bytes(129)).SerializeToString())
    crowd = Message(type=Message.FIND_NODE, key=b"k")
    for _ in range(65):
        crowd.closerPeers.add(id=b"x")
    with pytest.raises(MalformedMessageError):
        decode_message(crowd.SerializeToString())
    with pytest.raises(FrameTooLargeError):
        decode_message(bytes(101), max_bytes=100)


def test_sixteen_addresses_are_kept():
    stock = Message(type=Message.FIND_NODE, key=b"k")
    peer = stock.closerPeers.add(id=peer_id_to_bytes(ALICE))
    for port in range(1, 41):
        peer.addrs.append(Multiaddr(f"/ip4/127.0.0.1/tcp/{port}").to_bytes())
    (decoded,) = decode_message(stock.SerializeToString()).closer
    assert decoded.addresses == tuple(f"/ip4/127.0.0.1/tcp/{port}" for port in range(1, MAX_ADDRESSES + 1))


def test_an_answer_that_does_not_fit_names_fewer_peers():
    peers = tuple(
        PeerAddresses(
            peer_id=peer_id_from_public_key(number.to_bytes(32, "big")), addresses=("/ip4/127.0.0.1/tcp/4001",)
        )
        for number in range(50)
    )
    data = encode_message(DhtMessage(kind=MessageKind.FIND_NODE, key=b"k", closer=peers), max_bytes=500)
    assert len(data) <= 500
    kept = decode_message(data).closer
    assert 0 < len(kept) < 50
    assert kept == peers[: len(kept)]


def test_content_key_is_a_sha256_multihash():
    # sha256("") by FIPS 180-4.
    assert content_key("").hex() == "1220e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
