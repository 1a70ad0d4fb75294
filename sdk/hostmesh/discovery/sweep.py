"""Asks every source for candidates, and every candidate for its record."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import trio

from hostmesh.discovery.calls import fetch_record
from hostmesh.discovery.collaborators import RunningNode
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.slots import Slots, most_at_once
from hostmesh.discovery.source import Candidate, Source, SourceQuery
from hostmesh.discovery.stats import SourceStats
from hostmesh.discovery.supervise import contain
from hostmesh.discovery.turns import Turns
from hostmesh.errors import HostmeshError, ProtocolNotSupportedError, RpcError, StatusCode
from hostmesh.net.address import AddressOrigin, keep_usable
from hostmesh.net.peer_id import PeerId
from hostmesh.net.room import once_there_is_room
from hostmesh.system import System

_log = logging.getLogger("hostmesh.discovery")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """Bounds of one sweep. Chosen here."""

    max_candidates: int = 256
    """Most candidates asked in one sweep; further ones are dropped and counted."""
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


class _Progress(Enum):
    BUSY = "busy"
    AGAIN = "again"
    """Busy, and another address came up meanwhile."""
    FAILED = "failed"
    DONE = "done"


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
        self._progress: dict[PeerId, _Progress] = {}
        self._addresses: dict[PeerId, frozenset[str]] = {}
        self._room = trio.Event()
        self._waiting: Turns[PeerId] = Turns()
        # One token for each that waits: who is next is decided when there is room.
        self._send, self._receive = trio.open_memory_channel[None](config.max_candidates)

    async def run(self, queries: Sequence[SourceQuery]) -> None:
        """Ask until the sources have no more and every candidate was asked.

        A source that fails is counted and takes nothing else down, as is a candidate that does not answer or whose
        record does not hold.

        Cancellation: safe; what was fetched is in the record book.
        """
        async with trio.open_nursery() as fetchers:
            fetchers.start_soon(self._fetch_all)
            async with self._send, trio.open_nursery() as askers:
                for source in self._running.sources:
                    for query in queries:
                        askers.start_soon(self._ask, source, query)

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

    def _take(self, candidate: Candidate, source_name: str) -> None:
        peer_id = candidate.peer_id
        if peer_id == self._running.node.peer_id:
            return
        progress = self._progress.get(peer_id)
        if progress is None and len(self._progress) >= self._config.max_candidates:
            self._counts.fetches["dropped"] += 1
            return
        self._records.name(peer_id, source_name)
        addresses = keep_usable(candidate.addresses)
        known = self._addresses.get(peer_id, frozenset())
        if addresses:
            self._running.node.add_addresses(peer_id, addresses, candidate.origin)
            self._addresses[peer_id] = known | frozenset(addresses)
        has_news = not known.issuperset(addresses)
        if progress is _Progress.BUSY and has_news:
            self._progress[peer_id] = _Progress.AGAIN
        elif progress is None or (progress is _Progress.FAILED and has_news):
            self._queue(peer_id, candidate.named_by or source_name)

    def _queue(self, peer_id: PeerId, named_by: str) -> None:
        try:
            self._send.send_nowait(None)
        except (trio.WouldBlock, trio.ClosedResourceError):
            self._progress[peer_id] = _Progress.FAILED
            self._counts.fetches["dropped"] += 1
        else:
            self._progress[peer_id] = _Progress.BUSY
            self._waiting.add(named_by, peer_id)

    async def _fetch_all(self) -> None:
        slots = Slots(
            quick=self._config.max_parallel_fetches,
            most=most_at_once(self._config.max_fetches_in_flight, self._running.max_connections),
            slow_after_s=self._config.slow_after_s,
            gives_way_after_s=self._config.gives_way_after_s,
            on_change=lambda: self._room.set(),
        )
        gave_way: list[PeerId] = []
        async with trio.open_nursery() as fetches:
            async for _ in self._receive:
                while not slots.has_room:
                    slowest = slots.end_slowest()
                    if slowest is not None:
                        self._counts.fetches["gave_way"] += 1
                        gave_way.append(PeerId(str(slowest)))
                    await self._wait_for_room()
                peer_id = self._waiting.next()
                slots.start(fetches, self._fetch_and_note, peer_id, name=peer_id)
            # Nobody waits any more: what time is left is theirs.
            for peer_id in gave_way:
                while not slots.has_room:
                    await self._wait_for_room()
                slots.start(fetches, self._fetch_and_note, peer_id, name=peer_id)

    async def _wait_for_room(self) -> None:
        self._room = trio.Event()
        await self._room.wait()

    async def _fetch_and_note(self, peer_id: PeerId) -> None:
        outcome = await self._fetch(peer_id)
        if outcome and self._progress[peer_id] is _Progress.AGAIN:
            self._progress[peer_id] = _Progress.BUSY
            outcome = await self._fetch(peer_id)
        self._progress[peer_id] = _Progress.FAILED if outcome else _Progress.DONE

    async def _fetch(self, peer_id: PeerId) -> str:
        """Ask one candidate; return why another address might help, or nothing when it would not."""
        known = self._records.known(peer_id)
        # What others handed over is no answer of the host's.
        is_own = known is not None and known.introducer is None
        if is_own and self._system.unix_s() - known.received_at_unix_s < self._config.fresh_s:
            self._counts.fetches["fresh"] += 1
            self._on_record(peer_id)
            return ""
        try:
            signed = await once_there_is_room(
                lambda left_s: fetch_record(self._running.caller, peer_id, timeout_s=left_s),
                self._config.fetch_timeout_s,
            )
            info, _ = self._records.accept(signed, expected_peer_id=peer_id)
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
