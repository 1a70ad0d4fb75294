"""One search: sweep the sources, probe what is worth it, stop as soon as the answer cannot change.

The order of things::

    table (at once) ----+
    sources -> fetch ---+-> static criteria -> probe, best possible score first -> all criteria -> ranking

A host whose best possible score, with the latency of a perfect path, is below that of a host already measured cannot
win and is not probed. After the first measured match, sources and probes have half as long again as that took, within
bounds. When nothing matched, the sources are asked again without the models and the country, so that the funnel and
the relaxation speak of every host there is, and hosts that fail a single criterion are probed, so that the relaxation
is true.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import trio

from hostmesh.discovery.choice import HostChoice, choice_of
from hostmesh.discovery.collaborators import ReputationSource, RunningNode, Standings
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.funnel import Funnel, sift
from hostmesh.discovery.matching import STATIC_CRITERIA, failing
from hostmesh.discovery.observer import Observer, with_perfect_probe
from hostmesh.discovery.probe import Prober
from hostmesh.discovery.queries import source_queries
from hostmesh.discovery.ranking import AUTO, Precedence, Strategy, promise, rank
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.relaxation import smallest_relaxation
from hostmesh.discovery.search_config import SearchConfig as SearchConfig
from hostmesh.discovery.selection import RANDOM_BYTES, choose
from hostmesh.discovery.slots import Slots, most_at_once
from hostmesh.discovery.source import SourceQuery
from hostmesh.discovery.sweep import Sweep, SweepCounts
from hostmesh.discovery.verdicts import Verdicts
from hostmesh.discovery.view import HostView, ProbeResult
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System

MAX_REMEMBERED_SWEEPS = 64
NO_ANSWER = "no answer in time"
NOT_ASKED = "not asked: others that looked better were asked first"
HEARSAY = "another peer handed its record over; the host itself did not answer"


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
        wide: bool = False,
    ) -> SearchResult:
        """Look for hosts.

        Args:
            criteria: what they must meet.
            strategy: which of them is better.
            timeout_s: seconds for everything; what was found by then is the result.
            best: stop when so many of the best are known, >= 1, and put one of them, drawn at random, in front of the
                others; None = probe all that may match.
            wide: look for every host there is, for the funnel's sake.

        Cancellation: safe; probes and fetches in flight end, the record book keeps what it learnt.
        """
        search = _Search(self, criteria, strategy, best=best)
        with trio.move_on_after(timeout_s):
            await self._look(search, criteria, wide=wide)
            # Who matched was caught in a lie or left while others, for its sake, were no longer waited for.
            while search.has_lost_its_matches():
                search = _Search(self, criteria, strategy, best=best)
                await self._look(search, criteria, wide=wide)
        result = search.result()
        self.records.mark_useful(choice.peer_id for choice in result.choices if choice.latency is not None)
        return result

    async def _look(self, search: _Search, criteria: HostCriteria, *, wide: bool) -> None:
        narrow = source_queries(criteria, limit=self.config.sweep.max_candidates)
        broad = replace(narrow[0], model_ids=(), country_code=None)
        wider = [] if broad in narrow else [broad]
        if all(map(self._is_warm, [broad] if wide else narrow)):
            await search.probe_known()
        if wide or not search.has_match:
            await self._sweep(search, narrow + wider if wide else narrow)
        else:
            self.searches["warm"] += 1
        if not search.has_match:
            if not wide and wider:
                await self._sweep(search, wider)
            await search.probe_near_misses()

    def _is_warm(self, query: SourceQuery) -> bool:
        swept_at = self._swept_at.get(query)
        return swept_at is not None and self.system.monotonic_s() - swept_at < self.config.warm_s

    async def _sweep(self, search: _Search, queries: Sequence[SourceQuery]) -> None:
        self.searches["swept"] += 1
        sweep = Sweep(
            self.running,
            self.records,
            system=self.system,
            config=self.config.sweep,
            counts=self.counts,
            on_record=search.consider,
        )
        await search.probe_during(sweep, queries)
        for query in queries:
            self._swept_at.pop(query, None)
            self._swept_at[query] = self.system.monotonic_s()
        while len(self._swept_at) > MAX_REMEMBERED_SWEEPS:
            self._swept_at.popitem(last=False)


class _Search:
    """The state of one search."""

    def __init__(self, searcher: Searcher, criteria: HostCriteria, strategy: Strategy, *, best: int | None) -> None:
        self._searcher = searcher
        self._criteria = criteria
        self._strategy = strategy
        self._most_wanted = best
        # One moment for all uptimes: a host's bound holds however long its probe takes.
        self._began_s = searcher.system.monotonic_s()
        self._verdicts = Verdicts(searcher.observer, criteria, strategy, answers_at_s=self._began_s)
        self._own = searcher.running.node.peer_id
        self._heap: list[tuple[Precedence, str]] = []
        """Negated, so that the most promising host is the first."""
        self._probed: dict[PeerId, ProbeResult] = {}
        self._left_alone: dict[PeerId, ProbeResult] = {}
        """Why hosts are not probed that missed several probes."""
        self._in_flight: set[PeerId] = set()
        self._has_match = self._had_match = False
        self._matched: list[Precedence] = []
        """Of the measured hosts that meet everything, best first."""
        self._changed = trio.Event()
        self._settle = trio.CancelScope()
        self._is_sweeping = False
        for known in searcher.records.live():
            self.consider(known.info.peer_id)

    @property
    def has_match(self) -> bool:
        """Whether a host answered that meets everything."""
        return self._has_match

    def has_lost_its_matches(self) -> bool:
        """Tell whether hosts matched, for whose sake others were left out, and none of them does now."""
        self._verdicts.forget()  # standings and reputation may have changed, too
        self._recount()
        return self._had_match and not self._has_match and self._most_wanted is not None

    def consider(self, peer_id: PeerId) -> None:
        """Take a host in whose record is known now; it is probed if its record meets the criteria."""
        known = self._searcher.records.known(peer_id)
        if known is None or peer_id == self._own:
            return
        if peer_id in self._probed:
            self._recount()  # a newer record may say something else
            self._wake()
            return
        self._left_alone.pop(peer_id, None)
        left_alone = self._searcher.observer.left_alone(known)
        if left_alone is not None:
            self._left_alone[peer_id] = left_alone
            return
        view = self._searcher.observer.view(known, None, answers_at_s=self._began_s)
        if failing(view, self._criteria, questions=STATIC_CRITERIA, first_only=True):
            return
        heapq.heappush(self._heap, (_negated(promise(view, self._criteria, self._strategy)), peer_id))
        self._wake()

    async def probe_known(self) -> None:
        """Probe what the table holds."""
        self._settle = trio.CancelScope()
        with self._settle:
            await self._probe_worthwhile(lambda: True)

    async def probe_during(self, sweep: Sweep, queries: Sequence[SourceQuery]) -> None:
        """Sweep, and probe what it brings while it goes on."""
        is_over = False
        self._is_sweeping = True
        self._settle = trio.CancelScope()
        self._arm_settle()

        async def run_sweep() -> None:
            nonlocal is_over
            await sweep.run(queries)
            is_over = True
            self._wake()

        with self._settle:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run_sweep)
                await self._probe_worthwhile(lambda: is_over)

    async def probe_near_misses(self) -> None:
        """Probe the hosts that fail one criterion of the record, so that what is said of relaxing it is true."""
        near: list[tuple[Precedence, str]] = []
        for view in self._views():
            if view.info.peer_id in self._probed or view.info.peer_id in self._left_alone:
                continue
            failures = failing(view, self._criteria, questions=STATIC_CRITERIA)
            change = smallest_relaxation([with_perfect_probe(view)], self._criteria) if failures else None
            if change is not None:
                near.append((_negated(promise(view, change.criteria, self._strategy)), view.info.peer_id))
        near.sort()
        async with trio.open_nursery() as nursery:
            for _, peer_id in near[: self._searcher.prober.config.max_parallel]:
                nursery.start_soon(self._probe, PeerId(peer_id))

    def result(self) -> SearchResult:
        """Sum up what is known now."""
        matched, funnel = sift(self._views(), self._criteria)
        ranked = rank(matched, self._criteria, self._strategy, seed=self._searcher.seed)
        if ranked and self._most_wanted is not None and self._most_wanted > 1:
            random = self._searcher.system.random_bytes(RANDOM_BYTES)
            ranked.insert(0, ranked.pop(choose(ranked, self._criteria, self._most_wanted, random)))
        return SearchResult(
            choices=tuple(choice_of(view, points, self._criteria) for view, points in ranked), funnel=funnel
        )

    def _views(self) -> list[HostView]:
        late, skipped, hearsay = (
            ProbeResult(latency=None, readiness=None, unreachable=why) for why in (NO_ANSWER, NOT_ASKED, HEARSAY)
        )
        views = []
        for known in self._searcher.records.live():
            peer_id = known.info.peer_id
            if peer_id == self._own:
                continue
            probe = late if peer_id in self._in_flight else self._probed.get(peer_id, self._left_alone.get(peer_id))
            if probe is None and known.introducer is not None:
                probe = hearsay
            answers_at_s = self._began_s if probe is not None and not probe.unreachable else None
            view = self._searcher.observer.view(known, probe, answers_at_s=answers_at_s)
            # The one host that is chosen has answered; a record alone may be of a host that is gone, or never was.
            if probe is None and self._most_wanted is not None and not failing(view, self._criteria, first_only=True):
                view = replace(view, probe=skipped)
            views.append(view)
        return views

    async def _probe_worthwhile(self, is_over: Callable[[], bool]) -> None:
        limits = self._searcher.prober.config
        most = most_at_once(limits.max_probes, self._searcher.running.max_connections)
        slots = Slots(
            quick=limits.max_parallel,
            most=most,
            slow_after_s=limits.slow_after_s,
            gives_way_after_s=limits.gives_way_after_s,
            on_change=self._wake,
        )
        gave_way: deque[PeerId] = deque()
        async with trio.open_nursery() as nursery:
            while True:
                self._changed = trio.Event()
                slots.most = min(most, limits.max_probes - self._answered)
                while slots.most and (peer_id := self._next_worthwhile()) is not None:
                    # Over a connection that is there, a probe is a few small messages: nobody waits for another's.
                    if not (slots.has_place if self._is_connected(peer_id) else slots.has_room):
                        slowest = slots.end_slowest()
                        if slowest is not None:
                            gave_way.append(PeerId(str(slowest)))
                        break
                    heapq.heappop(self._heap)
                    # Now, not when the task first runs: the loop looks again before that.
                    self._in_flight.add(peer_id)
                    slots.start(nursery, self._probe, peer_id, name=peer_id)
                else:
                    # Nobody waits any more: what time is left is theirs.
                    while gave_way and slots.has_room:
                        slots.start(nursery, self._probe, gave_way[0], name=gave_way.popleft())
                if slots.is_idle and is_over():
                    return
                await self._changed.wait()

    @property
    def _answered(self) -> int:
        return sum(not probe.unreachable for probe in self._probed.values())

    def _next_worthwhile(self) -> PeerId | None:
        """Return the first of the heap, cleared of who was probed before; None: no probe is worth while now."""
        if len(self._probed) + len(self._in_flight) >= self._searcher.prober.config.max_attempts:
            return None
        while self._heap:
            if self._is_hopeless(self._heap[0][0]):
                return None
            peer_id = PeerId(self._heap[0][1])
            if peer_id not in self._probed and peer_id not in self._in_flight:
                return peer_id
            heapq.heappop(self._heap)
        return None

    def _is_connected(self, peer_id: PeerId) -> bool:
        return self._searcher.running.node.is_connected(peer_id)

    def _is_hopeless(self, negated: Precedence) -> bool:
        """Tell whether as many hosts as are wanted are better than one can become."""
        most = self._most_wanted
        return most is not None and len(self._matched) >= most and _negated(negated) < self._matched[most - 1]

    async def _probe(self, peer_id: PeerId) -> None:
        self._in_flight.add(peer_id)
        # Cancelled, it stays in flight: it was asked and has not answered.
        self._probed[peer_id] = await self._searcher.observer.probe(peer_id, self._criteria)
        self._in_flight.discard(peer_id)
        self._recount()
        self._wake()

    def _recount(self) -> None:
        """Find the best of the probed hosts anew; they are few."""
        self._has_match, self._matched = False, []
        for peer_id, probe in self._probed.items():
            known = self._searcher.records.known(peer_id)
            if known is None:
                continue
            verdict = self._verdicts.of(known, probe)
            self._has_match |= verdict.is_match
            if verdict.precedence is not None:
                self._matched.append(verdict.precedence)
        self._had_match |= self._has_match
        self._matched.sort(reverse=True)
        self._arm_settle()

    def _arm_settle(self) -> None:
        if self._most_wanted is not None and self._matched:
            passed_s = self._searcher.system.monotonic_s() - self._began_s
            config = self._searcher.config
            # Hosts that are known all answer about now; of a sweep nobody knows what it may yet bring. One that is
            # preferred to those that matched is given all the time there is for it.
            is_short = self._is_sweeping and self._matched[0][0] == len(self._criteria.preferred)
            latest = trio.current_time() + (config.settle_after(passed_s) if is_short else config.settle_s)
            self._settle.deadline = min(self._settle.deadline, latest)

    def _wake(self) -> None:
        self._changed.set()


def _negated(precedence: Precedence) -> Precedence:
    return (-precedence[0], -precedence[1], -precedence[2])
