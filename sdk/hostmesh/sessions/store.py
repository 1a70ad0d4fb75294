"""A host's sessions on disk: written before the answer that tells of them leaves, read when the host starts again.

Kept: each session with what was authorised, its grant, what was spent in it and what ended it; the nonces of sessions
that had to go; what was spent under each delegation, and which are revoked. Each for as long as it can still matter.
Several hosts may share a file: each sees the rows of its own peer key and network only.

Money is kept as decimal text: SQLite's integers have 63 bits and a limit has 64.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from hostmesh.errors import HostmeshError, StoreError
from hostmesh.net.peer_id import PeerId, peer_id_from_bytes
from hostmesh.sessions.authorization import terms_from_message
from hostmesh.sessions.delegation_table import DelegationAccount, UnseenRevocation
from hostmesh.sessions.reasons import Reason
from hostmesh.sessions.record import SessionRecord
from hostmesh.store import FeatureStore
from hostmesh.v1 import session_pb2 as pb

_MIGRATIONS = (
    (
        """
        CREATE TABLE sessions (
            id INTEGER PRIMARY KEY,
            host BLOB NOT NULL,
            network TEXT NOT NULL,
            session_id BLOB NOT NULL,
            authorization BLOB NOT NULL,
            signer BLOB NOT NULL,
            grant_envelope BLOB NOT NULL,
            delegation BLOB NOT NULL,
            network_key TEXT,
            expires_at_unix_s INTEGER NOT NULL,
            end_reason TEXT,
            spent_micros TEXT NOT NULL,
            UNIQUE (host, network, session_id)
        ) STRICT
        """,
        "CREATE INDEX sessions_by_end ON sessions (expires_at_unix_s)",
        """
        CREATE TABLE burnt_nonces (
            id INTEGER PRIMARY KEY,
            host BLOB NOT NULL,
            network TEXT NOT NULL,
            nonce BLOB NOT NULL,
            expires_at_unix_s INTEGER NOT NULL,
            UNIQUE (host, network, nonce)
        ) STRICT
        """,
        "CREATE INDEX burnt_nonces_by_end ON burnt_nonces (expires_at_unix_s)",
        """
        CREATE TABLE delegations (
            id INTEGER PRIMARY KEY,
            host BLOB NOT NULL,
            network TEXT NOT NULL,
            digest BLOB NOT NULL,
            owner BLOB NOT NULL,
            expires_at_unix_s INTEGER NOT NULL,
            opened_by TEXT NOT NULL,
            network_key TEXT,
            spent_micros TEXT NOT NULL,
            is_revoked INTEGER NOT NULL,
            UNIQUE (host, network, digest)
        ) STRICT
        """,
        "CREATE INDEX delegations_by_end ON delegations (expires_at_unix_s)",
        """
        CREATE TABLE unseen_revocations (
            id INTEGER PRIMARY KEY,
            host BLOB NOT NULL,
            network TEXT NOT NULL,
            owner BLOB NOT NULL,
            digest BLOB NOT NULL,
            expires_at_unix_s INTEGER NOT NULL,
            brought_by TEXT NOT NULL,
            network_key TEXT,
            UNIQUE (host, network, owner, digest)
        ) STRICT
        """,
        "CREATE INDEX unseen_revocations_by_end ON unseen_revocations (expires_at_unix_s)",
    ),
)
_TABLES = ("sessions", "burnt_nonces", "delegations", "unseen_revocations")
_PURGED_AT_ONCE = 64
"""Rows of each table that are over and go with a new session: more than come, and few enough to cost little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedState:
    """What a host had before it stopped."""

    sessions: tuple[SessionRecord, ...]
    burnt: dict[bytes, int]
    """Unix seconds by nonce."""
    accounts: tuple[DelegationAccount, ...]
    unseen: tuple[UnseenRevocation, ...]


