"""Calls with idempotency keys on disk: one row a key, written before its handler starts and before its answer is sent.

Several nodes may share a file: each sees the rows of its own peer key only, which one process at a time holds. So a row
that still says RUNNING when a node opens the file is of a process that died, and is cut off.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from hostmesh.errors import StoreError
from hostmesh.rpc.keys import (
    KEPT_S,
    MAX_STATUS_BYTES,
    ROW_BYTES,
    CallName,
    KeptCall,
    KeyLimits,
    KeyState,
    KeyTally,
    answer_at_once,
)
from hostmesh.rpc.outcome import Outcome
from hostmesh.store import FeatureStore

_MIGRATIONS = (
    (
        """
        CREATE TABLE calls (
            id INTEGER PRIMARY KEY,
            server TEXT NOT NULL,
            caller TEXT NOT NULL,
            method TEXT NOT NULL,
            key BLOB NOT NULL,
            digest BLOB NOT NULL,
            state INTEGER NOT NULL CHECK (state IN (1, 2, 3)),
            status BLOB NOT NULL,
            response BLOB,
            size INTEGER NOT NULL,
            expires_at_unix_s REAL,
            UNIQUE (server, caller, method, key)
        ) STRICT
        """,
        # Holds all that counting and forgetting need: the rows, with their responses, are not read for it.
        "CREATE INDEX calls_by_end ON calls (server, expires_at_unix_s, caller, size)",
    ),
)
SCHEMA_VERSION = len(_MIGRATIONS)
_PURGED_AT_ONCE = 64
"""Rows that are over and go with a new one: more than come, and few enough to cost little."""
_PURGED_AT_START = 10_000
"""A tenth of a second's worth; the rest goes later."""


