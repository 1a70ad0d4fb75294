"""py-libp2p's GossipSub on a node, with the bounds that it lacks; see :mod:`hostmesh.net.gossip`.

py-libp2p's own settings drop messages silently (10 a second of a peer and topic, a subscriber's buffer of 32, a
heartbeat of two minutes, which its "adaptive" mode lengthens), and its tables grow with what strangers say: messages of
many topics, PRUNEs of made-up topics, IWANTs of one message a thousand times, a task for each message that comes. So
:class:`~hostmesh.net.libp2p_gossip_router.Router` and :class:`_Pubsub` are subclasses that override public methods:
what a peer sends is read by one task, one message after the other, no faster than :data:`READ_BYTES_PER_S`, and
trimmed before the router sees it. Nothing of py-libp2p is patched.

Needs the extra ``hostmesh[libp2p]``. Only :mod:`hostmesh.node_stack` imports this, and only where gossip was asked for.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio
from google.protobuf.message import DecodeError
from libp2p.abc import INetStream
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from hostmesh.errors import UsageError
from hostmesh.net.gossip import Check, GossipStatistics, Pace, Recent, TopicLimits, Verdict
from hostmesh.net.libp2p_gossip_router import MAX_ID_BYTES, PROTOCOLS, Router, Seen, Topic, Topics
from hostmesh.net.libp2p_host import Libp2pHost, open_libp2p_host
from hostmesh.net.libp2p_stream import node_peer_id
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId

_log = logging.getLogger("hostmesh.net")

MAX_RPC_BYTES = 262_144
"""Larger ones reset the stream. py-libp2p answers all that was asked for in one, so no more than that is asked for."""
READ_BYTES_PER_S = 262_144.0
"""Of one peer; what is more waits in its own muxer."""
READ_BURST_BYTES = 1_048_576
_READ_COST_BYTES = 512
"""What reading an RPC costs beyond its bytes."""
MAX_TOPIC_CHARS = 600
MAX_TOPICS_PER_PEER = 64
_MAX_SIGNATURE_BYTES = 128
_MAX_KEY_BYTES = 128
MAX_MESSAGE_BYTES = 15 * 1024
"""Most bytes of a message's data on any topic."""


@asynccontextmanager
async def open_gossip(node: Node) -> AsyncIterator[Libp2pGossip]:
    """Run GossipSub on a node for the life of the block; best before the node has connected to anybody.

    Args:
        node: running; it goes on after the block.

    Raises:
        NodeNotRunningError: the node does not run.
        ExceptionGroup: GossipSub itself failed; the block was cancelled.

    Cancellation: safe.
    """
    # There is a stream each way with every neighbour, for ever: those used last are neighbours enough.
    node.keep_in_background(PROTOCOLS)
    async with open_libp2p_host(node) as host, AsyncExitStack() as services:
        topics = Topics(node.peer_id)
        router = Router(topics)
        pubsub = _Pubsub(host, router, topics)
        # Nothing may come between: a stream that comes before the services run would fail.
        await services.enter_async_context(background_trio_service(router))
        await services.enter_async_context(background_trio_service(pubsub))
        await pubsub.wait_until_ready()
        yield Libp2pGossip(pubsub, topics)


class Libp2pGossip:
    """Gossip of a node; made by :func:`open_gossip`. See :class:`hostmesh.net.gossip.Gossip`."""

    def __init__(self, pubsub: _Pubsub, topics: Topics) -> None:
        self._pubsub = pubsub
        self._topics = topics

    async def join(self, topic: str, check: Check, limits: TopicLimits) -> None:
        """Take part in a topic.

        Args:
            topic: at most 600 characters.
            check: see :data:`hostmesh.net.gossip.Check`.
            limits: what its messages may cost.

        Raises:
            UsageError: the node takes part already, or the name or the limits are too large.
        """
        if topic in self._topics.joined:
            raise UsageError(f"this node takes part in {topic!r} already", remedy="leave() it first")
        if not 1 <= len(topic) <= MAX_TOPIC_CHARS or limits.max_bytes > MAX_MESSAGE_BYTES:
            raise UsageError(
                "the topic's name or its messages are too large",
                remedy=f"at most {MAX_TOPIC_CHARS} characters and {MAX_MESSAGE_BYTES} bytes",
            )
        self._topics.joined[topic] = Topic(check, limits, Recent(most=limits.remembered, for_s=limits.remember_s))
        await self._pubsub.subscribe(topic)

    async def leave(self, topic: str) -> None:
        """Take part in a topic no longer. Idempotent."""
        if self._topics.joined.pop(topic, None) is not None:
            await self._pubsub.unsubscribe(topic)

    async def publish(self, topic: str, data: bytes) -> None:
        """Tell a topic's members. Returns once the message waits to be written to those of the mesh.

        A member that reads slowly misses what is more than 32 messages ahead of it.

        Raises:
            UsageError: the node does not take part in the topic, or the data is too large.
        """
        joined = self._topics.joined.get(topic)
        if joined is None or len(data) > joined.limits.max_bytes:
            raise UsageError("that cannot be said there", remedy="join() the topic, and keep to its max_bytes")
        await self._pubsub.publish(topic, data)
        await trio.lowlevel.checkpoint()  # py-libp2p's has none: nothing is written between two messages
        self._topics.counts["published"] += 1

    def members(self, topic: str) -> tuple[PeerId, ...]:
        """Return the connected peers that take part in a topic."""
        return tuple(node_peer_id(peer_id) for peer_id in self._pubsub.peer_topics.get(topic, ()))

    @property
    def statistics(self) -> GossipStatistics:
        """What happened so far."""
        return GossipStatistics(**self._topics.counts)


