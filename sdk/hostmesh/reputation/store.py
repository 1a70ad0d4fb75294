"""Evidence about hosts, and what others' receipts say of them, on disk.

Hosts: at most ``max_hosts``; beyond, the one with the least evidence goes, the longest unseen first. Reviews: at most
:data:`MAX_REVIEWS`, of one reviewer :data:`MAX_REVIEWS_PER_REVIEWER`; beyond, the oldest of the network that has most.
"""

from __future__ import annotations

from pathlib import Path

from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.decay import day_of
from hostmesh.reputation.evidence import Evidence, EvidenceKind
from hostmesh.reputation.foreign import Review
from hostmesh.reputation.names import HostName
from hostmesh.reputation.reputations import Reason
from hostmesh.reputation.tally import Entry, HostEvidence
from hostmesh.store import FeatureStore

MAX_REVIEWS = 16_384
MAX_REVIEWS_PER_REVIEWER = 64
MAX_REASONS = 16
"""Of one host."""

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
    (
        """
        CREATE TABLE hosts (
            peer_id TEXT PRIMARY KEY,
            n INTEGER NOT NULL CHECK (n >= 0),
            updated_at_unix_s REAL NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE evidence (
            peer_id TEXT NOT NULL,
            kind TEXT NOT NULL,
            count INTEGER NOT NULL CHECK (count > 0),
            weight_micros INTEGER NOT NULL CHECK (weight_micros >= 0),
            day INTEGER NOT NULL,
            PRIMARY KEY (peer_id, kind)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE reasons (
            peer_id TEXT NOT NULL,
            number INTEGER NOT NULL,
            kind TEXT NOT NULL,
            at_unix_s REAL NOT NULL,
            weight_micros INTEGER NOT NULL,
            detail TEXT NOT NULL,
            false_positive_ppm INTEGER,
            PRIMARY KEY (peer_id, number)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE reviews (
            reviewer TEXT NOT NULL,
            host TEXT NOT NULL,
            operator TEXT NOT NULL,
            network TEXT NOT NULL,
            good INTEGER NOT NULL CHECK (good >= 0),
            bad INTEGER NOT NULL CHECK (bad >= 0),
            at_unix_s REAL NOT NULL,
            PRIMARY KEY (reviewer, host)
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX reviews_of_networks ON reviews (network, at_unix_s)",
        # What was counted before kinds were told apart: jobs, as of the day of the last one.
        "INSERT INTO hosts SELECT peer_id, good + bad, updated_at_unix_s FROM outcomes",
        """
        INSERT INTO evidence SELECT peer_id, 'job-finished', min(good, 1000000), min(good, 1000000) * 1000000,
            CAST(updated_at_unix_s / 86400 AS INTEGER) FROM outcomes WHERE good > 0
        """,
        """
        INSERT INTO evidence SELECT peer_id, 'job-failed', min(bad, 1000000), min(bad, 1000000) * 1000000,
            CAST(updated_at_unix_s / 86400 AS INTEGER) FROM outcomes WHERE bad > 0
        """,
        "DROP TABLE outcomes",
    ),
    (
        # From here on a host is a key under one wallet. Of what was counted before, nobody knows under which: what
        # speaks against a key is kept as the key's, which holds for all its names.
        "ALTER TABLE evidence RENAME TO evidence_of_keys",
        "ALTER TABLE reasons RENAME TO reasons_of_keys",
        "ALTER TABLE reviews RENAME TO reviews_of_keys",
        "DROP TABLE hosts",
        "DROP INDEX reviews_of_networks",
        """
        CREATE TABLE hosts (
            peer_id TEXT NOT NULL,
            operator TEXT NOT NULL,
            n INTEGER NOT NULL CHECK (n >= 0),
            updated_at_unix_s REAL NOT NULL,
            PRIMARY KEY (peer_id, operator)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE evidence (
            peer_id TEXT NOT NULL,
            operator TEXT NOT NULL,
            kind TEXT NOT NULL,
            count INTEGER NOT NULL CHECK (count > 0),
            weight_micros INTEGER NOT NULL CHECK (weight_micros >= 0),
            day INTEGER NOT NULL,
            PRIMARY KEY (peer_id, operator, kind)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE reasons (
            peer_id TEXT NOT NULL,
            operator TEXT NOT NULL,
            number INTEGER NOT NULL,
            kind TEXT NOT NULL,
            at_unix_s REAL NOT NULL,
            weight_micros INTEGER NOT NULL,
            detail TEXT NOT NULL,
            false_positive_ppm INTEGER,
            PRIMARY KEY (peer_id, operator, number)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE reviews (
            reviewer TEXT NOT NULL,
            host TEXT NOT NULL,
            operator TEXT NOT NULL,
            network TEXT NOT NULL,
            good INTEGER NOT NULL CHECK (good >= 0),
            bad INTEGER NOT NULL CHECK (bad >= 0),
            at_unix_s REAL NOT NULL,
            PRIMARY KEY (reviewer, host, operator)
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX reviews_of_networks ON reviews (network, at_unix_s)",
        """
        INSERT INTO evidence SELECT peer_id, '', kind, count, weight_micros, day FROM evidence_of_keys
            WHERE kind NOT IN ('job-finished', 'canary-passed')
        """,
        """
        INSERT INTO hosts SELECT peer_id, '', sum(count), (max(day) + 1) * 86400.0 FROM evidence GROUP BY peer_id
        """,
        """
        INSERT INTO reasons SELECT peer_id, '', number, kind, at_unix_s, weight_micros, detail, false_positive_ppm
            FROM reasons_of_keys
        """,
        "INSERT INTO reviews SELECT * FROM reviews_of_keys",
        "DROP TABLE evidence_of_keys",
        "DROP TABLE reasons_of_keys",
        "DROP TABLE reviews_of_keys",
    ),
)
SCHEMA_VERSION = len(_MIGRATIONS)
_EVIDENCE_OF_ONE = "SELECT kind, count, weight_micros, day FROM evidence WHERE peer_id = ? AND operator = ?"


class EvidenceStore(FeatureStore):
    """The evidence about every host.

    Args:
        path: the database file; None = in memory.
        max_hosts: most hosts, >= 1.
        max_reviews: most reviews, >= 1.

    Raises:
        StoreTooNewError: a newer hostmesh wrote it; it was left unchanged.
        StoreError: it cannot be opened or is no such database.
    """

    def __init__(self, path: Path | None, *, max_hosts: int = 10_000, max_reviews: int = MAX_REVIEWS) -> None:
        super().__init__(path, what="the store of reputations", migrations=_MIGRATIONS)
        self._max_hosts = max_hosts
        self._max_reviews = max_reviews

    # --- our own ---

    def add(self, host: HostName, evidence: Evidence, *, now: float) -> None:
        """Add to a host's evidence; on disk when it returns.

        Raises:
            StoreError: it could not be written; everything is as before.
        """
        with self._store.transaction() as db:
            before = _evidence_of(db.execute(_EVIDENCE_OF_ONE, host).fetchall())
            db.executemany(
                "INSERT OR REPLACE INTO evidence VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (*host, kind.value, entry.count, entry.weight_micros, entry.day)
                    for kind, entry in before.after(evidence, day_of(now)).entries.items()
                    if before.entries.get(kind) != entry
                ],
            )
            if not evidence.kind.is_good:
                db.execute(
                    "INSERT INTO reasons VALUES (?, ?, (SELECT coalesce(max(number), 0) + 1 FROM reasons WHERE "
                    "peer_id = ? AND operator = ?), ?, ?, ?, ?, ?)",
                    (
                        *host,
                        *host,
                        evidence.kind.value,
                        now,
                        evidence.weight_micros,
                        evidence.detail,
                        evidence.false_positive_ppm,
                    ),
                )
                db.execute(
                    "DELETE FROM reasons WHERE peer_id = ? AND operator = ? AND number <= "
                    "(SELECT max(number) FROM reasons WHERE peer_id = ? AND operator = ?) - ?",
                    (*host, *host, MAX_REASONS),
                )
            db.execute(
                "INSERT INTO hosts VALUES (?, ?, 1, ?) ON CONFLICT (peer_id, operator) DO UPDATE SET n = n + 1, "
                "updated_at_unix_s = max(updated_at_unix_s, excluded.updated_at_unix_s)",
                (*host, now),
            )
            too_many = max(0, int(db.execute("SELECT count(*) FROM hosts").fetchone()[0]) - self._max_hosts)
            gone = db.execute(
                "SELECT peer_id, operator FROM hosts ORDER BY n, updated_at_unix_s, peer_id, operator LIMIT ?",
                (too_many,),
            ).fetchall()
            for table in ("hosts", "evidence", "reasons"):
                db.executemany(
                    f"DELETE FROM {table} WHERE peer_id = ? AND operator = ?",  # noqa: S608 # a name from above
                    gone,
                )

    def of(self, host: HostName) -> HostEvidence:
        """Return the evidence about a host. Raises StoreError."""
        with self._store.reading() as db:
            return _evidence_of(db.execute(_EVIDENCE_OF_ONE, host).fetchall())

    def all(self) -> dict[HostName, HostEvidence]:
        """Return the evidence about every host. Raises StoreError."""
        with self._store.reading() as db:
            rows = db.execute("SELECT peer_id, operator, kind, count, weight_micros, day FROM evidence").fetchall()
        by_host: dict[HostName, list[tuple[str, int, int, int]]] = {}
        for peer_id, operator, *row in rows:
            by_host.setdefault(HostName(PeerId(peer_id), operator), []).append(tuple(row))
        return {host: _evidence_of(each) for host, each in by_host.items()}

    def reasons(self, host: HostName) -> tuple[Reason, ...]:
        """Return what last spoke against a host, the newest first. Raises StoreError."""
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT kind, at_unix_s, weight_micros, detail, false_positive_ppm FROM reasons WHERE peer_id = ? "
                "AND operator = ? ORDER BY number DESC",
                host,
            ).fetchall()
        return tuple(
            Reason(kind=EvidenceKind(kind), at_unix_s=at, weight_micros=weight, detail=detail, false_positive_ppm=rate)
            for kind, at, weight, detail, rate in rows
        )

    def __len__(self) -> int:
        with self._store.reading() as db:
            return int(db.execute("SELECT count(*) FROM hosts").fetchone()[0])

    # --- others' ---

    def put_review(self, review: Review) -> None:
        """Keep a review, in place of the reviewer's earlier one of the host.

        Raises:
            StoreError: it could not be written; everything is as before.
        """
        with self._store.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO reviews VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    review.reviewer,
                    review.host,
                    review.operator,
                    review.network,
                    review.good,
                    review.bad,
                    review.at_unix_s,
                ),
            )
            db.execute(
                "DELETE FROM reviews WHERE reviewer = ? AND (host, operator) IN (SELECT host, operator FROM reviews "
                "WHERE reviewer = ? ORDER BY at_unix_s DESC, host, operator LIMIT -1 OFFSET ?)",
                (review.reviewer, review.reviewer, MAX_REVIEWS_PER_REVIEWER),
            )
            if int(db.execute("SELECT count(*) FROM reviews").fetchone()[0]) > self._max_reviews:
                db.execute(
                    "DELETE FROM reviews WHERE (reviewer, host, operator) IN (SELECT reviewer, host, operator FROM "
                    "reviews WHERE network = "
                    "(SELECT network FROM reviews GROUP BY network ORDER BY count(*) DESC, network LIMIT 1) "
                    "ORDER BY at_unix_s, reviewer, host, operator LIMIT 1)"
                )

    def reviews(self) -> list[Review]:
        """Return every review. Raises StoreError."""
        with self._store.reading() as db:
            rows = db.execute("SELECT reviewer, host, operator, network, good, bad, at_unix_s FROM reviews").fetchall()
        return [
            Review(
                reviewer=reviewer,
                host=PeerId(host),
                operator=operator,
                network=network,
                good=good,
                bad=bad,
                at_unix_s=at,
            )
            for reviewer, host, operator, network, good, bad, at in rows
        ]


def _evidence_of(rows: list[tuple[str, int, int, int]]) -> HostEvidence:
    return HostEvidence(
        {EvidenceKind(kind): Entry(count=count, weight_micros=weight, day=day) for kind, count, weight, day in rows}
    )
