"""Peers that were of use before: kept on disk while the node runs, named to finds, and dialled where nobody answers.

Every minute, soon after a connection came and at the end, the connected peers that are of use are noted with the
addresses at which they were reached, and public ones that they told. What is noted survives ``kill -9``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from hostmesh.discovery.peer_cache import MAX_ADDRESSES, MAX_AGE_S, MAX_PEERS, CachedPeer, PeerCache, PeerUse
from hostmesh.discovery.peer_cache_store import PeerCacheStore
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.source import Advert, Candidate, SourceQuery
from hostmesh.errors import StoreError
from hostmesh.net.address import AddressOrigin, AddressScope, scope_of
from hostmesh.net.event_feed import EventWatch
from hostmesh.net.events import ConnectionClosed, ConnectionOpened, NodeEvent
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.discovery")

LOOK_EVERY_S = 60.0
LOOK_SOON_S = 5.0
"""After a connection came: by then a peer has told what it is."""
WRITE_EVERY_S = 600.0
"""How far the time on disk at which a peer was seen last may lie behind, while it is there."""
MAX_NAMED = 16
"""Hosts named to one find of a node that has peers; those seen within a day."""
MAX_NAMED_ALONE = 64
"""Hosts named to one find of a node that has none; of any age."""
RECENT_S = 86_400.0


class CacheNode(Protocol):
    """What this source needs of the node."""

    def connected_peers(self) -> tuple[PeerId, ...]:
        """Return the peers with an open connection."""
        ...

    def addresses_of(self, peer_id: PeerId) -> tuple[str, ...]:
        """Return where a peer may be, the address to try first in front."""
        ...

    def protocols_of(self, peer_id: PeerId) -> tuple[str, ...]:
        """Return the protocols that a connected peer said it speaks."""
        ...

    def watch_events(self) -> AbstractContextManager[EventWatch[NodeEvent]]:
        """Return a block that yields every event of the node."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStatistics:
    """What this source has, and did so far."""

    peers: int
    hosts: int
    """Of the peers."""
    named: int
    """Candidates reported in all."""
    writes: int
    failed_writes: int


