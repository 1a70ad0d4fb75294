"""A key under two wallets is two hosts: what is earned stays with the name, what speaks against the key does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.benchmarks.market import BAD, FARM, HONEST, NOW, Strategy, named, of_jobs, sybil_reviews

from hostmesh.reputation.book import ReputationBook
from hostmesh.reputation.evidence import Evidence, EvidenceKind
from hostmesh.reputation.foreign import Reviews
from hostmesh.reputation.history import HostHistory
from hostmesh.reputation.names import HostName, host_name
from hostmesh.reputation.reputations import Reputations
from hostmesh.reputation.standing_book import StandingBook
from hostmesh.system import System
from hostmesh.testing import make_peer_key

KEY, OTHER_KEY = (make_peer_key(name).peer_id for name in ("key", "other key"))
OPERATOR, THIEF, THIRD = ("0x" + each * 20 for each in ("0e", "7f", "33"))
FAILED, LIE = Evidence(kind=EvidenceKind.JOB_FAILED), Evidence(kind=EvidenceKind.FALSE_RECEIPT, detail="job 7")


@pytest.fixture
def book(tmp_path: Path) -> Iterator[ReputationBook]:
    made = ReputationBook(tmp_path / "reputation.sqlite3", system=System(unix_s=lambda: NOW))
    yield made
    made.close()


def test_who_binds_a_key_with_900_points_to_his_own_wallet_has_100(book: ReputationBook) -> None:
    for _ in range(81):
        book.record_outcome(KEY, OPERATOR, good=True)
    assert book.of(KEY, OPERATOR).points == 901
    stolen = book.of(KEY, THIEF)
    assert (stolen.points, stolen.n) == (100, 0)
    book.record_outcome(KEY, THIEF, good=True)
    assert [book.of(KEY, wallet).points for wallet in (THIEF, OPERATOR)] == [181, 901]


def test_what_speaks_against_a_key_holds_for_all_its_names(book: ReputationBook) -> None:
    book.record_outcome(KEY, OPERATOR, good=True)
    for _ in range(9):
        book.record_outcome(KEY, OPERATOR, good=False)
    assert book.of(KEY, OPERATOR).points == 100
    assert book.of(KEY, THIEF).points == 1000 // 19, "a new wallet begins below"
    after = book.record_outcome(KEY, THIEF, good=True)
    assert (after.points, after.good, after.bad) == (100, 1, 9)
    assert book.of(OTHER_KEY, OPERATOR).points == 100, "and for no other key"
    told = book.explain(KEY, THIEF)
    assert told.to_dict()["elsewhere"] == {"count": 9, "weight_micros": 9_000_000}
    assert [part.count for part in told.parts] == [1]
    assert told.reasons == (), "those are shown under the wallet under which it was"


def test_a_proof_ends_what_the_name_had_earned_and_weighs_on_the_others(book: ReputationBook) -> None:
    for wallet in (OPERATOR, THIEF):
        for _ in range(40):
            book.record_outcome(KEY, wallet, good=True)
    book.record(KEY, THIEF, LIE)
    assert book.of(KEY, THIEF).points == 1000 // 20
    assert book.of(KEY, OPERATOR).points == 1000 * 41 // 60


def test_what_a_key_did_before_its_wallet_was_known_holds_for_each(book: ReputationBook) -> None:
    book.record(KEY, "", FAILED)
    assert [book.of(KEY, wallet).points for wallet in (OPERATOR, THIEF, "")] == [1000 // 11] * 3
    with pytest.raises(ValueError, match="nothing speaks for a key without a wallet"):
        book.record_outcome(KEY, "", good=True)


def test_a_book_lists_each_name_and_knows_a_key_by_any(book: ReputationBook) -> None:
    book.record_outcome(KEY, THIEF, good=True)
    book.record_outcome(KEY, OPERATOR, good=True)
    both = (HostName(KEY, OPERATOR), HostName(KEY, THIEF))
    assert book.hosts() == book.names(KEY) == both
    assert (book.knows(KEY), book.knows(OTHER_KEY), book.names(OTHER_KEY)) == (True, False, ())


def test_the_names_of_a_key_are_also_those_that_others_tell_of(book: ReputationBook) -> None:
    said = sybil_reviews(Strategy.MUTE, 1)[-1]
    book.record_review(said)
    assert book.names(said.host) == (said.name,)
    assert book.review_of(said.reviewer, said.host, THIEF) is None


@pytest.mark.parametrize("wallet", ["0x" + "AB" * 20, "ab" * 20, "0x12", "12D3KooWkey"])
def test_one_wallet_has_one_spelling(book: ReputationBook, wallet: str) -> None:
    for call in (
        lambda: host_name(KEY, wallet),
        lambda: book.record(KEY, wallet, FAILED),
        lambda: book.explain(KEY, wallet),
    ):
        with pytest.raises(ValueError, match="0x and 40 hex digits in lower case"):
            call()


def test_the_word_of_others_is_of_one_name_and_lifts_no_new_name_of_a_known_key() -> None:
    """A thousand trusted sybils praise the bad host as that of the operator 2."""
    own = {named(host): of_jobs(5, 0) for host in FARM}
    reviews = Reviews(sybil_reviews(Strategy.LOUD))
    today = int(NOW // 86_400)
    alone = Reputations(own, reviews, today)
    assert alone.of(*named(BAD)).points > 150
    assert alone.of(BAD, THIEF).points == 100, "nobody spoke of that one"
    known = Reputations(own | {HostName(BAD, THIEF): of_jobs(5, 0)}, reviews, today)
    assert known.of(*named(BAD)).points == 100, "its key is known here, under another wallet"
    assert alone.of(*named(HONEST)).points < 100


def test_a_pause_and_a_blacklisting_hold_whatever_wallet_the_key_shows() -> None:
    now = [NOW]
    standings = StandingBook(system=System(unix_s=lambda: now[0]))
    history = HostHistory(ReputationBook(system=System(unix_s=lambda: now[0])), standings)
    history.record(KEY, OPERATOR, FAILED)
    assert standings.of(KEY, THIEF).barred.startswith("paused")
    history.record(KEY, OPERATOR, LIE)
    assert standings.of(KEY, THIEF).barred.startswith("blacklisted for 600 s")
    assert not standings.begin_trial(KEY)
    assert standings.of(OTHER_KEY, OPERATOR).barred == ""
    now[0] += 600
    standings.blacklist(KEY)
    assert standings.of(KEY, THIRD).barred == "blacklisted"


def test_a_preference_of_a_wallet_is_not_the_thiefs() -> None:
    standings = StandingBook()
    standings.prefer(OPERATOR, 7)
    assert [standings.of(KEY, wallet).priority for wallet in (OPERATOR, THIEF)] == [7, 0]
