"""py-libp2p's GossipSub router kept in bounds, and what it shares with Pubsub: a part of net/libp2p_gossip.py."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import trio
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID, PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.score import ScoreParams
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX
from libp2p.tools.timed_cache.last_seen_cache import LastSeenCache

from hostmesh.errors import InvalidAddressError
from hostmesh.net.gossip import Check, Gatekeeper, GossipMessage, Recent, SeenIds, TopicLimits, Verdict
from hostmesh.net.libp2p_stream import node_peer_id
from hostmesh.net.peer_id import PeerId, public_key_of
from hostmesh.wire.ed25519 import is_signed

PROTOCOLS = [PROTOCOL_ID_V11, PROTOCOL_ID]
"""1.2 adds IDONTWANT, which spares copies of large messages. py-libp2p sends one for each message, however small; its
queue for a peer, which holds 32 and drops what is more, then has room for 16 messages."""
DEGREE, DEGREE_LOW, DEGREE_HIGH = 6, 4, 12
"""Peers of a topic's mesh. Source: libp2p specs, gossipsub v1.0, "Parameters"."""
HEARTBEAT_S = 1
MAX_IDS = 16
"""Ids of messages of one RPC that are heeded: py-libp2p answers all that was asked for in one RPC."""
MAX_ID_BYTES = 128
MAX_CONTROLS = 64
"""Entries of each kind of control message that are heeded."""
MAX_BACK_OFF_S = 3600
REPLAY_BATCH_BYTES = 65_536
REPLAY_EVERY_S = 30.0
"""A peer that joins a topic anew within this time is not told again what was said before."""
MAX_SEEN = 20_480
"""Ids of messages: as many as can be verified while one is remembered."""
SEEN_S = 150.0
MUTED_SCORE = -1.0


@dataclass(slots=True)
class Topic:
    """A topic that the node takes part in."""

    check: Check
    limits: TopicLimits
    recent: Recent[rpc_pb2.Message]


class Topics:
    """The topics that a node takes part in, and what is thought of messages and peers.

    Args:
        own_id: the node's.
    """

    def __init__(self, own_id: PeerId) -> None:
        self._own_id = own_id
        self.joined: dict[str, Topic] = {}
        self.gate = Gatekeeper()
        self.counts: Counter[str] = Counter()

    def is_muted(self, peer_id: ID) -> bool:
        """Whether nothing of a peer is heeded."""
        return self.gate.is_muted(node_peer_id(peer_id), trio.current_time())

    def judge(self, forwarder: ID, message: rpc_pb2.Message) -> Verdict | None:
        """Look at a message that was not seen before, of one topic of ours; None: it was dropped without a verdict."""
        (name,) = message.topicIDs
        topic, now_s = self.joined[name], trio.current_time()
        try:
            author = node_peer_id(ID(message.from_id))
        except InvalidAddressError:
            return Verdict.REJECT  # of another kind of key than nodes have
        sender = node_peer_id(forwarder)
        # What this node said in an earlier life is nobody's fault, and no news.
        if author == self._own_id or not self.gate.may_check(sender, name, author, topic.limits, now_s):
            self.counts["dropped"] += 1
            return None
        if len(message.data) > topic.limits.max_bytes or not is_signed(
            public_key_of(author), message.signature, _signed_bytes(message)
        ):
            return Verdict.REJECT
        self.gate.charge_author(name, author, topic.limits, now_s)
        return topic.check(GossipMessage(topic=name, data=message.data, author=author, forwarder=sender))


