"""Scores of peers as neighbours on disk: for those that this node met, across restarts. Never told to anybody."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.peer_score import PeerScore
from hostmesh.reputation.probation import Suspension
from hostmesh.store import FeatureStore

_MIGRATIONS = (
    (
        """
        CREATE TABLE peers (
            peer_id TEXT PRIMARY KEY,
            at_unix_s REAL NOT NULL,
            good REAL NOT NULL,
            bad REAL NOT NULL,
            row INTEGER NOT NULL,
            events INTEGER NOT NULL,
            rtt_s REAL,
            good_days REAL NOT NULL,
            bad_days REAL NOT NULL,
            day INTEGER NOT NULL,
            day_balance REAL NOT NULL,
            times INTEGER,
            since_unix_s REAL,
            reason TEXT,
            CHECK ((times IS NULL) = (since_unix_s IS NULL) AND (times IS NULL) = (reason IS NULL))
        ) STRICT, WITHOUT ROWID
        """,
    ),
)
SCHEMA_VERSION = len(_MIGRATIONS)


class PeerScoreStore(FeatureStore):
    """The score of every peer.

    Args:
        path: the database file; None = in memory.
        max_peers: most rows, >= 1; beyond, the peer of the oldest event goes.

    Raises:
        StoreTooNewError: a newer hostmesh wrote it; it was left unchanged.
        StoreError: it cannot be opened or is no such database.
    """

    def __init__(self, path: Path | None, *, max_peers: int) -> None:
        super().__init__(path, what="the store of neighbours", migrations=_MIGRATIONS)
        self._max_peers = max_peers

    def load(self) -> list[tuple[PeerId, PeerScore]]:
        """Return every score, that of the oldest event first. Raises StoreError."""
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT peer_id, at_unix_s, good, bad, row, events, rtt_s, good_days, bad_days, day, day_balance, "
                "times, since_unix_s, reason FROM peers ORDER BY at_unix_s, peer_id"
            ).fetchall()
        return [
            (
                PeerId(row[0]),
                PeerScore(
                    at_unix_s=row[1],
                    good=row[2],
                    bad=row[3],
                    row=row[4],
                    events=row[5],
                    rtt_s=row[6],
                    good_days=row[7],
                    bad_days=row[8],
                    day=row[9],
                    day_balance=row[10],
                    suspension=None
                    if row[11] is None
                    else Suspension(times=row[11], since_unix_s=row[12], reason=row[13]),
                ),
            )
            for row in rows
        ]

    def put(self, scores: Iterable[tuple[PeerId, PeerScore]]) -> None:
        """Keep scores, in place of earlier ones; all or none.

        Raises:
            StoreError: they could not be written; everything is as before.
        """
        with self._store.transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO peers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [_row(peer_id, score) for peer_id, score in scores],
            )
            db.execute(
                "DELETE FROM peers WHERE peer_id IN (SELECT peer_id FROM peers ORDER BY at_unix_s, peer_id "
                "LIMIT max(0, (SELECT count(*) FROM peers) - ?))",
                (self._max_peers,),
            )


def _row(peer_id: PeerId, score: PeerScore) -> tuple[str | float | None, ...]:
    suspension = score.suspension
    barred = (None,) * 3 if suspension is None else (suspension.times, suspension.since_unix_s, suspension.reason)
    return (
        peer_id,
        score.at_unix_s,
        score.good,
        score.bad,
        score.row,
        score.events,
        score.rtt_s,
        score.good_days,
        score.bad_days,
        score.day,
        score.day_balance,
        *barred,
    )
