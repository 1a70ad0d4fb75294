"""What stands behind the manager's finding: searches, shared and limited, watches, and what was measured of peers."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from hostmesh.discovery.choice import Explanation, HostChoice
from hostmesh.discovery.collaborators import ReputationSource, RunningNode, Standings
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.events import HostProbed, SearchEnded, SearchStarted
from hostmesh.discovery.lookups import LookupLimit, Lookups
from hostmesh.discovery.metrics import ConnectionMetrics
from hostmesh.discovery.misses import no_host
from hostmesh.discovery.probe import ProbeConfig, Prober
from hostmesh.discovery.ranking import SpecificStrategy, Strategy
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.search import SearchConfig, Searcher, SearchResult
from hostmesh.discovery.selection import MAX_CHOOSE_AMONG, Diversity, diversify
from hostmesh.discovery.stats import DiscoveryStats
from hostmesh.discovery.supervise import plain_errors
from hostmesh.discovery.sweep import SweepCounts
from hostmesh.discovery.terms import check_integer
from hostmesh.discovery.view import ProbeResult
from hostmesh.discovery.watch import MIN_PAUSE_S, HostWatch
from hostmesh.errors import ConfigError, NodeNotRunningError
from hostmesh.net.beside import working_beside
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System

MAX_WATCHES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryConfig:
    """Times and bounds of discovery."""

    search: SearchConfig = field(default_factory=SearchConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    lookups: LookupLimit = field(default_factory=LookupLimit)


class Finder:
    """Finds hosts over one node after another.

    Args:
        nursery: owns the searches.
        require: returns the running node, or raises NodeNotRunningError.
        records: verified records; its feed is told what happens.
        reputation: hosts' reputation with this client.
        standings: who is blacklisted, preferred or paused.
        system: clocks and randomness.
        config: times and bounds.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        require: Callable[[], RunningNode],
        *,
        records: RecordBook,
        reputation: ReputationSource,
        standings: Standings,
        system: System,
        config: DiscoveryConfig,
    ) -> None:
        self._require = require
        self._records = records
        self._reputation = reputation
        self._standings = standings
        self._system = system
        self._config = config
        self._prober: Prober | None = None
        self._searcher: Searcher | None = None
        self._counts = SweepCounts()
        self._searches: Counter[str] = Counter()
        self._lookups: Lookups[SearchResult] = Lookups(
            nursery, is_answer=lambda result: bool(result.choices), limit=config.lookups
        )
        self._watches: dict[HostWatch, None] = {}
        self._number = 0

    def start(self, running: RunningNode) -> None:
        """Use a node from now on."""
        self._prober = Prober.over(running, system=self._system, config=self._config.probe)
        self._searcher = Searcher(
            running,
            records=self._records,
            prober=self._prober,
            reputation=self._reputation,
            system=self._system,
            config=self._config.search,
            seed=self._system.random_bytes(16),
            counts=self._counts,
            searches=self._searches,
            standings=self._standings,
            on_probed=self._on_probed,
        )

    def end(self) -> None:
        """Take leave of the node, which has ended: searches and watches end, too."""
        self._lookups.end()
        for watch in tuple(self._watches):
            watch.end(NodeNotRunningError("the node was stopped", remedy="await create_node(), then watch again"))

    async def find_host(
        self, criteria: HostCriteria, *, strategy: Strategy, choose_among: int, timeout_s: float
    ) -> HostChoice:
        """See :meth:`hostmesh.discovery.manager.DiscoveryManager.find_host`."""
        check_integer(choose_among, name="choose_among", least=1, most=MAX_CHOOSE_AMONG)
        _check_timeout(timeout_s)
        deadline = trio.current_time() + timeout_s
        while True:
            left_s = max(0.001, deadline - trio.current_time())
            result = await self._look_up(criteria, strategy, left_s, best=choose_among)
            for choice in result.choices:
                if self._standings.begin_trial(choice.peer_id):
                    return choice
            if not result.choices:
                raise no_host(result.funnel, criteria, strategy)
            # Others who shared the search have them all on trial: by now the lists say so.

    async def find_all_hosts(
        self, criteria: HostCriteria, limit: int, *, strategy: Strategy, diversity: Diversity, timeout_s: float
    ) -> list[HostChoice]:
        """See :meth:`hostmesh.discovery.manager.DiscoveryManager.find_all_hosts`."""
        result = await self._look_up(criteria, strategy, timeout_s, best=None, wanted=limit, diversity=diversity)
        return diversify(result.choices, diversity)[:limit]

    async def explain(
        self, criteria: HostCriteria, limit: int | None, *, strategy: Strategy, diversity: Diversity, timeout_s: float
    ) -> Explanation:
        """See :meth:`hostmesh.discovery.manager.DiscoveryManager.explain`."""
        result = await self._look_up(
            criteria, strategy, timeout_s, best=None, wanted=limit or 1, diversity=diversity, wide=True
        )
        return Explanation(choices=tuple(diversify(result.choices, diversity)[:limit]), funnel=result.funnel)

    @asynccontextmanager
    async def watch(
        self, criteria: HostCriteria, *, strategy: Strategy, interval_s: float, timeout_s: float
    ) -> AsyncIterator[HostWatch]:
        """See :meth:`hostmesh.discovery.manager.DiscoveryManager.watch_hosts`."""
        _check_timeout(timeout_s)
        if not interval_s >= MIN_PAUSE_S:
            raise ConfigError(
                f"interval_s is {interval_s!r}",
                name="interval_s",
                source="argument",
                remedy=f"give {MIN_PAUSE_S:g} seconds or more",
            )
        if len(self._watches) >= MAX_WATCHES:
            raise ConfigError(f"{MAX_WATCHES} watches run already", name="watch_hosts", source="argument")
        searcher = self._searcher_for(criteria, strategy)

        async def search() -> SearchResult:
            self._require()
            return await self._run(searcher, criteria, strategy, timeout_s, best=None, may_recall=True)

        watch = HostWatch(
            criteria,
            strategy,
            own=searcher.running.node.peer_id,
            records=self._records,
            observer=searcher.observer,
            search=search,
            interval_s=interval_s,
            system=self._system,
        )
        self._watches[watch] = None
        stop_listening = self._records.events.listen(watch.note)
        # A host tells those who are connected when it drains: a search alone would learn of it an interval later.
        release = searcher.running.node.retain(lambda: (choice.peer_id for choice in watch.choices))
        try:
            async with working_beside(watch.run):
                yield watch
        finally:
            release()
            stop_listening()
            del self._watches[watch]

    def forget(self, peer_id: PeerId) -> None:
        """Measure a host anew the next time."""
        if self._prober is not None:
            self._prober.forget(peer_id)

    def metrics(self, peer_id: PeerId) -> ConnectionMetrics:
        """See :meth:`hostmesh.discovery.manager.DiscoveryManager.connection_metrics`."""
        node = self._require().node
        latency = None if self._prober is None else self._prober.last_latency(peer_id)
        ping_s = node.rtt_s(peer_id)
        return ConnectionMetrics(
            peer_id=peer_id,
            is_connected=node.is_connected(peer_id),
            latency=latency,
            age_s=None if latency is None else max(0.0, self._system.unix_s() - latency.at_unix_s),
            last_ping_ms=None if ping_s is None else ping_s * 1000,
        )

    def stats(self) -> DiscoveryStats:
        """See :meth:`hostmesh.discovery.manager.DiscoveryManager.stats`."""
        shared = {"shared": self._lookups.joined, "refused": self._lookups.refused}
        return DiscoveryStats(
            sources=dict(self._counts.sources),
            fetches=dict(self._counts.fetches),
            records=dict(self._records.counts),
            probe_cache_hit_rate=None if self._prober is None else self._prober.cache_hit_rate,
            searches={**self._searches, **{name: count for name, count in shared.items() if count}},
        )

    # --- inside ---

    async def _look_up(
        self,
        criteria: HostCriteria,
        strategy: Strategy,
        timeout_s: float,
        *,
        best: int | None,
        wanted: int = 1,
        diversity: Diversity | None = None,
        wide: bool = False,
    ) -> SearchResult:
        _check_timeout(timeout_s)
        searcher = self._searcher_for(criteria, strategy)
        # Each draw is one of its own: else callers who share a search would all go to one host.
        wanted = max(wanted, self._config.probe.max_probes)
        is_draw = best is not None and best > 1
        key = None if is_draw else _shared_key(searcher, criteria, strategy, best, wanted, diversity, wide)
        return await self._lookups.find(
            key,
            lambda left_s: self._run(
                searcher, criteria, strategy, left_s, best=best, wanted=wanted, diversity=diversity, wide=wide
            ),
            timeout_s=timeout_s,
        )

    def _searcher_for(self, criteria: HostCriteria, strategy: Strategy) -> Searcher:
        if isinstance(strategy, SpecificStrategy):
            strategy.host_named(criteria)
        self._require()
        assert self._searcher is not None, "made when the node started"
        return self._searcher

    async def _run(
        self,
        searcher: Searcher,
        criteria: HostCriteria,
        strategy: Strategy,
        timeout_s: float,
        *,
        best: int | None,
        wanted: int = 1,
        diversity: Diversity | None = None,
        wide: bool = False,
        may_recall: bool = False,
    ) -> SearchResult:
        self._number += 1
        number, began_s, events = self._number, trio.current_time(), self._records.events
        if events:
            events.tell(SearchStarted(at_s=began_s, number=number, timeout_s=timeout_s))
        result: SearchResult | None = None
        try:
            with plain_errors():
                result = await searcher.search(
                    criteria,
                    strategy=strategy,
                    timeout_s=timeout_s,
                    best=best,
                    wanted=wanted,
                    diversity=diversity,
                    wide=wide,
                    may_recall=may_recall,
                )
            return result
        finally:
            if events:
                now_s = trio.current_time()
                events.tell(
                    SearchEnded(
                        at_s=now_s,
                        number=number,
                        took_s=now_s - began_s,
                        seen=None if result is None else result.funnel.seen,
                        matched=None if result is None else result.funnel.matched,
                        best=result.choices[0].peer_id if result is not None and result.choices else None,
                    )
                )

    def _on_probed(self, peer_id: PeerId, result: ProbeResult) -> None:
        for watch in self._watches:
            watch.probed(peer_id, result)
        events = self._records.events
        if events:
            events.tell(
                HostProbed(
                    at_s=trio.current_time(),
                    peer_id=peer_id,
                    latency_ms=None if result.latency is None else result.latency.value,
                    unreachable=result.unreachable,
                    throttled="" if result.throttling is None else str(result.throttling),
                )
            )


def _check_timeout(timeout_s: float) -> None:
    if not timeout_s > 0:
        raise ConfigError(f"timeout_s is {timeout_s!r}", name="timeout_s", source="argument")


def _shared_key(*parts: object) -> Hashable | None:
    """Return what is equal for equal searches; None where a strategy of the user's cannot be compared."""
    try:
        hash(parts)
    except TypeError:
        return None
    return parts
