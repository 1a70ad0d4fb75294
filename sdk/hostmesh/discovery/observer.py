"""What this client itself can see of a host: what came of probes, and for how long it has answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import trio

from hostmesh.discovery.collaborators import HostStandings, Reputations, ReputationSource, Standings
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import MAX_UINT32, HostState, ModelOffer
from hostmesh.discovery.doubts import Doubts, broken_claim
from hostmesh.discovery.measurement import Measurement, Origin, Path
from hostmesh.discovery.offers import chosen_offer
from hostmesh.discovery.probe import Prober
from hostmesh.discovery.record import HostInfo
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.sightings import Sightings
from hostmesh.discovery.strikes import Strikes
from hostmesh.discovery.table import KnownHost
from hostmesh.discovery.terms import Place
from hostmesh.discovery.view import NO_STANDING, HostView, ProbeResult, Readiness
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System

SILENT_AFTER_S = 1.0
"""A probe that was cut off so long after it began, without any answer over a connection that stood, has missed its
host. Chosen here: no round trip takes as long, and a host that froze shall not cost each search its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinions:
    """What this client thinks of hosts, looked up once for all of them."""

    reputations: Reputations
    standings: HostStandings | None
    """None: nobody is listed or paused."""


class _Flight:
    """A probe under way, for all who want its result."""

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.result: ProbeResult | None = None


