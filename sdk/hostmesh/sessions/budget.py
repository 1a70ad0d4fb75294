"""What a client lets all its sessions cost together. Pure.

Spent is what this client acknowledged, in all sessions since the budget was begun. Open is what its sessions may still
cost: their limits, less what was spent in them. Both together never exceed the budget, so that no number of hosts can
be owed more.
"""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.errors import BudgetExceededError, UsageError

MAX_MICROS = 2**64 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A budget in one currency, and how much of it is used.

    Raises:
        UsageError: an amount that is no integer, or out of 0 to 2**64 - 1.

    >>> Budget(currency="USD", limit_micros=1_000, spent_micros=300, open_micros=500).left_micros
    200
    """

    currency: str
    limit_micros: int | None
    """None = no budget was set: nothing is refused."""
    spent_micros: int = 0
    open_micros: int = 0

    def __post_init__(self) -> None:
        for amount in (self.limit_micros, self.spent_micros, self.open_micros):
            if amount is not None and (type(amount) is not int or amount < 0):
                raise UsageError("a budget is a whole number of micro-units, 0 or more")
        if self.limit_micros is not None and self.limit_micros > MAX_MICROS:
            raise UsageError("a budget is at most 2**64 - 1 micro-units")

    @property
    def left_micros(self) -> int | None:
        """What a new session may cost; None = there is no budget. 0 also where a budget was lowered below its use."""
        if self.limit_micros is None:
            return None
        return max(0, self.limit_micros - self.spent_micros - self.open_micros)

    def require(self, needed_micros: int) -> None:
        """Check that an amount fits on top of everything.

        Raises:
            BudgetExceededError: it does not.
        """
        left = self.left_micros
        if left is None or needed_micros <= left:
            return
        assert self.limit_micros is not None
        raise BudgetExceededError(
            f"{needed_micros} micro-{self.currency} are wanted and the budget leaves {left}",
            currency=self.currency,
            limit_micros=self.limit_micros,
            spent_micros=self.spent_micros,
            open_micros=self.open_micros,
            needed_micros=needed_micros,
            remedy="ask for a lower spending limit, close sessions that are open, or raise the budget",
        )
