"""What discovery keeps on disk: the sequence numbers of our own records, and the keys that are banned.

A sequence number is on disk before its record leaves. After a power cut the clock has moved past what the last second
may have lost. Two records of one sequence would look like equivocation, so each number is handed out once: max(stored +
1, unix milliseconds).
"""

from __future__ import annotations

from pathlib import Path

from hostmesh.discovery.bans import MAX_BANS, Ban, Familiarity, rooms_of
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
_BAN_MIGRATIONS = (
    (
        """
        CREATE TABLE bans (
            network TEXT NOT NULL,
            peer_id TEXT NOT NULL,
            banned_at_unix_s REAL NOT NULL,
            familiarity INTEGER NOT NULL CHECK (familiarity BETWEEN 0 AND 2),
            introducer TEXT,
            proof BLOB,
            PRIMARY KEY (network, peer_id)
        ) STRICT
        """,
    ),
    ("ALTER TABLE bans ADD COLUMN subnet TEXT NOT NULL DEFAULT 'nowhere'",),
)


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


class BanStore:
    """Keeps bans, in the order and the bounds of :class:`hostmesh.discovery.bans.BanList`, each network for itself.

    Several processes may share the file.

    Args:
        path: the database file; None = in memory.

    Raises:
        StoreTooNewError: a newer hostmesh wrote it; it was left unchanged.
        StoreError: it cannot be opened or is no such database.
    """

    def __init__(self, path: Path | None) -> None:
        self._store = Store(path, what="the store of bans", migrations=_BAN_MIGRATIONS)

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._store.close()

    def load(self, network: str) -> list[Ban]:
        """Return the bans of a network, the one that was put in first first.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT peer_id, banned_at_unix_s, familiarity, introducer, proof, subnet FROM bans "
                "WHERE network = ? ORDER BY rowid",
                (network,),
            ).fetchall()
        return [
            Ban(
                peer_id=PeerId(peer_id),
                banned_at_unix_s=banned_at,
                familiarity=Familiarity(familiarity),
                introducer=None if introducer is None else PeerId(introducer),
                proof=proof,
                subnet=subnet,
            )
            for peer_id, banned_at, familiarity, introducer, proof, subnet in rows
        ]

    def put(self, network: str, ban: Ban) -> None:
        """Keep a ban; what there is no room for any more goes. A key that is there only gains a proof.

        Raises:
            StoreError: it could not be written; everything is as before.
        """
        with self._store.transaction() as db:
            db.execute(
                "INSERT INTO bans VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (network, peer_id) DO UPDATE SET "
                "proof = coalesce(proof, excluded.proof)",
                (
                    network,
                    ban.peer_id,
                    ban.banned_at_unix_s,
                    int(ban.familiarity),
                    ban.introducer,
                    ban.proof,
                    ban.subnet,
                ),
            )
            for room in rooms_of(MAX_BANS):
                inside = "network = :network"
                if room.is_of_strangers:
                    inside += f" AND familiarity = {Familiarity.STRANGER:d}"
                if room.is_of_subnet:
                    inside += " AND subnet = :subnet"
                db.execute(
                    f"DELETE FROM bans WHERE rowid IN (SELECT rowid FROM bans WHERE {inside} "  # noqa: S608
                    "ORDER BY familiarity DESC, rowid DESC LIMIT -1 OFFSET :most)",
                    {"network": network, "subnet": ban.subnet, "most": room.most},
                )
