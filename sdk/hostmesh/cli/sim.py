"""``hostmesh sim``: a scenario on a simulated network, the same for the same seed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hostmesh.cli import options
from hostmesh.cli.boundary import print_json
from hostmesh.cli.options import Invocation, invocation
from hostmesh.cli.terminal import escape, field
from hostmesh.errors import UsageError

if TYPE_CHECKING:
    from hostmesh.testing.scenario import Scenario, ScenarioReport, ScenarioRun, ScenarioSize
    from hostmesh.testing.scenario_play import Progress

HASH_SEED = "0"
"""``PYTHONHASHSEED`` of a simulation: the order of a set of texts depends on it."""
MAX_WRITTEN_EVENTS = 2_000_000
"""Of a trace that is written: more than 50 nodes make in an hour. They take 430 MB."""


def sim(
    context: typer.Context,
    scenario: Annotated[
        str | None, typer.Argument(metavar="SCENARIO", help="A name, or a Python file. Without it: which there are.")
    ] = None,
    nodes: Annotated[int | None, typer.Option("--nodes", metavar="N", help="How many nodes.")] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", metavar="M", help="Simulated minutes.")] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", metavar="K", help="Play it so often, each time under the next seed.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="S", help="Fixes everything.")] = 0,
    jobs: Annotated[
        int, typer.Option("--jobs", metavar="J", min=1, help="Processes that play seeds at once; with a trace, one.")
    ] = 1,
    full: Annotated[bool, typer.Option("--full", help="The size of measurements; it may take long.")] = False,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", metavar="FOLDER", help="Write a timeline per node there, and all as one page."),
    ] = None,
    as_json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """Play a scenario: whole nodes on a simulated network, an hour in a minute or two.

    The same seed gives the same trace hash, on this version of hostmesh and Python.
    """
    state = invocation(context)
    if scenario is not None:
        _fix_hash_seed(state)
    # What nodes warn of is what a scenario of hostile peers is about: thousands of lines.
    state.default_log = "error"
    state.load(verbose=verbose)
    from hostmesh.testing.scenario_play import play_scenario
    from hostmesh.testing.scenarios import NAMES, load_scenario
    from hostmesh.testing.trace import MAX_KEPT_EVENTS

    if scenario is None:
        _list([load_scenario(name) for name in NAMES], as_json=as_json)
        return
    chosen = load_scenario(scenario)
    size = _size(chosen, nodes, minutes, seeds, full=full)
    if trace is not None:
        _make_folder(trace)

    def write_failed(report: ScenarioReport) -> None:
        if trace is not None:
            _write_trace(report, trace)

    with state.interrupts.cancelling() as hand_over:
        report = play_scenario(
            chosen,
            size=size,
            seed=seed,
            max_events=MAX_KEPT_EVENTS if trace is None else MAX_WRITTEN_EVENTS,
            on_start=hand_over,
            on_progress=_progress(size, is_shown=not as_json),
            on_failure=write_failed,
            on_played=_seeds_played(size, is_shown=not as_json),
            jobs=jobs if trace is None else 1,
        )
    if trace is not None:
        _write_trace(report, trace)
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report, trace)


def _fix_hash_seed(state: Invocation) -> None:
    """Execute this command anew under the one hash seed: Python takes it when it starts and at no other time."""
    if state.owns_process and os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(  # noqa: S606 - this very program with its own arguments
            sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONHASHSEED": HASH_SEED}
        )


def _size(
    scenario: Scenario, nodes: int | None, minutes: float | None, seeds: int | None, *, full: bool
) -> ScenarioSize:
    from hostmesh.testing.scenario import ScenarioSize

    size = scenario.full_size or scenario.size if full else scenario.size
    return ScenarioSize(
        nodes=size.nodes if nodes is None else nodes,
        minutes=size.minutes if minutes is None else minutes,
        seeds=size.seeds if seeds is None else seeds,
    )


def _progress(size: ScenarioSize, *, is_shown: bool) -> Progress | None:
    if not is_shown or not sys.stderr.isatty():
        return None

    def show(run: ScenarioRun) -> None:
        import trio

        passed = min(size.minutes, trio.current_time() / 60)
        print(
            f"\r{passed:.0f} of {size.minutes:g} minutes, {run.finds} finds, {run.misses} misses ",
            end="",
            file=sys.stderr,
            flush=True,
        )

    return show


def _seeds_played(size: ScenarioSize, *, is_shown: bool) -> Callable[[int], None] | None:
    if size.seeds == 1 or not is_shown or not sys.stderr.isatty():
        return None

    def show(played: int) -> None:
        print(f"\r\033[K{played} of {size.seeds} seeds ", end="", file=sys.stderr, flush=True)

    return show


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {folder}: {error.strerror}", remedy="name a folder to write to") from error


def _write_trace(report: ScenarioReport, folder: Path) -> None:
    """Write ``<machine>.txt`` for each machine, and ``trace.html``."""
    from hostmesh.testing.trace_page import trace_page

    about = {name: value for name, value in report.to_dict().items() if isinstance(value, str | int | float)}
    title = f"{report.scenario}, seed {report.seed}"
    try:
        (folder / "trace.html").write_text(trace_page(report.trace, title=title, about=about), encoding="utf-8")
        for machine in report.machines:
            (folder / f"{machine}.txt").touch()  # also one that nothing happened to
        for machine, text in report.trace.texts():
            (folder / f"{machine}.txt").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}", remedy="name another folder") from error


def _list(scenarios: list[Scenario], *, as_json: bool) -> None:
    if as_json:
        print_json({"scenarios": [_about(each) for each in scenarios]})
        return
    for each in scenarios:
        size, full = each.size, each.full_size or each.size
        print(f"{each.name:<12} {each.summary}")
        print(f"{'':<12} {_shown_size(size)}; --full {_shown_size(full)}")


def _shown_size(size: ScenarioSize) -> str:
    seeds = f", {size.seeds} seeds" if size.seeds > 1 else ""
    return f"{size.nodes} nodes, {size.minutes:g} minutes{seeds}"


def _about(scenario: Scenario) -> dict[str, object]:
    full = scenario.full_size or scenario.size
    return {
        "scenario": scenario.name,
        "summary": scenario.summary,
        "nodes": scenario.size.nodes,
        "minutes": scenario.size.minutes,
        "seeds": scenario.size.seeds,
        "full": {"nodes": full.nodes, "minutes": full.minutes, "seeds": full.seeds},
    }


def _print(report: ScenarioReport, trace: Path | None) -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    print(f"{field(report.scenario)}: {report.nodes} nodes, {report.minutes:g} minutes, seed {report.seed}")
    rows: dict[str, object] = {"finds": report.finds, "answers": report.answers, "misses": report.misses}
    rows |= {f"  {reason}": number for reason, number in report.miss_reasons.items()}
    rows |= report.figures
    rows |= {"took": f"{report.wall_s:.1f} s for {report.sim_s / 60:.1f} minutes", "trace hash": report.trace_hash}
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{field(name):<{width}}  {_shown(value)}")
    if trace is not None:
        print(f"{'trace':<{width}}  {escape(str(trace / 'trace.html'))}")


def _shown(value: object) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, dict):
        return ", ".join(f"{field(str(name))} {_shown(part)}" for name, part in value.items())
    return field(str(value))
