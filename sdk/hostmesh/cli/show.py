"""What a person sees of hosts: who fits, and why the others do not. All text of hosts is escaped here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from hostmesh.cli.terminal import field

if TYPE_CHECKING:
    from hostmesh.discovery.choice import HostChoice
    from hostmesh.discovery.funnel import Funnel

_COLUMNS = ("HOST", "MODEL", "PRICE", "LATENCY", "REPUTATION", "UP", "PLACE", "SOURCES")


def choice_row(choice: HostChoice) -> tuple[str, ...]:
    """Return the cells of one host; ``?`` stands for what is not known."""
    return (
        choice.peer_id,
        field(choice.model_id, max_chars=60),
        "unpriced" if choice.price is None else field(str(choice.price)),
        "?" if choice.latency is None else f"{choice.latency.value:.1f} ms (n={choice.latency.samples})",
        f"{choice.reputation.points} (n={choice.reputation.n})",
        _uptime(choice),
        _place(choice),
        "+".join(choice.sources),
    )


def print_choices(choices: Sequence[HostChoice], stream: TextIO | None = None) -> None:
    """Print one line a host, best first, under a line of headings."""
    rows = [_COLUMNS, *map(choice_row, choices)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print(line.rstrip(), file=stream or sys.stdout)


def print_funnel(funnel: Funnel, stream: TextIO | None = None) -> None:
    """Print how the criteria narrowed the hosts down, and why each host was turned away."""
    out = stream or sys.stdout
    print(f"{funnel.describe()} -> matched {funnel.matched}", file=out)
    for rejection in funnel.rejections:
        print(f"  {rejection.peer_id}  turned away by {rejection.criterion}: {field(rejection.detail)}", file=out)
    if funnel.relaxation is not None:
        print(f"  would find one: {field(funnel.relaxation.text)}", file=out)


def _uptime(choice: HostChoice) -> str:
    """Return the observed uptime once there is any, else the claimed one as such."""
    if choice.uptime is not None and choice.uptime.value >= 1:
        return _duration(choice.uptime.value)
    return "?" if choice.claimed_uptime is None else f"{_duration(choice.claimed_uptime.value)} (claimed)"


def _place(choice: HostChoice) -> str:
    if choice.place is None:
        return "?"
    return field(str(choice.place), max_chars=40) + (" (refuted)" if choice.place_refuted else "")


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
