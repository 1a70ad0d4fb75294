"""A host keeps its record with a few peers, so that those who ask them (peer exchange) hear of it.

The peers are our bootstrap nodes first of all, then peers that we dialled, then who dialled us; of the latter two one
of each network, and a second only where places are left. Among equals who has stayed longest is the likeliest to stay.
Each gets the record when it connects, and then each renewed one. Everybody else asks, or hears of a change from the
publisher.

What strangers do sets no pace: a peer that came back or failed is not called before ``LOOK_EVERY_S`` are over, and all
but our bootstrap nodes together get ``MAX_CALLS`` in that time.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from hostmesh.discovery.acquaintance import acquaintances, one_of_each_network, peers_of
from hostmesh.errors import HostmeshError, ProtocolNotSupportedError
from hostmesh.net.connection_view import ConnectionView
from hostmesh.net.peer_id import PeerId
from hostmesh.net.pool import ConnectionWatch
from hostmesh.rpc.shapes import RpcCaller
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.v1.discovery_hostmesh import DiscoveryServiceClient

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.discovery")

MAX_INTRODUCED = 4
"""Peers that the record is kept with. Chosen here: 240 short calls an hour while they stay and take it."""
LOOK_EVERY_S = 15.0
"""How late a renewed record may be handed over; the one before holds for 60 s more."""
MAX_CALLS = 2 * MAX_INTRODUCED
"""Calls in ``LOOK_EVERY_S`` to peers other than bootstrap nodes."""
MAX_BACK_OFF_S = 240.0
"""Longest time without a call to a peer that keeps failing; it is doubled from ``LOOK_EVERY_S`` on."""
LEAST_BETWEEN_LOOKS_S = 0.5
"""Connections that come and go faster are looked at together."""
HAND_OVER_TIMEOUT_S = 5.0
_MOST_FAILURES = 16
"""No more are counted: the pause has been at its longest for a while."""


class IntroductionsNode(Protocol):
    """What this needs of the node."""

    def connected_peers(self) -> tuple[PeerId, ...]:
        """Return the peers with an open connection, the oldest connection first."""
        ...

    def connections(self) -> tuple[ConnectionView, ...]:
        """Return the connections as they are now."""
        ...

    def bootstrap_outcomes(self) -> Mapping[str, str]:
        """Return what happened last, by bootstrap address with ``/p2p``."""
        ...

    def watch_connections(self) -> AbstractContextManager[ConnectionWatch]:
        """Return a block that yields connection events."""
        ...


@dataclass(slots=True)
class _Place:
    """What became of a peer that was called."""

    called_s: float
    not_before_s: float
    """When it may be called again."""
    told: pb.SignedHostRecord | None = None
    """What it took last on this connection."""
    failures: int = 0
    """In a row, on this connection."""
    takes_records: bool = True

    def is_left(self, now_s: float) -> bool:
        """Whether another peer gets its place: it takes no records, or failed a short while ago."""
        return not self.takes_records or (self.failures > 0 and now_s < self.not_before_s)


class Introductions:
    """See the module.

    Args:
        node: knows who is connected.
        caller: makes the calls.
        own_record: returns the record or tombstone to hand over; None = this node is no host.
        refused_for: told who did not take the record, since its operator took back its binding.
    """

    def __init__(
        self,
        node: IntroductionsNode,
        caller: RpcCaller,
        own_record: Callable[[], pb.SignedHostRecord | None],
        refused_for: Callable[[PeerId, pb.BindingRevocation], None] = lambda peer_id, revocation: None,
    ) -> None:
        self._node = node
        self._caller = caller
        self._own_record = own_record
        self._refused_for = refused_for
        self._places: dict[PeerId, _Place] = {}
        """By peer that was called, while it is connected, and then until it may be called again."""
        self._calls_s: deque[float] = deque(maxlen=MAX_CALLS)
        """When the last peers other than bootstrap nodes were called."""

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hand the record over, to newcomers and whenever it is another one, until cancelled."""
        with self._node.watch_connections() as watch:
            task_status.started()
            while True:
                looked_s = trio.current_time()
                await self._hand_over()
                with trio.move_on_after(LOOK_EVERY_S) as wait:
                    async for event in watch:
                        self._meet(event.peer_id)
                        wait.deadline = min(wait.deadline, looked_s + LEAST_BETWEEN_LOOKS_S)

    def _meet(self, peer_id: PeerId) -> None:
        """Note that a peer came or went: what it was told is forgotten, when it was called is not."""
        place = self._places.get(peer_id)
        if place is not None:
            self._places[peer_id] = _Place(place.called_s, place.called_s + LOOK_EVERY_S)

    async def _hand_over(self) -> None:
        record = self._own_record()
        if record is None:
            return
        now_s = trio.current_time()
        peers = self._node.connected_peers()
        self._forget_all_but(frozenset(peers), now_s)
        configured = peers_of(self._node.bootstrap_outcomes())
        known = [
            each
            for each in acquaintances(peers, self._node.connections(), configured)
            if (place := self._places.get(each.peer_id)) is None or not place.is_left(now_s)
        ]
        first, others = one_of_each_network(known, MAX_INTRODUCED)
        async with trio.open_nursery() as nursery:
            for each in (first + others)[:MAX_INTRODUCED]:
                place = self._places.get(each.peer_id)
                if place is not None and (place.told is record or now_s < place.not_before_s):
                    continue
                if not each.is_configured and not self._may_call(now_s):
                    continue
                nursery.start_soon(self._hand_to, each.peer_id, record)

    def _forget_all_but(self, connected: Collection[PeerId], now_s: float) -> None:
        for peer_id in [each for each in self._places if each not in connected]:
            self._meet(peer_id)
            if now_s >= self._places[peer_id].not_before_s:
                del self._places[peer_id]

    def _may_call(self, now_s: float) -> bool:
        if len(self._calls_s) == MAX_CALLS and now_s < self._calls_s[0] + LOOK_EVERY_S:
            return False
        self._calls_s.append(now_s)
        return True

    async def _hand_to(self, peer_id: PeerId, record: pb.SignedHostRecord) -> None:
        now_s = trio.current_time()
        place = self._places.setdefault(peer_id, _Place(now_s, now_s))
        place.called_s = now_s
        client = DiscoveryServiceClient(self._caller, peer_id)
        try:
            answer = await client.announce(pb.AnnounceRequest(record=record), timeout_s=HAND_OVER_TIMEOUT_S)
        except ProtocolNotSupportedError:
            place.takes_records = False
        except HostmeshError as error:
            place.told = None
            place.not_before_s = now_s + min(LOOK_EVERY_S * 2.0**place.failures, MAX_BACK_OFF_S)
            place.failures = min(place.failures + 1, _MOST_FAILURES)
            _log.debug("a peer did not take our record: %s", error.code, extra={"peer_id": peer_id})
        else:
            place.told, place.failures, place.not_before_s = record, 0, now_s
            if answer.HasField("revocation"):
                self._refused_for(peer_id, answer.revocation)