class CacheSource:
    """See the module.

    Args:
        node: knows the connections.
        cache: what is known; the node's own list of last-known peers may be the same.
        store: where it is kept.
        network: name of the network.
        records: tells who is a host.
        servers: returns the DHT servers known.
        ran_jobs: whether a host ran jobs for this client.
        system: the clock.
    """

    def __init__(
        self,
        node: CacheNode,
        cache: PeerCache,
        store: PeerCacheStore,
        *,
        network: str,
        records: RecordBook,
        servers: Callable[[], Iterable[PeerId]],
        ran_jobs: Callable[[PeerId], bool],
        system: System,
    ) -> None:
        self._node = node
        self._cache = cache
        self._store = store
        self._network = network
        self._records = records
        self._servers = servers
        self._ran_jobs = ran_jobs
        self._system = system
        self._reached: dict[PeerId, str] = {}
        """The address at which each connected peer was reached, of those that this node dialled."""
        self._written: dict[PeerId, CachedPeer] = {peer.peer_id: peer for peer in cache}
        self._came = trio.Event()
        self._named = 0
        self._writes = 0
        self._failed_writes = 0

    @property
    def name(self) -> str:
        """``cache``."""
        return "cache"

    @property
    def statistics(self) -> CacheStatistics:
        """What this source has, and did so far."""
        return CacheStatistics(
            peers=len(self._cache),
            hosts=sum(peer.use >= PeerUse.HOST for peer in self._cache),
            named=self._named,
            writes=self._writes,
            failed_writes=self._failed_writes,
        )

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Note who is connected and of use, until cancelled; then once more."""
        with self._node.watch_events() as events:
            task_status.started()
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen, events)
                    while True:
                        with trio.move_on_after(LOOK_EVERY_S):
                            await self._came.wait()
                        if self._came.is_set():
                            await trio.sleep(LOOK_SOON_S)
                        self._came = trio.Event()
                        self._look(write_all=False)
            finally:
                self._look(write_all=True)

    async def find(self, query: SourceQuery, found: Callable[[Candidate], None]) -> None:
        """Report hosts of before, whatever is asked: only they know what they offer today; and those named by id."""
        await trio.lowlevel.checkpoint()
        is_alone = not self._node.connected_peers()
        hosts = self._cache.hosts(
            now=self._system.unix_s(),
            seen_within_s=MAX_AGE_S if is_alone else RECENT_S,
            limit=min(query.limit, MAX_NAMED_ALONE if is_alone else MAX_NAMED),
        )
        # Where a host is that the criteria name is told whatever it was, and however long ago.
        asked = [peer for peer_id in query.peer_ids if (peer := self._cache.get(peer_id)) is not None]
        for peer in dict.fromkeys((*asked, *hosts)):
            self._named += 1
            found(
                Candidate(
                    peer_id=peer.peer_id,
                    addresses=peer.addresses,
                    source=self.name,
                    origin=AddressOrigin.CONNECTED,
                )
            )

    async def advertise(self, advert: Advert | None) -> None:
        """Do nothing: nobody asks us by this way."""

    async def _listen(self, events: EventWatch[NodeEvent]) -> None:
        async for event in events:
            if isinstance(event, ConnectionOpened):
                if event.address is not None:
                    self._reached[event.peer_id] = event.address
                self._came.set()
            elif isinstance(event, ConnectionClosed) and event.is_last:
                self._reached.pop(event.peer_id, None)

    def _look(self, *, write_all: bool) -> None:
        """Note who is there, and write what changed. Never waits."""
        now = self._system.unix_s()
        servers = frozenset(self._servers())
        for peer_id in self._node.connected_peers()[:MAX_PEERS]:
            use = self._use_of(peer_id, servers)
            addresses = () if use is None else self._addresses_of(peer_id)
            if use is not None and addresses:
                self._cache.note(peer_id, addresses, use, now=now)
        gone = self._cache.purge(now)
        changed = [peer for peer in self._cache if self._is_news(peer, write_all=write_all)]
        if not changed and not gone:
            return
        try:
            self._store.write(self._network, changed, gone)
        except StoreError as error:
            # The node runs as well without; the next look tries again.
            self._failed_writes += 1
            _log.warning("the peer cache is not kept: %s", error.message)
            return
        self._writes += 1
        self._written = {peer.peer_id: self._written.get(peer.peer_id, peer) for peer in self._cache}
        self._written.update((peer.peer_id, peer) for peer in changed)

    def _is_news(self, peer: CachedPeer, *, write_all: bool) -> bool:
        written = self._written.get(peer.peer_id)
        if written is None or (written.addresses, written.use) != (peer.addresses, peer.use):
            return True
        age_s = peer.last_seen_unix_s - written.last_seen_unix_s
        return age_s >= WRITE_EVERY_S or (write_all and age_s > 0)

    def _use_of(self, peer_id: PeerId, servers: frozenset[PeerId]) -> PeerUse | None:
        if self._ran_jobs(peer_id):
            return PeerUse.JOBS
        known = self._records.known(peer_id)
        if known is not None and known.introducer is None:
            return PeerUse.HOST
        if peer_id in servers:
            return PeerUse.SERVER
        # Who dialled us may be a client behind a NAT: nobody can reach it, and it knows nobody.
        if peer_id in self._reached and any("/discovery/" in each for each in self._node.protocols_of(peer_id)):
            return PeerUse.PEER
        return None

    def _addresses_of(self, peer_id: PeerId) -> tuple[str, ...]:
        """Return what may be dialled later without harm: what worked, and claims that lead into no private network."""
        reached = self._reached.get(peer_id)
        claimed = [each for each in self._node.addresses_of(peer_id) if scope_of(each) is AddressScope.PUBLIC]
        return tuple(dict.fromkeys(([] if reached is None else [reached]) + claimed))[:MAX_ADDRESSES]
