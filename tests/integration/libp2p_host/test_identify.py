"""Who a peer is, where, and what it speaks: what hosts on nodes and stock hosts learn of each other."""

from __future__ import annotations

import pytest
import trio
from libp2p.host.defaults import get_default_protocols
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import parse_identify_response
from libp2p.identity.identify_push.identify_push import push_identify_to_peers
from libp2p.peer.envelope import consume_envelope
from libp2p.peer.peerstore import PeerStoreError
from libp2p.utils.varint import read_length_prefixed_protobuf
from tests.integration.libp2p_host.conftest import info_of, protocols_known, stock_host, until

from hostmesh.net.libp2p_host import open_libp2p_host

EARLY, LATE = "/test/early/1", "/test/late/1"


async def nothing(stream):
    await stream.close()


@pytest.fixture
async def pair(start_node, request):
    """Yield two hosts that serve a protocol and are connected; the parameter says who dialled whom."""
    dialer, _, listener = request.param.split()
    async with (
        stock_host() if dialer == "stock" else open_libp2p_host(await start_node()) as one,
        stock_host() if listener == "stock" else open_libp2p_host(await start_node()) as other,
    ):
        for host in (one, other):
            host.set_stream_handler(EARLY, nothing)
        await one.connect(info_of(other))
        yield one, other


WAYS = pytest.mark.parametrize("pair", ["node to node", "node to stock", "stock to node"], indirect=True)


@WAYS
async def test_each_side_learns_what_the_other_speaks_where_it_is_and_its_key(pair):
    for host, other in (pair, reversed(pair)):
        other_id, store = other.get_id(), host.get_peerstore()
        await until(lambda host=host, other_id=other_id: EARLY in protocols_known(host, other_id))
        assert IDENTIFY in store.get_protocols(other_id)
        assert store.supports_protocols(other_id, [LATE, EARLY]) == [EARLY]
        assert store.first_supported_protocol(other_id, [LATE, EARLY]) == EARLY
        assert store.pubkey(other_id) == other.get_public_key()
        assert other_id in store.peer_ids()
        assert other_id in store.peers_with_addrs()
        told = {address.decapsulate_code(421) for address in other.get_addrs()}
        assert told <= {address.decapsulate_code(421) for address in store.addrs(other_id)}
        assert told <= {address.decapsulate_code(421) for address in store.peer_info(other_id).addrs}


async def test_of_a_stranger_nothing_is_known(start_node, stock):
    async with open_libp2p_host(await start_node()) as host:
        store = host.get_peerstore()
        assert not store.has_peer(stock.get_id())
        assert not store.supports_protocols(stock.get_id(), [EARLY])
        for ask in (store.addrs, store.pubkey, store.get_protocols, store.peer_info):
            with pytest.raises(PeerStoreError):
                ask(stock.get_id())
        assert store.pubkey(host.get_id()) == host.get_public_key()


async def test_py_libp2ps_own_identify_answers_on_a_node(start_node, stock):
    async with open_libp2p_host(await start_node()) as host:
        for protocol_id, handler in get_default_protocols(host).items():
            host.set_stream_handler(protocol_id, handler)
        host.set_stream_handler(EARLY, nothing)
        await stock.connect(info_of(host))
        stream = await stock.new_stream(host.get_id(), [IDENTIFY])
        with trio.fail_after(5):
            told = parse_identify_response(await read_length_prefixed_protobuf(stream))
        assert set(told.protocols) == {EARLY, *get_default_protocols(host)}
        assert told.public_key == host.get_public_key().serialize()
        _, record = consume_envelope(told.signedPeerRecord, "libp2p-peer-record")
        assert record.peer_id == host.get_id()
        assert set(record.addrs) == set(host.get_addrs())


@WAYS
async def test_what_is_pushed_is_known(pair):
    for host in pair:
        for protocol_id, handler in get_default_protocols(host).items():
            host.set_stream_handler(protocol_id, handler)
    for host, other in (pair, reversed(pair)):
        await until(lambda host=host, other=other: EARLY in protocols_known(host, other.get_id()))
        other.set_stream_handler(LATE, nothing)
        await push_identify_to_peers(other, {host.get_id()})
        await until(lambda host=host, other=other: LATE in protocols_known(host, other.get_id()))
