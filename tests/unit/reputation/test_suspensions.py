"""Hosts blacklist themselves: by five failures in a row or one proven lie, for twice as long each time."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hostmesh.net.peer_id import PeerId, peer_id_from_public_key
from hostmesh.reputation.book import ReputationBook
from hostmesh.reputation.evidence import Evidence, EvidenceKind
from hostmesh.reputation.history import HostHistory
from hostmesh.reputation.probation import Suspension
from hostmesh.reputation.standing import StandingList
from hostmesh.reputation.standing_book import StandingBook
from hostmesh.reputation.standing_store import StandingStore
from hostmesh.system import System

A, B = (peer_id_from_public_key(bytes([number]) * 32) for number in (1, 2))
WALLET = "0x" + "ab" * 20
LIE = Evidence(kind=EvidenceKind.FALSE_RECEIPT, detail="job 7")


@dataclass
class World:
    path: Path
    now: float = 1_800_000_000.0
    books: list[Any] = field(default_factory=list)

    @property
    def system(self) -> System:
        return System(unix_s=lambda: self.now)

    def open(self) -> StandingBook:
        self.books.append(StandingBook(self.path, system=self.system))
        return self.books[-1]  # type: ignore[no-any-return]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "standings.sqlite3")
    yield made
    for book in made.books:
        book.close()


def fail(world: World, book: StandingBook, times: int = 1) -> None:
    """Fail so many jobs, each begun when the pause after the one before had ended."""
    for _ in range(times):
        while book.of(A, WALLET).barred:
            world.now += 5
        book.record_outcome(A, good=False)


def test_four_failures_pause_and_the_fifth_blacklists(world: World) -> None:
    book = world.open()
    fail(world, book, 4)
    assert book.of(A, WALLET).barred == "paused after 4 failures, for 120 s more"
    assert book.listings() == ()
    fail(world, book)
    assert book.of(A, WALLET).barred == "blacklisted for 600 s more: 5 failures in a row"
    [listed] = book.listings()
    assert (listed.name, listed.priority, listed.reason) == (A, None, "5 failures in a row")
    assert (listed.since_unix_s, listed.until_unix_s) == (world.now, world.now + 600)
    assert book.of(B, WALLET).barred == ""


def test_a_line_that_is_cut_under_many_jobs_is_one_failure(world: World) -> None:
    book = world.open()
    for _ in range(50):
        book.record_outcome(A, good=False)
        world.now += 0.25
    assert book.of(A, WALLET).barred == "paused after a failure, for 3 s more"
    assert (book.suspension(A), world.open().suspension(A)) == (None, None)
    world.now += 10
    for _ in range(50):  # and once more: the second in a row
        book.record_outcome(A, good=False)
    assert book.of(A, WALLET).barred == "paused after 2 failures, for 30 s more"


def test_a_proof_blacklists_a_host_that_is_paused(world: World) -> None:
    book = world.open()
    book.record_outcome(A, good=False)
    world.now += 5
    book.record(A, LIE)
    assert book.of(A, WALLET).barred == "blacklisted for 600 s more: false receipts proven: job 7"


def test_parallel_jobs_that_fail_on_probation_are_one_failure(world: World) -> None:
    book = world.open()
    book.record(A, LIE)
    world.now += 600
    for _ in range(5):
        book.record_outcome(A, good=False)
        world.now += 250
    suspension = book.suspension(A)
    assert suspension is not None
    assert suspension.times == 2
    world.now = suspension.until_unix_s
    assert book.of(A, WALLET).barred == "", "no pause outlasts it that jobs of before made longer"


def test_a_success_between_begins_the_row_anew(world: World) -> None:
    book = world.open()
    for _ in range(20):
        fail(world, book, 4)
        book.record_outcome(A, good=True)
    assert book.suspension(A) is None


@pytest.mark.parametrize(
    ("evidence", "barred"),
    [
        (LIE, "blacklisted for 600 s more: false receipts proven: job 7"),
        (
            Evidence(kind=EvidenceKind.CANARY_FAILED, false_positive_ppm=10_000),
            "blacklisted for 600 s more: canaries failed",
        ),
        (Evidence(kind=EvidenceKind.CANARY_FAILED, false_positive_ppm=50_000), "paused after a failure, for 15 s more"),
        (Evidence(kind=EvidenceKind.CANARY_FAILED, false_positive_ppm=500_000), ""),
        (Evidence(kind=EvidenceKind.FALSE_MEASUREMENT), "paused after a failure, for 15 s more"),
        (Evidence(kind=EvidenceKind.CANARY_PASSED, false_positive_ppm=10_000), ""),
    ],
    ids=str,
)
def test_weight_decides_whether_a_host_is_blacklisted_at_once(world: World, evidence: Evidence, barred: str) -> None:
    book = world.open()
    book.record(A, evidence)
    assert book.of(A, WALLET).barred == barred


def test_it_ends_by_itself_and_probation_is_one_trial_at_a_time(world: World) -> None:
    book = world.open()
    book.record(A, LIE)
    assert not book.begin_trial(A)
    world.now += 599.5
    assert book.of(A, WALLET).barred == "blacklisted for 1 s more: false receipts proven: job 7"
    assert not book.begin_trial(A)
    world.now += 0.5
    assert (book.of(A, WALLET).barred, book.listings()) == ("", ())
    assert book.begin_trial(A)
    assert not book.begin_trial(A)
    for passed in (1, 2):
        book.record_outcome(A, good=True)
        suspension = book.suspension(A)
        assert suspension is not None
        assert suspension.passed == passed
        assert book.begin_trial(A)
        assert book.of(A, WALLET).barred == "on trial, being on probation"
    book.record_outcome(A, good=True)
    assert book.suspension(A) is None
    assert book.begin_trial(A)
    assert book.begin_trial(A)


def test_a_failure_on_probation_doubles_it_up_to_a_day(world: World) -> None:
    book = world.open()
    book.record(A, LIE)
    lasted = []
    for _ in range(10):
        suspension = book.suspension(A)
        assert suspension is not None
        lasted.append(suspension.duration_s)
        world.now = suspension.until_unix_s
        book.record_outcome(A, good=True)
        book.record_outcome(A, good=True)  # two of three
        fail(world, book)
    assert lasted == [*(600 * 2**doubled for doubled in range(8)), 86_400, 86_400]
    assert "on probation: jobs failed by the host's fault" in book.of(A, WALLET).barred


def test_jobs_that_were_begun_before_change_nothing_while_it_holds(world: World) -> None:
    book = world.open()
    book.record(A, LIE)
    before = book.suspension(A)
    for _ in range(7):
        book.record_outcome(A, good=False)
    book.record(A, LIE)
    for _ in range(5):
        book.record_outcome(A, good=True)
    assert book.suspension(A) == before


def test_it_is_kept_seen_by_others_and_forgiven(world: World) -> None:
    world.open().record(A, LIE)
    other = world.open()
    assert other.of(A, WALLET).barred == "blacklisted for 600 s more: false receipts proven: job 7"
    world.now += 600
    other.record_outcome(A, good=True)
    again = world.open()
    assert again.suspension(A) == Suspension(
        times=1, since_unix_s=world.now - 600, reason="false receipts proven: job 7", passed=1
    )
    assert again.unblacklist(A)
    assert not again.unblacklist(A)
    assert other.suspension(A) is None
    assert world.open().suspension(A) is None


def test_a_file_of_before_keeps_its_listings_and_pauses(world: World) -> None:
    with sqlite3.connect(world.path) as database:
        database.execute(
            "CREATE TABLE listings (name TEXT NOT NULL, is_blacklisting INTEGER NOT NULL, priority INTEGER, "
            "reason TEXT NOT NULL, since_unix_s REAL NOT NULL, until_unix_s REAL, "
            "PRIMARY KEY (name, is_blacklisting)) STRICT, WITHOUT ROWID"
        )
        database.execute(
            "CREATE TABLE cooldowns (peer_id TEXT PRIMARY KEY, failures INTEGER NOT NULL, "
            "failed_at_unix_s REAL NOT NULL) STRICT, WITHOUT ROWID"
        )
        database.execute("INSERT INTO listings VALUES (?, 1, NULL, 'slow', ?, NULL)", (B, world.now))
        database.execute("INSERT INTO cooldowns VALUES (?, 4, ?)", (A, world.now))
        database.execute("PRAGMA user_version = 1")
    database.close()
    book = world.open()
    assert book.of(B, WALLET).barred == "blacklisted: slow"
    assert book.of(A, WALLET).barred == "paused after 4 failures, for 120 s more"
    fail(world, book)
    assert book.of(A, WALLET).barred == "blacklisted for 600 s more: 5 failures in a row"


def test_a_clock_that_was_set_back_does_not_blacklist_for_ever(world: World) -> None:
    book = world.open()
    book.record(A, LIE)
    world.now -= 86_400
    assert book.of(A, WALLET).barred == ""


def test_few_are_remembered_here_and_on_disk() -> None:
    standings, store = StandingList(max_suspensions=2), StandingStore(None, max_suspensions=2)
    peers = [PeerId(f"peer{number}") for number in range(5)]
    for number, peer_id in enumerate(peers):
        suspension = Suspension(times=1, since_unix_s=float(number), reason="")
        standings.put_suspension(peer_id, suspension)
        store.put_failure(standings.after_failure(peer_id, float(number)), suspension)
    assert [standings.suspension(peer_id) is not None for peer_id in peers] == [False, False, False, True, True]
    assert [peer_id for peer_id, _ in store.suspensions()] == peers[3:]
    with pytest.raises(ValueError, match="at least one"):
        StandingList(max_suspensions=0)
    store.close()


def test_a_slow_but_honest_host_is_never_blacklisted(world: World) -> None:
    """Slowness is no outcome: its jobs finish, late, but for one in ten."""
    book, dice = world.open(), random.Random(7)
    for _ in range(300):
        world.now += 1800
        book.record_outcome(A, good=dice.random() < 0.9)
        assert book.suspension(A) is None
        world.now += 900
        assert book.of(A, WALLET).barred == ""


def test_a_history_tells_both_books(world: World) -> None:
    reputations, standings = ReputationBook(system=world.system), world.open()
    history = HostHistory(reputations, standings)
    assert history.record(A, WALLET, LIE).points == 50
    assert standings.suspension(A) is not None
    assert reputations.explain(A, WALLET).reasons[0].detail == "job 7"
    history.record(B, WALLET, Evidence(kind=EvidenceKind.JOB_FINISHED))
    assert (reputations.of(B, WALLET).points, standings.of(B, WALLET).barred) == (181, "")
    reputations.close()