class Observer:
    """Puts together what is known of hosts, and keeps since when each has answered.

    Args:
        records: verified records.
        prober: measures hosts.
        reputation: hosts' reputation with this client.
        system: clocks.
        standings: who is blacklisted, preferred or paused; None = nobody.
        on_probed: called after each probe, with what came of it; what the prober remembers is no new probe.
    """

    def __init__(
        self,
        records: RecordBook,
        prober: Prober,
        reputation: ReputationSource,
        system: System,
        *,
        standings: Standings | None = None,
        on_probed: Callable[[PeerId, ProbeResult], None] = lambda peer_id, result: None,
    ) -> None:
        self._records = records
        self._prober = prober
        self._reputation = reputation
        self._system = system
        self._standings = standings
        self._on_probed = on_probed
        self._sightings = Sightings()
        self._strikes = Strikes()
        self._doubts = Doubts()
        self._flights: dict[tuple[PeerId, ModelOffer | None, Place | None], _Flight] = {}

    def opinions(self) -> Opinions:
        """Look reputations and standings up. Raises StoreError.

        Cost: one look at each file, however many hosts are then viewed with what is returned.
        """
        return Opinions(
            reputations=self._reputation.snapshot(),
            standings=None if self._standings is None else self._standings.snapshot(),
        )

    def view(
        self,
        known: KnownHost,
        probe: ProbeResult | None,
        opinions: Opinions,
        *,
        answers_at_s: float | None = None,
    ) -> HostView:
        """Put together what is known of a host now.

        Args:
            known: its record.
            probe: what came of probing it.
            opinions: of hosts, from :meth:`opinions`.
            answers_at_s: count its uptime to this time of the monotonic clock: it answers then, or is taken to. None =
                to its last answer.
        """
        info, now = known.info, self._system.unix_s()
        claimed = uptime = None
        if known.started_at_unix_s is not None:
            claimed_s = max(0.0, now - known.started_at_unix_s)
            claimed = Measurement(
                value=claimed_s, unit="s", at_unix_s=info.issued_at_unix_s, samples=1, origin=Origin.CLAIMED
            )
        row = self._sightings.of(info.peer_id)
        if row is not None:
            until_s = row.last_s if answers_at_s is None else answers_at_s
            observed_s = max(0.0, until_s - row.first_s)
            uptime = Measurement(
                # A host that says that it began later has begun later: the row of answers hides a restart.
                value=observed_s if claimed is None else min(observed_s, claimed.value),
                unit="s",
                at_unix_s=row.last_unix_s,
                samples=row.answers,
                origin=Origin.MEASURED,
            )
        return HostView(
            info=info,
            uptime=uptime,
            claimed_uptime=claimed,
            reputation=opinions.reputations.of(info.peer_id, info.operator_address),
            probe=probe,
            sources=self._records.sources_of(info.peer_id),
            standing=(
                NO_STANDING
                if opinions.standings is None
                else opinions.standings.of(info.peer_id, info.operator_address)
            ),
        )

    async def probe(
        self, peer_id: PeerId, criteria: HostCriteria, opinions: Opinions, *, since_s: float | None = None
    ) -> ProbeResult:
        """Probe a host, and note whether it answered; what the prober remembers is no new answer.

        A probe of the same host for the same offer that is under way is shared.

        Args:
            peer_id: the host.
            criteria: a quote is asked for, of the model that a job under them would use.
            opinions: of hosts.
            since_s: what was measured from this time of the monotonic clock on needs no new probe; None = nor does what
                is young enough.
        """
        known = self._records.known(peer_id)
        if known is None:
            return await self._probe(peer_id, None, None, since_s)
        info = known.info
        offer = chosen_offer(self.view(known, None, opinions), criteria)
        result = await self._probe(peer_id, offer, info, since_s)
        # Where the one that its record makes the choice is not loaded, a job would use another.
        loaded = chosen_offer(self.view(known, result, opinions), criteria)
        if result.is_answer and result.throttling is None and loaded != offer:
            result = await self._probe(peer_id, loaded, info, since_s)
        if result.is_answer and result.throttling is None:
            has_failed = bool(broken_claim(self.view(known, result, opinions), criteria))
            self._doubts.note(peer_id, has_failed=has_failed, now_s=self._system.monotonic_s())
        return result

    def is_last(self, known: KnownHost, criteria: HostCriteria) -> bool:
        """Tell whether to probe a host after the others.

        It failed a claim a short while ago, or was farther away when it was measured last than these criteria allow.
        """
        if self._doubts.holds(known.info.peer_id, now_s=self._system.monotonic_s()):
            return True
        last = None if criteria.max_latency_ms is None else self._prober.last_latency(known.info.peer_id)
        return last is not None and criteria.max_latency_ms is not None and last.value > criteria.max_latency_ms

    def recall(self, known: KnownHost, criteria: HostCriteria, opinions: Opinions) -> ProbeResult | None:
        """Return what was measured a moment ago, with the quote that these criteria need; None = nothing."""
        peer_id, place = known.info.peer_id, known.info.place
        offer = chosen_offer(self.view(known, None, opinions), criteria)
        result = self._prober.recall(peer_id, offer=offer, place=place)
        if result is None:
            return None
        loaded = chosen_offer(self.view(known, result, opinions), criteria)
        return result if loaded == offer else self._prober.recall(peer_id, offer=loaded, place=place)

    async def _probe(
        self, peer_id: PeerId, offer: ModelOffer | None, info: HostInfo | None, since_s: float | None
    ) -> ProbeResult:
        place = None if info is None else info.place
        name = (peer_id, offer, place)
        while True:
            remembered = self._prober.recall(peer_id, offer=offer, place=place, since_s=since_s)
            if remembered is not None:
                # The prober counts what its memory answers.
                return await self._prober.probe(peer_id, offer=offer, place=place, since_s=since_s)
            flight = self._flights.get(name)
            if flight is None:
                break
            await flight.ended.wait()
            if flight.result is not None:
                return flight.result
            # Whoever sent it left: it is sent anew.
        flight = self._flights[name] = _Flight()
        try:
            flight.result = await self._send(peer_id, offer, info, since_s)
        finally:
            del self._flights[name]
            flight.ended.set()
        return flight.result

    async def _send(
        self, peer_id: PeerId, offer: ModelOffer | None, info: HostInfo | None, since_s: float | None
    ) -> ProbeResult:
        place = None if info is None else info.place
        began_s, answers = self._system.monotonic_s(), 0

        def answered() -> None:
            nonlocal answers
            answers += 1

        was_connected = self._prober.is_connected(peer_id)
        result: ProbeResult | None = None
        try:
            result = await self._prober.probe(peer_id, offer=offer, place=place, since_s=since_s, answered=answered)
        finally:
            silent_s = self._system.monotonic_s() - began_s
            if result is None and was_connected and not answers and silent_s >= SILENT_AFTER_S:
                self._missed(peer_id, f"no answer in {silent_s:.1f} s over the connection that stood")
        if result.unreachable:
            self._missed(peer_id, result.unreachable)
        elif result.is_answer:
            self._strikes.answered(peer_id)
            self._sightings.answered(peer_id, now_s=self._system.monotonic_s(), unix_s=self._system.unix_s())
        if result.refuted and info is not None and place is not None:
            claim = f"claims {place}, from where light takes longer"
            self._records.lie_watch.note_false_claim(peer_id, info.operator_address, claim)
        if not result.unasked:
            self._on_probed(peer_id, result)
        return result

    def _missed(self, peer_id: PeerId, why: str) -> None:
        self._sightings.silent(peer_id)
        self._strikes.missed(peer_id, now_s=self._system.monotonic_s(), unix_s=self._system.unix_s(), why=why)

    def left_alone(self, known: KnownHost) -> ProbeResult | None:
        """Return what stands for a probe of a host that is not probed now, since it missed several; None = probe it."""
        heard_unix_s = known.heard_at_unix_s or 0.0
        strike = self._strikes.standing_out(
            known.info.peer_id, now_s=self._system.monotonic_s(), heard_unix_s=heard_unix_s
        )
        if strike is None:
            return None
        age_s = max(0.0, self._system.unix_s() - strike.last_unix_s)
        why = f"no answer {strike.misses} times in a row, the last time {age_s:.0f} s ago: {strike.why}"
        return ProbeResult(latency=None, readiness=None, unreachable=why)


def with_perfect_probe(view: HostView) -> HostView:
    """Return the host as if no better probe could be, where only its record is in question; never part of a result."""
    latency = Measurement(value=0.0, unit="ms", at_unix_s=0.0, samples=1, origin=Origin.MEASURED, path=Path.DIRECT)
    models = frozenset(offer.model_id for offer in view.info.models)
    readiness = Readiness(state=HostState.AVAILABLE, ready_models=models, free_slots=MAX_UINT32)
    return replace(view, probe=ProbeResult(latency=latency, readiness=readiness))
