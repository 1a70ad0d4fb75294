"""Opening, migrating and writing a store, with sqlite3 itself as the witness."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from hostmesh.errors import StoreError, StoreTooNewError
from hostmesh.store import Store

FIRST = ("CREATE TABLE things (name TEXT PRIMARY KEY) STRICT",)
SECOND = ("ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 0", "CREATE INDEX by_size ON things (size)")


def ask(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def open_store(path: Path | None, *migrations: tuple[str, ...]) -> Store:
    return Store(path, what="the test store", migrations=migrations or (FIRST,))


def test_modes_and_version(tmp_path: Path) -> None:
    path = tmp_path / "new" / "things.sqlite3"
    open_store(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert ask(path, "PRAGMA user_version") == [(1,)]
    assert ask(path, "PRAGMA journal_mode") == [("wal",)]


def test_an_older_file_is_migrated_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "things.sqlite3"
    store = open_store(path)
    with store.transaction() as db:
        db.execute("INSERT INTO things VALUES ('a')")
    store.close()
    open_store(path, FIRST, SECOND).close()
    assert ask(path, "SELECT * FROM things") == [("a", 0)]
    assert ask(path, "PRAGMA user_version") == [(2,)]


def test_a_newer_file_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "things.sqlite3"
    ask(path, "PRAGMA user_version = 7")
    before = path.read_bytes()
    with pytest.raises(StoreTooNewError, match="schema 7, this hostmesh knows 1") as raised:
        open_store(path)
    assert raised.value.path == str(path)
    assert path.read_bytes() == before


def test_a_step_that_fails_leaves_the_version_before(tmp_path: Path) -> None:
    path = tmp_path / "things.sqlite3"
    with pytest.raises(StoreError, match="cannot be used"):
        open_store(path, FIRST, ("CREATE TABLE more (n)", "no SQL"))
    assert ask(path, "PRAGMA user_version") == [(1,)]
    tables = ask(path, "SELECT name FROM sqlite_master WHERE type = 'table'")
    assert tables == [("things",)]


def test_a_block_that_raises_changes_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path / "things.sqlite3")

    def insert(*names: str, then: Exception | None = None) -> None:
        with store.transaction() as db:
            for name in names:
                db.execute("INSERT INTO things VALUES (?)", (name,))
            if then is not None:
                raise then

    with pytest.raises(ZeroDivisionError):
        insert("a", then=ZeroDivisionError())
    with pytest.raises(StoreError):
        insert("b", "b")
    with store.reading() as db:
        assert db.execute("SELECT count(*) FROM things").fetchone() == (0,)
    insert("c")
    store.close()
    store.close()
    with pytest.raises(StoreError), store.reading() as db:
        db.execute("SELECT 1")
    with pytest.raises(StoreError):
        insert("d")


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be looked at" * 40, b"\x00" * 4096])
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "things.sqlite3"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="cannot be used"):
        open_store(path)


def test_many_processes_open_a_new_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "things.sqlite3"
    code = (
        "import sys; from pathlib import Path; from hostmesh.store import Store\n"
        "sys.stdin.readline()\n"
        f"store = Store(Path({str(path)!r}), what='it', migrations=({FIRST!r}, {SECOND!r}))\n"
        "with store.transaction() as db: db.execute('INSERT INTO things (name) VALUES (?)', (sys.argv[1],))\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(number)], stdin=subprocess.PIPE, text=True)
        for number in range(8)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=30)
        assert process.returncode == 0
    assert ask(path, "SELECT count(*) FROM things") == [(8,)]
