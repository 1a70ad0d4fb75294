"""The price that a host quotes against the one that its record claims: criteria, ranking and the choice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from discovery_world import FakeReputation, make_info

from hostmesh.discovery.choice import choice_of
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import HostDescription, HostState, ModelOffer
from hostmesh.discovery.funnel import sift
from hostmesh.discovery.matching import failing
from hostmesh.discovery.measurement import Measurement, Origin, Path, QuotedPrice, QuoteRefusal
from hostmesh.discovery.offers import price_in_question
from hostmesh.discovery.ranking import AUTO, CHEAPEST, rank
from hostmesh.discovery.terms import Price
from hostmesh.discovery.view import HostView, ProbeResult, Readiness

ANY = HostCriteria()


def usd(micros: int) -> Price:
    return Price(micros_per_mtok=micros, currency="USD")


def view(
    name: str = "host", *, claims: Price | None = None, quotes: Price | None = None, refuses: str = "", **probe: Any
) -> HostView:
    claimed = usd(100) if claims is None else claims
    quote = None if quotes is None else QuotedPrice(model_id="m", price=quotes, jobs_ahead=0, at_unix_s=1.0)
    latency = Measurement(value=5.0, unit="ms", at_unix_s=1.0, samples=3, origin=Origin.MEASURED, path=Path.DIRECT)
    readiness = Readiness(state=HostState.AVAILABLE, ready_models=frozenset({"m", "n"}), free_slots=1)
    return HostView(
        info=make_info(name, HostDescription(models=[ModelOffer(model_id="m", price=claimed)])),
        uptime=None,
        reputation=FakeReputation(),
        probe=ProbeResult(
            latency=latency,
            readiness=readiness,
            quote=quote,
            unquoted=QuoteRefusal(reason=refuses) if refuses else None,
            **probe,
        ),
        sources=("dht",),
    )


@pytest.mark.parametrize(
    ("claims", "quotes", "detail"),
    [
        (usd(100), usd(100), None),
        (usd(100), usd(99), None),
        (usd(100), usd(101), "quotes 0.000101 USD/Mtok, its record says 0.0001 USD/Mtok"),
        (usd(0), usd(1), "quotes 0.000001 USD/Mtok, its record says free"),
        (usd(0), Price(micros_per_mtok=0, currency="EUR"), None),
        (
            usd(100),
            Price(micros_per_mtok=1, currency="EUR"),
            "quotes 0.000001 EUR/Mtok, its record says 0.0001 USD/Mtok",
        ),
    ],
)
@pytest.mark.parametrize("criteria", [ANY, HostCriteria(max_price=usd(1000))])
def test_a_host_that_quotes_more_than_its_record_says_fails_the_price(
    criteria: HostCriteria, claims: Price, quotes: Price, detail: str | None
) -> None:
    assert failing(view(claims=claims, quotes=quotes), criteria) == ([] if detail is None else [("price", detail)])


@pytest.mark.parametrize(
    ("refuses", "failure"),
    [
        (QuoteRefusal.NOT_SERVED, None),
        (QuoteRefusal.UNPRICED, ("price", "quotes no price, unlike its record")),
        (QuoteRefusal.BROKEN, ("price", "its quote is broken")),
        ("BUSY", ("ready", "takes no job now: BUSY")),
        ("UNSUPPORTED_MODEL", ("ready", "takes no job now: UNSUPPORTED_MODEL")),
    ],
)
def test_a_host_that_refuses_a_quote_would_refuse_the_job(refuses: str, failure: tuple[str, str] | None) -> None:
    assert failing(view(refuses=refuses), ANY) == ([] if failure is None else [failure])


def test_no_change_of_the_criteria_lets_a_liar_through() -> None:
    liar = view(quotes=usd(101))
    for criteria in (ANY, HostCriteria(max_price=usd(100)), HostCriteria(max_price=usd(50))):
        matched, funnel = sift([liar], criteria)
        assert (matched, funnel.rejected, funnel.relaxation) == ([], {"price": 1}, None)


def test_a_price_that_nobody_is_held_to_ranks_as_none() -> None:
    """A host that serves no jobs may claim any price."""
    loud = view("loud", claims=usd(1), refuses=QuoteRefusal.NOT_SERVED)
    honest = view("honest", claims=usd(1_000_000), quotes=usd(1_000_000))
    for strategy in (AUTO, CHEAPEST):
        (best, points), (_, others) = rank([loud, honest], ANY, strategy, seed=b"")
        assert best is honest
        assert (points.points("price"), others.points("price")) == (500_000, 0)
    assert price_in_question(loud, ANY) is None


def test_a_quote_below_the_record_earns_no_rank() -> None:
    """What is not measured yet is bounded by the record: a discount would break the bound."""
    for quotes in (usd(1), usd(100), None):
        assert price_in_question(view(quotes=quotes), ANY) == usd(100)


def chosen(shown: HostView, criteria: HostCriteria = ANY) -> Any:
    return choice_of(shown, AUTO.score(shown, criteria), criteria)


def test_the_choice_shows_the_quoted_price_as_measured() -> None:
    choice = chosen(view(quotes=usd(60)))
    assert (choice.price, choice.offer.price) == (usd(60), usd(100))
    assert choice.origins["price"] is Origin.MEASURED
    assert choice.to_dict()["price"] == {"price_micros_per_mtok": 60, "currency": "USD"}
    assert choice.to_dict()["quote"] == {
        "model": "m",
        "price_micros_per_mtok": 60,
        "currency": "USD",
        "jobs_ahead": 0,
        "at_unix_s": 1.0,
        "origin": "measured",
    }


def test_a_price_without_a_quote_stays_a_claim() -> None:
    choice = chosen(view(refuses=QuoteRefusal.NOT_SERVED))
    assert (choice.price, choice.quote, choice.to_dict()["quote"]) == (usd(100), None, None)
    assert choice.origins["price"] is Origin.CLAIMED


def test_a_quote_of_another_model_says_nothing() -> None:
    shown = view(quotes=usd(60))
    assert shown.quote_of("m") is not None
    assert shown.quote_of("n") is None


@pytest.mark.parametrize("models", [[ModelOffer(model_id="n")], [ModelOffer(model_id="m")]])
def test_a_quote_that_a_newer_record_has_no_price_for_breaks_no_word(models: list[ModelOffer]) -> None:
    """The host renewed its record after it had quoted: it no longer has the model, or names no price for it."""
    quoted = view(quotes=usd(10**6))
    assert failing(quoted, ANY)
    renewed = replace(quoted, info=make_info("host", HostDescription(models=models)))
    assert failing(renewed, ANY) == []
