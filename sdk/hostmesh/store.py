"""A local database file: opened safely, its schema versioned, its errors mapped. Each feature has its own.

:class:`Store` is the file; what a feature keeps in one is a :class:`FeatureStore`.

SQLite, WAL with ``synchronous=NORMAL``: a killed process loses nothing that was committed; a power cut may lose the
last second. The schema's version is SQLite's ``user_version``: an older file is migrated step by step, each step whole
or not at all; a newer one is refused and left as it is.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hostmesh.errors import StoreError, StoreTooNewError

_BUSY_TIMEOUT_S = 5.0
"""How long to wait for another process that writes."""
_MONEY = re.compile("0|[1-9][0-9]{0,39}")
"""What ``str`` makes of an amount. One has 64 bits; of sums there may be many."""


class Store:
    """One database file.

    Args:
        path: the file; its directory is made with mode 0700, the file with 0600. None = in memory.
        what: names the store in errors: ``the outcome store``.
        migrations: statements that lead from version n to n + 1, each a tuple of statements.

    Raises:
        StoreTooNewError: a newer hostmesh wrote it; it was left unchanged.
        StoreError: it cannot be opened or is no such database.
    """

    def __init__(self, path: Path | None, *, what: str, migrations: Sequence[Sequence[str]]) -> None:
        self.name = ":memory:" if path is None else str(path)
        self._what = what
        try:
            if path is not None:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(self.name, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error
        try:
            self._open(migrations)
        except sqlite3.Error as error:
            self._db.close()
            raise self._unusable(error) from error
        except StoreError:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write: all of the block is committed, or nothing when it raises.

        Raises:
            StoreError: it could not be written; everything is as before.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._is_in_transaction():
                self._db.execute("ROLLBACK")
            raise self._unusable(error) from error

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read.

        Raises:
            StoreError: the file cannot be read.
        """
        try:
            yield self._db
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def money(self, text: str) -> int:
        """Return an amount of money, which is kept as decimal text: SQLite's integers have 63 bits.

        Raises:
            StoreError: the text is no whole number, 0 or more.
        """
        if _MONEY.fullmatch(text) is None:
            raise StoreError(
                f"{self._what} {self.name} holds an amount of money that no hostmesh wrote",
                path=self.name,
                remedy="move the file away; it is made anew",
            )
        return int(text)

    def _is_in_transaction(self) -> bool:
        try:
            return self._db.in_transaction
        except sqlite3.ProgrammingError:  # closed
            return False

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _open(self, migrations: Sequence[Sequence[str]]) -> None:
        # Before anything is written: a newer file stays as it is.
        self._refuse_newer(len(migrations))
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        for step, statements in enumerate(migrations):
            if self._version() > step:
                continue
            self._db.execute("BEGIN IMMEDIATE")
            # Another process may have made this step meanwhile.
            if self._version() == step:
                for statement in statements:
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {step + 1}")
            self._db.execute("COMMIT")
        self._refuse_newer(len(migrations))

    def _refuse_newer(self, known: int) -> None:
        version = self._version()
        if version > known:
            raise StoreTooNewError(
                f"{self.name} has schema {version}, this hostmesh knows {known}",
                path=self.name,
                remedy="use the newer hostmesh that wrote it, or move the file away",
            )

    def _unusable(self, error: Exception) -> StoreError:
        return StoreError(
            f"{self._what} {self.name} cannot be used: {error}",
            path=self.name,
            remedy="check that the path is writable and the file is not damaged; moved away, it is made anew",
        )


class FeatureStore:
    """What a feature keeps in a database file of its own; a subclass reads and writes by ``self._store``.

    Args:
        path: the file; None = in memory.
        what: names the store in errors.
        migrations: see :class:`Store`.

    Raises:
        StoreTooNewError: a newer hostmesh wrote it; it was left unchanged.
        StoreError: it cannot be opened or is no such database.
    """

    def __init__(self, path: Path | None, *, what: str, migrations: Sequence[Sequence[str]]) -> None:
        self._store = Store(path, what=what, migrations=migrations)

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._store.close()

    def version(self) -> int:
        """Return a number that changes whenever another process has written. Cost: microseconds.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._store.reading() as db:
            return int(db.execute("PRAGMA data_version").fetchone()[0])