class _Pubsub(Pubsub):
    """Pubsub that reads one message after the other, and looks at each before it costs much."""

    def __init__(self, host: Libp2pHost, router: Router, topics: Topics) -> None:
        super().__init__(
            host, router, max_inbound_rpc_size=MAX_RPC_BYTES, max_subscriptions_per_peer=MAX_TOPICS_PER_PEER
        )
        self.seen_messages.stop()
        self.seen_messages = Seen()
        self._router = router
        self._topics = topics
        self._inbound: dict[ID, INetStream] = {}

    async def stream_handler(self, stream: INetStream) -> None:
        """Read a peer's stream to its end; it has one: a further one takes its place."""
        peer_id = stream.muxed_conn.peer_id
        if self._topics.is_muted(peer_id):
            await stream.reset()
            return
        before = self._inbound.get(peer_id)
        self._inbound[peer_id] = stream
        if before is not None:
            await before.reset()
        try:
            await self.continuously_read_stream(stream)
        except StreamEOF:
            pass
        except BaseLibp2pError as error:
            _log.debug("a peer's gossip ends: %r", error, extra={"peer_id": str(peer_id)})
            await stream.reset()
        finally:
            is_last = self._inbound.get(peer_id) is stream
            if is_last:
                del self._inbound[peer_id]
        if is_last and not self._topics.is_muted(peer_id):
            # It has left, or lost a stream: what it joined is over, and our stream to it is made anew if it takes one.
            outbound = self.peers.get(peer_id)
            self._handle_dead_peer(peer_id)
            if outbound is not None:
                await outbound.reset()

    async def continuously_read_stream(self, stream: INetStream) -> None:
        """Take what a peer sends, at the pace that it is allowed. py-libp2p starts a task for each message instead."""
        peer_id = stream.muxed_conn.peer_id
        pace = Pace(per_s=READ_BYTES_PER_S, burst=READ_BURST_BYTES)
        while self.manager.is_running:
            data = await read_varint_prefixed_bytes_limited(stream, MAX_RPC_BYTES)
            await trio.sleep(pace.owe(trio.current_time(), len(data) + _READ_COST_BYTES))
            try:
                rpc = rpc_pb2.RPC.FromString(data)
            except DecodeError:
                await self._blame(peer_id)
                await stream.reset()
                return
            for message in rpc.publish:
                if self._topics.is_muted(peer_id):
                    await stream.reset()
                    return
                await self.push_msg(peer_id, message)
                await trio.lowlevel.checkpoint()  # a verification each
            for subscription in rpc.subscriptions[: self.max_subscriptions_per_peer]:
                self.handle_subscription(peer_id, subscription)
            if rpc.HasField("control"):
                await self.router.handle_rpc(rpc, peer_id)

    def handle_subscription(self, origin_id: ID, sub_message: rpc_pb2.RPC.SubOpts) -> None:
        """Note what topics a peer takes part in; who changes its mind too often is not heeded."""
        may_change = self._topics.gate.may_subscribe(node_peer_id(origin_id), trio.current_time())
        if may_change and len(sub_message.topicid) <= MAX_TOPIC_CHARS:
            super().handle_subscription(origin_id, sub_message)

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Look at a message, ours or another's, and hand it on if it holds."""
        counts, topics = self._topics.counts, self._topics.joined
        verdict: Verdict | None = Verdict.ACCEPT
        if msg_forwarder != self.my_id:
            if len(msg.topicIDs) != 1 or _is_oversized(msg):
                await self._blame(msg_forwarder)
                return
            if msg.topicIDs[0] not in topics:
                return  # left lately, perhaps
            if self.seen_messages.has(self.get_message_id(msg)):
                counts["duplicates"] += 1
                return
            verdict = self._topics.judge(msg_forwarder, msg)
            if verdict is Verdict.REJECT:
                # Its id is not remembered: anybody can make up a message with the id of another.
                await self._blame(msg_forwarder)
            if verdict in (None, Verdict.REJECT):
                return
            counts["accepted" if verdict is Verdict.ACCEPT else "ignored"] += 1
        self.seen_messages.add(self.get_message_id(msg))
        if verdict is Verdict.ACCEPT:
            topic = topics[msg.topicIDs[0]]
            if topic.limits.remembered:
                topic.recent.put(msg.from_id, msg, trio.current_time())
            await self.router.publish(msg_forwarder, msg)

    async def _blame(self, forwarder: ID) -> None:
        """Count a message that does not hold; mute its forwarder when there were too many."""
        self._topics.counts["rejected"] += 1
        if self._topics.gate.reject(node_peer_id(forwarder), trio.current_time()):
            self._topics.counts["muted"] += 1
            _log.warning("a peer gossips what does not hold; it is muted", extra={"peer_id": str(forwarder)})
            await self._router.exclude(forwarder)


def _is_oversized(message: rpc_pb2.Message) -> bool:
    return (
        len(message.data) > MAX_MESSAGE_BYTES
        or len(message.from_id) + len(message.seqno) > MAX_ID_BYTES
        or len(message.signature) > _MAX_SIGNATURE_BYTES
        or len(message.key) > _MAX_KEY_BYTES
    )
