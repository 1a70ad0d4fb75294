"""The state of one search: whom to probe next, what came of probes, and when the answer cannot change any more.

A host whose best possible score, with the latency of a perfect path, is below that of a host already measured cannot
win and is not probed. After the first measured match, sources and probes have half as long again as that took, within
bounds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import trio

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.matching import STATIC_CRITERIA, failing
from hostmesh.discovery.observer import Observer, with_perfect_probe
from hostmesh.discovery.probe import ProbeConfig
from hostmesh.discovery.probe_order import Negated, ProbeOrder
from hostmesh.discovery.ranking import Precedence, Strategy, promise
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.relaxation import smallest_relaxation
from hostmesh.discovery.search_config import SearchConfig
from hostmesh.discovery.selection import Diversity, Shares
from hostmesh.discovery.slots import Slots, most_at_once
from hostmesh.discovery.source import SourceQuery
from hostmesh.discovery.sweep import Sweep
from hostmesh.discovery.table import KnownHost
from hostmesh.discovery.verdicts import Verdicts
from hostmesh.discovery.view import HostView, ProbeResult
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System

NO_ANSWER = "no answer in time"
NOT_ASKED = "others that looked better were asked first"
SHARE = 4
"""A quarter of as many hosts as a search measures, asked in vain of one owner, and the others of it come last."""
MAX_TWICE_FAILED = 256
"""Hosts that fail two criteria for which a change of both is looked for: there are many such changes."""
HEARSAY = "another peer handed its record over; the host itself did not answer"


class Probing:
    """Probes the hosts that are worth it for one search.

    Args:
        criteria: what they must meet.
        strategy: which of them is better.
        best: stop when so many of the best are known, >= 1; None = probe all that may match.
        since_s: a measurement that began at this time of the monotonic clock or later stands for a new one; None = a
            young one does.
        diversity: what is one too many of its wallet or network keeps no place from others, and is asked after them.
        own: this node, which is no host for itself.
        is_connected: tells whether a connection to a peer stands.
        max_connections: that the node keeps at once; None = as many as are wanted.
        records: verified records.
        observer: what is known of hosts.
        limits: of probes.
        config: times and bounds.
        system: clocks.
    """

    def __init__(
        self,
        criteria: HostCriteria,
        strategy: Strategy,
        *,
        best: int | None,
        since_s: float | None,
        diversity: Diversity,
        own: PeerId,
        is_connected: Callable[[PeerId], bool],
        max_connections: int | None,
        records: RecordBook,
        observer: Observer,
        limits: ProbeConfig,
        config: SearchConfig,
        system: System,
    ) -> None:
        self._criteria = criteria
        self._strategy = strategy
        self._most_wanted = best
        self._since_s = since_s
        self._diversity = diversity
        self._own = own
        self._is_connected = is_connected
        self._most_at_once = most_at_once(limits.max_probes, max_connections)
        self._records = records
        self._observer = observer
        self._limits = limits
        self._config = config
        self._system = system
        # One moment for all uptimes: a host's bound holds however long its probe takes.
        self._began_s = system.monotonic_s()
        self._opinions = observer.opinions()
        self._verdicts = Verdicts(observer, criteria, strategy, opinions=self._opinions, answers_at_s=self._began_s)
        self._order = ProbeOrder(share=max(1, limits.max_probes // SHARE))
        self._probed: dict[PeerId, ProbeResult] = {}
        self._left_alone: dict[PeerId, ProbeResult] = {}
        """Why hosts are not probed that missed several probes."""
        self._in_flight: set[PeerId] = set()
        self._has_match = self._had_match = False
        self._matches = 0
        self._matched: list[Precedence] = []
        """Of the measured hosts that meet everything, best first."""
        self._changed = trio.Event()
        self._settle = trio.CancelScope()
        self._is_sweeping = False
        for known in records.live():
            self.consider(known.info.peer_id)

    @property
    def has_match(self) -> bool:
        """Whether a host answered that meets everything, and was not caught in a claim that is not true."""
        return self._has_match

    @property
    def has_measured_match(self) -> bool:
        """Whether such a host let itself be measured: who does not is no reason to look for no others."""
        return bool(self._matched) and self._matched[0].credibility > 0

    def has_lost_its_matches(self) -> bool:
        """Tell whether hosts matched, for whose sake others were left out, and none of them does now."""
        self.reconsider()
        self._recount()
        return self._had_match and not self._has_match and self._most_wanted is not None

    def reconsider(self) -> None:
        """Look reputations and standings up anew."""
        self._opinions = self._observer.opinions()
        self._verdicts.reconsider(self._opinions)

    def consider(self, peer_id: PeerId) -> None:
        """Take a host in whose record is known now; it is probed if its record meets the criteria."""
        known = self._records.known(peer_id)
        if known is None or peer_id == self._own:
            return
        if peer_id in self._probed:
            self._recount()  # a newer record may say something else
            self._wake()
            return
        self._left_alone.pop(peer_id, None)
        left_alone = self._observer.left_alone(known)
        if left_alone is not None:
            self._left_alone[peer_id] = left_alone
            return
        view = self._view(known, None, answers=True)
        if failing(view, self._criteria, questions=STATIC_CRITERIA, first_only=True):
            return
        self._order.add(
            known.info,
            _negated(promise(view, self._criteria, self._strategy)),
            is_last=self._observer.is_last(known, self._criteria),
        )
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
        """Probe hosts that fail one or two criteria of the record, so that what is said of relaxing them is true."""
        failed: dict[int, list[HostView]] = {1: [], 2: []}
        for view in self.views():
            if view.info.peer_id in self._probed or view.info.peer_id in self._left_alone:
                continue
            failures = failing(view, self._criteria, questions=STATIC_CRITERIA)
            if len(failures) in failed:
                failed[len(failures)].append(view)
        near = self._near(failed[1])
        if len(near) < self._limits.max_parallel:
            near += self._near(failed[2][:MAX_TWICE_FAILED])
        async with trio.open_nursery() as nursery:
            for _, peer_id, changed in near[: self._limits.max_parallel]:
                # As a search with that change would: it asks for a quote of the model that a job would then use.
                nursery.start_soon(self._probe, peer_id, changed)

    def views(self) -> Iterator[HostView]:
        """Yield all that is known now of each host with a record."""
        late, skipped, hearsay = (
            ProbeResult(latency=None, readiness=None, unreachable=NO_ANSWER),
            ProbeResult(latency=None, readiness=None, unasked=NOT_ASKED),
            ProbeResult(latency=None, readiness=None, unreachable=HEARSAY),
        )
        for known in self._records.live():
            peer_id = known.info.peer_id
            if peer_id == self._own:
                continue
            probe = late if peer_id in self._in_flight else self._probed.get(peer_id, self._left_alone.get(peer_id))
            if probe is None:
                # A record alone may be of a host that is gone, or never was.
                probe = skipped if known.introducer is None else hearsay
            yield self._view(known, probe, answers=probe.is_answer)

    # --- inside ---

    def _view(self, known: KnownHost, probe: ProbeResult | None, *, answers: bool) -> HostView:
        return self._observer.view(known, probe, self._opinions, answers_at_s=self._began_s if answers else None)

    def _near(self, views: Sequence[HostView]) -> list[tuple[Negated, PeerId, HostCriteria]]:
        """Return whom a change of the criteria may let through, with the change, the most promising one first."""
        near = []
        for view in views:
            change = smallest_relaxation([with_perfect_probe(view)], self._criteria)
            if change is not None:
                promised = _negated(promise(view, change.criteria, self._strategy))
                near.append((promised, view.info.peer_id, change.criteria))
        return sorted(near, key=lambda each: each[:2])

    async def _probe_worthwhile(self, is_over: Callable[[], bool]) -> None:
        limits = self._limits
        slots = Slots(
            quick=limits.max_parallel,
            most=self._most_at_once,
            slow_after_s=limits.slow_after_s,
            gives_way_after_s=limits.gives_way_after_s,
            on_change=self._wake,
        )
        gave_way: deque[PeerId] = deque()
        async with trio.open_nursery() as nursery:
            while True:
                self._changed = trio.Event()
                # Who fits not is no reason to look no further: else so many who only seem to would hide all others.
                slots.most = max(0, min(self._most_at_once, limits.max_probes - self._matches))
                while slots.most and (peer_id := self._next_worthwhile(is_over())) is not None:
                    # Over a connection that is there, a probe is a few small messages: nobody waits for another's.
                    if not (slots.has_place if self._is_connected(peer_id) else slots.has_room):
                        slowest = slots.end_slowest()
                        if slowest is not None:
                            gave_way.append(PeerId(str(slowest)))
                        break
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

    def _next_worthwhile(self, is_over: bool) -> PeerId | None:
        """Return whom to probe next; None: no probe is worth while now, or none before all who are there are known."""
        attempts = len(self._probed) + len(self._in_flight)
        if attempts >= self._limits.max_attempts:
            return None
        return self._order.next(
            is_done=lambda peer_id: peer_id in self._probed or peer_id in self._in_flight,
            is_hopeless=self._is_hopeless,
            # The others may only be named yet: one owner's many hosts are often named first.
            with_last=is_over or attempts < self._limits.max_attempts // 2,
        )

    def _is_hopeless(self, negated: Negated) -> bool:
        """Tell whether as many hosts as are wanted are better than one can become."""
        most = self._most_wanted
        return most is not None and len(self._matched) >= most and negated > _negated(self._matched[most - 1])

    async def _probe(self, peer_id: PeerId, changed: HostCriteria | None = None) -> None:
        self._in_flight.add(peer_id)
        # Cancelled, it stays in flight: it was asked and has not answered.
        criteria = changed or self._criteria
        result = await self._observer.probe(peer_id, criteria, self._opinions, since_s=self._since_s)
        self._probed[peer_id] = result
        self._in_flight.discard(peer_id)
        known = self._records.known(peer_id)
        if known is not None and not result.unasked and not self._verdicts.of(known, result).is_match:
            self._order.note_in_vain(known.info, result.address)
        self._recount()
        self._wake()

    def _recount(self) -> None:
        """Find the best of the probed hosts anew; they are few."""
        self._has_match, self._matches, self._matched = False, 0, []
        shares = Shares(self._diversity)
        for peer_id, probe in self._probed.items():
            known = self._records.known(peer_id)
            if known is None:
                continue
            verdict = self._verdicts.of(known, probe)
            self._has_match |= verdict.is_credible
            self._matches += verdict.is_match and shares.take(known.info, probe.address)
            if verdict.precedence is not None:
                self._matched.append(verdict.precedence)
        self._order.put_last(shares.full)
        self._had_match |= self._has_match
        self._matched.sort(reverse=True)
        self._arm_settle()

    def _arm_settle(self) -> None:
        if self._most_wanted is not None and self._matched:
            best = self._matched[0]
            passed_s = self._system.monotonic_s() - self._began_s
            # Hosts that are known all answer about now; of a sweep nobody knows what it may yet bring. One that is
            # preferred to those that matched is given all the time there is for it, and where only liars matched so is
            # everybody.
            is_best = best.credibility > 0 and best.preference == len(self._criteria.preferred)
            is_short = self._is_sweeping and is_best
            latest = trio.current_time() + (self._config.settle_after(passed_s) if is_short else self._config.settle_s)
            self._settle.deadline = min(self._settle.deadline, latest)

    def _wake(self) -> None:
        self._changed.set()


def _negated(precedence: Precedence) -> Negated:
    return tuple(-each for each in precedence)