class SessionStore(FeatureStore):
    """The sessions of one host.

    Args:
        path: the database file; None = in memory.
        host: the host's peer id, raw multihash.
        network: the network's name.

    Raises:
        StoreTooNewError: a newer hostmesh wrote it; it was left unchanged.
        StoreError: it cannot be opened or is no such database.
    """

    def __init__(self, path: Path | None, *, host: bytes, network: str) -> None:
        super().__init__(path, what="the store of sessions", migrations=_MIGRATIONS)
        self._scope = (host, network)
        self._unwritten: tuple[Collection[SessionRecord], Collection[DelegationAccount]] | None = None
        """What :meth:`save_spent` could not write last; a host that serves again on this store writes it first."""

    def load(self, now: float) -> SavedState:
        """Return what still matters.

        Raises:
            StoreError: it cannot be read, what was spent before cannot be written, or it holds what no hostmesh wrote.

        Cost: linear in the sessions; about 20 µs each.
        """
        if self._unwritten is not None:
            self.save_spent(*self._unwritten)
        over = (*self._scope, now)
        where = "FROM {} WHERE host = ? AND network = ? AND expires_at_unix_s > ? ORDER BY id"
        with self._store.reading() as db:
            sessions = db.execute(
                "SELECT session_id, authorization, signer, grant_envelope, delegation, network_key, expires_at_unix_s, "
                "end_reason, spent_micros " + where.format("sessions"),
                over,
            ).fetchall()
            burnt = db.execute("SELECT nonce, expires_at_unix_s " + where.format("burnt_nonces"), over).fetchall()
            accounts = db.execute(
                "SELECT digest, owner, expires_at_unix_s, opened_by, network_key, spent_micros, is_revoked "
                + where.format("delegations"),
                over,
            ).fetchall()
            unseen = db.execute(
                "SELECT owner, digest, expires_at_unix_s, brought_by, network_key "
                + where.format("unseen_revocations"),
                over,
            ).fetchall()
        try:
            return SavedState(
                sessions=tuple(
                    _record_of(*row, spent_micros=self._store.money(spent), now=now) for *row, spent in sessions
                ),
                burnt=dict(burnt),
                accounts=tuple(
                    DelegationAccount(
                        digest=digest,
                        owner=owner,
                        expires_at_unix_s=end,
                        opened_by=PeerId(peer),
                        network_key=key,
                        spent_micros=self._store.money(spent),
                        is_revoked=bool(is_revoked),
                    )
                    for digest, owner, end, peer, key, spent, is_revoked in accounts
                ),
                unseen=tuple(
                    UnseenRevocation(
                        owner=owner, digest=digest, expires_at_unix_s=end, brought_by=PeerId(peer), network_key=key
                    )
                    for owner, digest, end, peer, key in unseen
                ),
            )
        except (ValueError, DecodeError, HostmeshError) as error:
            raise StoreError(
                f"the store of sessions {self._store.name} holds a row that no hostmesh wrote",
                path=self._store.name,
                remedy="move the file away; it is made anew, and clients open new sessions",
            ) from error

    def open_session(
        self,
        *,
        session_id: bytes,
        authorization: pb.SessionAuthorization,
        signer: bytes,
        grant: bytes,
        delegation: bytes,
        network_key: str | None,
        expires_at_unix_s: int,
        account: DelegationAccount | None,
        evicted: SessionRecord | None,
        forgotten: DelegationAccount | None,
        now: float,
    ) -> None:
        """Write a new session, with the account of its delegation, in place of what had to make room.

        Raises:
            StoreError: it could not be written; nothing was changed.
        """
        with self._store.transaction() as db:
            for table in _TABLES:
                db.execute(
                    f"DELETE FROM {table} WHERE id IN "  # noqa: S608 - one of our own tables
                    f"(SELECT id FROM {table} WHERE expires_at_unix_s <= ? LIMIT {_PURGED_AT_ONCE})",
                    (now,),
                )
            if evicted is not None:
                db.execute(
                    "DELETE FROM sessions WHERE host = ? AND network = ? AND session_id = ?",
                    (*self._scope, evicted.session_id),
                )
                db.execute(
                    "INSERT OR IGNORE INTO burnt_nonces (host, network, nonce, expires_at_unix_s) VALUES (?, ?, ?, ?)",
                    (*self._scope, evicted.terms.nonce, evicted.terms.expires_at_unix_s),
                )
            if forgotten is not None:
                db.execute(
                    "DELETE FROM delegations WHERE host = ? AND network = ? AND digest = ?",
                    (*self._scope, forgotten.digest),
                )
            if account is not None:
                db.execute(
                    "INSERT OR IGNORE INTO delegations (host, network, digest, owner, expires_at_unix_s, opened_by, "
                    "network_key, spent_micros, is_revoked) VALUES (?, ?, ?, ?, ?, ?, ?, '0', 0)",
                    (
                        *self._scope,
                        account.digest,
                        account.owner,
                        account.expires_at_unix_s,
                        account.opened_by,
                        account.network_key,
                    ),
                )
            db.execute(
                "INSERT INTO sessions (host, network, session_id, authorization, signer, grant_envelope, "
                "delegation, network_key, expires_at_unix_s, spent_micros) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '0')",
                (
                    *self._scope,
                    session_id,
                    authorization.SerializeToString(),
                    signer,
                    grant,
                    delegation,
                    network_key,
                    expires_at_unix_s,
                ),
            )

    def save_spent(self, records: Collection[SessionRecord], accounts: Collection[DelegationAccount]) -> None:
        """Write what was spent in some sessions and under their delegations, up to now.

        Args:
            records: with those that could not be written before.
            accounts: of their delegations.

        Raises:
            StoreError: it could not be written; nothing was changed.
        """
        self._unwritten = records, accounts
        with self._store.transaction() as db:
            for record in records:
                db.execute(
                    "UPDATE sessions SET spent_micros = ? WHERE host = ? AND network = ? AND session_id = ?",
                    (str(record.spent_micros), *self._scope, record.session_id),
                )
            for account in accounts:
                db.execute(
                    "UPDATE delegations SET spent_micros = ? WHERE host = ? AND network = ? AND digest = ?",
                    (str(account.spent_micros), *self._scope, account.digest),
                )
        self._unwritten = None

    def end_sessions(self, records: Iterable[SessionRecord], reason: Reason, *, revoked: bytes | None = None) -> None:
        """Write what ended some sessions, and that the delegation of this digest is revoked.

        Raises:
            StoreError: it could not be written; nothing was changed.
        """
        with self._store.transaction() as db:
            for record in records:
                db.execute(
                    "UPDATE sessions SET end_reason = ? WHERE host = ? AND network = ? AND session_id = ?",
                    (reason.value, *self._scope, record.session_id),
                )
            if revoked is not None:
                db.execute(
                    "UPDATE delegations SET is_revoked = 1 WHERE host = ? AND network = ? AND digest = ?",
                    (*self._scope, revoked),
                )

    def keep_unseen(self, unseen: UnseenRevocation) -> None:
        """Write the revocation of a delegation that never came here.

        Raises:
            StoreError: it could not be written; nothing was changed.
        """
        with self._store.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO unseen_revocations (host, network, owner, digest, expires_at_unix_s, "
                "brought_by, network_key) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    *self._scope,
                    unseen.owner,
                    unseen.digest,
                    unseen.expires_at_unix_s,
                    unseen.brought_by,
                    unseen.network_key,
                ),
            )


def _record_of(
    session_id: bytes,
    authorization: bytes,
    signer: bytes,
    grant: bytes,
    delegation: bytes,
    network_key: str | None,
    expires_at_unix_s: int,
    end_reason: str | None,
    *,
    spent_micros: int,
    now: float,
) -> SessionRecord:
    message = pb.SessionAuthorization.FromString(authorization)
    terms = terms_from_message(message)
    return SessionRecord(
        session_id=session_id,
        peer_id=peer_id_from_bytes(terms.client_peer_id),
        terms=terms,
        signature=message.signature,
        signer=signer,
        grant=grant,
        delegation=delegation,
        network_key=network_key,
        last_used_unix_s=now,
        expires_at_unix_s=expires_at_unix_s,
        end_reason=None if end_reason is None else Reason(end_reason),
        spent_micros=spent_micros,
    )
