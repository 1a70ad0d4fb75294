"""Hosts that are heard of in the network's gossip: each publishes its record when it signs one, everybody hears it.

A host publishes its signed record, and its tombstone, on one topic of the network, :func:`records_topic`: on every
change and at every renewal. Who runs this source hears it, verifies it, keeps it as hearsay under the quotas of the
peer that it came from, and hands it on; a find then names the host, and asks it, as it does any candidate.

Only what is news goes on: a record that its own host published, that holds, is fresh, and is newer than the one that
was gossiped before. A newcomer is told by its neighbours what each host published last, so that it need not wait for
the next renewal.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from hostmesh.discovery.description import HostState
from hostmesh.discovery.record import HostInfo
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.source import Advert, Candidate, SourceQuery
from hostmesh.discovery.table import Merge
from hostmesh.errors import RecordExpiredError, RemoteProtocolError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.gossip import Gossip, GossipMessage, GossipStatistics, OpenGossip, TopicLimits, Verdict
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.wire.bounds import parse

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.discovery")

TOPIC_VERSION = "1.0.0"
LIMITS = TopicLimits(max_bytes=12_288, author_per_s=0.2, author_burst=8, remembered=256, remember_s=90.0)
"""A host publishes once a minute, and some changes more. Records live for two minutes."""
FIRST_HEARD_S = 2.0
"""A find right after the start reports who is heard of within so long after it; later ones, whom we know of then."""
GOODBYE_S = 1.0
"""How long the end of an advert waits for the tombstone to be on its way."""
MAX_HEARD = 2048
"""Hosts remembered; of one neighbour a quarter of them. Who was heard of longest ago goes first."""
MAX_PER_NEIGHBOUR = MAX_HEARD // 4
MAX_TOLD = 4096
"""Hosts of which it is remembered what they published last."""
_HANGS_ON_READER = frozenset({"issued_at_unix_s", "binding.issued_at_unix_s", "binding.revocation_epoch"})
"""What one reader refuses a record for and another does not: clocks differ, and what is known. As for one that has
expired, nobody is to blame: a client whose clock is wrong would mute all its neighbours."""
_HOLDS = frozenset({Merge.ADDED, Merge.REPLACED, Merge.KNOWN, Merge.REFUSED})
"""Of REFUSED: there was no room for it here, which is no reason to keep it from others."""


def records_topic(prefix: str, network: str) -> str:
    """Return the topic of a network's records.

    >>> records_topic("/hostmesh", "testnet")
    '/hostmesh/records/1.0.0/testnet'
    """
    return f"{prefix}/records/{TOPIC_VERSION}/{network}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GossipSourceStatistics:
    """What this source did so far."""

    members: int
    """Connected peers that take part in the topic now."""
    published: int
    """Records and tombstones of ours."""
    records: int
    """Records of others that were news and went on."""
    tombstones: int
    """Of these, the ones that took a host out."""
    refused: int
    """Messages that did not hold; who forwarded some of them is muted."""
    hosts: int
    """Hosts that a find would name, whatever they offer."""
    gossip: GossipStatistics
    """What the node's gossip did since it began, or began anew."""


class HeardHosts:
    """Hosts that were heard of, and from which neighbour first. Pure.

    A neighbour has its own share, so that one who makes up hosts keeps out none that others tell of.
    """

    def __init__(self, *, most: int = MAX_HEARD, per_neighbour: int = MAX_PER_NEIGHBOUR) -> None:
        self._most = most
        self._per_neighbour = per_neighbour
        self._of: dict[PeerId, OrderedDict[PeerId, HostInfo]] = {}
        self._neighbour_of: dict[PeerId, PeerId] = {}

    def __len__(self) -> int:
        return len(self._neighbour_of)

    def put(self, info: HostInfo, neighbour: PeerId) -> None:
        """Remember a host, or its newer record, which leaves it with the neighbour that told of it first."""
        neighbour = self._neighbour_of.setdefault(info.peer_id, neighbour)
        hosts = self._of.setdefault(neighbour, OrderedDict())
        hosts[info.peer_id] = info
        hosts.move_to_end(info.peer_id)
        if len(hosts) > self._per_neighbour:
            self.drop(next(iter(hosts)))
        elif len(self) > self._most:
            most_told = max(self._of.values(), key=len)
            self.drop(next(iter(most_told)))

    def drop(self, peer_id: PeerId) -> None:
        """Forget a host, if it is known."""
        neighbour = self._neighbour_of.pop(peer_id, None)
        if neighbour is not None:
            del self._of[neighbour][peer_id]
            if not self._of[neighbour]:
                del self._of[neighbour]

    def usable(self, now: float) -> list[tuple[HostInfo, PeerId]]:
        """Return the hosts whose records hold now, and who told of each; forget the others. The newest come first."""
        expired = [
            info.peer_id for hosts in self._of.values() for info in hosts.values() if not info.is_acceptable(now)
        ]
        for peer_id in expired:
            self.drop(peer_id)
        heard = [(info, neighbour) for neighbour, hosts in self._of.items() for info in hosts.values()]
        return sorted(heard, key=lambda each: each[0].issued_at_unix_s, reverse=True)


