"""The book of open quotes."""

from __future__ import annotations

import pytest

from hostmesh.errors import JobError
from hostmesh.jobs.quotes import QuoteBook, QuotedTerms
from hostmesh.net.peer_id import PeerId

ANN, BOB = PeerId("ann"), PeerId("bob")


def terms(
    number: int, peer: PeerId = ANN, *, expires_at_s: float = 60.0, price: int = 5, model: str = "m"
) -> QuotedTerms:
    return QuotedTerms(
        quote_id=number.to_bytes(16, "big"),
        peer_id=peer,
        model_id=model,
        price_micros_per_mtok=price,
        currency="USD",
        max_output_tokens=10,
        context_tokens=100,
        expires_at_s=expires_at_s,
    )


def refused(book: QuoteBook, number: int, peer: PeerId, now: float) -> str:
    with pytest.raises(JobError) as caught:
        book.consume(number.to_bytes(16, "big"), peer, now)
    return caught.value.reason


def test_a_quote_is_good_for_one_job_of_its_peer_until_it_expires() -> None:
    book = QuoteBook()
    book.issue(terms(1), 0.0)
    assert refused(book, 1, BOB, 1.0) == "QUOTE_EXPIRED"
    assert book.look_up(terms(1).quote_id, ANN, 59.9) == terms(1)
    assert book.consume(terms(1).quote_id, ANN, 59.9) == terms(1)
    assert refused(book, 1, ANN, 59.9) == "QUOTE_EXPIRED"
    book.issue(terms(2), 0.0)
    assert refused(book, 2, ANN, 60.0) == "QUOTE_EXPIRED"
    assert refused(book, 3, ANN, 0.0) == "QUOTE_EXPIRED"
    assert len(book) == 0


def test_a_peers_newest_quotes_push_out_its_own_oldest() -> None:
    book = QuoteBook(max_per_peer=2)
    book.issue(terms(9, BOB), 0.0)
    for number in range(3):
        book.issue(terms(number), 0.0)
    assert len(book) == 3
    assert refused(book, 0, ANN, 1.0) == "QUOTE_EXPIRED"
    assert book.consume(terms(1).quote_id, ANN, 1.0)
    assert book.consume(terms(9, BOB).quote_id, BOB, 1.0)


def test_a_full_book_drops_the_expired_first_and_then_takes_from_who_holds_most() -> None:
    book = QuoteBook(max_quotes=3)
    book.issue(terms(1, expires_at_s=5.0), 0.0)
    book.issue(terms(2), 0.0)
    book.issue(terms(3, BOB), 0.0)
    book.issue(terms(4), 6.0)
    assert len(book) == 3
    assert book.look_up(terms(2).quote_id, ANN, 6.0)
    book.issue(terms(5, BOB), 6.0)
    assert refused(book, 2, ANN, 6.0) == "QUOTE_EXPIRED"
    assert book.look_up(terms(3, BOB).quote_id, BOB, 6.0)
    assert len(book) == 3


def test_prices_are_those_of_the_peers_open_quotes_for_the_model() -> None:
    book = QuoteBook()
    book.issue(terms(1, price=7), 0.0)
    book.issue(terms(2, price=6, expires_at_s=5.0), 0.0)
    book.issue(terms(3, price=1, model="other"), 0.0)
    book.issue(terms(4, BOB, price=2), 0.0)
    assert sorted(book.prices(ANN, "m", 1.0)) == [(6, "USD"), (7, "USD")]
    assert book.prices(ANN, "m", 5.0) == [(7, "USD")]
    assert book.prices(PeerId("eve"), "m", 1.0) == []


def test_a_full_book_forgets_what_has_expired_before_anybodys_open_quote() -> None:
    book = QuoteBook(max_quotes=3)
    # The one that holds most holds open quotes; the expired one is another's.
    book.issue(terms(1, BOB, expires_at_s=5.0), 0.0)
    book.issue(terms(2), 0.0)
    book.issue(terms(3), 0.0)
    book.issue(terms(4), 5.0)
    assert [book.look_up(terms(number).quote_id, ANN, 5.0).quote_id for number in (2, 3, 4)]
    assert len(book) == 3
