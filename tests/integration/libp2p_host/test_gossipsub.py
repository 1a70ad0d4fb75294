"""py-libp2p's GossipSub on nodes and on stock hosts, in one mesh."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from itertools import combinations

import pytest
import trio
from libp2p.crypto.serialization import deserialize_public_key
from libp2p.pubsub.gossipsub import PROTOCOL_ID, PROTOCOL_ID_V11, PROTOCOL_ID_V12, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX, signature_validator
from libp2p.tools.anyio_service import background_trio_service
from tests.integration.libp2p_host.conftest import disconnect_all, info_of, until

from hostmesh.net.libp2p_host import Libp2pHost, open_libp2p_host

TOPIC = "models"
PROTOCOLS = [PROTOCOL_ID_V12, PROTOCOL_ID_V11, PROTOCOL_ID]


@asynccontextmanager
async def gossiping(host):
    """Run py-libp2p's GossipSub on a host, with strict signing, which is its default.

    A stock host's peers go before its Pubsub does. For some passes of the scheduler an ending Pubsub says that it runs
    and takes no tasks (anyio_service/trio_manager.py:112 and :317): a message that comes then raises in its stream
    handler (pubsub/pubsub.py:586), and that ends a stock host (network/connection/swarm_connection.py:309).
    """
    router = GossipSub(
        PROTOCOLS,
        degree=6,
        degree_low=4,
        degree_high=12,
        heartbeat_interval=1,
    )
    pubsub = Pubsub(host, router)
    async with background_trio_service(router), background_trio_service(pubsub):
        await pubsub.wait_until_ready()
        try:
            yield pubsub
        finally:
            if not isinstance(host, Libp2pHost):
                await disconnect_all(host)


@asynccontextmanager
async def mesh_of(*hosts):
    """Connect all hosts, subscribe them, and yield (pubsub, subscription) of each once they are one mesh."""
    async with AsyncExitStack() as stack:
        pubsubs = [await stack.enter_async_context(gossiping(host)) for host in hosts]
        subscriptions = [await pubsub.subscribe(TOPIC) for pubsub in pubsubs]
        for one, other in combinations(hosts, 2):
            await one.connect(info_of(other))
        for pubsub in pubsubs:
            for host in hosts:
                if host.get_id() != pubsub.my_id:
                    await pubsub.wait_for_peer(host.get_id())
                    await pubsub.wait_for_subscription(host.get_id(), TOPIC)
                    await pubsub.wait_for_mesh(host.get_id(), TOPIC)
        yield list(zip(pubsubs, subscriptions, strict=True))


async def received(subscription):
    with trio.fail_after(5):
        return await subscription.get()


@pytest.mark.parametrize("dialer", ["node", "stock"])
async def test_a_node_and_a_stock_host_hear_each_other(start_node, stock, dialer):
    async with open_libp2p_host(await start_node()) as ours:
        hosts = (ours, stock) if dialer == "node" else (stock, ours)
        async with mesh_of(*hosts) as members:
            for pubsub, own in members:
                others = [subscription for _, subscription in members if subscription is not own]
                data = f"from {pubsub.my_id}".encode()
                await pubsub.publish(TOPIC, data)
                for subscription in (own, *others):
                    message = await received(subscription)
                    assert message.data == data
                    assert message.from_id == pubsub.my_id.to_bytes()
                    assert signature_validator(message)


async def test_what_a_node_signs_verifies_with_the_key_of_its_peer_id(start_node, stock):
    async with open_libp2p_host(await start_node()) as ours, mesh_of(ours, stock) as ((pubsub, _), (_, heard)):
        await pubsub.publish(TOPIC, b"signed")
        message = await received(heard)
        key = deserialize_public_key(message.key)
        assert key == ours.get_public_key() == ours.get_id().extract_public_key()
        signature = message.signature
        message.ClearField("signature")
        message.ClearField("key")
        assert key.verify(PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString(), signature)


async def test_a_forged_message_reaches_nobody_on_a_node(start_node, stock):
    async with open_libp2p_host(await start_node()) as ours, mesh_of(stock, ours) as ((liar, _), (_, heard)):
        liar.sign_key = type(liar.sign_key).new(bytes(range(32)))
        await liar.publish(TOPIC, b"forged")
        liar.sign_key = stock.get_private_key()
        # In order on one stream: what came first was looked at first.
        await liar.publish(TOPIC, b"honest")
        assert (await received(heard)).data == b"honest"


async def test_a_topic_validator_keeps_messages_away(start_node, stock):
    async with open_libp2p_host(await start_node()) as ours, mesh_of(stock, ours) as ((speaker, _), (hearer, heard)):
        hearer.set_topic_validator(TOPIC, lambda _peer, message: message.data != b"bad", is_async_validator=False)
        await speaker.publish(TOPIC, b"bad")
        await speaker.publish(TOPIC, b"good")
        assert (await received(heard)).data == b"good"


async def test_two_nodes_and_a_stock_host_are_one_mesh(start_node, stock):
    async with (
        open_libp2p_host(await start_node()) as one,
        open_libp2p_host(await start_node()) as two,
        mesh_of(one, two, stock) as members,
    ):
        for pubsub, _ in members:
            for number in range(3):
                await pubsub.publish(TOPIC, f"{number} of {pubsub.my_id}".encode())
        expected = {f"{number} of {pubsub.my_id}".encode() for pubsub, _ in members for number in range(3)}
        for _, subscription in members:
            assert {(await received(subscription)).data for _ in expected} == expected


async def test_a_stock_host_relays_between_two_nodes_that_are_not_connected(start_node, stock):
    async with (
        open_libp2p_host(await start_node()) as one,
        open_libp2p_host(await start_node()) as two,
        gossiping(one) as first,
        gossiping(stock) as middle,
        gossiping(two) as last,
    ):
        heard = await last.subscribe(TOPIC)
        for pubsub in (first, middle):
            await pubsub.subscribe(TOPIC)
        await one.connect(info_of(stock))
        await two.connect(info_of(stock))
        for pubsub in (first, last):
            await pubsub.wait_for_mesh(stock.get_id(), TOPIC)
            await middle.wait_for_mesh(pubsub.my_id, TOPIC)
        await first.publish(TOPIC, b"over the stock host")
        message = await received(heard)
        assert message.data == b"over the stock host"
        assert message.from_id == one.get_id().to_bytes()
        assert two.get_id() not in one.get_connected_peers()


async def test_protocols_that_start_after_the_connection_find_each_other(start_node):
    node, other = await start_node(), await start_node()
    await node.connect(other.peer_id, other.peer_addresses())
    async with open_libp2p_host(node) as early, gossiping(early) as first:
        await first.subscribe(TOPIC)
        (connection,) = early.get_network().get_connections()
        await until(lambda: connection.refused == set(PROTOCOLS))
        # The first has been told no, and py-libp2p's Pubsub does not ask the same connection again by itself.
        async with open_libp2p_host(other) as late, gossiping(late) as second:
            # A Pubsub never tells a peer of a subscription that it takes on while it greets that peer: the greeting was
            # composed before (pubsub/pubsub.py:913), and the peer is none of its peers until after (:945).
            await second.wait_for_peer(early.get_id())
            heard = await second.subscribe(TOPIC)
            await first.wait_for_peer(late.get_id())
            await first.wait_for_subscription(late.get_id(), TOPIC)
            await first.wait_for_mesh(late.get_id(), TOPIC)
            await second.wait_for_mesh(early.get_id(), TOPIC)
            await first.publish(TOPIC, b"after all")
            assert (await received(heard)).data == b"after all"


async def test_a_peer_that_leaves_is_forgotten_and_one_that_comes_back_is_heard(start_node, stock):
    node = await start_node()
    async with open_libp2p_host(node) as ours, mesh_of(ours, stock) as ((pubsub, _), (theirs, heard)):
        await ours.disconnect(stock.get_id())
        await until(lambda: stock.get_id() not in pubsub.peers and ours.get_id() not in theirs.peers)
        await ours.connect(info_of(stock))
        await pubsub.wait_for_peer(stock.get_id())
        await pubsub.wait_for_mesh(stock.get_id(), TOPIC)
        await theirs.wait_for_mesh(ours.get_id(), TOPIC)
        await pubsub.publish(TOPIC, b"back")
        assert (await received(heard)).data == b"back"


async def test_leaving_ends_gossip_on_the_node_and_not_the_connection(start_node):
    node = await start_node()
    async with open_libp2p_host(await start_node()) as peer:
        async with open_libp2p_host(node) as ours, mesh_of(ours, peer):
            assert node.usage().outbound_streams
        usage = node.usage()
        assert usage.connections == 1
        assert not [name for name in (*usage.outbound_streams, *usage.inbound_streams) if "meshsub" in name]
