"""The papers of the receipts that are kept: what was signed to open their sessions, and the quotes of their jobs.

With them, receipts are listed, shown to others, exported and settled. A client's receipts tell who used which host for
which model, when and how much: they are shared with other clients only where this one agreed to it, session by session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hostmesh.errors import ReceiptError, StoreError
from hostmesh.receipts.bundle import JobPapers, ReceiptPapers, SessionBundle, SessionPapers
from hostmesh.receipts.receipt import SignedReceipt, open_sealed
from hostmesh.receipts.terms import SessionTerms
from hostmesh.store import Store

HOST, CLIENT = "host", "client"
"""Whose row it is: of a host that issued it, or of a client that countersigned it."""
KEPT_S = 90 * 86_400
"""How long papers and receipts are kept. Export them to keep them for longer."""
MAX_SESSIONS = 65_536
MAX_QUOTES = 131_072
"""In the file, as of sessions, beside those of receipts that are kept; beyond, the oldest go that no receipt needs."""
_DROPPED_AT_ONCE = 64
_LOOKED_AT_ONCE = 16
"""Of papers that may have to go, with each that comes: more than come, so that all are looked at in turn."""
_UNNEEDED_QUOTES = (
    "SELECT q.id FROM quotes q LEFT JOIN sessions s ON s.id = q.session WHERE q.id IN ({}) AND NOT EXISTS (SELECT 1 "
    "FROM receipts r WHERE r.side = s.side AND r.session_id = s.session_id AND r.job_id = q.job_id)"
)
_UNNEEDED_SESSIONS = (
    "SELECT s.id FROM sessions s WHERE s.id IN ({}) AND NOT EXISTS (SELECT 1 FROM receipts r WHERE r.side = s.side "
    "AND r.session_id = s.session_id) AND NOT EXISTS (SELECT 1 FROM quotes q WHERE q.session = s.id)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFilter:
    """Which sessions are wanted; None = any."""

    side: str | None = None
    """:data:`HOST` or :data:`CLIENT`."""
    network: str | None = None
    host_peer_id: bytes | None = None
    """Raw multihash."""
    session_id: bytes | None = None
    since_unix_s: int | None = None
    """Sessions with a receipt issued then or later."""
    shared_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSession:
    """A session whose receipts are kept."""

    side: str
    network: str
    host_peer_id: bytes
    session_id: bytes
    is_shared: bool
    bundle: SessionBundle | None
    """None: its papers are not kept, so that nobody else can verify its receipts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTotals:
    """What the receipts of one session come to."""

    jobs: int
    receipts: int
    issued_micros: int
    countersigned_micros: int
    first_unix_s: int
    """When the first receipt was issued."""
    last_unix_s: int
    last: SignedReceipt
    """One of the latest."""