class GossipSource:
    """See the module.

    Args:
        open_gossip: runs gossip on the node.
        records: verifies and keeps what is heard.
        topic: see :func:`records_topic`.
        system: the wall clock.
    """

    def __init__(self, open_gossip: OpenGossip, records: RecordBook, *, topic: str, system: System) -> None:
        self._open_gossip = open_gossip
        self._records = records
        self._topic = topic
        self._system = system
        self._gossip: Gossip | None = None
        self._own: pb.SignedHostRecord | None = None
        self._published: pb.SignedHostRecord | None = None
        self._changed = trio.Event()
        self._is_published = trio.Event()
        self._is_published.set()
        self._heard = HeardHosts()
        self._told: OrderedDict[PeerId, int] = OrderedDict()
        self._listeners: set[Callable[[HostInfo, PeerId], None]] = set()
        self._listens_until_s = 0.0
        self._published_count = self._news = self._tombstones = self._refused = 0

    @property
    def name(self) -> str:
        """``gossip``."""
        return "gossip"

    @property
    def statistics(self) -> GossipSourceStatistics:
        """What this source did so far."""
        return GossipSourceStatistics(
            members=0 if self._gossip is None else len(self._gossip.members(self._topic)),
            published=self._published_count,
            records=self._news,
            tombstones=self._tombstones,
            refused=self._refused,
            hosts=len(self._heard),
            gossip=GossipStatistics() if self._gossip is None else self._gossip.statistics,
        )

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part in the topic and publish this host's records until cancelled."""
        async with self._open_gossip() as gossip:
            await gossip.join(self._topic, self._hear, LIMITS)
            self._gossip, self._published = gossip, None
            self._listens_until_s = trio.current_time() + FIRST_HEARD_S
            task_status.started()
            try:
                while True:
                    await self._publish(gossip)
                    await self._changed.wait()
            finally:
                self._gossip = None

    def broadcast(self, record: pb.SignedHostRecord) -> None:
        """Publish a record or tombstone of this node as soon as may be; only the newest one matters. Never waits."""
        self._own = record
        self._is_published = trio.Event()
        self._changed.set()

    async def advertise(self, advert: Advert | None) -> None:
        """Do nothing: records come by :meth:`broadcast`. At the end of adverts, wait until the tombstone is on its way.

        Cancellation: safe.
        """
        if advert is None and self._gossip is not None:
            with trio.move_on_after(GOODBYE_S):
                await self._is_published.wait()

    async def find(self, query: SourceQuery, found: Callable[[Candidate], None]) -> None:
        """Report the hosts that were heard of and fit.

        Within :data:`FIRST_HEARD_S` of the start, goes on to report those that are heard of meanwhile.

        Cancellation: safe; what was found was reported.
        """
        reported: set[PeerId] = set()
        is_enough = trio.Event()

        def report(info: HostInfo, neighbour: PeerId) -> None:
            if len(reported) < query.limit and info.peer_id not in reported and _fits(info, query):
                reported.add(info.peer_id)
                found(
                    Candidate(
                        peer_id=info.peer_id,
                        addresses=info.addresses,
                        source=self.name,
                        origin=AddressOrigin.REMOTE,
                        named_by=neighbour,
                    )
                )
            if len(reported) >= query.limit:
                is_enough.set()

        for info, neighbour in self._heard.usable(self._system.unix_s()):
            report(info, neighbour)
        self._listeners.add(report)
        try:
            with trio.move_on_at(self._listens_until_s):
                await is_enough.wait()
        finally:
            self._listeners.discard(report)

    async def _publish(self, gossip: Gossip) -> None:
        self._changed = trio.Event()
        record = self._own
        if record is None or record is self._published:
            return
        await gossip.publish(self._topic, record.SerializeToString())
        self._published = record
        self._published_count += 1
        if record is self._own:
            self._is_published.set()

    def _hear(self, message: GossipMessage) -> Verdict:
        """Take a record into the ordinary intake; see :data:`hostmesh.net.gossip.Check`."""
        try:
            signed = parse(pb.SignedHostRecord, message.data, LIMITS.max_bytes)
            info, merge = self._records.accept(signed, expected_peer_id=message.author, introducer=message.forwarder)
        except RemoteProtocolError as error:
            if isinstance(error, RecordExpiredError) or getattr(error, "field", "") in _HANGS_ON_READER:
                return Verdict.IGNORE
            self._refused += 1
            _log.debug("gossip that does not hold: %s", error.code, extra={"peer_id": message.forwarder})
            return Verdict.REJECT
        if merge not in _HOLDS or info.sequence <= self._told.get(info.peer_id, -1):
            return Verdict.IGNORE
        self._told[info.peer_id] = info.sequence
        self._told.move_to_end(info.peer_id)
        if len(self._told) > MAX_TOLD:
            self._told.popitem(last=False)
        self._news += 1
        if info.state is HostState.WITHDRAWN:
            self._tombstones += 1
            self._heard.drop(info.peer_id)
            return Verdict.ACCEPT
        if merge is not Merge.REFUSED:
            self._records.name(info.peer_id, self.name, named_by=message.forwarder)
        self._heard.put(info, message.forwarder)
        for listener in (*self._listeners,):
            listener(info, message.forwarder)
        return Verdict.ACCEPT


def _fits(info: HostInfo, query: SourceQuery) -> bool:
    if query.country_code and (info.place is None or info.place.country_code != query.country_code):
        return False
    return all(info.offer(model_id) is not None for model_id in query.model_ids)
