"""This client's book of standings: who is blacklisted, preferred, or paused after failures."""

from __future__ import annotations

from pathlib import Path

from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.evidence import Evidence, EvidenceKind
from hostmesh.reputation.probation import Suspension
from hostmesh.reputation.standing import HostStanding, Listing, StandingList, listed_name, make_listing
from hostmesh.reputation.standing_store import StandingStore
from hostmesh.system import System


class Standings:
    """What is said of hosts, without a look at the file for each.

    Args:
        standings: of this process; what it changes itself shows at once.
        system: the clock, by which listings and pauses end.
    """

    def __init__(self, standings: StandingList, system: System) -> None:
        self._standings = standings
        self._system = system

    def of(self, peer_id: PeerId, operator_address: str) -> HostStanding:
        """Return what is said of a host now; the address is ``0x`` and lower case."""
        return self._standings.of(peer_id, operator_address, self._system.unix_s())


class StandingBook:
    """Keeps standings across restarts, and together with other processes that use the same file.

    What is written is on disk before it counts. Trials of half-open hosts are this process's own.

    Args:
        path: the database file; None = in memory, gone with the process.
        system: the clock.

    Raises:
        StoreError: the file cannot be used, or a newer hostmesh wrote it.
    """

    def __init__(self, path: Path | None = None, *, system: System | None = None) -> None:
        self._system = system or System()
        self._store = StandingStore(path)
        self._list = StandingList()
        self._version: int | None = None

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._store.close()

    def of(self, peer_id: PeerId, operator_address: str) -> HostStanding:
        """Return what is said of a host now.

        Args:
            peer_id: the host.
            operator_address: its wallet, ``0x`` and lower case.

        Raises:
            StoreError: the file cannot be read.
        """
        return self._current().of(peer_id, operator_address, self._system.unix_s())

    def snapshot(self) -> Standings:
        """Return the standing of every host; what other processes write from now on is not in it. Raises StoreError.

        Cost: microseconds; after another process has written, everything is read once.
        """
        return Standings(self._current(), self._system)

    def listings(self) -> tuple[Listing, ...]:
        """Return the listings that hold now: the blacklist, then preferences. Raises StoreError."""
        return self._current().listings(self._system.unix_s())

    def blacklist(self, peer_or_wallet: str, reason: str = "", ttl_s: float | None = None) -> None:
        """Bar a peer, or all peers of a wallet.

        Raises:
            ConfigError, InvalidAddressError: an argument is wrong.
            UsageError: 1,024 are barred already.
            StoreError: it could not be written; nothing changed.
        """
        self._put(make_listing(peer_or_wallet, priority=None, reason=reason, ttl_s=ttl_s, now=self._system.unix_s()))

    def prefer(self, peer_or_wallet: str, priority: int = 1, ttl_s: float | None = None) -> None:
        """Rank a peer, or all peers of a wallet, before others, the highest priority first. Raises as blacklist()."""
        self._put(make_listing(peer_or_wallet, priority=priority, ttl_s=ttl_s, now=self._system.unix_s()))

    def unblacklist(self, peer_or_wallet: str) -> bool:
        """Bar a peer or wallet no longer; tell whether it was. A pause after failures ends, too. Raises StoreError."""
        name = listed_name(peer_or_wallet)
        was_paused = self._forgive(PeerId(name), None)
        return self._remove(name, is_blacklisting=True) or was_paused

    def unprefer(self, peer_or_wallet: str) -> bool:
        """Prefer a peer or wallet no longer; tell whether it was preferred. Raises StoreError."""
        return self._remove(listed_name(peer_or_wallet), is_blacklisting=False)

    def record_outcome(self, peer_id: PeerId, *, good: bool) -> None:
        """Pause a host after a job that failed by its fault, or end the row of its failures.

        Raises:
            StoreError: it could not be written; nothing changed.
        """
        self.record(peer_id, Evidence(kind=EvidenceKind.JOB_FINISHED if good else EvidenceKind.JOB_FAILED))

    def record(self, peer_id: PeerId, evidence: Evidence) -> None:
        """Pause a host after what speaks against it, blacklist it after what weighs enough, or note a success.

        What weighs nothing, as a test of the model that accuses at random, changes nothing.

        Raises:
            StoreError: it could not be written; nothing changed.
        """
        standings, now = self._current(), self._system.unix_s()
        before = standings.suspension(peer_id)
        if evidence.kind.is_good:
            self._forgive(peer_id, None if before is None else before.after_success(now))
        elif evidence.weight_micros:
            cooldown = standings.after_failure(peer_id, now)
            reason = f"{evidence.kind.text}: {evidence.detail}" if evidence.detail else evidence.kind.text
            suspension = standings.suspended_by(cooldown, now, weight_micros=evidence.each_micros, reason=reason)
            if (cooldown, suspension) == (standings.cooldown(peer_id), before):
                return  # of a job begun before the pause: nothing to write
            self._store.put_failure(cooldown, suspension)
            standings.put_cooldown(cooldown)
            if suspension is not None:
                standings.put_suspension(peer_id, suspension)

    def suspension(self, peer_id: PeerId) -> Suspension | None:
        """Return why a host is blacklisted by what it did, or on probation, if it is. Raises StoreError."""
        return self._current().suspension(peer_id)

    def begin_trial(self, peer_id: PeerId) -> bool:
        """Use a host; False when it is paused, or half-open and another trial of it runs. Raises StoreError."""
        return self._current().begin_trial(peer_id, self._system.unix_s())

    def _current(self) -> StandingList:
        """Return the list, read anew if another process has written."""
        version = self._store.version()
        if version != self._version:
            self._list.reload(self._store.listings(), self._store.cooldowns(), self._store.suspensions())
            self._version = version
        return self._list

    def _put(self, listing: Listing) -> None:
        standings = self._current()
        standings.check_room(listing, listing.since_unix_s)
        self._store.put(listing)
        standings.put(listing)

    def _remove(self, name: str, *, is_blacklisting: bool) -> bool:
        standings = self._current()
        self._store.remove(name, is_blacklisting=is_blacklisting)
        return standings.remove(name, is_blacklisting=is_blacklisting)

    def _forgive(self, peer_id: PeerId, left: Suspension | None) -> bool:
        """Forget a host's failures, and of its suspension all but ``left``; tell whether that changed anything."""
        standings = self._current()
        if standings.cooldown(peer_id) is None and standings.suspension(peer_id) == left:
            return False  # what most successes come to: nothing to write
        self._store.put_success(peer_id, left)
        standings.clear_cooldown(peer_id)
        standings.put_suspension(peer_id, left)
        return True
