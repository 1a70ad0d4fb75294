"""Points stay on the scale and move with the evidence, whatever the history."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.book import ReputationBook
from hostmesh.reputation.score import points

WALLET = "0x" + "ab" * 20
counts = st.integers(0, 10**6)


@given(good=counts, bad=counts)
def test_points_stay_on_the_scale(good: int, bad: int) -> None:
    assert isinstance(points(good, bad), int)
    assert 0 <= points(good, bad) < 1000


@given(good=counts, bad=counts)
def test_a_good_outcome_never_lowers_and_a_bad_one_never_raises(good: int, bad: int) -> None:
    assert points(good + 1, bad) >= points(good, bad) >= points(good, bad + 1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40))
def test_the_book_agrees_with_a_tally(history: list[tuple[str, bool]]) -> None:
    book = ReputationBook(max_hosts=3)
    for name, good in history:
        book.record_outcome(PeerId(name), WALLET, good=good)
    for name in "abc":
        outcomes = [good for host, good in history if host == name]
        reputation = book.of(PeerId(name), WALLET)
        assert (reputation.good, reputation.bad) == (outcomes.count(True), outcomes.count(False))
    book.close()
