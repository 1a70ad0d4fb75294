"""The book of outcomes: counted, kept, bounded, and careful with other versions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostmesh.errors import StoreError, StoreTooNewError
from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.book import ReputationBook
from hostmesh.reputation.evidence import Evidence, EvidenceKind
from hostmesh.reputation.names import HostName
from hostmesh.reputation.store import SCHEMA_VERSION, EvidenceStore
from hostmesh.system import System

A, B = PeerId("12D3KooWa"), PeerId("12D3KooWb")
WALLET = "0x" + "ab" * 20


def named(text: str) -> HostName:
    return HostName(PeerId(text), WALLET)


@pytest.fixture(autouse=True)
def closed_after_the_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tests do not close their stores, as a killed process does not; Python would complain of the open files."""
    made: list[EvidenceStore] = []
    make = EvidenceStore.__init__

    def remember(self: EvidenceStore, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        made.append(self)

    monkeypatch.setattr(EvidenceStore, "__init__", remember)
    yield
    for store in made:
        store.close()


def test_a_new_host_has_a_hundred_points_without_evidence() -> None:
    reputation = ReputationBook().of(A, WALLET)
    assert (reputation.points, reputation.n) == (100, 0)


def test_outcomes_are_counted_for_each_host() -> None:
    book = ReputationBook()
    for _ in range(3):
        book.record_outcome(A, WALLET, good=True)
    after = book.record_outcome(A, WALLET, good=False)
    assert (after.good, after.bad, after.n) == (3, 1, 4)
    assert book.of(B, WALLET).n == 0


def test_outcomes_survive_a_process_that_never_closed(tmp_path: Path) -> None:
    path = tmp_path / "data" / "reputation.sqlite3"
    ReputationBook(path).record_outcome(A, WALLET, good=True)
    book = ReputationBook(path)
    assert book.of(A, WALLET).good == 1
    book.close()
    book.close()


def test_two_processes_count_into_one_file(tmp_path: Path) -> None:
    one, two = ReputationBook(tmp_path / "r"), ReputationBook(tmp_path / "r")
    one.record_outcome(A, WALLET, good=True)
    two.record_outcome(A, WALLET, good=True)
    assert one.of(A, WALLET).good == two.of(A, WALLET).good == 2


def test_the_store_is_bounded_and_keeps_the_evidence_that_matters() -> None:
    store = EvidenceStore(None, max_hosts=3)
    finished, failed = (Evidence(kind=kind) for kind in (EvidenceKind.JOB_FINISHED, EvidenceKind.JOB_FAILED))
    for _ in range(5):
        store.add(named("veteran"), finished, now=1.0)
    for index in range(10):
        store.add(named(f"junk{index}"), failed, now=10.0 + index)
        assert len(store) == len(store.all()) <= 3
    assert [store.of(named(name)).good for name in ("veteran", "junk9")] == [5, 0]
    assert [store.of(named(name)).bad for name in ("junk9", "junk0")] == [1, 0]
    assert (len(store.reasons(named("junk9"))), store.reasons(named("junk0"))) == (1, ())


def test_a_newer_store_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "reputation.sqlite3"
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    before = path.read_bytes()
    with pytest.raises(StoreTooNewError):
        ReputationBook(path)
    assert path.read_bytes() == before


def test_what_is_no_store_is_a_typed_error(tmp_path: Path) -> None:
    path = tmp_path / "reputation.sqlite3"
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(StoreError) as caught:
        ReputationBook(path, system=System())
    assert caught.value.path == str(path)


def test_a_closed_book_counts_nothing() -> None:
    book = ReputationBook()
    book.close()
    with pytest.raises(StoreError):
        book.record_outcome(A, WALLET, good=True)
    with pytest.raises(StoreError):
        book.of(A, WALLET)
