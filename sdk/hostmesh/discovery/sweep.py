"""Asks every source for candidates, and every candidate for its record."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import trio

from hostmesh.discovery.calls import fetch_record
from hostmesh.discovery.collaborators import RunningNode
from hostmesh.discovery.intake import Intake
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.slots import Slots, most_at_once
from hostmesh.discovery.source import Candidate, Source, SourceQuery
from hostmesh.discovery.stats import SourceStats
from hostmesh.discovery.supervise import contain
from hostmesh.errors import HostmeshError, ProtocolNotSupportedError, RpcError, StatusCode
from hostmesh.net.address import AddressOrigin, keep_usable
from hostmesh.net.peer_id import PeerId
from hostmesh.net.room import once_there_is_room
from hostmesh.system import System

NAMED = "named"
"""What stands for a source where the criteria name hosts."""

_log = logging.getLogger("hostmesh.discovery")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """Bounds of one sweep. Chosen here."""

    max_candidates: int = 256
    """Most candidates asked in one sweep, in shares (:mod:`hostmesh.discovery.intake`); others are counted."""
    max_parallel_fetches: int = 8
    """Not counting the slow ones."""
    max_fetches_in_flight: int = 64
    """Counting them. At most half of the node's connections; where others wait, the slowest gives way to them."""
    slow_after_s: float = 0.5
    """A fetch that takes longer lets the next candidate begin, and goes on."""
    gives_way_after_s: float = 1.0
    """One that takes longer is put off when others wait for its place; not less than ``slow_after_s``."""
    fetch_timeout_s: float = 5.0
    """For one record, the dial included."""
    fresh_s: float = 5.0
    """A record this young is not asked for again."""


@dataclass(slots=True)
class SweepCounts:
    """Counts that outlive a sweep."""

    sources: dict[str, SourceStats] = field(default_factory=dict)
    fetches: Counter[str] = field(default_factory=Counter)


