"""The sequence store: strictly increasing, across restarts and clocks, and careful with other versions."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest
from discovery_world import EPOCH, make_key

from hostmesh.discovery.store import SCHEMA_VERSION, SequenceStore
from hostmesh.errors import StoreError, StoreTooNewError

KEY = make_key("a").peer_id


def test_sequences_are_unix_milliseconds_and_strictly_increasing() -> None:
    store = SequenceStore(None)
    assert store.next_sequence("n", KEY, now=EPOCH + 0.5) == EPOCH * 1000 + 500
    assert store.next_sequence("n", KEY, now=EPOCH + 0.5) == EPOCH * 1000 + 501
    assert store.next_sequence("n", KEY, now=EPOCH - 9999) == EPOCH * 1000 + 502
    assert store.next_sequence("n", KEY, now=EPOCH + 1) == EPOCH * 1000 + 1000


def test_keys_and_networks_have_their_own() -> None:
    store = SequenceStore(None)
    assert store.next_sequence("n", KEY, now=0) == 1
    assert store.next_sequence("n", make_key("b").peer_id, now=0) == 1
    assert store.next_sequence("other", KEY, now=0) == 1
    assert store.next_sequence("n", KEY, now=0) == 2


def test_a_number_is_kept_without_closing(tmp_path: Path) -> None:
    """As after kill -9: the first store is never closed."""
    path = tmp_path / "sub" / "sequence.sqlite3"
    first = SequenceStore(path)
    given = first.next_sequence("n", KEY, now=EPOCH)
    second = SequenceStore(path)
    assert second.next_sequence("n", KEY, now=0) == given + 1
    assert first.next_sequence("n", KEY, now=0) == given + 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    first.close()
    second.close()
    second.close()


def test_a_newer_store_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "sequence.sqlite3"
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        database.execute("CREATE TABLE sequences (of_the_future TEXT)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(StoreTooNewError) as caught:
        SequenceStore(path)
    assert caught.value.path == str(path)
    assert caught.value.remedy
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_file_that_is_no_store_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "sequence.sqlite3"
    path.write_bytes(b"not a database, but something of the user's" * 50)
    before = path.read_bytes()
    with pytest.raises(StoreError):
        SequenceStore(path)
    assert path.read_bytes() == before


def test_a_directory_in_the_way_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        SequenceStore(tmp_path)


def test_a_closed_store_hands_out_nothing() -> None:
    store = SequenceStore(None)
    store.close()
    with pytest.raises(StoreError):
        store.next_sequence("n", KEY, now=0)
