"""Keeps revoked epochs on disk: a restart brings no stolen machine back."""

from __future__ import annotations

from pathlib import Path

from hostmesh.discovery.revocations import MAX_REVOCATIONS, RevokedEpoch
from hostmesh.discovery.room import Familiarity
from hostmesh.discovery.store import delete_beyond_room
from hostmesh.net.peer_id import PeerId
from hostmesh.store import FeatureStore

_MIGRATIONS = (
    (
        """
        CREATE TABLE revocations (
            network TEXT NOT NULL,
            operator BLOB NOT NULL CHECK (length(operator) = 20),
            peer_id TEXT NOT NULL,
            least_epoch BLOB NOT NULL CHECK (length(least_epoch) = 8),
            told_at_unix_s REAL NOT NULL,
            expires_at_unix_s REAL NOT NULL,
            familiarity INTEGER NOT NULL CHECK (familiarity BETWEEN 0 AND 2),
            subnet TEXT NOT NULL,
            signed BLOB,
            PRIMARY KEY (network, operator, peer_id)
        ) STRICT
        """,
    ),
)
_EPOCH_BYTES = 8
"""As a number an epoch of 2**63 and more would not fit SQLite's."""


class RevocationStore(FeatureStore):
    """Keeps entries in the order and the bounds of :class:`hostmesh.discovery.revocations.RevocationBook`.

    Each network has room of its own. Several processes may share the file.

    Args:
        path: the database file; None = in memory.

    Raises:
        StoreTooNewError: a newer hostmesh wrote it; it was left unchanged.
        StoreError: it cannot be opened or is no such database.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__(path, what="the store of revocations", migrations=_MIGRATIONS)

    def load(self, network: str) -> list[RevokedEpoch]:
        """Return the entries of a network, the one that was put in first first.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT operator, peer_id, least_epoch, told_at_unix_s, expires_at_unix_s, familiarity, subnet, "
                "signed FROM revocations WHERE network = ? ORDER BY rowid",
                (network,),
            ).fetchall()
        return [
            RevokedEpoch(
                operator=operator,
                peer_id=PeerId(peer_id),
                least_epoch=int.from_bytes(least_epoch, "big"),
                told_at_unix_s=told_at,
                expires_at_unix_s=expires_at,
                familiarity=Familiarity(familiarity),
                subnet=subnet,
                signed=signed,
            )
            for operator, peer_id, least_epoch, told_at, expires_at, familiarity, subnet, signed in rows
        ]

    def put(self, network: str, entry: RevokedEpoch, *, now: float) -> None:
        """Keep an entry; what there is no room for any more goes, and what has expired.

        An epoch that another process wrote is never lowered.

        Raises:
            StoreError: it could not be written; everything is as before.
        """
        with self._store.transaction() as db:
            db.execute("DELETE FROM revocations WHERE expires_at_unix_s < ?", (now,))
            db.execute(
                "INSERT INTO revocations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (network, operator, peer_id) DO UPDATE SET "
                # Of equal length, the highest byte first: the greater text is the greater number.
                "told_at_unix_s = iif(excluded.least_epoch > least_epoch, excluded.told_at_unix_s, told_at_unix_s), "
                "least_epoch = max(least_epoch, excluded.least_epoch), "
                "expires_at_unix_s = max(expires_at_unix_s, excluded.expires_at_unix_s), "
                "familiarity = max(familiarity, excluded.familiarity), "
                "signed = coalesce(excluded.signed, signed)",
                (
                    network,
                    entry.operator,
                    entry.peer_id,
                    entry.least_epoch.to_bytes(_EPOCH_BYTES, "big"),
                    entry.told_at_unix_s,
                    entry.expires_at_unix_s,
                    int(entry.familiarity),
                    entry.subnet,
                    entry.signed,
                ),
            )
            delete_beyond_room(
                db.execute,
                "revocations",
                network=network,
                subnet=entry.subnet,
                most=MAX_REVOCATIONS,
                is_owners_word="signed IS NOT NULL",
            )
