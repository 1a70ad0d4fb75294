"""Sessions and the budget that they share."""

from __future__ import annotations

from hostmesh.errors.root import HostmeshError


class SessionError(HostmeshError):
    """A session could not be opened or used. ``reason`` is a stable word."""

    code = "SESSION"

    def __init__(self, message: str, *, reason: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


class BudgetExceededError(HostmeshError):
    """What is wanted would take more than this client's budget leaves. Nothing was sent.

    Args:
        currency: of the amounts.
        limit_micros: the budget.
        spent_micros: what was spent of it.
        open_micros: what open sessions may still cost.
        needed_micros: what was wanted on top.
    """

    code = "BUDGET_EXCEEDED"

    def __init__(
        self,
        message: str,
        *,
        currency: str,
        limit_micros: int,
        spent_micros: int,
        open_micros: int,
        needed_micros: int,
        remedy: str = "",
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.currency = currency
        self.limit_micros = limit_micros
        self.spent_micros = spent_micros
        self.open_micros = open_micros
        self.needed_micros = needed_micros
