"""Bytes of strangers give a message or a RemoteProtocolError, and every message comes back as it went."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from libp2p.kad_dht.pb.kademlia_pb2 import Message

from hostmesh.errors import RemoteProtocolError
from hostmesh.net.dht_message import (
    MAX_ADDRESSES,
    DhtMessage,
    MessageKind,
    PeerAddresses,
    decode_message,
    encode_message,
)
from hostmesh.net.peer_id import peer_id_from_public_key

peers = st.builds(
    lambda key, ports: PeerAddresses(
        peer_id=peer_id_from_public_key(key), addresses=tuple(f"/ip4/192.0.2.1/tcp/{port}" for port in ports)
    ),
    st.binary(min_size=32, max_size=32),
    st.lists(st.integers(1, 65535), unique=True, max_size=MAX_ADDRESSES),
)
peer_lists = st.lists(peers, max_size=5, unique_by=lambda peer: peer.peer_id).map(tuple)
messages = st.builds(
    DhtMessage,
    kind=st.sampled_from(MessageKind),
    key=st.binary(min_size=1, max_size=128),
    closer=peer_lists,
    providers=peer_lists,
)


@given(messages)
def test_round_trip(message):
    assert decode_message(encode_message(message)) == message


@given(messages, st.integers(0, 400))
def test_encoded_size_is_bounded(message, spare):
    bound = 140 + spare
    assert len(encode_message(message, max_bytes=bound)) <= bound


@given(st.binary(max_size=400))
def test_garbage(data):
    try:
        decode_message(data)
    except RemoteProtocolError:
        return


@given(
    st.builds(
        Message,
        type=st.sampled_from([0, 1, 2, 3, 4, 5]),
        key=st.binary(max_size=140),
        closerPeers=st.lists(
            st.builds(
                Message.Peer,
                id=st.binary(max_size=140),
                addrs=st.lists(st.binary(max_size=40), max_size=5),
                connection=st.sampled_from([0, 1, 2, 3]),
                signedRecord=st.binary(max_size=40),
            ),
            max_size=70,
        ),
        senderRecord=st.binary(max_size=40),
    )
)
def test_well_formed_nonsense(stock):
    try:
        message = decode_message(stock.SerializeToString())
    except RemoteProtocolError:
        return
    assert len(message.closer) <= len(stock.closerPeers)