class Router(GossipSub):
    """GossipSub whose tables know only the topics that this node has joined."""

    def __init__(self, topics: Topics) -> None:
        super().__init__(
            PROTOCOLS,
            degree=DEGREE,
            degree_low=DEGREE_LOW,
            degree_high=DEGREE_HIGH,
            heartbeat_interval=HEARTBEAT_S,
            do_px=False,
            adaptive_gossip_enabled=False,
            spam_protection_enabled=False,
            max_idontwant_messages=MAX_IDS,
            max_pending_messages_per_peer=MAX_IDS,
            score_params=ScoreParams(
                app_specific_score_fn=lambda peer_id: MUTED_SCORE if topics.is_muted(peer_id) else 0.0,
                p6_appl_slack_weight=1.0,
                publish_threshold=MUTED_SCORE / 2,
                gossip_threshold=MUTED_SCORE / 2,
                graylist_threshold=MUTED_SCORE / 2,
            ),
        )
        # These are the gatekeeper's matter, which logs nothing that a stranger says a thousand times a second.
        self.max_ihave_messages_per_second = self.max_iwant_requests_per_second = math.inf
        self._topics = topics
        self._greeted: set[ID] = set()
        self._replayed_at_s: dict[tuple[ID, str], float] = {}

    async def handle_rpc(self, rpc: rpc_pb2.RPC, sender_peer_id: ID) -> None:
        """Heed a control message, of what it says about topics of ours and in reason."""
        assert self.pubsub is not None
        # The node knows its peers' addresses by Identify.
        rpc.ClearField("senderRecord")
        trim(rpc.control, self._topics.joined, self.pubsub.seen_messages)
        gate, now_s, known_as = self._topics.gate, trio.current_time(), node_peer_id(sender_peer_id)
        for iwant in rpc.control.iwant:
            _keep(iwant.messageIDs, [each for each in iwant.messageIDs if gate.may_want(known_as, now_s)])
        _keep(rpc.control.iwant, [each for each in rpc.control.iwant if each.messageIDs])
        for entries in (rpc.control.ihave, rpc.control.graft, rpc.control.prune):
            _keep(entries, [each for each in entries if gate.may_control(known_as, now_s)])
        await super().handle_rpc(rpc, sender_peer_id)

    async def publish(self, msg_forwarder: ID, pubsub_msg: rpc_pb2.Message) -> None:
        """Hand a message on."""
        await super().publish(msg_forwarder, pubsub_msg)
        # Nobody shortens the one while the adaptive mode is off; the other holds whole messages, to find two of one id,
        # of which the second is not heeded here.
        self.recent_message_deliveries.clear()
        self.equivocation_detection.clear()

    async def flush_pending_messages(self, peer_id: ID) -> None:
        """Called first right after a peer has been greeted: tell it what was joined while it was."""
        if peer_id not in self._greeted and self.pubsub is not None and peer_id in self.pubsub.peer_queues:
            self._greeted.add(peer_id)
            self.pubsub.peer_queues[peer_id].push(self.pubsub.get_hello_packet())
        await super().flush_pending_messages(peer_id)

    async def send_recent_messages(self, peer_id: ID, topic: str) -> None:
        """Tell a newcomer what each author said last, where py-libp2p hands on the last three seconds."""
        joined, now_s = self._topics.joined.get(topic), trio.current_time()
        if joined is None or self.pubsub is None or self._topics.is_muted(peer_id):
            return
        if now_s < self._replayed_at_s.get((peer_id, topic), -REPLAY_EVERY_S) + REPLAY_EVERY_S:
            return
        self._replayed_at_s[peer_id, topic] = now_s
        messages = [each for each in joined.recent.items(now_s) if each.from_id != peer_id.to_bytes()]
        while messages and (stream := self.pubsub.peers.get(peer_id)) is not None:
            batch = rpc_pb2.RPC()
            while messages and batch.ByteSize() < REPLAY_BATCH_BYTES:
                batch.publish.append(messages.pop())
            if not await self.pubsub.write_msg(stream, batch):
                return

    def mesh_heartbeat(self) -> tuple[defaultdict[ID, list[str]], defaultdict[ID, list[str]]]:
        """Keep each mesh at its size. Whoever asks to be in one and speaks no GossipSub itself takes nobody's place."""
        for members in self.mesh.values():
            members.intersection_update(self.peer_protocol)
        return super().mesh_heartbeat()

    def remove_peer(self, peer_id: ID) -> None:
        """Forget a peer."""
        super().remove_peer(peer_id)
        self._greeted.discard(peer_id)
        self._replayed_at_s = {key: at_s for key, at_s in self._replayed_at_s.items() if key[0] != peer_id}
        for topic in self.back_off.values():
            topic.pop(peer_id, None)

    async def exclude(self, peer_id: ID) -> None:
        """Take a peer out of every mesh. Its score keeps it out."""
        for topic, members in self.mesh.items():
            if peer_id in members:
                members.discard(peer_id)
                await self.emit_prune(topic, peer_id, False, False)


class Seen(LastSeenCache):
    """Ids of messages by the node's clock, at most so many, and without the thread of py-libp2p's."""

    def __init__(self) -> None:  # its thread would outlive the node
        self._ids = SeenIds(most=MAX_SEEN, for_s=SEEN_S)

    def add(self, key: bytes) -> bool:
        """Remember an id; return whether it is new."""
        return self._ids.add(key, trio.current_time())

    def has(self, key: bytes) -> bool:
        """Whether an id was seen lately."""
        return self._ids.has(key, trio.current_time())

    def length(self) -> int:
        """Return how many ids are remembered."""
        return len(self._ids)

    def stop(self) -> None:
        """There is nothing to stop."""


def trim(control: rpc_pb2.ControlMessage, topics: Container[str], seen: LastSeenCache) -> None:
    """Leave of a control message what is about topics of ours, and no more of it than is heeded in reason."""
    for ihave in control.ihave:
        news = [each for each in ihave.messageIDs if _fits(each) and not seen.has(each)]
        _keep(ihave.messageIDs, news[:MAX_IDS])
    _keep(control.ihave, [each for each in control.ihave if each.messageIDs])
    for entries in (control.ihave, control.graft, control.prune):
        _keep(entries, [each for each in entries if each.topicID in topics][:MAX_CONTROLS])
    for asking in (control.iwant, control.idontwant):
        _keep(asking, list(asking)[:MAX_CONTROLS])
        left = MAX_IDS
        for entry in asking:
            ids = [each for each in dict.fromkeys(entry.messageIDs) if _fits(each)][:left]
            left -= len(ids)
            _keep(entry.messageIDs, ids)
    for prune in control.prune:
        prune.ClearField("peers")  # whom to dial is not for gossip to say
        prune.backoff = min(prune.backoff, MAX_BACK_OFF_S)
    for name in ("observe", "unobserve", "extensions"):
        control.ClearField(name)


def _fits(message_id: bytes) -> bool:
    return len(message_id) <= MAX_ID_BYTES


def _keep(field: Any, entries: list[Any]) -> None:
    del field[:]
    field.extend(entries)


def _signed_bytes(message: rpc_pb2.Message) -> bytes:
    signed = rpc_pb2.Message(data=message.data, topicIDs=message.topicIDs, from_id=message.from_id, seqno=message.seqno)
    return PUBSUB_SIGNING_PREFIX.encode() + signed.SerializeToString()
