"""The sequence numbers of our own records, on disk before a record leaves.

SQLite, WAL with ``synchronous=NORMAL``: a killed process loses nothing; after a power cut the clock has moved past what
the last second may have lost. Two records of one sequence would look like equivocation, so each number is handed out
once: max(stored + 1, unix milliseconds).
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from hostmesh.errors import StoreError, StoreTooNewError
from hostmesh.net.peer_id import PeerId

SCHEMA_VERSION = 1
_MIGRATIONS = (
    # 0 -> 1
    """
    CREATE TABLE sequences (
        network TEXT NOT NULL,
        peer_id TEXT NOT NULL,
        last INTEGER NOT NULL CHECK (last > 0),
        PRIMARY KEY (network, peer_id)
    ) STRICT, WITHOUT ROWID;
    """,
)


class SequenceStore:
    """Hands out sequence numbers, strictly increasing for each network and peer key.

    Args:
        path: the database file; its directory is made with mode 0700. None = in memory, for a key that is used once.

    Raises:
        StoreTooNewError: a newer hostmesh wrote it; it was left unchanged.
        StoreError: it cannot be opened or is no such database.
    """

    def __init__(self, path: Path | None) -> None:
        self._name = ":memory:" if path is None else str(path)
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

    def next_sequence(self, network: str, peer_id: PeerId, *, now: float) -> int:
        """Return a number greater than every one before; it is on disk when this returns.

        Args:
            network: the network's name.
            peer_id: whose records are numbered.
            now: unix seconds.

        Raises:
            StoreError: it could not be written; no number was used up, and no record may leave.
        """
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                row = self._db.execute(
                    "INSERT INTO sequences VALUES (?, ?, ?) ON CONFLICT (network, peer_id) DO UPDATE SET "
                    "last = max(last + 1, excluded.last) RETURNING last",
                    (network, peer_id, max(1, int(now * 1000))),
                ).fetchone()
            return int(row[0])
        except sqlite3.Error as error:
            raise self._unusable(error) from error

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
            f"the sequence store {self._name} cannot be used: {error}",
            path=self._name,
            remedy="check that the path is writable and the file is not damaged; moved away, it is made anew",
        )
