"""A host keeps its record with a few peers, so that those who ask them (peer exchange) hear of it.

The peers are those connected for longest: bootstrap nodes first of all, and who has stayed is the likeliest to stay.
Each gets the record when it connects, and then each renewed one. Everybody else asks, or hears of a change from the
publisher.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import trio

from hostmesh.errors import HostmeshError, ProtocolNotSupportedError
from hostmesh.net.peer_id import PeerId
from hostmesh.net.pool import ConnectionWatch
from hostmesh.rpc.shapes import RpcCaller
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.v1.discovery_hostmesh import DiscoveryServiceClient

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.discovery")

MAX_INTRODUCED = 4
"""Peers that the record is kept with. Chosen here: 240 short calls an hour."""
LOOK_EVERY_S = 15.0
"""How late a renewed record may be handed over; the one before holds for 60 s more."""
HAND_OVER_TIMEOUT_S = 5.0


class IntroductionsNode(Protocol):
    """What this needs of the node."""

    def connected_peers(self) -> tuple[PeerId, ...]:
        """Return the peers with an open connection, the oldest connection first."""
        ...

    def watch_connections(self) -> AbstractContextManager[ConnectionWatch]:
        """Return a block that yields connection events."""
        ...


class Introductions:
    """See the module.

    Args:
        node: knows who is connected.
        caller: makes the calls.
        own_record: returns the record or tombstone to hand over; None = this node is no host.
    """

    def __init__(
        self, node: IntroductionsNode, caller: RpcCaller, own_record: Callable[[], pb.SignedHostRecord | None]
    ) -> None:
        self._node = node
        self._caller = caller
        self._own_record = own_record
        self._told: dict[PeerId, pb.SignedHostRecord | None] = {}
        """What each peer was handed last; None: it takes no records."""

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hand the record over, to newcomers and whenever it is another one, until cancelled."""
        with self._node.watch_connections() as watch:
            task_status.started()
            while True:
                await self._hand_over()
                with trio.move_on_after(LOOK_EVERY_S):
                    async for _ in watch:
                        break

    async def _hand_over(self) -> None:
        record = self._own_record()
        if record is None:
            return
        peers = self._node.connected_peers()
        self._told = {peer_id: told for peer_id, told in self._told.items() if peer_id in peers}
        introduced = [peer_id for peer_id in peers if self._told.get(peer_id, record) is not None][:MAX_INTRODUCED]
        async with trio.open_nursery() as nursery:
            for peer_id in introduced:
                if self._told.get(peer_id) is not record:
                    nursery.start_soon(self._hand_to, peer_id, record)

    async def _hand_to(self, peer_id: PeerId, record: pb.SignedHostRecord) -> None:
        client = DiscoveryServiceClient(self._caller, peer_id)
        self._told[peer_id] = record
        try:
            await client.announce(pb.AnnounceRequest(record=record), timeout_s=HAND_OVER_TIMEOUT_S)
        except ProtocolNotSupportedError:
            self._told[peer_id] = None
        except HostmeshError as error:
            self._told.pop(peer_id, None)  # the next time
            _log.debug("a peer did not take our record: %s", error.code, extra={"peer_id": peer_id})
