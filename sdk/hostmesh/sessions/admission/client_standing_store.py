"""Keeps what a host saw of its clients' wallets: ``clients.sqlite3``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hostmesh.sessions.admission.client_standing import MAX_WALLETS, ClientStanding
from hostmesh.store import FeatureStore

_MIGRATIONS = (
    (
        """CREATE TABLE client_standing (
            wallet BLOB NOT NULL PRIMARY KEY CHECK (length(wallet) = 20),
            paid REAL NOT NULL CHECK (paid >= 0),
            overdue REAL NOT NULL CHECK (overdue >= 0),
            at_unix_s REAL NOT NULL
        ) STRICT, WITHOUT ROWID""",
    ),
)


class ClientStandingStore(FeatureStore):
    """One file. What was written when a method returns is still there after a kill -9.

    Args:
        path: the file, mode 0600; None = in memory.

    Raises:
        StoreError: it cannot be opened, or a newer hostmesh wrote it.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__(path, what="the store of clients", migrations=_MIGRATIONS)

    def load(self) -> list[ClientStanding]:
        """Return what is kept, of as many wallets as a host remembers, those seen last.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT wallet, paid, overdue, at_unix_s FROM client_standing ORDER BY at_unix_s DESC LIMIT ?",
                (MAX_WALLETS,),
            ).fetchall()
        return [
            ClientStanding(wallet=wallet, paid=paid, overdue=overdue, at_unix_s=at_unix_s)
            for wallet, paid, overdue, at_unix_s in rows
        ]

    def write(self, standing: ClientStanding, *, dropped: Iterable[bytes] = ()) -> None:
        """Keep one standing, and forget those that were dropped.

        Raises:
            StoreError: it cannot be written; everything is as before.
        """
        with self._store.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO client_standing VALUES (?, ?, ?, ?)",
                (standing.wallet, standing.paid, standing.overdue, standing.at_unix_s),
            )
            db.executemany("DELETE FROM client_standing WHERE wallet = ?", ((wallet,) for wallet in dropped))
