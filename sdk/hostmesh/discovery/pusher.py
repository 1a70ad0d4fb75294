"""Hands announcements to connected peers, as far as they take them."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Protocol

import trio

from hostmesh.errors import HostmeshError
from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.shapes import RpcCaller
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.v1.discovery_hostmesh import DiscoveryServiceClient

_log = logging.getLogger("hostmesh.discovery")


MAX_PUSHED = 64
"""Most peers that a change is pushed to; the others ask, or see it expire."""
PUSH_TIMEOUT_S = 2.0
"""For pushing one change to all of them."""


class PusherNode(Protocol):
    """What this needs of the node."""

    def connected_peers(self) -> tuple[PeerId, ...]:
        """Return the peers with an open connection."""
        ...


class Pusher:
    """Pushes to the peers that are connected at that moment, side by side.

    Args:
        node: knows them.
        caller: makes the calls.
        max_peers: most peers that one announcement goes to.
        timeout_s: for all of them.
    """

    def __init__(
        self,
        node: PusherNode,
        caller: RpcCaller,
        *,
        max_peers: int = MAX_PUSHED,
        timeout_s: float = PUSH_TIMEOUT_S,
    ) -> None:
        self._node = node
        self._caller = caller
        self._max_peers = max_peers
        self._timeout_s = timeout_s

    async def push(
        self,
        request: pb.AnnounceRequest,
        *,
        first: Collection[PeerId] = (),
        but_not: Collection[PeerId | None] = (),
    ) -> int:
        """Push a record, a proof or a revocation; return how many peers took it. Best effort.

        Args:
            request: what they are told.
            first: those who are told before others, where not all can be.
            but_not: those who are not told.
        """
        takers: list[PeerId] = []
        peers = [peer_id for peer_id in self._node.connected_peers() if peer_id not in but_not]
        peers.sort(key=lambda peer_id: peer_id not in first)
        with trio.move_on_after(self._timeout_s):
            async with trio.open_nursery() as nursery:
                for peer_id in peers[: self._max_peers]:
                    nursery.start_soon(self._push_to, peer_id, request, takers)
        return len(takers)

    async def _push_to(self, peer_id: PeerId, request: pb.AnnounceRequest, takers: list[PeerId]) -> None:
        try:
            await DiscoveryServiceClient(self._caller, peer_id).announce(request, timeout_s=self._timeout_s)
            takers.append(peer_id)
        except HostmeshError as error:
            # Whoever was not told sees the record expire, or meets the proof elsewhere.
            _log.debug("%s did not take what we announced: %s", peer_id, error.code)
