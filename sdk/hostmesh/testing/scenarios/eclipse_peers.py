"""DHT servers that sit nearest to the keys of a model, by ids that were ground for it, and hide what they are told."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING

import trio

from hostmesh.net.config import NodeConfig
from hostmesh.net.dht_message import (
    MAX_REQUEST_BYTES,
    DhtMessage,
    MessageKind,
    PeerAddresses,
    decode_message,
    encode_message,
)
from hostmesh.net.dht_server import read_frame
from hostmesh.net.dht_table import BUCKET_SIZE, position
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId, peer_id_from_public_key, peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey
from hostmesh.net.stream import Stream
from hostmesh.testing.adversary_node import PROTOCOL_PREFIX
from hostmesh.testing.machine import DEFAULT_PORT, SimMachine
from hostmesh.testing.wallets import make_peer_key
from hostmesh.wire.framing import FrameDecoder, encode_frame

if TYPE_CHECKING:
    from trio_typing import TaskStatus

GROUND_KEYS = 20_000
"""Tried in all, once in a process: the 20 nearest of them to a key are nearer than all others of a small network."""
DHT_PROTOCOL_ID = f"{PROTOCOL_PREFIX}/kad/1.0.0"
FLOODED_PROVIDERS = 256
FLOODED_CLOSER = 64
"""As many as a node reads of one answer."""
_NOWHERE = "/ip4/11.255.{}.{}/tcp/4001"
"""Public addresses that no machine has."""
_MAX_CONNECTIONS = 1000
_JOIN_S = 30.0


class Manner(Enum):
    """What a hostile server does when it is asked who provides a key. It takes every record and forgets it."""

    LIES = "lies"
    """It names its fellows as providers and as the closest peers."""
    SILENT = "silent"
    """It never answers."""
    FLOODS = "floods"
    """It names as many providers and closer peers as an answer may hold, all made up."""


class Ring:
    """The hostile servers around the keys of one model.

    Args:
        dice: makes up peers.
    """

    def __init__(self, dice: Random) -> None:
        self.members: dict[PeerId, PeerAddresses] = {}
        self._made_up = [peer_id_from_public_key(dice.randbytes(32)) for _ in range(FLOODED_PROVIDERS)]

    async def run_member(
        self,
        machine: SimMachine,
        key: PeerKey,
        manner: Manner,
        bootstrap: Sequence[str],
        *,
        task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run one server until cancelled; it is in its place once it is connected to a bootstrap node."""
        self.members[key.peer_id] = PeerAddresses(peer_id=key.peer_id, addresses=(_address_of(machine),))
        node = _node_on(machine, key, bootstrap, is_honest=False)

        async def serve(stream: Stream) -> None:
            decoder = FrameDecoder(MAX_REQUEST_BYTES)
            while (frame := await read_frame(stream, decoder)) is not None:
                request = decode_message(frame, max_bytes=MAX_REQUEST_BYTES)
                if request.kind is MessageKind.GET_PROVIDERS and manner is Manner.SILENT:
                    await stream.wait_reset()
                    return
                await stream.send(encode_frame(encode_message(self._answer(request, manner))))
            await stream.close()

        node.set_stream_handler(DHT_PROTOCOL_ID, serve)
        await _run(machine, node, task_status)

    def _answer(self, request: DhtMessage, manner: Manner) -> DhtMessage:
        if request.kind not in (MessageKind.FIND_NODE, MessageKind.GET_PROVIDERS):
            return DhtMessage(kind=request.kind, key=request.key)
        # Whoever looks for a place is led to the ring, and so are those who ask whether we serve at all.
        target = position(request.key)
        nearest = sorted(self.members, key=lambda peer_id: position(peer_id_to_bytes(peer_id)) ^ target)[:BUCKET_SIZE]
        closer = tuple(self.members[peer_id] for peer_id in nearest)
        if request.kind is MessageKind.FIND_NODE:
            return DhtMessage(kind=request.kind, key=request.key, closer=closer)
        if manner is Manner.LIES:
            return DhtMessage(kind=request.kind, key=request.key, closer=closer, providers=closer)
        made_up = tuple(
            PeerAddresses(peer_id=peer_id, addresses=(_NOWHERE.format(index >> 8, index & 255),))
            for index, peer_id in enumerate(self._made_up)
        )
        return DhtMessage(kind=request.kind, key=request.key, closer=made_up[:FLOODED_CLOSER], providers=made_up)


async def run_server(
    machine: SimMachine,
    key: PeerKey,
    bootstrap: Sequence[str],
    *,
    task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run an honest DHT server with a chosen id until cancelled: the shipped one, on a node without features."""
    await _run(machine, _node_on(machine, key, bootstrap, is_honest=True), task_status)


def grind(keys: Sequence[bytes], each: int) -> list[list[PeerKey]]:
    """Return for each of some DHT keys the peer keys whose ids lie nearest, nearest first; none for two of them.

    Args:
        keys: DHT keys.
        each: how many for each.
    """
    chosen: list[list[PeerKey]] = []
    taken: set[int] = set()
    for key in keys:
        target = position(key)
        near = sorted(_pool(), key=lambda entry: entry[0] ^ target)[: each * len(keys)]
        free = [number for _, number in near if number not in taken][:each]
        taken.update(free)
        chosen.append([_ground_key(number) for number in free])
    return chosen


def _address_of(machine: SimMachine) -> str:
    return f"/ip4/{machine.address}/tcp/{DEFAULT_PORT}"


def _node_on(machine: SimMachine, key: PeerKey, bootstrap: Sequence[str], *, is_honest: bool) -> Node:
    config = NodeConfig(
        listen_addresses=(machine.listen_address,),
        announce_addresses=(_address_of(machine),),
        bootstrap_addresses=tuple(bootstrap),
        protocol_prefix=PROTOCOL_PREFIX,
        max_connections=_MAX_CONNECTIONS,
        enable_dht=is_honest,
        dht_server=is_honest,
    )
    return Node(config, key, system=machine.system, network=machine.network)


async def _run(machine: SimMachine, node: Node, task_status: TaskStatus[None]) -> None:
    async with machine.process(), trio.open_nursery() as nursery:
        await nursery.start(node.run)
        await node.wait_connected(1, _JOIN_S)
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await node.stop()


@lru_cache(maxsize=1)
def _pool() -> tuple[tuple[int, int], ...]:
    """Return where each of the keys lies that were tried, and its number."""
    return tuple((position(peer_id_to_bytes(_ground_key(number).peer_id)), number) for number in range(GROUND_KEYS))


def _ground_key(number: int) -> PeerKey:
    return make_peer_key(f"ground {number}")
