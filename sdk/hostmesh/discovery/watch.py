"""Follows which hosts meet some criteria.

A search finds and measures them, again every so often; between searches every record that comes, every probe whoever
made it, every expiry and every change of the lists is looked at at once, without traffic. A record of somebody new that
would do brings the next search forward.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable

import trio

from hostmesh.discovery.choice import HostChoice, choice_of
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import HostState
from hostmesh.discovery.events import (
    DiscoveryEvent,
    HostRevoked,
    ListingChanged,
    OutcomeRecorded,
    RecordDecided,
    RecordDecision,
)
from hostmesh.discovery.matching import STATIC_CRITERIA, failing
from hostmesh.discovery.observer import Observer, Opinions
from hostmesh.discovery.ranking import Strategy
from hostmesh.discovery.record import GRACE_S
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.roster import HostEvent, LeaveReason, Roster
from hostmesh.discovery.supervise import first_leaf
from hostmesh.discovery.view import HostView, ProbeResult
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System

MIN_PAUSE_S = 2.0
"""Least time between two searches of one watch."""
LOOK_AGAIN_S = 30.0
"""Most time until records are looked at again, in case the wall clock was set."""
MAX_PROBES_KEPT = 4096

_STIRRING = frozenset({RecordDecision.ADDED, RecordDecision.REPLACED, RecordDecision.WITHDRAWN, RecordDecision.BANNED})


class HostWatch:
    """The joins, changes and leaves of hosts, as an async iterator. For one reader.

    The latest wins: a slow reader gets what is true of each host when he reads, not what was true in between.

    Iterating raises NodeNotRunningError once the node was stopped.

    Args:
        criteria: what hosts must meet.
        strategy: gives the scores of choices.
        own: this node, which is no host for itself.
        records: verified records.
        observer: what is known of hosts.
        search: looks for hosts and measures them; what it returns is not looked at.
        interval_s: seconds from one search to the next.
        system: the wall clock.
    """

    def __init__(
        self,
        criteria: HostCriteria,
        strategy: Strategy,
        *,
        own: PeerId,
        records: RecordBook,
        observer: Observer,
        search: Callable[[], Awaitable[object]],
        interval_s: float,
        system: System,
    ) -> None:
        self._criteria = criteria
        self._strategy = strategy
        self._own = own
        self._records = records
        self._observer = observer
        self._search = search
        self._interval_s = interval_s
        self._system = system
        self._roster = Roster()
        self._probes: OrderedDict[PeerId, ProbeResult] = OrderedDict()
        self._stirred: dict[PeerId, RecordDecision | None] = {}
        """Hosts to look at again, with what became of their records last; they have rows in the table, or had."""
        self._is_all_stirred = False
        self._stir = trio.Event()
        self._newcomer = trio.Event()
        self._news = trio.Event()
        self._error: Exception | None = None

    def __aiter__(self) -> AsyncIterator[HostEvent]:
        return self

    async def __anext__(self) -> HostEvent:
        await trio.lowlevel.checkpoint()
        while True:
            event = self._roster.next_event(self._system.unix_s())
            if event is not None:
                return event
            if self._error is not None:
                raise self._error
            self._news = trio.Event()
            await self._news.wait()

    @property
    def choices(self) -> tuple[HostChoice, ...]:
        """The hosts that meet the criteria now, in the order in which they came, told or not."""
        return self._roster.choices

    # --- what happens; called by whoever opened the watch ---

    def note(self, event: DiscoveryEvent) -> None:
        """Take in what may concern hosts. Never waits."""
        match event:
            case RecordDecided(peer_id=str() as peer_id) if event.decision in _STIRRING:
                self._stir_host(peer_id, event.decision)
            case HostRevoked(peer_id=peer_id):
                self._stir_host(peer_id, RecordDecision.REVOKED)
            case OutcomeRecorded() | ListingChanged():
                self._is_all_stirred = True
            case _:
                return
        self._stir.set()

    def _stir_host(self, peer_id: PeerId, decision: RecordDecision) -> None:
        if len(self._stirred) < MAX_PROBES_KEPT:
            self._stirred[peer_id] = decision
        else:
            self._is_all_stirred = True

    def probed(self, peer_id: PeerId, result: ProbeResult) -> None:
        """Take in that a host was probed, whoever wanted it. Never waits."""
        if result.unreachable:
            self._keep(peer_id, result)
        self._stirred.setdefault(peer_id)
        self._stir.set()

    def end(self, error: Exception) -> None:
        """Raise an error in the reader once he has read what there is."""
        self._error = self._error or error
        self._news.set()

    async def run(self) -> None:
        """Search and look, until cancelled or failed; a failure reaches the reader."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._guard, self._look_often)
            nursery.start_soon(self._guard, self._search_often)

    # --- inside ---

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except* Exception as group:  # noqa: BLE001 - raised again in the reader
            # The reader meets the first; the rest stands behind it. A cancellation beside them goes on.
            first = first_leaf(group)
            first.__cause__ = group
            self.end(first)

    async def _search_often(self) -> None:
        pause_s = MIN_PAUSE_S
        while True:
            self._newcomer = trio.Event()
            before = frozenset(choice.peer_id for choice in self._roster.choices)
            await self._search()
            self._look_at_all()
            # Records that look good and whose hosts never do shall not keep us searching.
            has_joined = any(choice.peer_id not in before for choice in self._roster.choices)
            pause_s = min(MIN_PAUSE_S if has_joined else 2 * pause_s, self._interval_s)
            await trio.sleep(pause_s)
            with trio.move_on_after(self._interval_s - pause_s):
                await self._newcomer.wait()

    async def _look_often(self) -> None:
        while True:
            self._stir = trio.Event()
            stirred, self._stirred = self._stirred, {}
            opinions = self._observer.opinions()
            for peer_id, decision in stirred.items():
                self._look_at(peer_id, decision, opinions)
            if self._is_all_stirred:
                self._look_at_all()
            self._news.set()
            with trio.move_on_after(self._until_expiry_s()) as scope:
                await self._stir.wait()
            self._is_all_stirred |= scope.cancelled_caught

    def _look_at_all(self) -> None:
        self._is_all_stirred = False
        opinions = self._observer.opinions()
        here = (known.info.peer_id for known in self._records.live())
        gone = (choice.peer_id for choice in self._roster.choices)
        for peer_id in dict.fromkeys((*here, *gone)):
            self._look_at(peer_id, None, opinions)
        self._news.set()

    def _look_at(self, peer_id: PeerId, decision: RecordDecision | None, opinions: Opinions) -> None:
        known = self._records.known(peer_id)
        if known is None:
            self._probes.pop(peer_id, None)
            self._roster.leaves(peer_id, self._why_no_record(peer_id, decision))
            return
        if peer_id == self._own:
            return
        # What was learnt for these criteria: a probe for others may have a quote for another model.
        fresh = self._observer.recall(known, self._criteria, opinions)
        if fresh is not None:
            self._keep(peer_id, fresh)
        probe = self._probes.get(peer_id)
        view = self._observer.view(known, probe, opinions)
        if probe is None:
            # It is taken in once it has answered.
            is_new = decision is not None
            if is_new and not failing(view, self._criteria, questions=STATIC_CRITERIA, first_only=True):
                self._newcomer.set()
            return
        failures = failing(view, self._criteria, first_only=True)
        if failures:
            criterion, detail = failures[0]
            self._roster.leaves(peer_id, _reason_of(view, criterion), criterion, detail)
        else:
            self._roster.fits(choice_of(view, self._strategy.score(view, self._criteria), self._criteria))

    def _keep(self, peer_id: PeerId, result: ProbeResult) -> None:
        self._probes[peer_id] = result
        self._probes.move_to_end(peer_id)
        while len(self._probes) > MAX_PROBES_KEPT:
            self._probes.popitem(last=False)

    def _why_no_record(self, peer_id: PeerId, decision: RecordDecision | None) -> LeaveReason:
        if decision is RecordDecision.WITHDRAWN:
            return LeaveReason.WITHDRAWN
        if decision is RecordDecision.BANNED:
            return LeaveReason.BANNED
        if decision is RecordDecision.REVOKED:
            return LeaveReason.REVOKED
        choice = next((each for each in self._roster.choices if each.peer_id == peer_id), None)
        is_old = choice is not None and not choice.record.is_acceptable(self._system.unix_s())
        return LeaveReason.EXPIRED if is_old else LeaveReason.FORGOTTEN

    def _until_expiry_s(self) -> float:
        """Return the seconds until a record expires that is not renewed."""
        ends = [choice.record.expires_at_unix_s + GRACE_S for choice in self._roster.choices]
        left_s = min(ends, default=float("inf")) - self._system.unix_s()
        return min(LOOK_AGAIN_S, max(0.0, left_s) + 0.1)


def _reason_of(view: HostView, criterion: str) -> LeaveReason:
    if criterion == "reachable":
        return LeaveReason.UNREACHABLE
    if criterion == "state":
        states = {view.info.state} | ({view.readiness.state} if view.readiness is not None else set())
        if HostState.DRAINING in states:
            return LeaveReason.DRAINING
        if HostState.WITHDRAWN in states:
            return LeaveReason.WITHDRAWN
    return LeaveReason.UNFIT
