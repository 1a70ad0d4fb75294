"""The tables of docs/canaries.md, from the figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Figures = Mapping[str, Any]


def comparison_table(found: Figures) -> str:
    """Return how often windows speak against each variant."""
    quorums = "alike | diverse | liar 1 | liar 2"
    lines = [
        f"| variant | parted: greedy, mild, warm | spoken against | greedy | mild | warm | {quorums} |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in found["comparison"]["variants"].items():
        parted = ", ".join(f"{part:.0%}" for part in row["parted"].values())
        rates = [*row["spoken_against_by_warmth"].values(), *row["spoken_against_by_quorum"].values()]
        cells = " | ".join(f"{rate:.1%}" for rate in rates)
        lines.append(f"| `{name}` | {parted} | **{row['spoken_against']:.1%}** | {cells} |")
    missing = found["comparison"]["not_recorded"]
    if missing:
        lines += ["", f"Not recorded to the end yet, and so without figures: {', '.join(missing)}."]
    return "\n".join(lines)


def parts_table(found: Figures) -> str:
    """Return how often a host is detected that is honest on some jobs."""
    rows = found["comparison"]["honest_on_some"]
    parts = list(next(iter(rows.values())))
    lines = [
        f"| otherwise it runs | {' | '.join(f'honest on {float(part):.0%}' for part in parts)} |",
        f"|---|{'---|' * len(parts)}",
    ]
    lines += [f"| `{name}` | {' | '.join(f'{row[part]:.1%}' for part in parts)} |" for name, row in rows.items()]
    return "\n".join(lines)


def guessing_table(found: Figures) -> str:
    """Return the areas under the ROC curve."""
    kinds = found["guessing"]
    heads = [f"{kind}: {seen['canaries']:,} canaries, {seen['jobs']:,} jobs" for kind, seen in kinds.items()]
    lines = [f"| the host looks at | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for name in next(iter(kinds.values()))["classifiers"]:
        rows = [seen["classifiers"][name] for seen in kinds.values()]
        cells = " | ".join(f"{row['auc']:.3f} ± {1.96 * row['error']:.3f}" for row in rows)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def gain_table(found: Figures) -> str:
    """Return which part of the canaries is in the quarter of jobs that look most like canaries."""
    kinds = found["guessing"]
    lines = [f"| what looks most like canaries | {' | '.join(kinds)} |", f"|---|{'---|' * len(kinds)}"]
    for when in next(iter(kinds.values()))["gain"]:
        rows = [seen["gain"][when] for seen in kinds.values()]
        cells = " | ".join(f"{row['part']:.1%} ± {1.96 * row['error']:.1%}" for row in rows)
        lines.append(f"| {when} | {cells} |")
    return "\n".join(lines)


TABLES: Mapping[str, Callable[[Figures], str]] = {
    "figures": comparison_table,
    "parts": parts_table,
    "guessing": guessing_table,
    "gain": gain_table,
}


def with_tables(page: str, found: Figures) -> str:
    """Return the page with its tables, which stand between comments of their names, made anew."""
    for name, table in TABLES.items():
        pieces = re.split(rf"(<!-- /?{name} -->\n)", page)
        if len(pieces) != 5:
            raise ValueError(f"the page needs one place for the table {name!r}")
        page = "".join([*pieces[:2], table(found), "\n", *pieces[3:]])
    return page
