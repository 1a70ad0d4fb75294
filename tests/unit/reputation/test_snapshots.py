"""Reputation and standings of any number of hosts cost one look at each file."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from hostmesh.net.peer_id import PeerId
from hostmesh.net.peer_key import PeerKey
from hostmesh.reputation.book import ReputationBook
from hostmesh.reputation.standing_book import StandingBook
from hostmesh.store import Store

A, B = (PeerKey(bytes([number]) * 32).peer_id for number in (1, 2))
WALLET = "0x" + "ab" * 20


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Store]:
    """Every read of a store since."""
    made: list[Store] = []
    reading = Store.reading

    def counted(self: Store) -> AbstractContextManager[Any]:
        made.append(self)
        return reading(self)

    monkeypatch.setattr(Store, "reading", counted)
    return made


def test_reputations_of_all_hosts_are_read_once(tmp_path: Path, reads: list[Store]) -> None:
    book = ReputationBook(tmp_path / "outcomes")
    book.record_outcome(A, WALLET, good=True)
    book.snapshot()
    reads.clear()
    reputations = book.snapshot()
    assert [reputations.of(PeerId(f"peer {number}"), WALLET).n for number in range(4096)] == [0] * 4096
    assert reputations.of(A, WALLET) == book.of(A, WALLET)
    assert len(reads) == 2, "one for the snapshot, one for the book itself"


def test_a_snapshot_has_what_was_written_before_it_here_and_elsewhere(tmp_path: Path) -> None:
    ours, others = ReputationBook(tmp_path / "outcomes"), ReputationBook(tmp_path / "outcomes")
    before = ours.snapshot()
    ours.record_outcome(A, WALLET, good=False)
    others.record_outcome(B, WALLET, good=True)
    others.record_outcome(A, WALLET, good=False)
    after = ours.snapshot()
    assert (after.of(A, WALLET).bad, after.of(B, WALLET).good) == (2, 1)
    assert (before.of(A, WALLET).n, before.of(B, WALLET).n) == (0, 0)


def test_who_was_pushed_out_is_in_no_snapshot(tmp_path: Path) -> None:
    book = ReputationBook(tmp_path / "outcomes", max_hosts=1)
    book.record_outcome(A, WALLET, good=True)
    assert book.snapshot().of(A, WALLET).n == 1
    for _ in range(2):
        book.record_outcome(B, WALLET, good=True)
    assert [book.snapshot().of(peer_id, WALLET).n for peer_id in (A, B)] == [0, book.of(B, WALLET).n]


def test_standings_of_all_hosts_are_looked_up_once(tmp_path: Path, reads: list[Store]) -> None:
    book, others = StandingBook(tmp_path / "standings"), StandingBook(tmp_path / "standings")
    book.snapshot()
    others.blacklist(A, "of another process")
    reads.clear()
    standings = book.snapshot()
    assert standings.of(A, WALLET).barred == "blacklisted: of another process"
    looked = len(reads)
    for number in range(4096):
        assert standings.of(PeerId(f"peer {number}"), WALLET).barred == ""
    assert len(reads) == looked <= 4, "the version, listings, pauses and suspensions"
    book.blacklist(B)
    assert standings.of(B, WALLET).barred == "blacklisted", "what this process writes shows at once"
