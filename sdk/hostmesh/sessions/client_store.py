"""A client's sessions, budgets and revocations on disk.

An authorisation is written before it is sent, and what is acknowledged before the acknowledgement leaves. Several
programs may share a file: each resumes the sessions of its own peer key, and all share the budgets of a network.

Money is kept as decimal text: SQLite's integers have 63 bits and a limit has 64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from hostmesh.errors import HostmeshError, SessionError, StoreError, UsageError
from hostmesh.net.peer_id import PeerId, peer_id_from_bytes, peer_id_to_bytes
from hostmesh.sessions.authorization import message_from_terms, terms_from_message
from hostmesh.sessions.budget import Budget
from hostmesh.sessions.client_record import ClientRecord, ClientState
from hostmesh.store import FeatureStore
from hostmesh.v1 import session_pb2 as pb

_Execute = Callable[..., Any]
"""Runs a statement within the transaction that is open."""

MAX_SESSIONS = 4096
"""Sessions of one network that have not ended, of all programs that share the file."""
_KEPT_S = 86_400
"""How long a session is kept after its end: its last jobs may still be paid for."""
_PURGED_AT_ONCE = 64
_MIGRATIONS = (
    (
        """
        CREATE TABLE sessions (
            id INTEGER PRIMARY KEY,
            network TEXT NOT NULL,
            client_peer_id BLOB NOT NULL,
            digest BLOB NOT NULL,
            authorization BLOB NOT NULL,
            delegation BLOB,
            state TEXT NOT NULL,
            end_reason TEXT NOT NULL,
            session_id BLOB NOT NULL,
            grant_envelope BLOB NOT NULL,
            currency TEXT NOT NULL,
            limit_micros TEXT NOT NULL,
            spent_micros TEXT NOT NULL,
            expires_at_unix_s INTEGER NOT NULL,
            UNIQUE (network, digest)
        ) STRICT
        """,
        "CREATE INDEX sessions_by_end ON sessions (expires_at_unix_s)",
        """
        CREATE TABLE budgets (
            id INTEGER PRIMARY KEY,
            network TEXT NOT NULL,
            currency TEXT NOT NULL,
            limit_micros TEXT,
            spent_micros TEXT NOT NULL,
            UNIQUE (network, currency)
        ) STRICT
        """,
        """
        CREATE TABLE revocations (
            id INTEGER PRIMARY KEY,
            network TEXT NOT NULL,
            digest BLOB NOT NULL,
            host_peer_id BLOB NOT NULL,
            revocation BLOB NOT NULL,
            expires_at_unix_s INTEGER NOT NULL,
            UNIQUE (network, digest, host_peer_id)
        ) STRICT
        """,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingRevocation:
    """A revocation that a host has not taken yet."""

    peer_id: PeerId
    """The host."""
    digest: bytes
    """Of the delegation, 32 bytes."""
    revocation: pb.DelegationRevocation


class ClientStore(FeatureStore):
    """What a client keeps of its sessions on one network.

    Args:
        path: the database file; None = in memory.
        network: the network's name.

    Raises:
        StoreTooNewError: a newer hostmesh wrote it; it was left unchanged.
        StoreError: it cannot be opened or is no such database.
    """

    def __init__(self, path: Path | None, *, network: str) -> None:
        super().__init__(path, what="the store of this client's sessions", migrations=_MIGRATIONS)
        self._network = network

    def load(self, peer_id: PeerId, now: float) -> list[ClientRecord]:
        """Return the sessions of a peer key that may still be paid for, the oldest first.

        Raises:
            StoreError: it cannot be read, or holds what no hostmesh wrote.
        """
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT digest, authorization, delegation, state, end_reason, session_id, grant_envelope, "
                "expires_at_unix_s, spent_micros FROM sessions "
                "WHERE network = ? AND client_peer_id = ? AND expires_at_unix_s > ? ORDER BY id",
                (self._network, peer_id_to_bytes(peer_id), now - _KEPT_S),
            ).fetchall()
        try:
            return [_record_of(*row, spent_micros=self._store.money(spent)) for *row, spent in rows]
        except (ValueError, DecodeError, HostmeshError) as error:
            raise self._damaged() from error

    def add_pending(self, record: ClientRecord, now: float) -> None:
        """Write a session before its authorisation is sent, if the budget covers it.

        Raises:
            BudgetExceededError: it does not.
            SessionError: TOO_MANY_SESSIONS.
            StoreError: it could not be written. Nothing was changed in any case.
        """
        terms = record.terms
        with self._store.transaction() as db:
            db.execute(
                "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at_unix_s <= ? LIMIT ?)",
                (now - _KEPT_S, _PURGED_AT_ONCE),
            )
            (count,) = db.execute(
                "SELECT count(*) FROM sessions WHERE network = ? AND state != ? AND expires_at_unix_s > ?",
                (self._network, ClientState.CLOSED.value, now),
            ).fetchone()
            if count >= MAX_SESSIONS:
                raise SessionError(
                    f"{count} sessions are open", reason="TOO_MANY_SESSIONS", remedy="close some that are not used"
                )
            self._budget(db.execute, terms.currency, now).require(terms.spending_limit_micros)
            db.execute(
                "INSERT INTO sessions (network, client_peer_id, digest, authorization, delegation, state, end_reason, "
                "session_id, grant_envelope, currency, limit_micros, spent_micros, expires_at_unix_s) "
                "VALUES (?, ?, ?, ?, ?, ?, '', x'', x'', ?, ?, '0', ?)",
                (
                    self._network,
                    terms.client_peer_id,
                    record.digest,
                    message_from_terms(terms, record.signature).SerializeToString(),
                    None if record.delegation is None else record.delegation.SerializeToString(),
                    ClientState.PENDING.value,
                    terms.currency,
                    str(terms.spending_limit_micros),
                    record.expires_at_unix_s,
                ),
            )

    def activate(self, digest: bytes, *, session_id: bytes, grant: bytes, expires_at_unix_s: int) -> None:
        """Write that the host granted a session.

        Raises:
            StoreError: it could not be written; nothing was changed.
        """
        with self._store.transaction() as db:
            db.execute(
                "UPDATE sessions SET state = ?, session_id = ?, grant_envelope = ?, expires_at_unix_s = ? "
                "WHERE network = ? AND digest = ?",
                (ClientState.ACTIVE.value, session_id, grant, expires_at_unix_s, self._network, digest),
            )

    def has_session(self, session_id: bytes, *, but: bytes) -> bool:
        """Return whether a session has this id, other than the one of the digest ``but``; also one that ended.

        Raises:
            StoreError: it cannot be read.
        """
        with self._store.reading() as db:
            row = db.execute(
                "SELECT 1 FROM sessions WHERE network = ? AND session_id = ? AND digest != ? LIMIT 1",
                (self._network, session_id, but),
            ).fetchone()
        return row is not None

    def end(self, digest: bytes, state: ClientState, end_reason: str) -> None:
        """Write that a session is CLOSING or CLOSED.

        Raises:
            StoreError: it could not be written; nothing was changed.
        """
        with self._store.transaction() as db:
            db.execute(
                "UPDATE sessions SET state = ?, end_reason = ? WHERE network = ? AND digest = ?",
                (state.value, end_reason, self._network, digest),
            )

    def forget(self, digest: bytes) -> None:
        """Forget a session that was never opened.

        Raises:
            StoreError: it could not be written; nothing was changed.
        """
        with self._store.transaction() as db:
            db.execute("DELETE FROM sessions WHERE network = ? AND digest = ?", (self._network, digest))

    def charge(self, record: ClientRecord, amount_micros: int, now: float) -> None:
        """Write that so much more is acknowledged in a session.

        Raises:
            BudgetExceededError: the session has ended, which freed what it had of the budget, and too little is left.
            StoreError: it could not be written. Nothing was changed in any case.
        """
        terms = record.terms
        with self._store.transaction() as db:
            budget = self._budget(db.execute, terms.currency, now)
            if not record.open_micros(now):
                budget.require(amount_micros)
            db.execute(
                "UPDATE sessions SET spent_micros = ? WHERE network = ? AND digest = ?",
                (str(record.spent_micros + amount_micros), self._network, record.digest),
            )
            self._write_budget(db.execute, terms.currency, budget.limit_micros, budget.spent_micros + amount_micros)

    def budget(self, currency: str, now: float) -> Budget:
        """Return the budget in a currency, and how much of it is used.

        Raises:
            StoreError: it cannot be read, or holds what no hostmesh wrote.
        """
        with self._store.reading() as db:
            return self._budget(db.execute, currency, now)

    def set_budget(self, currency: str, limit_micros: int | None, *, begin_anew: bool, now: float) -> Budget:
        """Write a budget: ``limit_micros``, None for none; ``begin_anew`` forgets what was spent.

        Raises:
            UsageError: no amount that a budget can be.
            StoreError: it could not be written; nothing was changed.
        """
        if not currency:
            raise UsageError("a budget needs a currency")
        Budget(currency=currency, limit_micros=limit_micros)
        with self._store.transaction() as db:
            spent = 0 if begin_anew else self._budget(db.execute, currency, now).spent_micros
            self._write_budget(db.execute, currency, limit_micros, spent)
            return self._budget(db.execute, currency, now)

    # --- revocations ---

    def add_revocations(
        self, revocation: pb.DelegationRevocation, hosts: list[bytes], expires_at_unix_s: int, now: float
    ) -> None:
        """Write which hosts are to be told of a revocation.

        Raises:
            StoreError: it could not be written; nothing was changed.
        """
        with self._store.transaction() as db:
            db.execute("DELETE FROM revocations WHERE expires_at_unix_s <= ?", (now,))
            for host in hosts:
                db.execute(
                    "INSERT OR IGNORE INTO revocations (network, digest, host_peer_id, revocation, expires_at_unix_s) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (
                        self._network,
                        revocation.delegation_digest,
                        host,
                        revocation.SerializeToString(),
                        expires_at_unix_s,
                    ),
                )

    def revocation_done(self, digest: bytes, host: bytes) -> None:
        """Write that a host took a revocation, or never will.

        Raises:
            StoreError: it could not be written; the host is told once more.
        """
        with self._store.transaction() as db:
            db.execute(
                "DELETE FROM revocations WHERE network = ? AND digest = ? AND host_peer_id = ?",
                (self._network, digest, host),
            )

    def pending_revocations(self, now: float) -> list[PendingRevocation]:
        """Return what hosts have not taken yet, and what still holds.

        Raises:
            StoreError: it cannot be read, or holds what no hostmesh wrote.
        """
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT host_peer_id, digest, revocation FROM revocations "
                "WHERE network = ? AND expires_at_unix_s > ? ORDER BY id",
                (self._network, now),
            ).fetchall()
        try:
            return [
                PendingRevocation(
                    peer_id=peer_id_from_bytes(host),
                    digest=digest,
                    revocation=pb.DelegationRevocation.FromString(revocation),
                )
                for host, digest, revocation in rows
            ]
        except (ValueError, DecodeError, HostmeshError) as error:
            raise self._damaged() from error

    # --- inside ---

    def _budget(self, run: _Execute, currency: str, now: float) -> Budget:
        row = run(
            "SELECT limit_micros, spent_micros FROM budgets WHERE network = ? AND currency = ?",
            (self._network, currency),
        ).fetchone()
        limit, spent = (None, "0") if row is None else row
        rows = run(
            "SELECT limit_micros, spent_micros FROM sessions "
            "WHERE network = ? AND currency = ? AND state != ? AND expires_at_unix_s > ?",
            (self._network, currency, ClientState.CLOSED.value, now),
        ).fetchall()
        try:
            return Budget(
                currency=currency,
                limit_micros=None if limit is None else self._store.money(limit),
                spent_micros=self._store.money(spent),
                open_micros=sum(self._store.money(most) - self._store.money(used) for most, used in rows),
            )
        except (ValueError, UsageError) as error:
            raise self._damaged() from error

    def _write_budget(self, run: _Execute, currency: str, limit_micros: int | None, spent_micros: int) -> None:
        run(
            "INSERT INTO budgets (network, currency, limit_micros, spent_micros) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (network, currency) DO UPDATE SET limit_micros = excluded.limit_micros, "
            "spent_micros = excluded.spent_micros",
            (self._network, currency, None if limit_micros is None else str(limit_micros), str(spent_micros)),
        )

    def _damaged(self) -> StoreError:
        return StoreError(
            f"the store of this client's sessions {self._store.name} holds a row that no hostmesh wrote",
            path=self._store.name,
            remedy="move the file away; it is made anew, and open sessions end by themselves",
        )


def _record_of(
    digest: bytes,
    authorization: bytes,
    delegation: bytes | None,
    state: str,
    end_reason: str,
    session_id: bytes,
    grant: bytes,
    expires_at_unix_s: int,
    *,
    spent_micros: int,
) -> ClientRecord:
    message = pb.SessionAuthorization.FromString(authorization)
    return ClientRecord(
        digest=digest,
        terms=terms_from_message(message),
        signature=message.signature,
        delegation=None if delegation is None else pb.Delegation.FromString(delegation),
        state=ClientState(state),
        end_reason=end_reason,
        session_id=session_id,
        grant=grant,
        spent_micros=spent_micros,
        expires_at_unix_s=expires_at_unix_s,
    )
