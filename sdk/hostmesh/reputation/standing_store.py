"""Listings and failures of hosts on disk, shared by every process of this user."""

from __future__ import annotations

from pathlib import Path

from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.probation import Suspension
from hostmesh.reputation.standing import MAX_COOLDOWNS, MAX_SUSPENSIONS, Cooldown, Listing
from hostmesh.store import FeatureStore

_MIGRATIONS = (
    (
        """
        CREATE TABLE listings (
            name TEXT NOT NULL,
            is_blacklisting INTEGER NOT NULL CHECK (is_blacklisting IN (0, 1)),
            priority INTEGER CHECK ((priority IS NULL) = is_blacklisting),
            reason TEXT NOT NULL,
            since_unix_s REAL NOT NULL,
            until_unix_s REAL,
            PRIMARY KEY (name, is_blacklisting)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE cooldowns (
            peer_id TEXT PRIMARY KEY,
            failures INTEGER NOT NULL CHECK (failures > 0),
            failed_at_unix_s REAL NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
    ),
    (
        """
        CREATE TABLE suspensions (
            peer_id TEXT PRIMARY KEY,
            times INTEGER NOT NULL CHECK (times > 0),
            since_unix_s REAL NOT NULL,
            reason TEXT NOT NULL,
            passed INTEGER NOT NULL CHECK (passed >= 0)
        ) STRICT, WITHOUT ROWID
        """,
    ),
)
SCHEMA_VERSION = len(_MIGRATIONS)


class StandingStore(FeatureStore):
    """Keeps what :class:`hostmesh.reputation.standing.StandingList` holds, but for trials.

    Args:
        path: the database file; None = in memory.
        max_cooldowns: most hosts whose failures are kept, >= 1.
        max_suspensions: most hosts whose suspensions are kept, >= 1.

    Raises:
        StoreTooNewError: a newer hostmesh wrote it; it was left unchanged.
        StoreError: it cannot be opened or is no such database.
    """

    def __init__(
        self, path: Path | None, *, max_cooldowns: int = MAX_COOLDOWNS, max_suspensions: int = MAX_SUSPENSIONS
    ) -> None:
        super().__init__(path, what="the store of standings", migrations=_MIGRATIONS)
        self._max_cooldowns = max_cooldowns
        self._max_suspensions = max_suspensions

    def listings(self) -> list[Listing]:
        """Return every listing, the oldest first. Raises StoreError."""
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT name, priority, reason, since_unix_s, until_unix_s FROM listings ORDER BY since_unix_s, name"
            ).fetchall()
        return [
            Listing(name=name, priority=priority, reason=reason, since_unix_s=since, until_unix_s=until)
            for name, priority, reason, since, until in rows
        ]

    def cooldowns(self) -> list[Cooldown]:
        """Return the failures of every host, the one that failed longest ago first. Raises StoreError."""
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT peer_id, failures, failed_at_unix_s FROM cooldowns ORDER BY failed_at_unix_s, peer_id"
            ).fetchall()
        return [
            Cooldown(peer_id=PeerId(peer_id), failures=failures, failed_at_unix_s=failed_at)
            for peer_id, failures, failed_at in rows
        ]

    def suspensions(self) -> list[tuple[PeerId, Suspension]]:
        """Return the suspension of every host that has one, that of longest ago first. Raises StoreError."""
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT peer_id, times, since_unix_s, reason, passed FROM suspensions ORDER BY since_unix_s, peer_id"
            ).fetchall()
        return [
            (PeerId(peer_id), Suspension(times=times, since_unix_s=since, reason=reason, passed=passed))
            for peer_id, times, since, reason, passed in rows
        ]

    def put(self, listing: Listing) -> None:
        """Keep a listing, in place of an earlier one; those that have ended by then go.

        Raises:
            StoreError: it could not be written; everything is as before.
        """
        with self._store.transaction() as db:
            db.execute("DELETE FROM listings WHERE until_unix_s <= ?", (listing.since_unix_s,))
            db.execute(
                "INSERT OR REPLACE INTO listings VALUES (?, ?, ?, ?, ?, ?)",
                (
                    listing.name,
                    listing.priority is None,
                    listing.priority,
                    listing.reason,
                    listing.since_unix_s,
                    listing.until_unix_s,
                ),
            )

    def remove(self, name: str, *, is_blacklisting: bool) -> None:
        """Keep a listing no longer. Raises StoreError: everything is as before."""
        with self._store.transaction() as db:
            db.execute("DELETE FROM listings WHERE name = ? AND is_blacklisting = ?", (name, is_blacklisting))

    def put_failure(self, cooldown: Cooldown, suspension: Suspension | None) -> None:
        """Keep the failures of a host, and its suspension where it has one; both or neither.

        Beyond their bounds, the host of longest ago goes.

        Raises:
            StoreError: it could not be written; everything is as before.
        """
        with self._store.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO cooldowns VALUES (?, ?, ?)",
                (cooldown.peer_id, cooldown.failures, cooldown.failed_at_unix_s),
            )
            db.execute(
                "DELETE FROM cooldowns WHERE peer_id IN (SELECT peer_id FROM cooldowns ORDER BY failed_at_unix_s, "
                "peer_id LIMIT max(0, (SELECT count(*) FROM cooldowns) - ?))",
                (self._max_cooldowns,),
            )
            if suspension is not None:
                db.execute(_PUT_SUSPENSION, _row(cooldown.peer_id, suspension))
                db.execute(
                    "DELETE FROM suspensions WHERE peer_id IN (SELECT peer_id FROM suspensions ORDER BY since_unix_s, "
                    "peer_id LIMIT max(0, (SELECT count(*) FROM suspensions) - ?))",
                    (self._max_suspensions,),
                )

    def put_success(self, peer_id: PeerId, suspension: Suspension | None) -> None:
        """Keep the failures of a host no longer, and of its suspension what is left; None = nothing.

        Raises:
            StoreError: it could not be written; everything is as before.
        """
        with self._store.transaction() as db:
            db.execute("DELETE FROM cooldowns WHERE peer_id = ?", (peer_id,))
            if suspension is None:
                db.execute("DELETE FROM suspensions WHERE peer_id = ?", (peer_id,))
            else:
                db.execute(_PUT_SUSPENSION, _row(peer_id, suspension))


_PUT_SUSPENSION = "INSERT OR REPLACE INTO suspensions VALUES (?, ?, ?, ?, ?)"


def _row(peer_id: PeerId, suspension: Suspension) -> tuple[str, int, float, str, int]:
    return peer_id, suspension.times, suspension.since_unix_s, suspension.reason, suspension.passed