class Sweep:
    """One round of asking. Made for one search and used once.

    Args:
        running: the node and its sources.
        records: where what was fetched goes.
        system: clocks.
        config: bounds.
        counts: added to.
        on_record: called for each peer whose record is now known.
    """

    def __init__(
        self,
        running: RunningNode,
        records: RecordBook,
        *,
        system: System,
        config: SweepConfig,
        counts: SweepCounts,
        on_record: Callable[[PeerId], None],
    ) -> None:
        self._running = running
        self._records = records
        self._system = system
        self._config = config
        self._counts = counts
        self._on_record = on_record
        names = (NAMED, *(source.name for source in running.sources))
        self._intake = Intake(names, max_candidates=config.max_candidates)
        self._asking: Counter[str] = Counter()
        """Questions that each source still answers."""
        self._changed = trio.Event()

    async def run(self, queries: Sequence[SourceQuery]) -> None:
        """Ask until the sources have no more and every candidate was asked.

        Hosts that a query names are candidates from the beginning: they are dialled by what the node knows of them, and
        again when a source knows another address.

        A source that fails is counted and takes nothing else down, as is a candidate that does not answer or whose
        record does not hold.

        Cancellation: safe; what was fetched is in the record book.
        """
        for source in self._running.sources:
            self._asking[source.name] += len(queries)
        for peer_id in dict.fromkeys(peer_id for query in queries for peer_id in query.peer_ids):
            self._take(Candidate(peer_id=peer_id, addresses=(), source=NAMED, origin=AddressOrigin.CONNECTED), NAMED)
        self._intake.end(NAMED)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._fetch_all)
                for source in self._running.sources:
                    for query in queries:
                        nursery.start_soon(self._ask, source, query)
        finally:
            if self._intake.dropped:
                self._counts.fetches["dropped"] += self._intake.dropped

    async def _ask(self, source: Source, query: SourceQuery) -> None:
        stats = self._counts.sources.setdefault(source.name, SourceStats())
        stats.attempts += 1
        began = self._system.monotonic_s()

        def found(candidate: Candidate) -> None:
            stats.candidates += 1
            self._take(candidate, source.name)

        try:
            error = await contain(f"source {source.name}", lambda: source.find(query, found))
        except trio.Cancelled:
            stats.cut_short += 1
            raise
        if error is None:
            stats.successes += 1
            stats.total_s += self._system.monotonic_s() - began
            stats.last_ok_unix_s = self._system.unix_s()
        else:
            stats.failures += 1
            stats.last_failure_unix_s = self._system.unix_s()
            stats.last_error = error.code if isinstance(error, HostmeshError) else type(error).__name__
        self._note_end(source.name)

    def _note_end(self, source_name: str) -> None:
        self._asking[source_name] -= 1
        if not self._asking[source_name]:
            for candidate, named_by in self._intake.end(source_name):
                self._note(candidate, named_by)
        self._wake()

    def _take(self, candidate: Candidate, source_name: str) -> None:
        if candidate.peer_id == self._running.node.peer_id:
            return
        usable = replace(candidate, addresses=keep_usable(candidate.addresses))
        if self._intake.offer(usable, source_name):
            self._note(usable, source_name)
            self._wake()

    def _note(self, candidate: Candidate, source_name: str) -> None:
        self._records.name(candidate.peer_id, source_name, named_by=candidate.named_by)
        if candidate.addresses:
            self._running.node.add_addresses(candidate.peer_id, candidate.addresses, candidate.origin)

    async def _fetch_all(self) -> None:
        slots = Slots(
            quick=self._config.max_parallel_fetches,
            most=most_at_once(self._config.max_fetches_in_flight, self._running.max_connections),
            slow_after_s=self._config.slow_after_s,
            gives_way_after_s=self._config.gives_way_after_s,
            on_change=self._wake,
        )
        gave_way: list[PeerId] = []
        async with trio.open_nursery() as fetches:
            while self._asking.total() or len(self._intake):
                if len(self._intake) and not slots.has_room:
                    slowest = slots.end_slowest()
                    if slowest is not None:
                        self._counts.fetches["gave_way"] += 1
                        gave_way.append(PeerId(str(slowest)))
                # Who is next is decided when there is room.
                peer_id = self._intake.next() if slots.has_room else None
                if peer_id is None:
                    await self._wait_for_change()
                else:
                    slots.start(fetches, self._fetch_and_note, peer_id, name=peer_id)
            # Nobody waits any more: what time is left is theirs.
            for peer_id in gave_way:
                while not slots.has_room:
                    await self._wait_for_change()
                slots.start(fetches, self._fetch_and_note, peer_id, name=peer_id)

    async def _wait_for_change(self) -> None:
        self._changed = trio.Event()
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()

    async def _fetch_and_note(self, peer_id: PeerId) -> None:
        while self._intake.finish(peer_id, has_failed=bool(await self._fetch(peer_id))):
            pass  # another address came up meanwhile

    async def _fetch(self, peer_id: PeerId) -> str:
        """Ask one candidate; return why another address might help, or nothing when it would not."""
        known = self._records.known(peer_id)
        # What others handed over is no answer of the host's.
        if (
            known is not None
            and known.introducer is None
            and self._system.unix_s() - known.received_at_unix_s < self._config.fresh_s
        ):
            self._counts.fetches["fresh"] += 1
            self._on_record(peer_id)
            return ""
        try:
            answer = await once_there_is_room(
                lambda left_s: fetch_record(self._running.caller, peer_id, timeout_s=left_s),
                self._config.fetch_timeout_s,
            )
            self._records.learn_revocations(answer.revocations, introducer=peer_id)
            info, _ = self._records.accept(answer.record, expected_peer_id=peer_id)
        except ProtocolNotSupportedError:
            self._counts.fetches["not_a_host"] += 1
            return ""
        except RpcError as error:
            is_answer = error.status in (StatusCode.NOT_FOUND, StatusCode.UNIMPLEMENTED)
            self._counts.fetches["not_a_host" if is_answer else error.code] += 1
            return ""
        except HostmeshError as error:
            self._counts.fetches[error.code] += 1
            _log.debug("no record of %s: %s", peer_id, error.code)
            return error.code
        self._counts.fetches["ok"] += 1
        if info.addresses:
            self._running.node.add_addresses(peer_id, info.addresses, AddressOrigin.REMOTE)
        self._on_record(peer_id)
        return ""
