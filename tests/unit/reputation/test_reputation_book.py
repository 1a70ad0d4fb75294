"""The book over time and across restarts: decay by the clock, reviews, reasons, files of before."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hostmesh.errors import StoreError
from hostmesh.net.peer_id import PeerId
from hostmesh.reputation import store
from hostmesh.reputation.book import ReputationBook
from hostmesh.reputation.decay import DAY_S
from hostmesh.reputation.evidence import Evidence, EvidenceKind
from hostmesh.reputation.foreign import Review
from hostmesh.reputation.names import HostName
from hostmesh.reputation.store import MAX_REASONS, MAX_REVIEWS_PER_REVIEWER, EvidenceStore
from hostmesh.system import System

A, B = PeerId("12D3KooWa"), PeerId("12D3KooWb")
WALLET, OTHER = "0x" + "ab" * 20, "0x" + "cd" * 20
START = 1_800_000_000.0


@dataclass
class World:
    path: Path
    now: float = START
    books: list[Any] = field(default_factory=list)

    def open(self, **options: Any) -> ReputationBook:
        self.books.append(ReputationBook(self.path, system=System(unix_s=lambda: self.now), **options))
        return self.books[-1]  # type: ignore[no-any-return]

    def open_store(self, **options: Any) -> EvidenceStore:
        self.books.append(EvidenceStore(self.path, **options))
        return self.books[-1]  # type: ignore[no-any-return]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "reputation.sqlite3")
    yield made
    for book in made.books:
        book.close()


def review(number: int = 1, host: PeerId = A, **fields: Any) -> Review:
    made = Review(
        reviewer=f"0x{number:040x}",
        host=host,
        operator=WALLET,
        network=f"10.0.{number % 256}.0/24",
        good=10,
        bad=0,
        at_unix_s=START,
    )
    return replace(made, **fields)


def test_points_decay_by_the_clock_in_every_book_of_the_file(world: World) -> None:
    book, other = world.open(), world.open()
    for _ in range(10):
        book.record_outcome(A, WALLET, good=True)
    seen = []
    for _ in range(4):
        seen.append((book.of(A, WALLET).points, other.snapshot().of(A, WALLET).points, book.of(A, WALLET).n))
        world.now += 32 * DAY_S
    assert seen == [(550, 550, 10), (400, 400, 10), (280, 280, 10), (250, 250, 10)]
    world.now += 3000 * DAY_S
    assert (book.of(A, WALLET).points, book.of(A, WALLET).n) == (250, 10), "two jobs' weight is kept"


def test_a_held_snapshot_is_of_its_day(world: World) -> None:
    book = world.open()
    held = (book.record_outcome(A, WALLET, good=False), book.snapshot())[1]
    world.now += 640 * DAY_S
    assert (held.of(A, WALLET).points, book.snapshot().of(A, WALLET).points) == (90, 100)


def test_explain_says_what_each_number_is_made_of(world: World) -> None:
    book = world.open()
    for _ in range(8):
        book.record_outcome(A, WALLET, good=True)
    world.now += 32 * DAY_S
    book.record_outcome(A, WALLET, good=False)
    rated = Evidence(kind=EvidenceKind.CANARY_FAILED, detail="p = 0.004", false_positive_ppm=10_000)
    after = book.record(A, WALLET, rated)
    told = world.open().explain(A, WALLET)
    assert told.reputation == after
    assert [(part.kind.value, part.count, part.weight_micros) for part in told.parts] == [
        ("job-finished", 8, 4_000_000),
        ("job-failed", 1, 1_000_000),
        ("canary-failed", 1, 5_000_000),
    ]
    assert told.own_points == told.reputation.points == 1000 * 5 // 20
    assert [(each.kind.value, each.detail, each.false_positive_ppm) for each in told.reasons] == [
        ("canary-failed", "p = 0.004", 10_000),
        ("job-failed", "", None),
    ]
    shown = told.to_dict()
    assert {
        name: shown[name]
        for name in ("peer_id", "operator", "elsewhere", "points", "n", "own_points", "half_life_days")
    } == {
        "peer_id": A,
        "operator": WALLET,
        "elsewhere": {"count": 0, "weight_micros": 0},
        "points": 250,
        "n": 10,
        "own_points": 250,
        "half_life_days": 32,
    }
    assert shown["foreign"] == {
        "good_micros": 0, "bad_micros": 0, "cap_micros": 0, "voice_micros": 0, "reviewers": 0, "networks": 0,
        "good": 0, "bad": 0,
    }  # fmt: skip


def test_of_a_host_never_used_there_is_nothing_to_explain(world: World) -> None:
    told = world.open().explain(B, WALLET)
    assert (told.reputation.points, told.own_points, told.parts, told.reasons) == (100, 100, (), ())
    assert told.foreign.cap_micros == 900_000


def test_only_the_last_reasons_are_kept(world: World) -> None:
    book = world.open()
    for number in range(MAX_REASONS + 5):
        book.record(A, WALLET, Evidence(kind=EvidenceKind.PROTOCOL_BROKEN, detail=str(number)))
    details = [reason.detail for reason in book.explain(A, WALLET).reasons]
    assert details == [str(number) for number in range(MAX_REASONS + 4, 4, -1)]


def test_of_a_file_of_before_what_speaks_against_a_key_stays(world: World) -> None:
    """The file as the first version of hostmesh made it, which kept no wallets: rows of good and bad outcomes."""
    with sqlite3.connect(world.path) as database:
        database.execute(
            "CREATE TABLE outcomes (peer_id TEXT PRIMARY KEY, good INTEGER NOT NULL CHECK (good >= 0), "
            "bad INTEGER NOT NULL CHECK (bad >= 0), updated_at_unix_s REAL NOT NULL) STRICT, WITHOUT ROWID"
        )
        rows = [(A, 20, 3, START), (B, 0, 2, START - 32 * DAY_S), ("rich", 10**9, 0, START)]
        database.executemany("INSERT INTO outcomes VALUES (?, ?, ?, ?)", rows)
        database.execute("PRAGMA user_version = 1")
    database.close()
    book = world.open()
    assert [(book.of(host, WALLET).good, book.of(host, WALLET).bad) for host in (A, B)] == [(0, 3), (0, 2)]
    assert [book.of(host, WALLET).points for host in (A, B)] == [1000 // 13, 1000 // 11]
    assert book.hosts() == (HostName(A, ""), HostName(B, ""))
    assert book.of(PeerId("rich"), WALLET).n == 0, "whose copy of the key earned it?"
    after = book.record_outcome(A, WALLET, good=True)
    assert (after.good, after.bad, after.points) == (1, 3, 1000 * 2 // 14)


def test_reasons_and_reviews_of_before_stay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are in a file of the second version."""
    monkeypatch.setattr(store, "_MIGRATIONS", store._MIGRATIONS[:2])
    world.open_store().close()
    with sqlite3.connect(world.path) as database:
        database.execute("INSERT INTO hosts VALUES (?, 1, ?)", (A, START))
        database.execute("INSERT INTO evidence VALUES (?, 'canary-failed', 1, 5000000, ?)", (A, START // DAY_S))
        database.execute("INSERT INTO reasons VALUES (?, 7, 'canary-failed', ?, 5000000, 'x', 10000)", (A, START))
        database.execute("INSERT INTO reviews VALUES (?, ?, ?, '10.0.1.0/24', 3, 1, ?)", (OTHER, A, WALLET, START))
    database.close()
    monkeypatch.undo()
    book = world.open()
    assert [reason.detail for reason in book.explain(A, "").reasons] == ["x"]
    assert book.of(A, WALLET).points == 1000 // 15
    said = book.review_of(OTHER, A, WALLET)
    assert said is not None
    assert (said.good, said.bad) == (3, 1)


def test_reviews_are_kept_replaced_and_of_all_processes(world: World) -> None:
    book, other = world.open(), world.open()
    book.record_outcome(A, WALLET, good=True)
    assert other.record_review(review(good=10))
    assert other.record_review(review(good=0, bad=7))
    assert [(each.good, each.bad) for each in world.open_store().reviews()] == [(0, 7)]
    assert book.snapshot().trust_micros(review().reviewer) == 0, "it contradicts us"
    other.record_review(review(good=3))
    assert book.snapshot().trust_micros(review().reviewer) == 333_333 * 1_000_000 // 10_333_333


def test_a_review_of_the_future_counts_as_of_now_and_an_operators_own_not_at_all(world: World) -> None:
    book = world.open()
    assert book.record_review(review(at_unix_s=START + 1e9))
    assert not book.record_review(review(2, operator=review(2).reviewer))
    assert [each.at_unix_s for each in world.open_store().reviews()] == [START]


def test_reviews_are_bounded_by_reviewer_and_the_largest_network_gives_way(world: World) -> None:
    kept_reviews = world.open_store(max_reviews=100)
    for number in range(MAX_REVIEWS_PER_REVIEWER + 9):
        kept_reviews.put_review(review(1, PeerId(f"host {number}"), at_unix_s=START + number))
    kept = {each.host for each in kept_reviews.reviews()}
    assert kept == {f"host {number}" for number in range(9, MAX_REVIEWS_PER_REVIEWER + 9)}
    for number in range(2, 200):
        kept_reviews.put_review(review(number, network="192.0.2.0/24"))
        assert len(kept_reviews.reviews()) <= 100
    of_networks = [each.network for each in kept_reviews.reviews()]
    assert of_networks.count("10.0.1.0/24") == 50, "a flood from one network leaves the others half"


def test_what_cannot_be_written_counts_nothing(world: World) -> None:
    book = world.open()
    book.record_outcome(A, WALLET, good=True)
    book.close()
    for call in (lambda: book.record_review(review()), lambda: book.explain(A, WALLET), book.hosts):
        with pytest.raises(StoreError):
            call()
