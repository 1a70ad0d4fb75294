"""The hosts that this node knows of: the newest valid record of each, raw and unfiltered. Pure.

Merging is commutative, associative and idempotent at one ``now``: in whatever order records arrive, the table ends the
same. Filters run on what is read from it, never on what goes in.

Rules, per (operator, peer id):

- the highest sequence wins, and a lower one never comes back: a row is remembered until every record that it could have
  replaced has expired, also when its own record was a tombstone or had a shorter life;
- two different signed bodies with one sequence prove equivocation: the peer's rows are dropped and its key is banned.
  The body is compared, not the envelope around it, so that nobody else can make a host look guilty.

Bounds: ``max_hosts`` rows, ``max_banned`` keys (the oldest ban goes first), 8 remembered sequences a row (equivocation
on older ones goes unnoticed; they lose anyhow). When the table is full, the row of least worth goes: records that some
third peer handed over before those that came from their own host, and hosts that never proved useful before those that
did, so that a flood of fresh keys evicts its own like. One introducer may bring 16 hosts, all introducers together a
quarter of the table; beyond that they are refused, not evicted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from hostmesh.discovery.description import HostState
from hostmesh.discovery.record import GRACE_S, MAX_LIFE_S, HostInfo
from hostmesh.net.peer_id import PeerId

MAX_SEQUENCES_PER_ROW = 8
MAX_PER_INTRODUCER = 16


class Merge(Enum):
    """What became of a record that was put in."""

    ADDED = "added"
    REPLACED = "replaced"
    """It is newer than the one that was there."""
    KNOWN = "known"
    """It is the one that was there."""
    OLDER = "older"
    EXPIRED = "expired"
    EQUIVOCATION = "equivocation"
    """It contradicts one of the same sequence; the key is banned now."""
    BANNED = "banned"
    REFUSED = "refused"
    """Its introducer has brought too many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHost:
    """A host as the table knows it."""

    info: HostInfo
    received_at_unix_s: float
    """When this record came."""
    started_at_unix_s: int | None
    """The latest start that the host ever claimed here: an earlier claim afterwards does not lengthen its uptime."""
    introducer: PeerId | None
    """Who handed the record over; None = the host itself."""


@dataclass(slots=True)
class _Row:
    info: HostInfo
    received_at: float
    introducer: PeerId | None
    started_at: int | None
    remember_until: float
    useful: bool = False
    digests: dict[int, tuple[bytes, float]] = field(default_factory=dict)

    def digest_of(self, sequence: int) -> bytes | None:
        if sequence == self.info.sequence:
            return self.info.digest
        seen = self.digests.get(sequence)
        return None if seen is None else seen[0]

    def worth(self) -> tuple[bool, bool, bool, float]:
        live = self.info.state is not HostState.WITHDRAWN
        return (self.useful, self.introducer is None, live, self.received_at)


