"""What discovery keeps on disk: the sequence numbers of our own records, and the keys that are banned.

A sequence number is on disk before its record leaves. After a power cut the clock has moved past what the last second
may have lost. Two records of one sequence would look like equivocation, so each number is handed out once: max(stored +
1, unix milliseconds).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hostmesh.discovery.bans import MAX_BANS, Ban
from hostmesh.discovery.room import Familiarity, rooms_of
from hostmesh.net.peer_id import PeerId
from hostmesh.store import FeatureStore

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
    # Eight bytes, the highest first: SQLite's numbers end at 2**63.
    ("ALTER TABLE bans ADD COLUMN epoch BLOB NOT NULL DEFAULT x'0000000000000000'",),
)
_EPOCH_BYTES = 8


class SequenceStore(FeatureStore):
    """Hands out sequence numbers, strictly increasing for each network and peer key.

    Args:
        path: the database file; None = in memory, for a key that is used once.

    Raises:
        StoreTooNewError: a newer hostmesh wrote it; it was left unchanged.
        StoreError: it cannot be opened or is no such database.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__(path, what="the sequence store", migrations=_MIGRATIONS)

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


class BanStore(FeatureStore):
    """Keeps bans, in the order and the bounds of :class:`hostmesh.discovery.bans.BanList`, each network for itself.

    Several processes may share the file.

    Args:
        path: the database file; None = in memory.

    Raises:
        StoreTooNewError: a newer hostmesh wrote it; it was left unchanged.
        StoreError: it cannot be opened or is no such database.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__(path, what="the store of bans", migrations=_BAN_MIGRATIONS)

    def load(self, network: str) -> list[Ban]:
        """Return the bans of a network, the one that was put in first first.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._store.reading() as db:
            rows = db.execute(f"{_SELECT_BANS} WHERE network = ? ORDER BY rowid", (network,)).fetchall()
        return [_to_ban(row) for row in rows]

    def put(self, network: str, ban: Ban) -> None:
        """Keep a ban; what there is no room for any more goes. A key that is there gains a higher epoch or a proof.

        Raises:
            StoreError: it could not be written; everything is as before.
        """
        with self._store.transaction() as db:
            row = db.execute(f"{_SELECT_BANS} WHERE network = ? AND peer_id = ?", (network, ban.peer_id)).fetchone()
            if row is not None:
                ban = _to_ban(row).joined(ban)
            db.execute(
                "INSERT INTO bans VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (network, peer_id) DO UPDATE SET "
                "proof = excluded.proof, epoch = excluded.epoch",
                (
                    network,
                    ban.peer_id,
                    ban.banned_at_unix_s,
                    int(ban.familiarity),
                    ban.introducer,
                    ban.proof,
                    ban.subnet,
                    ban.epoch.to_bytes(_EPOCH_BYTES, "big"),
                ),
            )
            delete_beyond_room(db.execute, "bans", network=network, subnet=ban.subnet, most=MAX_BANS)


_SELECT_BANS = "SELECT peer_id, banned_at_unix_s, familiarity, introducer, proof, subnet, epoch FROM bans"


def _to_ban(row: tuple[str, float, int, str | None, bytes | None, str, bytes]) -> Ban:
    peer_id, banned_at, familiarity, introducer, proof, subnet, epoch = row
    return Ban(
        peer_id=PeerId(peer_id),
        banned_at_unix_s=banned_at,
        familiarity=Familiarity(familiarity),
        introducer=None if introducer is None else PeerId(introducer),
        proof=proof,
        subnet=subnet,
        epoch=int.from_bytes(epoch, "big"),
    )


def delete_beyond_room(
    execute: Callable[[str, dict[str, object]], object],
    table: str,
    *,
    network: str,
    subnet: str,
    most: int,
    is_owners_word: str = "TRUE",
) -> None:
    """Delete what there is no room for, as :func:`hostmesh.discovery.room.make_room` takes it out.

    Args:
        execute: of a database in a transaction.
        table: has the columns network, subnet and familiarity, and a rowid that counts up.
        network: whose rows; each network has room of its own.
        subnet: of the row that was put in.
        most: rows.
        is_owners_word: the condition in SQL.
    """
    for room in rooms_of(most):
        inside = "network = :network"
        if room.is_of_strangers:
            inside += f" AND familiarity = {Familiarity.STRANGER:d}"
        if room.is_of_subnet:
            inside += " AND subnet = :subnet"
        execute(
            f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE {inside} "  # noqa: S608
            f"ORDER BY familiarity DESC, ({is_owners_word}) DESC, rowid DESC LIMIT -1 OFFSET :most)",
            {"network": network, "subnet": subnet, "most": room.most},
        )
