"""What strangers say in gossip costs little, and takes no host's place."""

from __future__ import annotations

import time

import pytest
import trio
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from tests.simulated.gossiping import TOPIC, Member, Stranger, message_of, start_member, start_stranger
from tests.simulated.nodes import Nodes, nodes_on
from tests.support.simulated import eventually, simulated

from hostmesh.discovery.description import HostState
from hostmesh.discovery.sources import gossip as source_module
from hostmesh.net import gossip as gossip_module
from hostmesh.net.gossip import MAX_REJECTIONS, MUTE_S, WANT_BURST, WANTS_PER_S, GossipStatistics
from hostmesh.net.libp2p_gossip import MAX_RPC_BYTES, MAX_TOPIC_CHARS, MAX_TOPICS_PER_PEER
from hostmesh.net.libp2p_gossip_router import MAX_BACK_OFF_S, MAX_ID_BYTES, MAX_IDS
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.testing import SimNetwork, make_description, make_host_record


class Scene:
    """A host and a client, both next to a member in the middle; strangers are next to that."""

    def __init__(self, nodes: Nodes, middle: Member, host: Member, client: Member) -> None:
        self.nodes, self.middle, self.host, self.client = nodes, middle, host, client

    @property
    def gossip(self) -> GossipStatistics:
        """What the member in the middle did so far."""
        return self.middle.source.statistics.gossip

    async def still_works(self) -> None:
        """Return once the host's next record has reached the client."""
        assert self.client.hosts() >= {self.host.peer_id}
        sequence = self.client.records.known(self.host.peer_id).info.sequence
        self.host.publish()
        await eventually(lambda: self.client.records.known(self.host.peer_id).info.sequence > sequence, within_s=2.0)
        assert {candidate.peer_id for candidate in await self.client.find("llama")} >= {self.host.peer_id}

    def record_of(self, name: str, **fields: object) -> bytes:
        """Return a record of a host that is made up."""
        fields.setdefault("issued_at_unix_s", int(self.middle.machine.system.unix_s()))
        return make_host_record(name, make_description("llama"), **fields).SerializeToString()

    async def stranger(self, *, hears: bool = False) -> Stranger:
        return await start_stranger(self.nodes, self.middle, hears=hears)


async def scene_of(nodes: Nodes) -> Scene:
    middle = await start_member(nodes)
    scene = Scene(nodes, middle, await start_member(nodes, middle), await start_member(nodes, middle))
    scene.host.publish()
    await eventually(lambda: scene.client.hosts() == {scene.host.peer_id}, within_s=2.0)
    return scene


@simulated()
async def test_who_forwards_junk_is_muted_before_it_costs_much(net: SimNetwork) -> None:
    async with nodes_on(net) as nodes:
        scene = await scene_of(nodes)
        stranger = await scene.stranger()
        junk = [message_of(f"sybil{number}", 1, b"junk") for number in range(100)]
        await stranger.insist(rpc_pb2.RPC(publish=junk).SerializeToString())
        assert scene.gossip.rejected == MAX_REJECTIONS + 1
        assert scene.gossip.muted == 1
        # Nor on another stream, until it is forgotten.
        held = rpc_pb2.RPC(publish=[message_of("sybil", 1, scene.record_of("sybil"))])
        await (await stranger.anew()).insist(held.SerializeToString())
        assert scene.gossip.rejected == MAX_REJECTIONS + 1
        await scene.still_works()
        await trio.sleep(MUTE_S)
        again = await stranger.anew()
        await again.say(message_of("sybil", 1, scene.record_of("sybil")))
        scene.host.publish()
        await eventually(lambda: len(scene.client.hosts()) == 2, within_s=2.0)


