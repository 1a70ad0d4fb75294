"""Outcomes on disk: SQLite, one row a host with its two counts.

WAL with ``synchronous=NORMAL``: a killed process loses nothing that was recorded; a power cut may lose the last second.
At most ``max_hosts`` rows: beyond, the host with the least evidence goes, the longest unseen first.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from hostmesh.errors import StoreError, StoreTooNewError

SCHEMA_VERSION = 1
_MIGRATIONS = (
    # 0 -> 1
    """
    CREATE TABLE outcomes (
        peer_id TEXT PRIMARY KEY,
        good INTEGER NOT NULL CHECK (good >= 0),
        bad INTEGER NOT NULL CHECK (bad >= 0),
        updated_at_unix_s REAL NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
)


class OutcomeStore:
    """The counts of every host.

    Args:
        path: the database file; its directory is made with mode 0700. None = in memory.
        max_hosts: most rows, >= 1.

    Raises:
        StoreTooNewError: a newer hostmesh wrote it; it was left unchanged.
        StoreError: it cannot be opened or is no such database.
    """

    def __init__(self, path: Path | None, *, max_hosts: int = 10_000) -> None:
        self._name = ":memory:" if path is None else str(path)
        self._max_hosts = max_hosts
        try:
            if path is not None:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(self._name, isolation_level=None, timeout=5.0)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error
        try:
            self._migrate()
        except sqlite3.Error as error:
            self._db.close()
            raise self._unusable(error) from error
        except StoreError:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._db.close()

    def add(self, peer_id: str, *, good: int, bad: int, now: float) -> None:
        """Add to a host's counts; on disk when it returns.

        Raises:
            StoreError: it could not be written; the counts are as before.
        """
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.execute(
                    "INSERT INTO outcomes VALUES (?, ?, ?, ?) ON CONFLICT (peer_id) DO UPDATE SET "
                    "good = good + excluded.good, bad = bad + excluded.bad, updated_at_unix_s = "
                    "max(updated_at_unix_s, excluded.updated_at_unix_s)",
                    (peer_id, good, bad, now),
                )
                self._db.execute(
                    "DELETE FROM outcomes WHERE peer_id IN (SELECT peer_id FROM outcomes ORDER BY good + bad, "
                    "updated_at_unix_s, peer_id LIMIT max(0, (SELECT count(*) FROM outcomes) - ?))",
                    (self._max_hosts,),
                )
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def counts(self, peer_id: str) -> tuple[int, int]:
        """Return the good and bad outcomes of a host; 0 and 0 when there are none.

        Raises:
            StoreError: the file cannot be read.
        """
        try:
            row = self._db.execute("SELECT good, bad FROM outcomes WHERE peer_id = ?", (peer_id,)).fetchone()
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        return (0, 0) if row is None else (int(row[0]), int(row[1]))

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM outcomes").fetchone()[0])

    def _migrate(self) -> None:
        version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise StoreTooNewError(
                f"{self._name} has schema {version}, this hostmesh knows {SCHEMA_VERSION}",
                path=self._name,
                remedy="use the newer hostmesh that wrote it, or move the file away",
            )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        for step in range(version, SCHEMA_VERSION):
            self._db.executescript(f"BEGIN IMMEDIATE; {_MIGRATIONS[step]} PRAGMA user_version = {step + 1}; COMMIT;")

    def _unusable(self, error: Exception) -> StoreError:
        return StoreError(
            f"the outcome store {self._name} cannot be used: {error}",
            path=self._name,
            remedy="check that the path is writable and the file is not damaged; moved away, it is made anew",
        )
