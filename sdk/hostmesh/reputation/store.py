"""Outcomes on disk: one row a host with its two counts.

At most ``max_hosts`` rows: beyond, the host with the least evidence goes, the longest unseen first.
"""

from __future__ import annotations

from pathlib import Path

from hostmesh.store import Store

_MIGRATIONS = (
    (
        """
        CREATE TABLE outcomes (
            peer_id TEXT PRIMARY KEY,
            good INTEGER NOT NULL CHECK (good >= 0),
            bad INTEGER NOT NULL CHECK (bad >= 0),
            updated_at_unix_s REAL NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
    ),
)
SCHEMA_VERSION = len(_MIGRATIONS)


class OutcomeStore:
    """The counts of every host.

    Args:
        path: the database file; None = in memory.
        max_hosts: most rows, >= 1.

    Raises:
        StoreTooNewError: a newer hostmesh wrote it; it was left unchanged.
        StoreError: it cannot be opened or is no such database.
    """

    def __init__(self, path: Path | None, *, max_hosts: int = 10_000) -> None:
        self._store = Store(path, what="the outcome store", migrations=_MIGRATIONS)
        self._max_hosts = max_hosts

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._store.close()

    def add(self, peer_id: str, *, good: int, bad: int, now: float) -> None:
        """Add to a host's counts; on disk when it returns.

        Raises:
            StoreError: it could not be written; the counts are as before.
        """
        with self._store.transaction() as db:
            db.execute(
                "INSERT INTO outcomes VALUES (?, ?, ?, ?) ON CONFLICT (peer_id) DO UPDATE SET "
                "good = good + excluded.good, bad = bad + excluded.bad, updated_at_unix_s = "
                "max(updated_at_unix_s, excluded.updated_at_unix_s)",
                (peer_id, good, bad, now),
            )
            db.execute(
                "DELETE FROM outcomes WHERE peer_id IN (SELECT peer_id FROM outcomes ORDER BY good + bad, "
                "updated_at_unix_s, peer_id LIMIT max(0, (SELECT count(*) FROM outcomes) - ?))",
                (self._max_hosts,),
            )

    def counts(self, peer_id: str) -> tuple[int, int]:
        """Return the good and bad outcomes of a host; 0 and 0 when there are none.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._store.reading() as db:
            row = db.execute("SELECT good, bad FROM outcomes WHERE peer_id = ?", (peer_id,)).fetchone()
        return (0, 0) if row is None else (int(row[0]), int(row[1]))

    def all_counts(self) -> dict[str, tuple[int, int]]:
        """Return the good and bad outcomes of every host that has any. Raises StoreError."""
        with self._store.reading() as db:
            rows = db.execute("SELECT peer_id, good, bad FROM outcomes").fetchall()
        return {peer_id: (good, bad) for peer_id, good, bad in rows}

    def version(self) -> int:
        """Return a number that changes whenever another process has written. Raises StoreError. Cost: microseconds."""
        with self._store.reading() as db:
            return int(db.execute("PRAGMA data_version").fetchone()[0])

    def __len__(self) -> int:
        with self._store.reading() as db:
            return int(db.execute("SELECT count(*) FROM outcomes").fetchone()[0])