@simulated()
async def test_nothing_that_does_not_hold_reaches_anybody(net: SimNetwork) -> None:
    async with nodes_on(net) as nodes:
        scene = await scene_of(nodes)
        stranger = await scene.stranger()
        made_up = scene.record_of("made up")
        forged = message_of("made up", 2, made_up)
        forged.signature = bytes(64)
        others_name = message_of("sybil", 3, made_up)  # a record that holds, published by somebody else
        two_topics = message_of("made up", 4, made_up)
        two_topics.topicIDs.append("another")
        no_peer = message_of("made up", 5, made_up)
        no_peer.from_id, no_peer.key = b"nobody", b"\xff\xff"  # ends the service of stock GossipSub
        large = message_of("made up", 6, bytes(13_000))
        larger = message_of("made up", 7, bytes(16_000))
        other_network = message_of("made up", 8, scene.record_of("made up", network="test-another"))
        bad = [forged, others_name, two_topics, no_peer, large, larger, other_network]
        for count, message in enumerate(bad, 1):
            await stranger.say(message)
            await eventually(lambda count=count: scene.gossip.rejected == count, within_s=2.0)
        assert scene.gossip.muted == 0
        assert scene.middle.hosts() == {scene.host.peer_id}
        # The id of a message that did not hold is free for the one that does.
        await stranger.say(message_of("made up", 2, made_up))
        await eventually(lambda: len(scene.client.hosts()) == 2, within_s=2.0)
        await scene.still_works()


@simulated()
async def test_a_record_that_was_replaced_or_withdrawn_does_not_come_back(net: SimNetwork) -> None:
    async with nodes_on(net) as nodes:
        scene = await scene_of(nodes)
        host = scene.host
        old = [host.record(), host.record()]
        stranger = await scene.stranger()
        host.publish()
        await scene.still_works()
        for number, record in enumerate(old):
            await stranger.say(message_of(host.machine.name, number, record.SerializeToString()))
        await eventually(lambda: scene.gossip.ignored == 2, within_s=2.0)
        host.publish(state=HostState.WITHDRAWN)
        await eventually(lambda: scene.client.hosts() == set(), within_s=2.0)
        await stranger.say(message_of(host.machine.name, 5, host.record(sequence=4).SerializeToString()))
        await eventually(lambda: scene.gossip.ignored == 3, within_s=2.0)
        assert scene.middle.hosts() == scene.client.hosts() == set()
        assert scene.gossip.rejected == 0


@simulated()
async def test_a_late_record_is_nobody_s_fault(net: SimNetwork) -> None:
    async with nodes_on(net) as nodes:
        scene = await scene_of(nodes)
        late = scene.record_of("late", issued_at_unix_s=int(scene.middle.machine.system.unix_s()) - 600)
        await (await scene.stranger()).say(message_of("late", 1, late))
        await eventually(lambda: scene.gossip.ignored == 1, within_s=2.0)
        assert scene.gossip.rejected == 0
        await scene.still_works()


@simulated()
async def test_a_host_that_publishes_without_end_is_heard_now_and_then(net: SimNetwork) -> None:
    async with nodes_on(net) as nodes:
        scene = await scene_of(nodes)
        stranger = await scene.stranger()
        for number in range(1, 51):
            await stranger.say(message_of("busy", number, scene.record_of("busy", sequence=number)))
        await trio.sleep(1)
        assert scene.gossip.dropped == 50 - 8
        assert scene.client.source.statistics.records == 1 + 8
        await scene.still_works()


