"""Measure hostmesh's calls beside other transports.

Run from the repository's root: ./run python -m tests.benchmarks.transport --help; docs/performance.md says more.

Exit code: 0 all planned runs gave a figure, whatever the targets say; 1 some did not; 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio
from tests.benchmarks.transport import machine
from tests.benchmarks.transport.harness import Plan, run_plan
from tests.benchmarks.transport.report import build_report, format_markdown, format_text
from tests.benchmarks.transport.stacks import STACKS, StackMissingError, prepare
from tests.benchmarks.transport.works import FULL, QUICK, WORK_BY_NAME, WORKS, Sizes

DEFAULT_REPS = 5
QUICK_REPS = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = _parse(arguments)
    if options.table is not None:
        print(format_markdown(json.loads(options.table.read_text(encoding="utf-8"))))
        return 0
    report = measure(
        stacks=options.stacks,
        works=options.works,
        reps=options.reps or (QUICK_REPS if options.quick else DEFAULT_REPS),
        sizes=QUICK if options.quick else FULL,
        seed=secrets.randbelow(2**32) if options.seed is None else options.seed,
        cache=options.cache,
    )
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(format_text(report))
    return 1 if report["failures"] else 0


def measure(
    *, stacks: Sequence[str], works: Sequence[str], reps: int, sizes: Sizes, seed: int, cache: Path
) -> dict[str, Any]:
    """Prepare the stacks, run everything, and return the report."""
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    _tell(f"seed {seed}")
    peers: dict[str, Sequence[str]] = {}
    unprepared: dict[str, str] = {}
    for stack in stacks:
        try:
            peers[stack] = prepare(stack, cache)
        except StackMissingError as error:
            unprepared[stack] = str(error)
    plan = Plan(
        peers=peers,
        unprepared=unprepared,
        works=[WORK_BY_NAME[name] for name in works],
        reps=reps,
        sizes=sizes,
        seed=seed,
    )
    with tempfile.TemporaryDirectory(prefix="transport-benchmark-") as folder:
        results = trio.run(run_plan, plan, Path(folder), _tell)
    return build_report(
        results.rows,
        stacks=stacks,
        works=works,
        reps=reps,
        quick=sizes is not FULL,
        settings=results.settings,
        machine=machine.describe(),
        seed=seed,
        started_at=started_at,
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.transport", description="Measure hostmesh's calls beside other transports."
    )
    parser.add_argument("--quick", action="store_true", help="small sizes and one repetition: shows that all works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows, ratios, settings and targets there")
    parser.add_argument("--stacks", type=_names(STACKS), default=STACKS, metavar="A,B", help=", ".join(STACKS))
    names = tuple(work.name for work in WORKS)
    parser.add_argument("--works", type=_names(names), default=names, metavar="X,Y", help=", ".join(names))
    parser.add_argument("--reps", type=_count, metavar="N", help=f"repetitions: {DEFAULT_REPS}; with --quick 1")
    parser.add_argument("--seed", type=int, metavar="N", help="of the order of the stacks; a new one by default")
    parser.add_argument(
        "--cache", type=Path, default=_default_cache(), metavar="DIR", help="for what js and go fetch and build"
    )
    parser.add_argument("--table", type=Path, metavar="FILE", help="measure nothing; print a JSON file as Markdown")
    return parser.parse_args(arguments)


def _names(known: Sequence[str]) -> Any:
    def parse(text: str) -> tuple[str, ...]:
        wanted = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
        for name in wanted:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return wanted

    return parse


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a whole number from 1")
    return int(text)


def _default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "hostmesh-tests"


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
