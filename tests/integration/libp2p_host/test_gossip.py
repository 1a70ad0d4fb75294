"""The node's gossip beside stock GossipSub of py-libp2p, on real sockets."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager
from functools import partial

import pytest
from libp2p.peer.peerinfo import PeerInfo
from libp2p.pubsub.validators import signature_validator
from multiaddr import Multiaddr
from tests.integration.libp2p_host.conftest import info_of, stock_host, until
from tests.integration.libp2p_host.test_gossipsub import gossiping, received

from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.sources.gossip import GossipSource, records_topic
from hostmesh.errors import NodeNotRunningError, UsageError
from hostmesh.identity.binding import verify_binding
from hostmesh.net.gossip import GossipMessage, TopicLimits, Verdict
from hostmesh.net.libp2p_gossip import MAX_MESSAGE_BYTES, open_gossip
from hostmesh.net.node import Node, NodeConfig
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey
from hostmesh.system import System
from hostmesh.testing import make_description, make_host_record, make_peer_key
from hostmesh.testing.wallets import TEST_NETWORK

TOPIC = records_topic("/hostmesh", TEST_NETWORK)


def info_of_node(node):
    return PeerInfo(_id(node), [Multiaddr(address) for address in node.announced_addresses()])


def _id(node):
    from libp2p.peer.id import ID

    return ID(peer_id_to_bytes(node.peer_id))


class Ears:
    """Takes part in a topic and keeps what it hears, unless it is junk."""

    def __init__(self):
        self.heard: list[GossipMessage] = []

    def check(self, message):
        if message.data.startswith(b"junk"):
            return Verdict.REJECT
        self.heard.append(message)
        return Verdict.ACCEPT

    @property
    def said(self):
        return [message.data for message in self.heard]


@asynccontextmanager
async def ears_on(node, limits=None):
    ears = Ears()
    async with open_gossip(node) as gossip:
        await gossip.join(TOPIC, ears.check, limits or TopicLimits(max_bytes=MAX_MESSAGE_BYTES))
        yield gossip, ears


async def test_a_stock_peer_relays_between_two_nodes_that_are_not_connected(start_node, stock):
    one, two = await start_node(), await start_node()
    async with ears_on(one) as (gossip, ears), ears_on(two) as (other_gossip, other_ears), gossiping(stock) as middle:
        heard = await middle.subscribe(TOPIC)
        for node in (one, two):
            await stock.connect(info_of_node(node))
            await middle.wait_for_mesh(_id(node), TOPIC)
        await until(lambda: gossip.members(TOPIC) and other_gossip.members(TOPIC))
        await gossip.publish(TOPIC, b"over the stock peer")
        await until(lambda: other_ears.said == [b"over the stock peer"])
        message = await received(heard)
        assert message.data == b"over the stock peer"
        assert signature_validator(message)
        (relayed,) = other_ears.heard
        assert (relayed.author, relayed.forwarder) == (one.peer_id, str(stock.get_id()))
        await middle.publish(TOPIC, b"from the stock peer")
        await until(lambda: ears.said == [b"from the stock peer"] and len(other_ears.said) == 2)
        assert two.peer_id not in one.connected_peers()


async def test_a_node_relays_between_stock_peers_and_not_what_does_not_hold(start_node, stock):
    node = await start_node()
    async with (
        ears_on(node) as (gossip, ears),
        stock_host() as other,
        gossiping(stock) as first,
        gossiping(other) as last,
    ):
        heard = await last.subscribe(TOPIC)
        await first.subscribe(TOPIC)
        for host, pubsub in ((stock, first), (other, last)):
            await host.connect(info_of_node(node))
            await pubsub.wait_for_mesh(_id(node), TOPIC)
        await until(lambda: len(gossip.members(TOPIC)) == 2)
        for data in (b"junk", b"good"):
            await first.publish(TOPIC, data)
        assert (await received(heard)).data == b"good"
        assert ears.said == [b"good"]
        assert gossip.statistics.rejected == 1


async def test_a_burst_is_heard_whole_and_a_newcomer_hears_the_last_of_it(start_node, stock):
    """Where stock GossipSub with its own settings delivers 10 of them."""
    node = await start_node()
    async with (
        ears_on(node, TopicLimits(max_bytes=1024, author_burst=300)) as (gossip, ears),
        gossiping(stock) as theirs,
    ):
        heard = await theirs.subscribe(TOPIC)
        await stock.connect(info_of_node(node))
        await theirs.wait_for_mesh(_id(node), TOPIC)
        await until(lambda: gossip.members(TOPIC))
        theirs.router.spam_protection_enabled = False
        for number in range(200):
            await theirs.publish(TOPIC, b"%d" % number)
            if number % 20 == 0:
                await until(lambda number=number: len(ears.heard) > number)
        await until(lambda: ears.said == [b"%d" % number for number in range(200)])
        async with stock_host() as newcomer, gossiping(newcomer) as late:
            news = await late.subscribe(TOPIC)
            await newcomer.connect(info_of_node(node))
            assert (await received(news)).data == b"199"
        assert (await received(heard)).data == b"0"


async def test_records_go_over_a_stock_peer(start_node, nursery, stock):
    """Two hosts and a client; only the stock peer connects them."""
    members = {}
    async with gossiping(stock) as middle:
        await middle.subscribe(TOPIC)
        for name in ("host", "other host", "client"):
            node = Node(NodeConfig(enable_dht=False), make_peer_key(name))
            await nursery.start(node.run)
            records = RecordBook(network=TEST_NETWORK, verify_binding=verify_binding)
            source = GossipSource(partial(open_gossip, node), records, topic=TOPIC, system=System())
            await nursery.start(source.run)
            await node.connect(str(stock.get_id()), [str(each) for each in info_of(stock).addrs])
            await middle.wait_for_mesh(_id(node), TOPIC)
            members[name] = (records, source)
        hosts = {make_peer_key(name).peer_id for name in ("host", "other host")}
        for name in ("host", "other host"):
            issued = int(System().unix_s())
            record = make_host_record(name, make_description("llama"), issued_at_unix_s=issued)
            members[name][1].broadcast(record)
        client, _ = members["client"]
        await until(lambda: {host.info.peer_id for host in client.live()} == hosts)


async def test_nothing_is_left_when_gossip_ends(start_node):
    node, other = await start_node(), await start_node()
    threads = threading.active_count()
    async with ears_on(node) as (gossip, _), ears_on(other) as (other_gossip, _):
        await node.connect(other.peer_id, other.peer_addresses())
        await until(lambda: gossip.members(TOPIC) and other_gossip.members(TOPIC))
        await gossip.leave(TOPIC)
        await until(lambda: not other_gossip.members(TOPIC))
    usage = node.usage()
    assert usage.connections == 1
    assert not [name for name in (*usage.outbound_streams, *usage.inbound_streams) if "meshsub" in name]
    assert threading.active_count() <= threads


async def test_what_cannot_be_said_is_refused_here(start_node):
    node = await start_node()
    async with ears_on(node) as (gossip, ears):
        with pytest.raises(UsageError):
            await gossip.publish("another topic", b"")
        with pytest.raises(UsageError):
            await gossip.publish(TOPIC, bytes(MAX_MESSAGE_BYTES + 1))
        with pytest.raises(UsageError):
            await gossip.join(TOPIC, ears.check, TopicLimits())
        with pytest.raises(UsageError):
            await gossip.join("another topic", ears.check, TopicLimits(max_bytes=MAX_MESSAGE_BYTES + 1))
    with pytest.raises(NodeNotRunningError):
        async with open_gossip(Node(NodeConfig(enable_dht=False), PeerKey.generate())):
            raise AssertionError
