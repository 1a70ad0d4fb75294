"""What canaries may cost, and did. Pure; money in integer micro-units."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hostmesh.errors import BudgetExceededError, HostmeshError, UsageError
from hostmesh.jobs.content import WireInput
from hostmesh.jobs.offer import QuoteOffer
from hostmesh.receipts.counting import most_prompt_tokens
from hostmesh.receipts.pricing import cost_micros

HOSTS_SHARE = 4
"""Of the budget a fourth at most is held by one host: by canaries under way, and by those that did not end well. It
says how long an answer may be where the user does not, and could else take all of it without an answer."""


class Reserved:
    """What one canary may cost at most, until it is known what it did."""

    def __init__(self, micros: int) -> None:
        self.micros = micros
        self.is_known = False

    def cost(self, micros: int) -> None:
        """Note what it cost."""
        self.micros = micros
        self.is_known = True


class CanaryBudget:
    """A budget for canaries. One leaves only while the most that it can cost is left, of it and of the host's share.

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
        """Less is left than the cheapest canary so far could cost: none is sent any more."""
        self._reserved_micros = 0
        self._held_micros: Counter[str] = Counter()
        """By host. There is an entry for each that holds a part of the budget, and for no other."""
        self._cheapest_micros = math.inf

    @contextmanager
    def reserved(self, wire: WireInput, offer: QuoteOffer, *, stop: Callable[[], None]) -> Iterator[Reserved]:
        """Set aside what a canary may cost, for the life of the block.

        Args:
            wire: its input.
            offer: its price and limit.
            stop: called where the budget is used.

        Raises:
            BudgetExceededError: it could cost more than is left, or than is left of the host's share. With those under
                way ended there may be more again.
        """
        tokens = min(most_prompt_tokens(wire) + offer.max_output_tokens, offer.context_tokens)
        most = cost_micros(tokens, offer.price_micros_per_mtok)
        if HOSTS_SHARE * most <= self.limit_micros:
            self._cheapest_micros = min(self._cheapest_micros, most)
        # Not by one that never fitted: another host may be cheaper.
        if math.inf > self._cheapest_micros > self.limit_micros - self.spent_micros:
            self.is_used = True
            stop()
        held = self._held_micros[offer.peer_id]
        is_above_share = HOSTS_SHARE * (held + most) > self.limit_micros
        if is_above_share or self.spent_micros + self._reserved_micros + most > self.limit_micros:
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
        self._held_micros[offer.peer_id] += most
        try:
            yield reserved
        except HostmeshError as error:
            if not error.may_have_executed:
                reserved.cost(0)
            raise
        finally:
            self._reserved_micros -= most
            self.spent_micros += reserved.micros
            if reserved.is_known:
                self._held_micros[offer.peer_id] -= most
            self._held_micros += Counter()  # drops those at 0