class PaperStore:
    """Papers in the file of a :class:`hostmesh.receipts.store.ReceiptStore`. Every method raises StoreError like it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._looked_at = {"sessions": 0, "quotes": 0}
        """Where the search for papers that no receipt needs goes on, by table."""

    def put_session(self, session: SessionTerms, papers: SessionPapers, *, is_host: bool) -> bool:
        """Keep what was signed to open a session. Idempotent.

        Args:
            session: its terms.
            papers: of this session.
            is_host: we are its host; else its client.

        Returns:
            Whether they were not kept before.
        """
        terms = session.authorization
        with self._store.transaction() as db:
            ended = "SELECT id FROM sessions WHERE expires_at_unix_s <= ? LIMIT ?"
            over = (terms.issued_at_unix_s - KEPT_S, _DROPPED_AT_ONCE)
            db.execute(f"DELETE FROM quotes WHERE session IN ({ended})", over)  # noqa: S608 - a constant
            db.execute(f"DELETE FROM sessions WHERE id IN ({ended})", over)  # noqa: S608 - a constant
            added = db.execute(
                "INSERT OR IGNORE INTO sessions (side, network, host, session_id, authorization, delegation, "
                "grant_envelope, expires_at_unix_s) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    HOST if is_host else CLIENT,
                    session.network,
                    terms.host_peer_id,
                    session.session_id,
                    papers.authorization,
                    papers.delegation,
                    papers.grant,
                    terms.expires_at_unix_s,
                ),
            ).rowcount
            self._drop_unneeded(db.execute, "sessions", MAX_SESSIONS, _UNNEEDED_SESSIONS)
        return added > 0

    def put_quote(self, session: SessionTerms, job_id: bytes, quote: bytes, *, is_host: bool) -> bool:
        """Keep the quote of a job, after :meth:`put_session` of its session. Idempotent.

        Returns:
            False: nothing was kept, since the session's papers are not (any more): put them again, and then the quote.
        """
        with self._store.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO quotes (session, job_id, envelope) SELECT id, ?, ? FROM sessions "
                "WHERE side = ? AND session_id = ? AND host = ? AND network = ?",
                (
                    job_id,
                    quote,
                    HOST if is_host else CLIENT,
                    session.session_id,
                    session.authorization.host_peer_id,
                    session.network,
                ),
            )
            known = db.execute(
                "SELECT 1 FROM sessions WHERE side = ? AND session_id = ? AND host = ? AND network = ?",
                (
                    HOST if is_host else CLIENT,
                    session.session_id,
                    session.authorization.host_peer_id,
                    session.network,
                ),
            ).fetchone()
            self._drop_unneeded(db.execute, "quotes", MAX_QUOTES, _UNNEEDED_QUOTES)
        return known is not None

    def set_shared(self, host_peer_id: bytes, session_id: bytes, is_shared: bool, *, network: str) -> bool:
        """Agree, or no longer agree, to show this client's receipts of a session to others. At first it does not.

        Hosts choose the ids of sessions: network, host and id together name one.

        Returns:
            Whether there is such a session.
        """
        with self._store.transaction() as db:
            changed = db.execute(
                "UPDATE sessions SET is_shared = ? WHERE side = ? AND network = ? AND host = ? AND session_id = ?",
                (int(is_shared), CLIENT, network, host_peer_id, session_id),
            ).rowcount
        return changed > 0

    def clients(self) -> frozenset[bytes]:
        """Return the wallets of this user's own sessions, 20 bytes each: of those that are kept."""
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT network, envelope FROM receipts WHERE side = ? GROUP BY network, host, session_id", (CLIENT,)
            ).fetchall()
        return frozenset(opened(self._store, network, envelope).receipt.client for network, envelope in rows)

    def sessions(self, wanted: KeptFilter) -> Iterator[KeptSession]:
        """Return the sessions whose receipts are kept, by the time of their first receipt, one after the other.

        What is written meanwhile may be there or not.
        """
        with self._store.reading() as db:
            keys = db.execute(
                "SELECT r.side, r.network, r.host, r.session_id, s.id, coalesce(s.is_shared, 0) "
                "FROM receipts r LEFT JOIN sessions s ON "
                "s.side = r.side AND s.session_id = r.session_id AND s.host = r.host AND s.network = r.network "
                "WHERE (?1 IS NULL OR r.side = ?1) AND (?2 IS NULL OR r.network = ?2) "
                "AND (?3 IS NULL OR r.host = ?3) AND (?4 IS NULL OR r.session_id = ?4) "
                "AND (NOT ?6 OR s.is_shared) "
                "GROUP BY r.side, r.network, r.host, r.session_id "
                "HAVING ?5 IS NULL OR max(r.issued_at_unix_s) >= ?5 ORDER BY min(r.id)",
                (
                    wanted.side,
                    wanted.network,
                    wanted.host_peer_id,
                    wanted.session_id,
                    wanted.since_unix_s,
                    wanted.shared_only,
                ),
            ).fetchall()
        # Papers and receipts only when it is their turn: all of them may be more than the memory.
        for side, network, host, session_id, row, is_shared in keys:
            yield KeptSession(
                side=side,
                network=network,
                host_peer_id=host,
                session_id=session_id,
                is_shared=bool(is_shared),
                bundle=None if row is None else self._bundle(side, network, host, session_id, row),
            )

    def totals(self, kept: KeptSession) -> KeptTotals:
        """Return what the receipts of a session come to.

        Raises:
            StoreError: also for a receipt that no hostmesh wrote.
        """
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT job_id, cost_micros, countersignature != x'', issued_at_unix_s, envelope FROM receipts "
                "WHERE side = ? AND network = ? AND host = ? AND session_id = ? ORDER BY sequence",
                (kept.side, kept.network, kept.host_peer_id, kept.session_id),
            ).fetchall()
        # By sequence: of each job, the last one stays.
        money = self._store.money
        issued = {job_id: money(cost) for job_id, cost, *_ in rows}
        countersigned = {job_id: money(cost) for job_id, cost, is_countersigned, *_ in rows if is_countersigned}
        times = [at for _, _, _, at, _ in rows]
        return KeptTotals(
            jobs=len(issued),
            receipts=len(rows),
            issued_micros=sum(issued.values()),
            countersigned_micros=sum(countersigned.values()),
            first_unix_s=min(times),
            last_unix_s=max(times),
            last=opened(self._store, kept.network, rows[-1][4]),
        )

    def _drop_unneeded(self, run: Callable[..., Any], table: str, most: int, unneeded: str) -> None:
        """Look at some of the papers that are not among the newest, and drop those that no receipt needs."""
        after = self._looked_at[table]
        rows = run(
            f"SELECT id FROM {table} WHERE id > ? AND id <= (SELECT max(id) FROM {table}) - ? ORDER BY id LIMIT ?",  # noqa: S608 - constants
            (after, most, _LOOKED_AT_ONCE),
        ).fetchall()
        # At the end of what is old, from the start again.
        self._looked_at[table] = rows[-1][0] if len(rows) == _LOOKED_AT_ONCE else 0
        if rows:
            places = ", ".join("?" * len(rows))
            run(
                f"DELETE FROM {table} WHERE id IN ({unneeded.format(places)})",  # noqa: S608 - constants
                tuple(row for (row,) in rows),
            )

    def _bundle(self, side: str, network: str, host: bytes, session_id: bytes, row: int) -> SessionBundle | None:
        with self._store.reading() as db:
            found = db.execute(
                "SELECT authorization, delegation, grant_envelope FROM sessions WHERE id = ?", (row,)
            ).fetchone()
        if found is None:
            return None
        authorization, delegation, grant = found
        return SessionBundle(
            session=SessionPapers(network=network, authorization=authorization, grant=grant, delegation=delegation),
            jobs=self._jobs(side, network, host, session_id, row),
        )

    def _jobs(self, side: str, network: str, host: bytes, session_id: bytes, row: int) -> tuple[JobPapers, ...]:
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT r.job_id, coalesce(q.envelope, x''), r.envelope, r.countersignature FROM receipts r "
                "LEFT JOIN quotes q ON q.session = ? AND q.job_id = r.job_id "
                "WHERE r.side = ? AND r.network = ? AND r.host = ? AND r.session_id = ? ORDER BY r.sequence",
                (row, side, network, host, session_id),
            ).fetchall()
        jobs: dict[bytes, tuple[bytes, list[ReceiptPapers]]] = {}
        for job_id, quote, envelope, countersignature in rows:
            _, receipts = jobs.setdefault(job_id, (quote, []))
            receipts.append(ReceiptPapers(envelope=envelope, countersignature=countersignature))
        return tuple(
            JobPapers(job_id=job_id, quote=quote, receipts=tuple(receipts))
            for job_id, (quote, receipts) in jobs.items()
        )


def opened(store: Store, network: str, envelope: bytes) -> SignedReceipt:
    """Return a receipt that is kept.

    Raises:
        StoreError: it is none.
    """
    try:
        return open_sealed(envelope, network=network)
    except ReceiptError as error:
        raise not_ours(store) from error


def not_ours(store: Store) -> StoreError:
    """Return the error of a row that is no receipt as hostmesh keeps it."""
    return StoreError(
        f"{store.name} holds a receipt that no hostmesh wrote",
        path=store.name,
        remedy="move the file away; it is made anew",
    )
