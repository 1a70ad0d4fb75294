"""What canaries may cost, and did. Pure; money in integer micro-units."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hostmesh.errors import BudgetExceededError, JobError, UsageError
from hostmesh.jobs.content import WireInput
from hostmesh.jobs.offer import QuoteOffer
from hostmesh.receipts.counting import most_prompt_tokens
from hostmesh.receipts.pricing import cost_micros


class Reserved:
    """What one canary may cost at most, until it is known what it did."""

    def __init__(self, micros: int) -> None:
        self.micros = micros

    def cost(self, micros: int) -> None:
        """Note what it cost."""
        self.micros = micros


class CanaryBudget:
    """A budget for canaries. One leaves only while the most that it can cost is left.

    Args:
        limit_micros: 0 or more.
        currency: of the limit; sessions in another one get no canaries.

    Raises:
        UsageError: no such amount.
    """

    def __init__(self, limit_micros: int, currency: str) -> None:
        if type(limit_micros) is not int or limit_micros < 0:
            raise UsageError("a budget of canaries is a whole number of micro-units, 0 or more")
        self.limit_micros = limit_micros
        self.currency = currency
        self.spent_micros = 0
        """Of canaries that ended; what one came to that did not end well is counted as the most that it can be."""
        self.is_used = False
        """The next canary could have cost more than was left: none is sent any more."""
        self._reserved_micros = 0

    @contextmanager
    def reserved(self, wire: WireInput, offer: QuoteOffer, *, stop: Callable[[], None]) -> Iterator[Reserved]:
        """Set aside what a canary may cost, for the life of the block.

        Args:
            wire: its input.
            offer: its price and limit.
            stop: called where the budget is used.

        Raises:
            BudgetExceededError: it could cost more than is left. With those under way ended there may be more again.
        """
        tokens = min(most_prompt_tokens(wire) + offer.max_output_tokens, offer.context_tokens)
        most = cost_micros(tokens, offer.price_micros_per_mtok)
        if self.spent_micros + most > self.limit_micros:
            self.is_used = True
            stop()
        if self.spent_micros + self._reserved_micros + most > self.limit_micros:
            raise BudgetExceededError(
                "the budget of canaries does not cover another one",
                currency=self.currency,
                limit_micros=self.limit_micros,
                spent_micros=self.spent_micros,
                open_micros=self._reserved_micros,
                needed_micros=most,
            )
        reserved = Reserved(most)
        self._reserved_micros += most
        try:
            yield reserved
        except JobError as error:
            if not error.may_have_executed:
                reserved.cost(0)
            raise
        finally:
            self._reserved_micros -= most
            self.spent_micros += reserved.micros
