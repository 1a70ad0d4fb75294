"""What canaries may cost together, those under way among them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.canary_budget import CanaryBudget
from hostmesh.errors import BudgetExceededError, JobError, UsageError
from hostmesh.jobs.content import build_input
from hostmesh.jobs.offer import QuoteOffer
from hostmesh.testing.strategies import values_of

WIRE = build_input(prompt="x")
_PROMPT_TOKENS = 1 + 64 + 1024
"""Its byte, and what a template may add to one message, and besides."""


@st.composite
def offers(draw: st.DrawFn) -> QuoteOffer:
    """Of a canary that can cost 10 at most."""
    offer = draw(values_of(QuoteOffer))
    return replace(offer, price_micros_per_mtok=5_000, max_output_tokens=2_000 - _PROMPT_TOKENS, context_tokens=2_000)


@given(offer=offers())
def test_canaries_under_way_are_counted_with_the_most_that_they_can_cost(offer: QuoteOffer) -> None:
    budget, stops = CanaryBudget(25, "USD"), []
    stop = lambda: stops.append(True)  # noqa: E731
    with budget.reserved(WIRE, offer, stop=stop) as one, budget.reserved(WIRE, offer, stop=stop):
        with pytest.raises(BudgetExceededError), budget.reserved(WIRE, offer, stop=stop):
            raise AssertionError("a third one could bring it to 30")
        assert not budget.is_used, "these two may yet cost less"
        one.cost(2)
    assert budget.spent_micros == 2 + 10, "of the other one nothing is known"
    with budget.reserved(WIRE, offer, stop=stop) as three:
        three.cost(4)
    assert (budget.spent_micros, budget.is_used, stops) == (16, False, [])
    with pytest.raises(BudgetExceededError), budget.reserved(WIRE, offer, stop=stop):
        raise AssertionError("9 are left")
    assert (budget.spent_micros, budget.is_used, stops) == (16, True, [True])


@given(offer=offers(), has_run=st.booleans())
def test_one_that_surely_did_not_run_costs_nothing(offer: QuoteOffer, has_run: bool) -> None:
    budget = CanaryBudget(25, "USD")
    with pytest.raises(JobError), budget.reserved(WIRE, offer, stop=lambda: None):
        raise JobError("full", reason="BUSY", may_have_executed=has_run)
    assert budget.spent_micros == (10 if has_run else 0)


@pytest.mark.parametrize("limit", [-1, 0.5, True])
def test_what_is_no_amount_is_refused(limit: int) -> None:
    with pytest.raises(UsageError, match="whole number"):
        CanaryBudget(limit, "USD")
