"""The book of neighbours: what a node's events mean, what is kept, and how many."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hostmesh.errors import StoreError, StoreTooNewError
from hostmesh.net.events import CloseCause, ConnectionClosed, DialEnded, NodeEvent
from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.peer_score import PeerEvent
from hostmesh.reputation.peer_score_book import PeerScoreBook
from hostmesh.reputation.peer_score_store import SCHEMA_VERSION
from hostmesh.system import System

A, B = PeerId("12D3KooWa"), PeerId("12D3KooWb")


@dataclass
class World:
    path: Path
    now: float = 1_800_000_000.0
    books: list[PeerScoreBook] = field(default_factory=list)

    def open(self, **options: Any) -> PeerScoreBook:
        self.books.append(PeerScoreBook(self.path, system=System(unix_s=lambda: self.now), **options))
        return self.books[-1]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "data" / "neighbours.sqlite3")
    yield made
    for book in made.books:
        book.close()


def closed(
    cause: CloseCause, *, peer_id: PeerId = A, lasted_s: float = 1.0, rtt_s: float | None = None
) -> ConnectionClosed:
    return ConnectionClosed(
        at_s=0.0, peer_id=peer_id, is_outbound=True, address=None,
        cause=cause, lasted_s=lasted_s, is_last=True, rtt_s=rtt_s,
    )  # fmt: skip


def test_a_peer_of_whom_nothing_is_known_is_a_neighbour_like_others(world: World) -> None:
    book = world.open()
    assert (book.score_of(A), book.may_dial(A), len(book)) == (0.5, True, 0)


MEANINGS = [
    (closed(CloseCause.CLOSED), 0.5 * 2 / 3 + 0.25),
    (closed(CloseCause.ENDED), 0.5),
    (closed(CloseCause.ADDRESS_GONE), 0.5),
    (closed(CloseCause.SILENT), 0.5 / 3 + 0.25),
    (closed(CloseCause.STUCK), 0.5 / 3 + 0.25),
    (closed(CloseCause.VIOLATION), 0.5 / 7 + 0.3 * 2 / 7 + 0.1),
    (closed(CloseCause.CLOSED, lasted_s=60), 0.5 * 2 / 3 + 0.25),
    (closed(CloseCause.ENDED, lasted_s=60), 0.5 * 2 / 3 + 0.25),
    (closed(CloseCause.SILENT, lasted_s=60), 0.5 * 2 / 4 + 0.25),
    (closed(CloseCause.ENDED, rtt_s=0.1), 0.25 + 0.3 + 0.1),
    (closed(CloseCause.ENDED, rtt_s=1.0), 0.25 + 0.1),
    (DialEnded(at_s=0.0, peer_id=A, stage="timeout", address=None, took_s=10.0), 0.5),
    (DialEnded(at_s=0.0, peer_id=A, stage="handshake", address=None, took_s=10.0), 0.5),
]


@pytest.mark.parametrize(("event", "score"), MEANINGS, ids=str)
def test_what_events_mean(world: World, event: NodeEvent, score: float) -> None:
    book = world.open()
    book.note(event)
    assert book.score_of(A) == pytest.approx(score)
    assert book.score_of(B) == 0.5


def test_dials_that_fail_blacklist_nobody(world: World) -> None:
    """Anybody can name an address for a peer where it is not."""
    book = world.open()
    for _ in range(100):
        book.note(DialEnded(at_s=0.0, peer_id=A, stage="dial", address=None, took_s=0.1))
    assert (book.may_dial(A), len(book)) == (True, 0)


def test_a_long_connection_that_goes_silent_each_night_blacklists_nobody(world: World) -> None:
    book = world.open()
    for _ in range(30):
        book.note(closed(CloseCause.SILENT, lasted_s=3600))
        world.now += 86_400
    assert book.may_dial(A)


def test_who_goes_silent_at_once_five_times_is_not_dialled_for_ten_minutes_here_and_after_a_kill(world: World) -> None:
    book = world.open()
    for _ in range(5):
        assert book.may_dial(A)
        book.note(closed(CloseCause.SILENT, rtt_s=0.001))
        world.now += 3600
    world.now -= 3600
    assert not book.may_dial(A)
    again = world.open()  # the first was never closed
    assert not again.may_dial(A)
    world.now += 600
    assert again.may_dial(A)
    again.note(closed(CloseCause.SILENT))
    assert not again.may_dial(A)
    world.now += 1199
    assert not world.open().may_dial(A), "twice as long"
    world.now += 1
    third = world.open()
    third.note(closed(CloseCause.CLOSED))
    assert world.open().score_of(A) > 0.4


def test_nothing_is_written_while_nothing_happens(world: World) -> None:
    book = world.open()
    assert book.may_dial(A)
    book.close()
    assert not world.path.exists()


def test_scores_are_kept_when_the_book_is_closed(world: World) -> None:
    book = world.open()
    for _ in range(3):
        book.record(A, PeerEvent.SERVED)
    book.note(closed(CloseCause.CLOSED, peer_id=B, rtt_s=0.3))
    scores = book.score_of(A), book.score_of(B)
    assert not world.path.exists()
    book.close()
    book.close()
    again = world.open()
    assert (again.score_of(A), again.score_of(B)) == scores


def test_few_peers_are_remembered_and_blacklisted_ones_the_longest(world: World) -> None:
    book = world.open(max_peers=3)
    for _ in range(5):
        book.record(A, PeerEvent.FORGED)
    for number in range(50):
        book.record(PeerId(f"peer{number}"), PeerEvent.SERVED)
        assert len(book) <= 3
    assert not book.may_dial(A)
    book.close()
    with sqlite3.connect(world.path) as database:
        assert database.execute("SELECT count(*) FROM peers").fetchone() == (3,)
    database.close()


def test_a_file_that_cannot_be_written_bars_the_peer_all_the_same(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.path.parent.mkdir()
    world.path.parent.chmod(0o700)
    book = world.open()
    world.path.mkdir()
    with caplog.at_level(logging.WARNING, logger="hostmesh.reputation"):
        for _ in range(5):
            book.record(A, PeerEvent.TIMED_OUT)
    assert not book.may_dial(A)
    assert any("neighbours not recorded" in record.message for record in caplog.records)


def test_a_newer_file_or_none_at_all_is_a_typed_error(world: World) -> None:
    world.path.parent.mkdir()
    with sqlite3.connect(world.path) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    with pytest.raises(StoreTooNewError):
        world.open()
    world.path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(StoreError):
        world.open()


def test_a_book_in_memory_keeps_nothing() -> None:
    book = PeerScoreBook()
    for _ in range(5):
        book.record(A, PeerEvent.CORRUPT)
    assert not book.may_dial(A)
    book.close()
