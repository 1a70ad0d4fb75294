"""The sequence numbers of our own records, on disk before a record leaves.

After a power cut the clock has moved past what the last second may have lost. Two records of one sequence would look
like equivocation, so each number is handed out once: max(stored + 1, unix milliseconds).
"""

from __future__ import annotations

from pathlib import Path

from hostmesh.net.peer_id import PeerId
from hostmesh.store import Store

_MIGRATIONS = (
    (
        """
        CREATE TABLE sequences (
            network TEXT NOT NULL,
            peer_id TEXT NOT NULL,
            last INTEGER NOT NULL CHECK (last > 0),
            PRIMARY KEY (network, peer_id)
        ) STRICT, WITHOUT ROWID
        """,
    ),
)
SCHEMA_VERSION = len(_MIGRATIONS)


class SequenceStore:
    """Hands out sequence numbers, strictly increasing for each network and peer key.

    Args:
        path: the database file; None = in memory, for a key that is used once.

    Raises:
        StoreTooNewError: a newer hostmesh wrote it; it was left unchanged.
        StoreError: it cannot be opened or is no such database.
    """

    def __init__(self, path: Path | None) -> None:
        self._store = Store(path, what="the sequence store", migrations=_MIGRATIONS)

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._store.close()

    def next_sequence(self, network: str, peer_id: PeerId, *, now: float) -> int:
        """Return a number greater than every one before; it is on disk when this returns.

        Args:
            network: the network's name.
            peer_id: whose records are numbered.
            now: unix seconds.

        Raises:
            StoreError: it could not be written; no number was used up, and no record may leave.
        """
        with self._store.transaction() as db:
            row = db.execute(
                "INSERT INTO sequences VALUES (?, ?, ?) ON CONFLICT (network, peer_id) DO UPDATE SET "
                "last = max(last + 1, excluded.last) RETURNING last",
                (network, peer_id, max(1, int(now * 1000))),
            ).fetchone()
        return int(row[0])
