"""One search: sweep the sources, probe what is worth it, stop as soon as the answer cannot change.

The order of things::

    table (at once) ----+
    sources -> fetch ---+-> static criteria -> probe, best possible score first -> all criteria -> ranking

Which hosts are probed, and when the answer cannot change any more, is in :mod:`hostmesh.discovery.probing`. When
nothing matched, the sources are asked again without the models and the country, so that the funnel and the relaxation
speak of every host there is, and hosts that fail one or two criteria are probed, so that the relaxation is true.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import trio

from hostmesh.discovery.choice import HostChoice, choice_of
from hostmesh.discovery.collaborators import ReputationSource, RunningNode, Standings
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.funnel import Funnel, sift
from hostmesh.discovery.observer import Observer
from hostmesh.discovery.probe import Prober
from hostmesh.discovery.probing import Probing
from hostmesh.discovery.queries import source_queries
from hostmesh.discovery.ranking import AUTO, Strategy, rank
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.search_config import SearchConfig as SearchConfig
from hostmesh.discovery.selection import RANDOM_BYTES, Diversity, choose
from hostmesh.discovery.source import SourceQuery
from hostmesh.discovery.sweep import Sweep, SweepCounts
from hostmesh.discovery.view import ProbeResult
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System

MAX_REMEMBERED_SWEEPS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """What a search found."""

    choices: tuple[HostChoice, ...]
    """Best first."""
    funnel: Funnel


class Searcher:
    """Runs searches over one running node.

    Args:
        running: the node, its sources and calls.
        records: verified records.
        prober: measures hosts.
        reputation: hosts' reputation with this client.
        system: clocks.
        config: times and bounds.
        seed: breaks ties.
        counts: of sources and fetches; added to.
        searches: counts of warm and swept searches; added to.
        standings: who is blacklisted, preferred or paused; None = nobody.
        on_probed: called after each probe.
    """

    def __init__(
        self,
        running: RunningNode,
        *,
        records: RecordBook,
        prober: Prober,
        reputation: ReputationSource,
        system: System,
        config: SearchConfig,
        seed: bytes,
        counts: SweepCounts,
        searches: Counter[str],
        standings: Standings | None = None,
        on_probed: Callable[[PeerId, ProbeResult], None] = lambda peer_id, result: None,
    ) -> None:
        self.running = running
        self.records = records
        self.prober = prober
        self.system = system
        self.config = config
        self.seed = seed
        self.counts = counts
        self.searches = searches
        self.observer = Observer(records, prober, reputation, system, standings=standings, on_probed=on_probed)
        self._swept_at: OrderedDict[SourceQuery, float] = OrderedDict()

    async def search(
        self,
        criteria: HostCriteria,
        *,
        strategy: Strategy = AUTO,
        timeout_s: float,
        best: int | None,
        wanted: int = 1,
        diversity: Diversity | None = None,
        wide: bool = False,
        may_recall: bool = False,
    ) -> SearchResult:
        """Look for hosts.

        Args:
            criteria: what they must meet.
            strategy: which of them is better.
            timeout_s: seconds for everything; what was found by then is the result.
            best: stop when so many of the best are known, >= 1, and put one of them, drawn at random, in front of the
                others; None = probe all that may match.
            wanted: hosts that the caller wants measured, >= 1: more than ``max_probes`` raise that bound, up to
                ``max_attempts``.
            diversity: how many hosts that are alike the caller wants; None = any number.
            wide: look for every host there is, for the funnel's sake.
            may_recall: let a measurement of a moment ago stand for a new one; else each host is probed anew.

        Cancellation: safe; probes and fetches in flight end, the record book keeps what it learnt.
        """
        began_s = self.system.monotonic_s()
        since_s = None if may_recall else began_s
        limits = self.prober.config
        limits = replace(limits, max_probes=max(limits.max_probes, min(wanted, limits.max_attempts)))

        def begin() -> Probing:
            return Probing(
                criteria,
                strategy,
                best=best,
                since_s=since_s,
                diversity=diversity or Diversity(),
                own=self.running.node.peer_id,
                is_connected=self.running.node.is_connected,
                max_connections=self.running.max_connections,
                records=self.records,
                observer=self.observer,
                limits=limits,
                config=self.config,
                system=self.system,
            )

        probing = begin()
        with trio.move_on_after(timeout_s):
            await self._look(probing, criteria, wide=wide)
            # Who matched was caught in a lie or left while others, for its sake, were no longer waited for.
            while probing.has_lost_its_matches():
                probing = begin()
                await self._look(probing, criteria, wide=wide)
        # Standings and reputation may have changed meanwhile.
        probing.reconsider()
        result = self._result(probing, criteria, strategy, best, began_s)
        self.records.mark_useful(choice.peer_id for choice in result.choices if choice.latency is not None)
        return result

    def _result(
        self, probing: Probing, criteria: HostCriteria, strategy: Strategy, best: int | None, began_s: float
    ) -> SearchResult:
        untimely = self.records.untimely(began_s)
        untimely.pop(self.running.node.peer_id, None)
        matched, funnel = sift(list(probing.views()), criteria, untimely=untimely)
        ranked = rank(matched, criteria, strategy, seed=self.seed)
        if ranked and best is not None and best > 1:
            random = self.system.random_bytes(RANDOM_BYTES)
            ranked.insert(0, ranked.pop(choose(ranked, criteria, best, random)))
        return SearchResult(choices=tuple(choice_of(view, points, criteria) for view, points in ranked), funnel=funnel)

    async def _look(self, probing: Probing, criteria: HostCriteria, *, wide: bool) -> None:
        narrow = source_queries(criteria, limit=self.config.sweep.max_candidates)
        broad = replace(narrow[0], model_ids=(), country_code=None)
        wider = [] if broad in narrow else [broad]
        if all(map(self._is_warm, [broad] if wide else narrow)):
            await probing.probe_known()
        if wide or not probing.has_measured_match:
            await self._sweep(probing, narrow + wider if wide else narrow)
        else:
            self.searches["warm"] += 1
        if not probing.has_match:
            if not wide and wider:
                await self._sweep(probing, wider)
            await probing.probe_near_misses()

    def _is_warm(self, query: SourceQuery) -> bool:
        swept_at = self._swept_at.get(query)
        return swept_at is not None and self.system.monotonic_s() - swept_at < self.config.warm_s

    async def _sweep(self, probing: Probing, queries: Sequence[SourceQuery]) -> None:
        self.searches["swept"] += 1
        sweep = Sweep(
            self.running,
            self.records,
            system=self.system,
            config=self.config.sweep,
            counts=self.counts,
            on_record=probing.consider,
        )
        await probing.probe_during(sweep, queries)
        for query in queries:
            self._swept_at.pop(query, None)
            self._swept_at[query] = self.system.monotonic_s()
        while len(self._swept_at) > MAX_REMEMBERED_SWEEPS:
            self._swept_at.popitem(last=False)
