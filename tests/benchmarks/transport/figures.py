"""Ratios, medians and verdicts from rows. Pure.

A ratio is made of two rows of the same repetition, which ran within seconds of each other, and only then is the median
taken: what the machine does meanwhile hits both. A row that failed takes part in nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal

from tests.benchmarks.transport.works import HOSTMESH, TARGETS, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run of one work on one stack."""

    stack: str
    work: str
    rep: int
    """From 1."""
    unit: str
    ok: bool
    value: float | None = None
    cpu_us_per_op: float | None = None
    """Of client and server together; None where there are no operations to count."""
    error: str = ""
    latency_us: dict[str, float] = field(default_factory=dict)
    load: dict[str, float | None] = field(default_factory=dict)
    """The machine's, just before the run, and the steal while it ran."""

    def as_json(self) -> dict[str, Any]:
        """Return the row as the JSON file has it: ``error`` and ``latency_us`` only where there is one."""
        row = asdict(self)
        for name in ("error", "latency_us"):
            if not row[name]:
                del row[name]
        return row


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of the repetitions."""

    median: float
    min: float
    max: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of one or more values."""
        return cls(median(values), min(values), max(values), len(values))


Figure = Literal["value", "cpu_us_per_op"]


def spreads(rows: Iterable[Row], figure: Figure = "value") -> dict[tuple[str, str], Spread]:
    """Return the spread of each (stack, work) over the repetitions that went well."""
    values: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        number = getattr(row, figure)
        if row.ok and number is not None:
            values[row.stack, row.work].append(number)
    return {key: Spread.of(numbers) for key, numbers in values.items()}


def ratios(rows: Iterable[Row], figure: Figure = "value") -> dict[str, dict[str, Spread]]:
    """Return, by work and other stack, hostmesh's figure over the other's.

    A repetition counts where both runs went well and the divisor is above zero.
    """
    numbers: dict[tuple[str, int, str], float] = {}
    for row in rows:
        number = getattr(row, figure)
        if row.ok and number is not None:
            numbers[row.work, row.rep, row.stack] = number
    quotients: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (work, rep, stack), number in numbers.items():
        own = numbers.get((work, rep, HOSTMESH))
        if stack != HOSTMESH and own is not None and number > 0:
            quotients[work][stack].append(own / number)
    return {work: {stack: Spread.of(values) for stack, values in others.items()} for work, others in quotients.items()}


def failures(rows: Iterable[Row], stacks: Collection[str], works: Collection[str], reps: int) -> list[str]:
    """Return a line for every planned run that has no good row: failed ones with their error, and missing ones."""
    by_run = {(row.stack, row.work, row.rep): row for row in rows}
    lines = []
    for rep in range(1, reps + 1):
        for work in works:
            for stack in stacks:
                row = by_run.get((stack, work, rep))
                if row is None:
                    lines.append(f"{stack} {work}, repetition {rep}: no row")
                elif not row.ok:
                    lines.append(f"{stack} {work}, repetition {rep}: {row.error}")
    return lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a target fared; None where it was not measured."""

    target: Target
    measured: float | None
    must_met: bool | None
    aim_met: bool | None

    def as_json(self) -> dict[str, Any]:
        """Return the verdict with its target, flat."""
        target = self.target
        return {
            "work": target.work,
            "against": target.against,
            "figure": "cpu_ratio" if target.of_cpu else "value" if target.against is None else "ratio",
            "at_most": target.at_most,
            "must": target.must,
            "aim": target.aim,
            "measured": self.measured,
            "must_met": self.must_met,
            "aim_met": self.aim_met,
        }


def verdicts(rows: Sequence[Row], targets: Iterable[Target] = TARGETS) -> list[Verdict]:
    """Hold the figures against the targets. One that a failed run belongs to is not met, whatever the others say."""
    values, by_value, by_cpu = spreads(rows), ratios(rows), ratios(rows, "cpu_us_per_op")
    failed = {(row.stack, row.work) for row in rows if not row.ok}
    return [_verdict(target, values, by_cpu if target.of_cpu else by_value, failed) for target in targets]


def _verdict(
    target: Target,
    values: dict[tuple[str, str], Spread],
    quotients: dict[str, dict[str, Spread]],
    failed: Collection[tuple[str, str]],
) -> Verdict:
    if target.against is None:
        found = values.get((HOSTMESH, target.work))
    else:
        found = quotients.get(target.work, {}).get(target.against)
    if found is None:
        return Verdict(target=target, measured=None, must_met=None, aim_met=None)
    measured = found.median
    is_whole = not {(HOSTMESH, target.work), (target.against, target.work)} & set(failed)
    return Verdict(
        target=target,
        measured=measured,
        must_met=is_whole and target.is_met(measured, target.must),
        aim_met=is_whole and target.is_met(measured, target.aim),
    )