class HostTable:
    """A bounded table of verified records.

    Args:
        max_hosts: most rows, >= 4.
        max_banned: most banned keys, >= 1.
    """

    def __init__(self, *, max_hosts: int = 4096, max_banned: int = 1024) -> None:
        if max_hosts < 4 or max_banned < 1:
            raise ValueError("a table holds at least 4 hosts and 1 ban")
        self._max_hosts = max_hosts
        self._max_banned = max_banned
        self._rows: dict[PeerId, dict[bytes, _Row]] = {}
        self._banned: dict[PeerId, None] = {}
        self._size = 0
        self._evicted = 0

    def __len__(self) -> int:
        """Return how many rows there are, tombstones and expired ones included."""
        return self._size

    @property
    def evicted(self) -> int:
        """How many rows had to go because the table was full."""
        return self._evicted

    @property
    def banned(self) -> tuple[PeerId, ...]:
        """The keys that equivocated."""
        return tuple(self._banned)

    def merge(self, info: HostInfo, *, now: float, introducer: PeerId | None = None) -> Merge:
        """Put a verified record in.

        Args:
            info: from :func:`hostmesh.discovery.record.verify_record`.
            now: unix seconds.
            introducer: who handed it over, when that was not the host itself.

        Cost: O(1); O(rows) when the table is full.
        """
        if info.peer_id in self._banned:
            return Merge.BANNED
        if not info.is_acceptable(now):
            return Merge.EXPIRED
        row = self._rows.get(info.peer_id, {}).get(info.operator)
        if row is None:
            return self._add(info, now, introducer)
        if row.digest_of(info.sequence) not in (None, info.digest):
            self._ban(info.peer_id)
            return Merge.EQUIVOCATION
        self._remember(row, info, now)
        if info.sequence < row.info.sequence:
            return Merge.OLDER
        if info.sequence == row.info.sequence:
            if introducer is None:
                row.introducer = None  # heard of before, now from the host itself
                row.received_at = now
            return Merge.KNOWN
        row.info = info
        row.received_at = now
        row.introducer = introducer if row.introducer is not None else None
        return Merge.REPLACED

    def known(self, peer_id: PeerId, now: float) -> KnownHost | None:
        """Return the newest acceptable record of a peer that has not withdrawn, or None."""
        rows = [row for row in self._rows.get(peer_id, {}).values() if _is_live(row, now)]
        if not rows:
            return None
        row = max(rows, key=lambda row: (row.info.issued_at_unix_s, row.info.sequence, row.info.operator))
        return KnownHost(
            info=row.info,
            received_at_unix_s=row.received_at,
            started_at_unix_s=row.started_at,
            introducer=row.introducer,
        )

    def live(self, now: float) -> list[KnownHost]:
        """Return every host whose record is acceptable at ``now`` and no tombstone; one entry a peer id."""
        found = (self.known(peer_id, now) for peer_id in self._rows)
        return [host for host in found if host is not None]

    def mark_useful(self, peer_id: PeerId) -> None:
        """Note that this host answered us: it is evicted after all those that never did."""
        for row in self._rows.get(peer_id, {}).values():
            row.useful = True

    def purge(self, now: float) -> int:
        """Drop what can no longer matter; return how many rows went. Reads need no purge, it frees memory."""
        gone = [(row.info.peer_id, row.info.operator) for row in self._all() if now > row.remember_until]
        for peer_id, operator in gone:
            self._drop(peer_id, operator)
        return len(gone)

    def _add(self, info: HostInfo, now: float, introducer: PeerId | None) -> Merge:
        if introducer is not None and not self._may_introduce(introducer):
            self.purge(now)
            if not self._may_introduce(introducer):
                return Merge.REFUSED
        row = _Row(info, now, introducer, info.started_at_unix_s, _remember_until(info))
        row.digests[info.sequence] = (info.digest, info.expires_at_unix_s + GRACE_S)
        self._rows.setdefault(info.peer_id, {})[info.operator] = row
        self._size += 1
        if self._size > self._max_hosts and not self.purge(now):
            # The newcomer takes part: a flood of junk does not push out what is worth more than itself.
            least = min(self._all(), key=_Row.worth)
            self._drop(least.info.peer_id, least.info.operator)
            self._evicted += 1
            if least is row:
                return Merge.REFUSED
        return Merge.ADDED

    def _may_introduce(self, introducer: PeerId) -> bool:
        hearsay = [row.introducer for row in self._all() if row.introducer is not None]
        return len(hearsay) < self._max_hosts // 4 and hearsay.count(introducer) < MAX_PER_INTRODUCER

    def _remember(self, row: _Row, info: HostInfo, now: float) -> None:
        row.remember_until = max(row.remember_until, _remember_until(info))
        if info.started_at_unix_s is not None:
            row.started_at = max(row.started_at or 0, info.started_at_unix_s)
        row.digests[info.sequence] = (info.digest, info.expires_at_unix_s + GRACE_S)
        row.digests = {seq: seen for seq, seen in row.digests.items() if now <= seen[1]}
        while len(row.digests) > MAX_SEQUENCES_PER_ROW:
            del row.digests[min(row.digests)]

    def _ban(self, peer_id: PeerId) -> None:
        for operator in list(self._rows.get(peer_id, {})):
            self._drop(peer_id, operator)
        self._banned[peer_id] = None
        while len(self._banned) > self._max_banned:
            del self._banned[next(iter(self._banned))]

    def _drop(self, peer_id: PeerId, operator: bytes) -> None:
        rows = self._rows[peer_id]
        del rows[operator]
        if not rows:
            del self._rows[peer_id]
        self._size -= 1

    def _all(self) -> Iterator[_Row]:
        for rows in self._rows.values():
            yield from rows.values()


def _is_live(row: _Row, now: float) -> bool:
    return row.info.state is not HostState.WITHDRAWN and row.info.is_acceptable(now)


def _remember_until(info: HostInfo) -> float:
    # A record that this one replaced was issued no later, so it cannot be accepted after a whole life from then.
    return max(info.expires_at_unix_s, info.issued_at_unix_s + MAX_LIFE_S) + GRACE_S
