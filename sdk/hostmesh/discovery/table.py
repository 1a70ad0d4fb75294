"""The hosts that this node knows of: the newest valid record of each, raw and unfiltered. Pure.

Merging is commutative, associative and idempotent at one ``now`` as long as no bound is reached: in whatever order
records arrive, the table ends the same. Filters run on what is read from it, never on what goes in.

Rules, per peer id, whichever wallet its records name:

- the highest sequence wins, and a lower one never comes back: a row is remembered until every record that it could have
  replaced has expired, also when its own record was a tombstone or had a shorter life;
- but of two records under bindings by one wallet that of the higher epoch wins, whatever its sequence: the operator
  bound the key anew. A record whose epoch is known to be revoked is not taken
  (:mod:`hostmesh.discovery.revocations`);
- two different signed bodies with one sequence prove equivocation: the peer's row is dropped and its key is banned
  under its bindings up to the epoch that they name. The body is compared, not the envelope around it, so that nobody
  else can make a host look guilty; and records of two epochs of one wallet contradict nothing. Where there is no room
  for the ban, the row stays, counts against whoever brought it, and nothing of the key under these bindings is taken or
  told until a whole life after its last record.

So a key has one row at most, and one wallet: a host that is bound to another one says so with a higher sequence. (A key
that changes wallet and epoch at once, and whose older records still go about, may stand at an older record until it
signs the next one: the order of arrival then matters for a minute.)

Bounds: ``max_hosts`` rows, bans as :mod:`hostmesh.discovery.bans` says, 8 remembered sequences a row (equivocation on
older ones goes unnoticed; they lose anyhow) and 8 MiB of superseded records, kept for proofs. When the table is full,
the row of least worth goes: hosts that never answered us before those that did, then records that some third peer
handed over before those that came from their own host, then those in crowded networks. So a flood of fresh keys evicts
its own like, and never a host that answered. A network (/24 of IPv4, /48 of IPv6) holds an eighth of the table, 16 rows
at least: who comes after that competes with that network's rows. Addresses are claims; a network that strangers name
too can therefore hold newcomers back, but none of its hosts that answered. One introducer may bring 16 hosts, all
introducers together a quarter of the table; beyond that they are refused, not evicted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum

from hostmesh.discovery.bans import MAX_BANS, Ban, BanList, Familiarity
from hostmesh.discovery.description import HostState
from hostmesh.discovery.record import HostInfo
from hostmesh.discovery.revocations import LIFE_S, RevocationBook, RevokedEpoch
from hostmesh.discovery.subnet import NOWHERE, subnets_of
from hostmesh.discovery.table_row import KnownHost as KnownHost
from hostmesh.discovery.table_row import Row, is_live, known_of, remember_until, seen_of
from hostmesh.net.peer_id import PeerId

MAX_SEQUENCES_PER_ROW = 8
MAX_PER_INTRODUCER = 16
LEAST_PER_SUBNET = 16
"""Rows that a network may hold in a table however small."""
SUBNET_SHARE = 8
"""A network holds at most one part in so many of the table."""
MAX_PAST_BYTES = 8 * 1024 * 1024
"""Of superseded records; the one put away longest ago goes first."""


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
    """It contradicts one of the same sequence; the key is banned now, if there is room for the ban."""
    BANNED = "banned"
    REVOKED = "revoked"
    """Its operator took back the binding under which it is signed."""
    REFUSED = "refused"
    """Its introducer has brought too many, or there is no room for it."""


class HostTable:
    """A bounded table of verified records.

    Args:
        max_hosts: most rows, >= 4.
        max_banned: most banned keys, >= 1.
    """

    def __init__(self, *, max_hosts: int = 4096, max_banned: int = MAX_BANS) -> None:
        if max_hosts < 4 or max_banned < 1:
            raise ValueError("a table holds at least 4 hosts and 1 ban")
        self._max_hosts = max_hosts
        self._max_per_subnet = max(LEAST_PER_SUBNET, max_hosts // SUBNET_SHARE)
        self.bans = BanList(max_banned)
        """The keys that equivocated."""
        self.revocations = RevocationBook()
        """Which epochs of whose bindings hold."""
        self._rows: dict[PeerId, Row] = {}
        self._by_subnet: dict[str, dict[Row, None]] = {}
        self._past: OrderedDict[tuple[PeerId, int], tuple[bytes, int, bytes]] = OrderedDict()
        self._past_bytes = 0
        self._evicted = 0

    def __len__(self) -> int:
        """Return how many rows there are, tombstones and expired ones included."""
        return len(self._rows)

    @property
    def evicted(self) -> int:
        """How many rows had to go because the table was full."""
        return self._evicted

    @property
    def banned(self) -> tuple[PeerId, ...]:
        """The keys that equivocated."""
        return self.bans.peer_ids

    def merge(self, info: HostInfo, *, now: float, introducer: PeerId | None = None, subnet: str = NOWHERE) -> Merge:
        """Put a verified record in.

        Args:
            info: from :func:`hostmesh.discovery.record.verify_record`.
            now: unix seconds.
            introducer: who handed it over, when that was not the host itself.
            subnet: where the connection to whoever handed it over leads, /24 or /48.

        Cost: O(1); O(rows) when the table, or a network's share of it, is full.
        """
        if self.bans.covers(info.peer_id, info.binding_epoch):
            return Merge.BANNED
        if not info.is_acceptable(now):
            return Merge.EXPIRED
        row = self._rows.get(info.peer_id)
        is_outdone = row is not None and row.outdoes(info)
        if is_outdone or info.binding_epoch < self.revocations.least_epoch(info.operator, info.peer_id, now):
            return Merge.REVOKED
        if info.binding_epoch > 0:
            self._note_epoch(info, now, introducer, subnet)
        if row is None:
            return self._add(info, now, introducer)
        if row.is_convicted_under(info):
            row.remember_until = max(row.remember_until, remember_until(info))
            return Merge.BANNED
        if row.is_outdone_by(info):
            self._remember(row, info, now)
            return self._replace(row, info, now, introducer)
        seen = row.digests.get(info.sequence)
        if seen is not None and seen.contradicts(info):
            if introducer is None:
                row.introducer = None  # heard of before, now convicted by the host itself
            epoch = max(seen.binding_epoch, info.binding_epoch)
            self.ban(info.peer_id, epoch=epoch, now=now, introducer=introducer, subnet=subnet)
            return Merge.EQUIVOCATION
        self._remember(row, info, now)
        if introducer is None and info.sequence >= row.info.sequence:
            row.heard_at = now
        if info.sequence < row.info.sequence:
            self._put_away(info)
            return Merge.OLDER
        if info.sequence == row.info.sequence:
            if introducer is None:
                row.introducer = None  # heard of before, now from the host itself
                row.received_at = now
            return Merge.KNOWN
        self._put_away(row.info)
        return self._replace(row, info, now, introducer)

    def seen(self, info: HostInfo) -> bytes | None:
        """Return the record of this one's key and sequence as it came first, if it is still kept.

        One of another epoch of the same wallet is none: it contradicts nothing.
        """
        row = self._rows.get(info.peer_id)
        if row is not None and row.info.sequence == info.sequence:
            return None if info.is_of_another_epoch(row.info.operator, row.info.binding_epoch) else row.info.signed
        past = self._past.get((info.peer_id, info.sequence))
        if past is None or info.is_of_another_epoch(*past[:2]):
            return None
        return past[2]

    def familiarity(self, peer_id: PeerId) -> Familiarity:
        """Tell how well a key is known here."""
        row = self._rows.get(peer_id)
        return Familiarity.STRANGER if row is None else row.familiarity

    def ban(
        self,
        peer_id: PeerId,
        *,
        epoch: int = 0,
        now: float,
        introducer: PeerId | None = None,
        subnet: str = NOWHERE,
        proof: bytes | None = None,
    ) -> Ban | None:
        """Ban a key up to an epoch: what is known of its host goes, and nothing of it is taken until it is bound anew.

        Args:
            peer_id: the key.
            epoch: the highest one of a binding under which it is banned.
            now: unix seconds.
            introducer: who told us; None = the host itself.
            subnet: where the connection to whoever told us leads, /24 or /48.
            proof: for others.

        Returns:
            The ban; None when there is no room for it, or it was there before and nothing was added.
        """
        ban = Ban(
            peer_id=peer_id,
            banned_at_unix_s=now,
            familiarity=self.familiarity(peer_id),
            introducer=introducer,
            subnet=subnet,
            proof=proof,
            epoch=epoch,
        )
        has_changed = self.bans.add(ban)
        row = self._rows.get(peer_id)
        if row is not None and self.bans.covers(peer_id, row.info.binding_epoch):
            self._drop(row)
        elif row is not None and not has_changed:
            row.convicted_epoch = max(row.convicted_epoch, epoch)
        return self.bans.get(peer_id) if has_changed else None

    def revoke(self, entry: RevokedEpoch) -> RevokedEpoch | None:
        """Note that bindings of a key by a wallet are void; a host that is known by one of them goes at once.

        Also where there is no room to remember it: then the host may come back with a record that others hand over.

        Returns:
            What is known now; None = nothing changed, or there is no room for it.
        """
        known = self.revocations.put(entry)
        row = self._rows.get(entry.peer_id)
        if row is not None and row.is_of(entry.operator, below=entry.least_epoch):
            self._drop(row)
        return known

    def familiarity_under(self, peer_id: PeerId, operator: bytes) -> Familiarity:
        """Tell how well a key is known here as one that this wallet bound: any wallet may speak of any key."""
        row = self._rows.get(peer_id)
        return Familiarity.STRANGER if row is None or row.info.operator != operator else row.familiarity

    def known(self, peer_id: PeerId, now: float) -> KnownHost | None:
        """Return the newest acceptable record of a peer that has not withdrawn, or None."""
        row = self._rows.get(peer_id)
        return None if row is None or not is_live(row, now) else known_of(row)

    def live(self, now: float) -> list[KnownHost]:
        """Return every host whose record is acceptable at ``now`` and no tombstone; one entry a peer id."""
        return [known_of(row) for row in self._rows.values() if is_live(row, now)]

    def mark_useful(self, peer_id: PeerId) -> None:
        """Note that this host answered us: it is evicted after all those that never did."""
        row = self._rows.get(peer_id)
        if row is not None:
            row.useful = True

    def purge(self, now: float) -> int:
        """Drop what can no longer matter; return how many rows went. Reads need no purge, it frees memory."""
        gone = [row for row in self._rows.values() if now > row.remember_until]
        for row in gone:
            self._drop(row)
        self.revocations.purge(now)
        return len(gone)

    def _add(self, info: HostInfo, now: float, introducer: PeerId | None) -> Merge:
        if introducer is not None and not self._may_introduce(introducer):
            self.purge(now)
            if not self._may_introduce(introducer):
                return Merge.REFUSED
        heard_at = now if introducer is None else None
        row = Row(info, now, introducer, info.started_at_unix_s, remember_until(info), frozenset(), heard_at)
        row.digests[info.sequence] = seen_of(info)
        self._rows[info.peer_id] = row
        self._place(row, subnets_of(info.addresses))
        return Merge.ADDED if self._make_room(row, now) else Merge.REFUSED

    def _replace(self, row: Row, info: HostInfo, now: float, introducer: PeerId | None) -> Merge:
        row.info = info
        row.received_at = now
        row.heard_at = now if introducer is None else row.heard_at
        row.introducer = introducer if row.introducer is not None else None
        if info.addresses:  # a tombstone leaves its host where it was
            self._place(row, subnets_of(info.addresses))
        return Merge.REPLACED if self._make_room(row, now) else Merge.REFUSED

    def _note_epoch(self, info: HostInfo, now: float, introducer: PeerId | None, subnet: str) -> None:
        """A binding that holds voids those of lower epochs, also after its row has gone."""
        known = Familiarity.SEEN if introducer is None else Familiarity.STRANGER
        self.revocations.put(
            RevokedEpoch(
                operator=info.operator,
                peer_id=info.peer_id,
                least_epoch=info.binding_epoch,
                told_at_unix_s=now,
                expires_at_unix_s=info.issued_at_unix_s + LIFE_S,
                familiarity=max(known, self.familiarity_under(info.peer_id, info.operator)),
                subnet=subnet,
            )
        )

    def _make_room(self, row: Row, now: float) -> bool:
        """Drop rows until every bound holds; tell whether this one is still there."""
        if self._is_within_bounds(row) or (self.purge(now) and self._is_within_bounds(row)):
            return True
        # The newcomer takes part: a flood of junk does not push out what is worth more than itself.
        for subnet in row.subnets:
            if len(self._by_subnet[subnet]) > self._max_per_subnet and not self._evict(self._by_subnet[subnet], row):
                return False
        return len(self._rows) <= self._max_hosts or self._evict(self._rows.values(), row)

    def _is_within_bounds(self, row: Row) -> bool:
        return len(self._rows) <= self._max_hosts and all(
            len(self._by_subnet[subnet]) <= self._max_per_subnet for subnet in row.subnets
        )

    def _evict(self, rows: Iterable[Row], newest: Row) -> bool:
        least = min(rows, key=self._worth)
        self._drop(least)
        self._evicted += 1
        return least is not newest

    def _worth(self, row: Row) -> tuple[Familiarity, bool, int, float]:
        is_live = row.info.state is not HostState.WITHDRAWN and not row.is_convicted
        neighbours = sum(len(self._by_subnet[subnet]) for subnet in row.subnets)
        return (row.familiarity, is_live, -neighbours, row.received_at)

    def _place(self, row: Row, subnets: frozenset[str]) -> None:
        for subnet in row.subnets - subnets:
            rows = self._by_subnet[subnet]
            del rows[row]
            if not rows:
                del self._by_subnet[subnet]
        for subnet in subnets - row.subnets:
            self._by_subnet.setdefault(subnet, {})[row] = None
        row.subnets = subnets

    def _put_away(self, info: HostInfo) -> None:
        place = (info.peer_id, info.sequence)
        before = self._past.pop(place, None)
        self._past_bytes += len(info.signed) - (0 if before is None else len(before[2]))
        self._past[place] = (info.operator, info.binding_epoch, info.signed)
        while self._past_bytes > MAX_PAST_BYTES:
            _, (_, _, signed) = self._past.popitem(last=False)
            self._past_bytes -= len(signed)

    def _may_introduce(self, introducer: PeerId) -> bool:
        hearsay = [row.introducer for row in self._rows.values() if row.introducer is not None]
        return len(hearsay) < self._max_hosts // 4 and hearsay.count(introducer) < MAX_PER_INTRODUCER

    def _remember(self, row: Row, info: HostInfo, now: float) -> None:
        row.remember_until = max(row.remember_until, remember_until(info))
        if info.started_at_unix_s is not None:
            row.started_at = max(row.started_at or 0, info.started_at_unix_s)
        row.digests[info.sequence] = seen_of(info)
        row.digests = {seq: seen for seq, seen in row.digests.items() if now <= seen.until}
        while len(row.digests) > MAX_SEQUENCES_PER_ROW:
            del row.digests[min(row.digests)]

    def _drop(self, row: Row) -> None:
        self._place(row, frozenset())
        del self._rows[row.info.peer_id]