class KeyStore(FeatureStore):
    """What one node keeps of the calls with keys that it serves.

    Args:
        path: the database file; None = in memory.
        server: the node's peer id, whose key nobody else holds.
        now: unix seconds.
        limits: of what is kept.

    Raises:
        StoreTooNewError: a newer hostmesh wrote it; it was left unchanged.
        StoreError: it cannot be opened or is no such database.

    Cost: a scan of the index; measured, about 1 s for the most that may be kept.
    """

    def __init__(self, path: Path | None, *, server: str, now: float, limits: KeyLimits | None = None) -> None:
        super().__init__(path, what="the store of idempotency keys", migrations=_MIGRATIONS)
        self._server = server
        self._tally = KeyTally(limits or KeyLimits())
        self._reserved: dict[CallName, int] = {}
        """Of the calls that run."""
        try:
            self._recover(now)
        except StoreError:
            self._store.close()
            raise

    @property
    def keys(self) -> int:
        """How many are kept."""
        return self._tally.keys

    @property
    def kept_bytes(self) -> int:
        """What is counted against the limits: the bytes kept, and those reserved for calls that run."""
        return self._tally.kept_bytes

    def begin(
        self, name: CallName, digest: bytes, *, is_idempotent: bool, max_response_bytes: int, now: float
    ) -> KeptCall | Outcome | None:
        """Decide about a call of which no run is alive.

        Args:
            name: of the call.
            digest: SHA-256 of its request.
            is_idempotent: the method may be run again after it was cut off.
            max_response_bytes: reserved until the call ends.
            now: unix seconds.

        Returns:
            The answer that is kept, or a refusal. None: the handler is to run, which is on disk now; one of
            :meth:`done`, :meth:`cut_off` and :meth:`free` must follow.

        Raises:
            StoreError: it could not be read or written; the handler must not run.
        """
        row = self._row(name)
        # One whose time is over, and that is still there, is as good as none.
        is_kept = row is not None and (row[5] is None or now < row[5])
        kept = KeptCall(row[0], KeyState(row[1]), row[2], row[3]) if row is not None and is_kept else None
        answer = answer_at_once(kept, digest, is_idempotent=is_idempotent)
        if answer is not None:
            with suppress(StoreError):  # what is kept can be told also where the disk is full
                self._purge(now)
            return answer
        self._purge(now)
        if not is_kept:
            row = self._row(name)
        more_bytes = ROW_BYTES + max(max_response_bytes, MAX_STATUS_BYTES) - (0 if row is None else row[4])
        refusal = self._tally.over(name.caller, keys=row is None, kept_bytes=more_bytes)
        if refusal is not None:
            return refusal
        with self._store.transaction() as db:
            db.execute(
                "INSERT INTO calls (server, caller, method, key, digest, state, status, size) "
                "VALUES (?, ?, ?, ?, ?, ?, x'', ?) "
                "ON CONFLICT (server, caller, method, key) DO UPDATE SET digest = excluded.digest, "
                "state = excluded.state, status = excluded.status, response = NULL, size = excluded.size, "
                "expires_at_unix_s = NULL",
                (self._server, *name, digest, KeyState.RUNNING, ROW_BYTES),
            )
        self._reserved[name] = ROW_BYTES + max(max_response_bytes, MAX_STATUS_BYTES)
        self._tally.change(name.caller, keys=row is None, kept_bytes=more_bytes, running=1)
        return None

    def done(self, name: CallName, status: bytes, response: bytes | None, *, now: float) -> None:
        """Keep the answer of a call that ran; it is on disk when this returns.

        Raises:
            StoreError: it could not be written; the call is taken for one that was cut off.
        """
        self._end(name, KeyState.DONE, status, response, now)

    def cut_off(self, name: CallName, *, now: float) -> None:
        """Keep that a call which ran was cut off.

        Raises:
            StoreError: it could not be written, which makes no difference.
        """
        self._end(name, KeyState.CUT_OFF, b"", None, now)

    def free(self, name: CallName) -> None:
        """Forget a call that ran and did nothing.

        Raises:
            StoreError: it could not be written; the call is taken for one that was cut off.
        """
        reserved = self._reserved.pop(name)
        # The row's place is given back only when it is gone.
        self._tally.change(name.caller, kept_bytes=ROW_BYTES - reserved, running=-1)
        with self._store.transaction() as db:
            db.execute(
                "DELETE FROM calls WHERE server = ? AND caller = ? AND method = ? AND key = ?", (self._server, *name)
            )
        self._forget([(name.caller, ROW_BYTES)])

    def _end(self, name: CallName, state: KeyState, status: bytes, response: bytes | None, now: float) -> None:
        size = ROW_BYTES + len(status) + len(response or b"")
        reserved = self._reserved.pop(name)
        self._tally.change(name.caller, kept_bytes=ROW_BYTES - reserved, running=-1)
        with self._store.transaction() as db:
            db.execute(
                "UPDATE calls SET state = ?, status = ?, response = ?, size = ?, expires_at_unix_s = ? "
                "WHERE server = ? AND caller = ? AND method = ? AND key = ?",
                (state, status, response, size, now + KEPT_S, self._server, *name),
            )
        self._tally.change(name.caller, kept_bytes=size - ROW_BYTES)

    def _row(self, name: CallName) -> tuple[bytes, int, bytes, bytes | None, int, float | None] | None:
        with self._store.reading() as db:
            row: tuple[bytes, int, bytes, bytes | None, int, float | None] | None = db.execute(
                "SELECT digest, state, status, response, size, expires_at_unix_s FROM calls "
                "WHERE server = ? AND caller = ? AND method = ? AND key = ?",
                (self._server, *name),
            ).fetchone()
        return row

    def _purge(self, now: float) -> None:
        over = (self._server, now)
        with self._store.reading() as db:
            if (
                db.execute("SELECT 1 FROM calls WHERE server = ? AND expires_at_unix_s <= ? LIMIT 1", over).fetchone()
                is None
            ):
                return
        with self._store.transaction() as db:
            rows = db.execute(
                "DELETE FROM calls WHERE id IN (SELECT id FROM calls WHERE server = ? AND expires_at_unix_s <= ? "
                "LIMIT ?) RETURNING caller, size",
                (*over, _PURGED_AT_ONCE),
            ).fetchall()
        self._forget(rows)

    def _forget(self, rows: Iterable[tuple[str, int]]) -> None:
        for caller, size in rows:
            self._tally.change(caller, keys=-1, kept_bytes=-size)

    def _recover(self, now: float) -> None:
        with self._store.transaction() as db:
            # Of every node that used this file: one whose key was changed does not come back for its own.
            db.execute(
                "DELETE FROM calls WHERE id IN (SELECT id FROM calls WHERE expires_at_unix_s <= ? LIMIT ?)",
                (now, _PURGED_AT_START),
            )
            db.execute(
                "UPDATE calls SET state = ?, expires_at_unix_s = ? WHERE server = ? AND expires_at_unix_s IS NULL",
                (KeyState.CUT_OFF, now + KEPT_S, self._server),
            )
            rows = db.execute(
                "SELECT caller, count(*), sum(size) FROM calls WHERE server = ? GROUP BY caller", (self._server,)
            ).fetchall()
        for caller, keys, kept_bytes in rows:
            self._tally.change(caller, keys=keys, kept_bytes=kept_bytes)
