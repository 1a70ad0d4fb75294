"""What tokens cost. Integers only: micro-units of a currency, prices per 1,000,000 tokens. Pure."""

from __future__ import annotations

from hostmesh.errors import UsageError

TOKENS_PER_PRICE = 1_000_000
"""Tokens that one price buys. Source: docs/architecture.md, decision 5."""


def cost_micros(tokens: int, price_micros_per_mtok: int) -> int:
    """Return what ``tokens`` cost, rounded up once.

    Apply it to the cumulative count of a job, never to slices: rounding slices would overcharge.

    Args:
        tokens: prompt plus completion tokens, >= 0.
        price_micros_per_mtok: micro-units of a currency per 1,000,000 tokens, >= 0; 0 is free.

    Returns:
        ``ceil(tokens * price / 1,000,000)`` micro-units.

    Raises:
        UsageError: a float, a bool or a negative number was given; money is never rounded by accident.

    >>> cost_micros(1_000_000, 250_000), cost_micros(1, 1), cost_micros(0, 5), cost_micros(7, 0)
    (250000, 1, 0, 0)
    """
    _check("tokens", tokens)
    _check("price_micros_per_mtok", price_micros_per_mtok)
    return -(-tokens * price_micros_per_mtok // TOKENS_PER_PRICE)


def due_micros(previous_tokens: int, cumulative_tokens: int, price_micros_per_mtok: int) -> int:
    """Return what is due for the tokens since ``previous_tokens``, so that any slicing adds up to the whole's cost.

    Args:
        previous_tokens: cumulative count that was charged already.
        cumulative_tokens: cumulative count now, >= ``previous_tokens``.
        price_micros_per_mtok: as in :func:`cost_micros`.

    Raises:
        UsageError: the count went back, or a value is no integer >= 0.

    >>> due_micros(0, 1, 1) + due_micros(1, 2, 1) == cost_micros(2, 1)
    True
    """
    if cumulative_tokens < previous_tokens:
        raise UsageError(f"a cumulative token count went back from {previous_tokens} to {cumulative_tokens}")
    return cost_micros(cumulative_tokens, price_micros_per_mtok) - cost_micros(previous_tokens, price_micros_per_mtok)


def _check(name: str, value: object) -> None:
    if type(value) is not int:
        raise UsageError(
            f"{name} is {type(value).__name__}, not int", remedy="Give whole tokens and whole micro-units."
        )
    if value < 0:
        raise UsageError(f"{name} is negative: {value}")