@simulated()
async def test_made_up_hosts_without_number_take_no_real_one_s_place(
    net: SimNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that hold cost whoever makes them up nothing; the bounds are smaller here, so that the test is brief."""
    monkeypatch.setattr(gossip_module, "PEER_CHECK_BURST", 64)
    monkeypatch.setattr(source_module.HeardHosts.__init__, "__kwdefaults__", {"most": 64, "per_neighbour": 16})
    async with nodes_on(net) as nodes:
        scene = await scene_of(nodes)
        stranger = await scene.stranger()
        for number in range(200):
            await stranger.say(message_of(f"sybil{number}", 1, scene.record_of(f"sybil{number}")))
        await trio.sleep(1)
        assert scene.gossip.accepted <= 1 + 64 + 2 * 20
        assert scene.gossip.dropped >= 200 - 64 - 2 * 20
        heard = scene.middle.source.statistics.hosts
        assert heard <= 1 + 16
        # Hearsay of one neighbour: 16 hosts of it.
        assert len(scene.middle.hosts()) <= 1 + 16
        assert scene.host.peer_id in {candidate.peer_id for candidate in await scene.middle.find("llama")}
        await scene.still_works()


@simulated()
async def test_what_is_no_rpc_or_too_large_ends_the_stream_and_no_more(net: SimNetwork) -> None:
    async with nodes_on(net) as nodes:
        scene = await scene_of(nodes)
        for data in (b"\xff" * 64, bytes(MAX_RPC_BYTES + 1)):
            stranger = await scene.stranger()
            await stranger.insist(data)
            assert scene.middle.peer_id in stranger.node.connected_peers()
        await scene.still_works()


@simulated()
async def test_controls_are_about_topics_that_the_node_has_and_few(net: SimNetwork) -> None:
    async with nodes_on(net) as nodes:
        scene = await scene_of(nodes)
        stranger = await scene.stranger()
        topics = [f"made-up-{number}" for number in range(1000)]
        ids = [number.to_bytes(100, "big") for number in range(200)]
        for fields in (
            {"prune": [rpc_pb2.ControlPrune(topicID=topic, backoff=2**40) for topic in (TOPIC, *topics)]},
            {"graft": [rpc_pb2.ControlGraft(topicID=topic) for topic in (*topics, TOPIC)]},
            {"ihave": [rpc_pb2.ControlIHave(topicID=topic, messageIDs=ids) for topic in (topics[0], TOPIC)]},
            {"iwant": [rpc_pb2.ControlIWant(messageIDs=[bytes(46)] * 500)]},
            {"idontwant": [rpc_pb2.ControlIDontWant(messageIDs=[bytes(5000), *ids])]},
        ):
            await stranger.say(control=rpc_pb2.ControlMessage(**fields))
        for topic in ("long" * 1000, *topics):
            await stranger.say(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic)])
        await trio.sleep(0.5)
        pubsub = scene.middle.source._gossip._pubsub
        router = pubsub.router
        assert set(router.mesh) == {TOPIC}
        assert set(router.back_off) == {TOPIC}
        assert max(router.back_off[TOPIC].values()) <= time.time() + MAX_BACK_OFF_S
        assert {topic for peer in router.graft_flood_tracking.values() for topic in peer} <= {TOPIC}
        unwanted = router.dont_send_message_ids[ID(peer_id_to_bytes(stranger.node.peer_id))]
        assert len(unwanted) <= MAX_IDS
        assert max(map(len, unwanted)) <= MAX_ID_BYTES
        assert len(pubsub.peer_topics) <= 1 + MAX_TOPICS_PER_PEER
        assert max(map(len, pubsub.peer_topics)) <= MAX_TOPIC_CHARS
        # It speaks no GossipSub itself, so that it is in no mesh after the next heartbeat.
        await trio.sleep(1)
        assert router.mesh[TOPIC] == {ID(peer_id_to_bytes(each.peer_id)) for each in (scene.host, scene.client)}
        await scene.still_works()


@simulated()
async def test_a_message_is_handed_out_a_few_times_however_often_it_is_asked_for(net: SimNetwork) -> None:
    async with nodes_on(net) as nodes:
        scene = await scene_of(nodes)
        stranger = await scene.stranger(hears=True)
        pubsub = scene.middle.source._gossip._pubsub
        (wanted,) = pubsub.router.mcache.window(TOPIC)
        for _ in range(100):
            await stranger.say(control=rpc_pb2.ControlMessage(iwant=[rpc_pb2.ControlIWant(messageIDs=[wanted] * 100)]))
        await trio.sleep(1)
        assert 1 <= sum(len(rpc.publish) for rpc in stranger.heard) <= WANT_BURST + WANTS_PER_S
        await scene.still_works()
