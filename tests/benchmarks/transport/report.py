"""The JSON file, the table on the terminal and the Markdown of the documentation. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.benchmarks.transport.figures import Row, Spread, Verdict, failures, ratios, spreads, verdicts
from tests.benchmarks.transport.machine import BUSY_PSI_PERCENT
from tests.benchmarks.transport.works import HOSTMESH, WORK_BY_NAME, WORKS

FORMAT_VERSION = 1


def build_report(
    rows: Sequence[Row],
    *,
    stacks: Sequence[str],
    works: Sequence[str],
    reps: int,
    quick: bool,
    settings: Mapping[str, Mapping[str, Any]],
    machine: Mapping[str, Any],
    seed: int,
    started_at: str,
) -> dict[str, Any]:
    """Return what the JSON file holds."""
    return {
        "format": FORMAT_VERSION,
        "started_at": started_at,
        "seed": seed,
        "quick": quick,
        "reps": reps,
        "stacks": list(stacks),
        "works": list(works),
        "machine": dict(machine),
        "settings": {stack: dict(settings[stack]) for stack in stacks if stack in settings},
        "rows": [row.as_json() for row in rows],
        "ratios": _ratios_as_json(ratios(rows)),
        "cpu_ratios": _ratios_as_json(ratios(rows, "cpu_us_per_op")),
        "targets": [verdict.as_json() for verdict in verdicts(rows)],
        "failures": failures(rows, stacks, works, reps),
    }


def rows_of(report: Mapping[str, Any]) -> list[Row]:
    """Return the rows of a report that was read from a file."""
    return [Row(**row) for row in report["rows"]]


def format_text(report: Mapping[str, Any]) -> str:
    """Return the report for a terminal: figures, targets, what failed."""
    rows = rows_of(report)
    parts = [_heading(report), _figures_text(rows, report), _targets_text(verdicts(rows))]
    pressures = [psi for row in rows if (psi := row.load.get("psi_cpu_some_avg10")) is not None]
    if pressures and max(pressures) >= BUSY_PSI_PERCENT:
        parts.append(
            f"The machine was busy: CPU pressure up to {max(pressures):.0f} % before a run. Wall times say little; "
            "CPU per operation and ratios say more."
        )
    if report["failures"]:
        parts.append(_failures_text(rows, report))
    return "\n\n".join(parts)


def format_markdown(report: Mapping[str, Any]) -> str:
    """Return the report as the tables of docs/performance.md."""
    rows = rows_of(report)
    stacks = [HOSTMESH, *(stack for stack in report["stacks"] if stack != HOSTMESH)]
    works = [work.name for work in WORKS if work.name in report["works"]]
    values, cpu = spreads(rows), spreads(rows, "cpu_us_per_op")
    by_value, by_cpu = ratios(rows), ratios(rows, "cpu_us_per_op")
    others = [stack for stack in stacks if stack != HOSTMESH]

    def titles(unit: bool) -> list[str]:
        return [
            f"{WORK_BY_NAME[name].title} ({WORK_BY_NAME[name].unit})" if unit else WORK_BY_NAME[name].title
            for name in works
        ]

    parts = [
        _heading(report) + ".",
        "Figures, median (least to greatest) of the repetitions:",
        _markdown(["work", *stacks], titles(True), [[values.get((stack, work)) for stack in stacks] for work in works]),
        "CPU per operation, client plus server, µs (per frame for bulk, per cycle for connect):",
        _markdown(["work", *stacks], titles(False), [[cpu.get((stack, work)) for stack in stacks] for work in works]),
    ]
    if others:
        parts += [
            "hostmesh over the other, by repetition; for latency, connect and memory less is better:",
            _markdown(
                ["work", *others],
                titles(False),
                [[by_value.get(work, {}).get(stack) for stack in others] for work in works],
            ),
            "hostmesh's CPU per operation over the other's; less is better:",
            _markdown(
                ["work", *others],
                titles(False),
                [[by_cpu.get(work, {}).get(stack) for stack in others] for work in works],
            ),
        ]
    parts += ["Targets:", _targets_markdown(verdicts(rows))]
    if report["failures"]:
        parts.append(_failures_text(rows, report))
    return "\n\n".join(parts)


def number(value: float) -> str:
    """Return a number with as many digits as it deserves.

    >>> number(12345.6), number(12.345), number(0.0834)
    ('12 346', '12.3', '0.083')
    """
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _heading(report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    quick = ", quick" if report["quick"] else ""
    return (
        f"{report['started_at']}, {report['reps']} repetitions{quick}, seed {report['seed']}; {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['system']} {machine['kernel']}, Python {machine['python']}"
    )


def _ratios_as_json(table: Mapping[str, Mapping[str, Spread]]) -> dict[str, dict[str, dict[str, float]]]:
    return {
        work: {stack: {"median": each.median, "min": each.min, "max": each.max} for stack, each in others.items()}
        for work, others in table.items()
    }


def _spread_text(found: Spread | None) -> str:
    if found is None:
        return "-"
    if found.n == 1:
        return number(found.median)
    return f"{number(found.median)} ({number(found.min)} to {number(found.max)})"


def _figures_text(rows: Sequence[Row], report: Mapping[str, Any]) -> str:
    values, cpu = spreads(rows), spreads(rows, "cpu_us_per_op")
    by_value, by_cpu = ratios(rows), ratios(rows, "cpu_us_per_op")
    lines = [["work", "stack", "median (min to max)", "", "CPU us/op", "hostmesh/stack", "of CPU"]]
    for work in (work for work in WORKS if work.name in report["works"]):
        for position, stack in enumerate(report["stacks"]):
            key = (stack, work.name)
            lines.append(
                [
                    "" if position else work.name,
                    stack,
                    _spread_text(values.get(key)),
                    work.unit,
                    number(cpu[key].median) if key in cpu else "-",
                    "" if stack == HOSTMESH else _spread_text(by_value.get(work.name, {}).get(stack)),
                    "" if stack == HOSTMESH else _spread_text(by_cpu.get(work.name, {}).get(stack)),
                ]
            )
    return _aligned(lines)


def _targets_text(found: Iterable[Verdict]) -> str:
    lines = [["target", "measured", "must", "", "aim", ""]]
    for verdict in found:
        target, sign = verdict.target, "<=" if verdict.target.at_most else ">="
        lines.append(
            [
                _target_title(verdict),
                "not measured" if verdict.measured is None else number(verdict.measured),
                f"{sign} {number(target.must)}",
                _mark(verdict.must_met),
                f"{sign} {number(target.aim)}",
                _mark(verdict.aim_met),
            ]
        )
    return _aligned(lines)


def _targets_markdown(found: Iterable[Verdict]) -> str:
    lines = ["| target | measured | must | | aim | |", "|---|--:|--:|---|--:|---|"]
    for verdict in found:
        target, sign = verdict.target, "≤" if verdict.target.at_most else "≥"
        measured = "not measured" if verdict.measured is None else number(verdict.measured)
        lines.append(
            f"| {_target_title(verdict)} | {measured} | {sign} {number(target.must)} | {_mark(verdict.must_met)} "
            f"| {sign} {number(target.aim)} | {_mark(verdict.aim_met)} |"
        )
    return "\n".join(lines)


def _failures_text(rows: Sequence[Row], report: Mapping[str, Any]) -> str:
    """Say what has no figure, each reason once with the works that it cost."""
    by_run = {(row.stack, row.work, row.rep): row for row in rows}
    works_of: dict[tuple[str, str], dict[str, None]] = {}
    for rep in range(1, report["reps"] + 1):
        for stack in report["stacks"]:
            for work in report["works"]:
                row = by_run.get((stack, work, rep))
                if row is None or not row.ok:
                    reason = "no row" if row is None else row.error
                    works_of.setdefault((stack, reason), {})[work] = None
    lines = [f"  {stack}: {reason} ({', '.join(works)})" for (stack, reason), works in works_of.items()]
    return "Failed or missing:\n" + "\n".join(lines)


def _target_title(verdict: Verdict) -> str:
    target = verdict.target
    title = WORK_BY_NAME[target.work].title
    if target.of_cpu:
        return f"CPU of {title}, against {target.against}"
    return f"{title}, KiB" if target.against is None else f"{title}, against {target.against}"


def _mark(is_met: bool | None) -> str:
    return "" if is_met is None else "pass" if is_met else "FAIL"


def _markdown(head: Sequence[str], names: Sequence[str], cells: Sequence[Sequence[Spread | None]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    for name, row in zip(names, cells, strict=True):
        if any(row):
            lines.append(f"| {name} | " + " | ".join(_spread_text(cell) for cell in row) + " |")
    return "\n".join(lines)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) if column < 2 else text.rjust(width) for column, (text, width) in enumerate(pairs))
        for line in lines
        for pairs in [list(zip(line, widths, strict=True))]
    )
