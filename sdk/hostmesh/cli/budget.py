"""``hostmesh wallet budget``: what all sessions of this user may cost together. Offline."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from hostmesh.cli import options
from hostmesh.cli.boundary import print_json
from hostmesh.cli.options import invocation
from hostmesh.cli.terminal import field
from hostmesh.errors import UsageError

if TYPE_CHECKING:
    from hostmesh.sessions.budget import Budget


def budget(
    context: typer.Context,
    *,
    limit_micros: Annotated[
        int | None,
        typer.Option("--set", min=0, max=2**64 - 1, metavar="MICROS", help="Bound it by so many micro-units."),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Bound it no longer.")] = False,
    begin_anew: Annotated[
        bool, typer.Option("--begin-anew", help="With --set: forget what was spent up to now.")
    ] = False,
    currency: Annotated[str, typer.Option("--currency", metavar="NAME", help="Budgets are one a currency.")] = "USD",
    network: options.Network = None,
    as_json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """Show or set what all sessions of this user on a network may cost together, whichever wallet pays.

    What sessions that are open may still cost counts as used. A session that does not fit is refused before anything
    is sent.
    """
    if clear and limit_micros is not None:
        raise UsageError("--set and --clear exclude each other", remedy="give one of them")
    if begin_anew and limit_micros is None:
        raise UsageError("--begin-anew goes with --set", remedy="give the new budget with --set")
    loaded = invocation(context).load(verbose=verbose, network=network)
    from hostmesh.data_files import DataFiles
    from hostmesh.system import System

    system = System()
    with ExitStack() as stores:
        store = DataFiles(loaded, stores, ephemeral_key=True, system=system).sessions
        if clear or limit_micros is not None:
            found = store.set_budget(currency, limit_micros, begin_anew=begin_anew, now=system.unix_s())
        else:
            found = store.budget(currency, system.unix_s())
    if as_json:
        print_json(
            {
                "currency": found.currency,
                "limit_micros": found.limit_micros,
                "spent_micros": found.spent_micros,
                "open_micros": found.open_micros,
                "left_micros": found.left_micros,
            }
        )
    else:
        print(budget_line(found))


def budget_line(found: Budget) -> str:
    """Return a budget as a person reads it.

    >>> from hostmesh.sessions.budget import Budget
    >>> budget_line(Budget(currency="USD", limit_micros=1_000, spent_micros=300, open_micros=500))
    'limit 1000, spent 300, open 500, left 200 micro-USD'
    >>> budget_line(Budget(currency="USD", limit_micros=None, spent_micros=300))
    'no limit, spent 300, open 0 micro-USD'
    """
    used = f"spent {found.spent_micros}, open {found.open_micros}"
    unit = f"micro-{field(found.currency)}"
    if found.limit_micros is None:
        return f"no limit, {used} {unit}"
    return f"limit {found.limit_micros}, {used}, left {found.left_micros} {unit}"
