"""Lies in the book of reputations: each once a day, also over a restart, and none stops a search."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hostmesh.discovery_history import AGAIN_S, DiscoveryHistory
from hostmesh.reputation.book import ReputationBook
from hostmesh.reputation.evidence import EvidenceKind
from hostmesh.system import System
from hostmesh.testing import make_peer_key

LIAR, OTHER = (make_peer_key(name).peer_id for name in ("liar", "other"))
WALLET = "0x" + "ab" * 20


class World:
    def __init__(self, path: Path) -> None:
        self.path, self.now = path, 1_800_000_000.0
        self.start()

    def start(self) -> None:
        """Open the book as another process does."""
        system = System(unix_s=lambda: self.now)
        self.book = ReputationBook(self.path, system=system)
        self.history = DiscoveryHistory(self.book, system)

    def counts(self) -> tuple[int, int]:
        """How often each lie was counted: of a place, of two records."""
        kinds = [reason.kind for reason in self.book.explain(LIAR, WALLET).reasons]
        return kinds.count(EvidenceKind.FALSE_MEASUREMENT), kinds.count(EvidenceKind.EQUIVOCATION)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "reputation.sqlite3")


def test_a_claim_counts_once_a_day_however_often_it_is_met(world: World) -> None:
    for _ in range(3):
        world.history.note_false_claim(LIAR, WALLET, "claims AU")
        world.now += 60
        world.start()
    assert world.counts() == (1, 0)
    world.now -= 3600  # the clock was set right
    world.history.note_false_claim(LIAR, WALLET, "claims AU")
    assert world.counts() == (1, 0)
    world.history.note_false_claim(LIAR, WALLET, "claims JP")
    world.history.note_false_claim(OTHER, WALLET, "claims AU")
    assert world.counts() == (2, 0)
    world.now += 3600 + AGAIN_S
    world.history.note_false_claim(LIAR, WALLET, "claims AU")
    assert world.counts() == (3, 0)
    assert world.book.of(OTHER, WALLET).n == 1


def test_each_contradiction_is_a_proof(world: World) -> None:
    for _ in range(20):
        world.book.record_outcome(LIAR, WALLET, good=True)
    for sequence in (7, 7, 8):
        world.history.note_equivocation(LIAR, WALLET, sequence)
    assert world.counts() == (0, 2)
    assert world.book.of(LIAR, WALLET).points == 1000 // 30, "what spoke for it counts no longer"


def test_a_book_that_cannot_be_written_stops_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.book.close()
    world.path.unlink()
    world.path.mkdir()
    with caplog.at_level(logging.WARNING, logger="hostmesh.reputation"):
        world.history.note_false_claim(LIAR, WALLET, "claims AU")
    assert "a lie was not recorded" in caplog.text
