"""Members of a network's gossip: bare nodes that speak nothing else, so that whatever they know they heard there."""

from __future__ import annotations

from functools import partial

import trio
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX
from tests.simulated.nodes import Nodes

from hostmesh.discovery.description import HostState
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.source import Candidate, SourceQuery
from hostmesh.discovery.sources.gossip import GossipSource, records_topic
from hostmesh.errors import ConnectionLostError
from hostmesh.identity.binding import verify_binding
from hostmesh.net.libp2p_gossip import MAX_RPC_BYTES, open_gossip
from hostmesh.net.node import Node
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.net.stream import Stream
from hostmesh.testing import make_description, make_host_record, make_peer_key
from hostmesh.testing.wallets import TEST_NETWORK
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.wire.framing import FrameDecoder, encode_frame

TOPIC = records_topic("/hostmesh", TEST_NETWORK)


class Member:
    """A node with the shipped source, host or not."""

    def __init__(self, nodes: Nodes, node: Node, topic: str) -> None:
        self.node = node
        self.machine = nodes.machine_of(node)
        self.records = RecordBook(network=TEST_NETWORK, verify_binding=verify_binding, system=self.machine.system)
        self.source = GossipSource(partial(open_gossip, node), self.records, topic=topic, system=self.machine.system)
        self.scope = trio.CancelScope()
        self._sequence = 0

    @property
    def peer_id(self) -> str:
        return self.node.peer_id

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with self.scope:
            await self.source.run(task_status=task_status)

    def record(self, *, state: HostState = HostState.AVAILABLE, sequence: int | None = None) -> pb.SignedHostRecord:
        """Return the next record of this node as a host."""
        self._sequence += 1
        return make_host_record(
            self.machine.name,
            make_description("llama"),
            sequence=sequence or self._sequence,
            issued_at_unix_s=int(self.machine.system.unix_s()),
            state=state,
        )

    def publish(self, **fields: object) -> pb.SignedHostRecord:
        """Publish the next record."""
        record = self.record(**fields)
        self.source.broadcast(record)
        return record

    def hosts(self) -> set[str]:
        """Return the hosts that may be used, as this node knows them."""
        return {host.info.peer_id for host in self.records.live()}

    async def find(self, *models: str) -> list[Candidate]:
        """Return whom the source names."""
        found: list[Candidate] = []
        await self.source.find(SourceQuery(model_ids=models, country_code=None, limit=64), found.append)
        return found


async def start_member(nodes: Nodes, *near: Member, topic: str = TOPIC) -> Member:
    """Start a member that is connected to some others; its key is that of its machine's name."""
    member = Member(nodes, await nodes.start(), topic)
    assert member.peer_id == make_peer_key(member.machine.name).peer_id
    await nodes.nursery.start(member.run)
    for other in near:
        await connect(member, other)
    return member


async def connect(one: Member, other: Member) -> None:
    """Connect two members."""
    await one.node.connect(other.peer_id, other.node.peer_addresses())


class Stranger:
    """A node that says on GossipSub's stream whatever it likes."""

    def __init__(self, node: Node, victim: Member, stream: Stream, heard: list[rpc_pb2.RPC]) -> None:
        self.node = node
        self._victim = victim
        self._stream = stream
        self.heard = heard
        """What it was told."""

    async def anew(self) -> Stranger:
        """Return it with another stream."""
        stream = await self.node.open_stream(self._victim.peer_id, PROTOCOL_ID_V11)
        return Stranger(self.node, self._victim, stream, self.heard)

    async def say(self, *messages: rpc_pb2.Message, **fields: object) -> None:
        """Send an RPC: messages, or whatever else an RPC has."""
        await self.say_bytes(rpc_pb2.RPC(publish=messages, **fields).SerializeToString())

    async def insist(self, data: bytes) -> None:
        """Say it again and again, until the stream is reset."""
        with trio.fail_after(60):
            while True:
                try:
                    await self.say_bytes(data)
                except ConnectionLostError:
                    return
                await trio.sleep(0.1)

    async def say_bytes(self, data: bytes) -> None:
        """Send what may be an RPC."""
        await self._stream.send(encode_frame(data))


async def start_stranger(nodes: Nodes, victim: Member, *, hears: bool = False) -> Stranger:
    """Start a stranger that is connected to a member and has a stream to its gossip.

    Args:
        nodes: among them.
        victim: whom it talks to.
        hears: whether it takes a stream of the member's, too.
    """
    node = await nodes.start()
    heard: list[rpc_pb2.RPC] = []

    async def hear(stream: Stream) -> None:
        decoder = FrameDecoder(MAX_RPC_BYTES)
        while data := await stream.receive():
            decoder.feed(data)
            while (frame := decoder.next_frame()) is not None:
                heard.append(rpc_pb2.RPC.FromString(frame))

    if hears:
        node.set_stream_handler(PROTOCOL_ID_V11, hear)
    await node.connect(victim.peer_id, victim.node.peer_addresses())
    return Stranger(node, victim, await node.open_stream(victim.peer_id, PROTOCOL_ID_V11), heard)


def message_of(name: str, number: int, data: bytes, *, topic: str = TOPIC) -> rpc_pb2.Message:
    """Return a message that holds, by the key of a name."""
    key = make_peer_key(name)
    message = rpc_pb2.Message(
        data=data, topicIDs=[topic], from_id=peer_id_to_bytes(key.peer_id), seqno=number.to_bytes(8, "big")
    )
    message.signature = key.sign(PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString())
    return message
