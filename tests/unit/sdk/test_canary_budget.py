"""What canaries may cost together, those under way among them, and those of one host."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.canary_budget import HOSTS_SHARE, CanaryBudget
from hostmesh.errors import (
    BudgetExceededError,
    DeadlineExceededError,
    HostmeshError,
    JobError,
    SessionError,
    UsageError,
)
from hostmesh.jobs.content import build_input
from hostmesh.jobs.offer import QuoteOffer
from hostmesh.net.peer_id import PeerId
from hostmesh.testing.strategies import values_of

WIRE = build_input(prompt="x")
_PROMPT_TOKENS = 1 + 64 + 1024
"""Its byte, and what a template may add to one message, and besides."""


def of_host(offer: QuoteOffer, host: str, *, most_micros: int = 10) -> QuoteOffer:
    """Return a host's offer for a canary that can cost so much."""
    tokens = 200 * most_micros
    return replace(
        offer,
        peer_id=PeerId(host),
        price_micros_per_mtok=5_000,
        max_output_tokens=max(0, tokens - _PROMPT_TOKENS),
        context_tokens=tokens,
    )


def go_on() -> None:
    raise AssertionError("there is something left")


@given(offer=values_of(QuoteOffer))
def test_canaries_under_way_are_counted_with_the_most_that_they_can_cost(offer: QuoteOffer) -> None:
    budget, stops = CanaryBudget(45, "USD"), []
    with contextlib.ExitStack() as under_way:
        one, *_ = (under_way.enter_context(budget.reserved(WIRE, of_host(offer, host), stop=go_on)) for host in "abcd")
        with pytest.raises(BudgetExceededError), budget.reserved(WIRE, of_host(offer, "e"), stop=go_on):
            raise AssertionError("a fifth one could bring it to 50")
        assert not budget.is_used, "these four may yet cost less"
        one.cost(2)
    assert budget.spent_micros == 2 + 30, "of the others nothing is known"
    with budget.reserved(WIRE, of_host(offer, "a"), stop=go_on) as five:
        five.cost(4)
    assert (budget.spent_micros, budget.is_used) == (36, False)
    with pytest.raises(BudgetExceededError), budget.reserved(WIRE, of_host(offer, "a"), stop=lambda: stops.append(1)):
        raise AssertionError("9 are left")
    assert (budget.spent_micros, budget.is_used, stops) == (36, True, [1])


@given(offer=values_of(QuoteOffer))
def test_one_that_is_too_dear_ends_nothing_for_those_that_are_not(offer: QuoteOffer) -> None:
    """Its host says how long an answer may be, where the user does not."""
    budget = CanaryBudget(100, "USD")
    for most in (26, 101, 10**9):
        with (
            pytest.raises(BudgetExceededError),
            budget.reserved(WIRE, of_host(offer, "dear", most_micros=most), stop=lambda: None),
        ):
            raise AssertionError("it could take more than a fourth")
        with budget.reserved(WIRE, of_host(offer, "a"), stop=go_on) as one:
            one.cost(1)
    assert (budget.spent_micros, budget.is_used) == (3, False)


@given(offer=values_of(QuoteOffer), ends_well=st.booleans())
def test_a_host_that_does_not_answer_takes_a_fourth_of_it_and_no_more(offer: QuoteOffer, ends_well: bool) -> None:
    """Whatever it quotes. One that does answer is held back by the budget alone."""
    budget = CanaryBudget(100, "USD")
    for _ in range(30):
        with (
            contextlib.suppress(JobError, BudgetExceededError),
            budget.reserved(WIRE, of_host(offer, "host"), stop=lambda: None) as one,
        ):
            if not ends_well:
                raise JobError("lost", reason="ENGINE_FAILED", may_have_executed=True)
            one.cost(10)
    assert budget.spent_micros == (100 if ends_well else 20)
    assert budget.is_used is ends_well
    if not ends_well:
        with budget.reserved(WIRE, of_host(offer, "other", most_micros=100 // HOSTS_SHARE), stop=go_on):
            assert set(budget._held_micros) == {"host", "other"}


@given(offer=values_of(QuoteOffer), has_run=st.booleans())
def test_one_that_surely_did_not_run_costs_nothing(offer: QuoteOffer, has_run: bool) -> None:
    budget = CanaryBudget(45, "USD")
    with pytest.raises(JobError), budget.reserved(WIRE, of_host(offer, "a"), stop=go_on):
        raise JobError("full", reason="BUSY", may_have_executed=has_run)
    assert budget.spent_micros == (10 if has_run else 0)
    assert dict(budget._held_micros) == ({"a": 10} if has_run else {})


@given(offer=values_of(QuoteOffer))
def test_one_that_is_cut_off_counts_as_the_most(offer: QuoteOffer) -> None:
    budget = CanaryBudget(45, "USD")
    with pytest.raises(ZeroDivisionError), budget.reserved(WIRE, of_host(offer, "a"), stop=go_on):
        _ = 1 / 0
    assert budget.spent_micros == 10


@pytest.mark.parametrize("limit", [-1, 0.5, True])
def test_what_is_no_amount_is_refused(limit: int) -> None:
    with pytest.raises(UsageError, match="whole number"):
        CanaryBudget(limit, "USD")


@given(offer=values_of(QuoteOffer))
def test_one_that_was_never_affordable_ends_nothing(offer: QuoteOffer) -> None:
    budget = CanaryBudget(100, "USD")
    with pytest.raises(BudgetExceededError), budget.reserved(WIRE, of_host(offer, "dear", most_micros=101), stop=go_on):
        pass
    assert not budget.is_used
    with budget.reserved(WIRE, of_host(offer, "cheap"), stop=go_on) as reserved:
        reserved.cost(10)


@given(offer=values_of(QuoteOffer))
def test_what_was_never_sent_costs_nothing(offer: QuoteOffer) -> None:
    late = DeadlineExceededError("no turn came")
    late.may_have_executed = False
    for error in (late, SessionError("closed meanwhile", reason="SESSION_CLOSED")):
        budget = CanaryBudget(45, "USD")
        with pytest.raises(HostmeshError), budget.reserved(WIRE, of_host(offer, "host"), stop=go_on):
            raise error
        assert budget.spent_micros == 0
        assert not budget._held_micros
