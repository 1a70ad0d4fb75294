"""Named simulations with a size: what they are made of, what they count, and how they are played."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import trio

from hostmesh.discovery.choice import HostChoice
from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.manager import DiscoveryManager
from hostmesh.errors import HostmeshError, NoHostFoundError, UsageError
from hostmesh.testing.clock import seeded
from hostmesh.testing.link import LinkProfile
from hostmesh.testing.network import SimNetwork
from hostmesh.testing.run import SimOptions, run_sim
from hostmesh.testing.side_by_side import can_fork, play_side_by_side
from hostmesh.testing.trace import MAX_KEPT_EVENTS, Trace

MAX_NODES = 10_000
MAX_SEEDS = 10_000
MAX_MINUTES = 7 * 24 * 60.0
_SPARE_S = 3600.0
"""How much longer than its minutes a scenario may take to begin and to end."""
_PROGRESS_EVERY_S = 60.0

Progress = Callable[["ScenarioRun"], None]
"""Is told what was counted so far, each simulated minute."""
Stop = Callable[[], object]
"""Ends a scenario soon; it may be called from a signal handler or another thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioSize:
    """How large a scenario is.

    Raises:
        UsageError: too few or too many nodes or minutes.
    """

    nodes: int
    """2 to 10,000."""
    minutes: float
    """Of the simulation, above 0 and at most a week."""
    seeds: int = 1
    """How often it is played, each time under the next seed, 1 to 10,000."""

    def __post_init__(self) -> None:
        if not 1 <= self.seeds <= MAX_SEEDS:
            raise UsageError(f"no scenario is played {self.seeds} times", remedy=f"choose 1 to {MAX_SEEDS} seeds")
        if not 2 <= self.nodes <= MAX_NODES or not 0 < self.minutes <= MAX_MINUTES:
            raise UsageError(
                f"no scenario has {self.nodes} nodes and {self.minutes:g} minutes",
                remedy=f"choose 2 to {MAX_NODES} nodes, and minutes above 0 and up to {MAX_MINUTES:g}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A simulation that has a name and counts what comes of it; :func:`play_scenario` plays it.

    Example::

        async def play(run: ScenarioRun) -> None:
            mesh = await open_mesh(run)
            ...

        quiet = Scenario(name="quiet", summary="nothing happens", play=play, size=ScenarioSize(nodes=10, minutes=5))
    """

    name: str
    summary: str
    """One line."""
    play: Callable[[ScenarioRun], Awaitable[None]]
    """The simulation. Whatever it leaves running is cancelled when it returns."""
    size: ScenarioSize
    """Unless another is wanted."""
    full_size: ScenarioSize | None = None
    """The size of measurements; None: as ``size``."""
    link: LinkProfile = field(default_factory=LinkProfile)
    sum_up: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, object]] | None = None
    """Makes the report's figures of those that it measured under each seed; None: those of the last."""


class ScenarioRun:
    """What a scenario is given, and where it counts.

    Args:
        network: where it takes place.
        size: how large it is.
        seed: fixes every draw.
    """

    def __init__(self, network: SimNetwork, size: ScenarioSize, seed: int) -> None:
        self.network = network
        self.nodes = size.nodes
        self.minutes = size.minutes
        self.seed = seed
        self.miss_reasons: Counter[str] = Counter()
        """Finds that ended in a typed error, by its code and reason."""
        self.find_s: list[float] = []
        """How long each find that gave a host took, in simulated seconds."""
        self.figures: dict[str, object] = {}
        """What else the scenario measured, by name, as JSON takes it."""

    @property
    def answers(self) -> int:
        """Finds that gave a host."""
        return len(self.find_s)

    @property
    def misses(self) -> int:
        """Finds that gave no host."""
        return self.miss_reasons.total()

    @property
    def finds(self) -> int:
        """Finds that ended."""
        return self.answers + self.misses

    def dice(self, *names: object) -> Random:
        """Return a generator of its own for each name; the same for the same seed."""
        return seeded(self.seed, "scenario", *names)

    async def find(self, manager: DiscoveryManager, criteria: HostCriteria) -> HostChoice | None:
        """Find a host and count what comes of it; None for a miss. A find that is cancelled is not counted."""
        began_s = trio.current_time()
        try:
            choice = await manager.find_host(criteria)
        except HostmeshError as error:
            self.miss_reasons[_reason(error)] += 1
            return None
        self.find_s.append(trio.current_time() - began_s)
        return choice


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioReport:
    """What came of a scenario."""

    scenario: str
    nodes: int
    minutes: float
    seed: int
    finds: int
    """``answers`` and ``misses`` together."""
    answers: int
    misses: int
    sim_s: float
    """Seconds that passed in the simulation: the minutes, and what it took to begin and to end."""
    wall_s: float
    """Seconds that it took on this machine."""
    trace_hash: str
    """The same for the same scenario, size, seed, version of hostmesh and hash seed of Python. Of several seeds: of all
    their hashes."""
    miss_reasons: Mapping[str, int]
    figures: Mapping[str, object]
    """What else the scenario measured, by name."""
    machines: tuple[str, ...]
    """All that there were, by name."""
    trace: Trace

    def to_dict(self) -> dict[str, object]:
        """Return all but the machines and the trace as JSON takes it.

        ``figures`` stand beside the rest, but for those that have a name of the report's own.
        """
        report: dict[str, object] = {
            "scenario": self.scenario,
            "nodes": self.nodes,
            "minutes": self.minutes,
            "seed": self.seed,
            "finds": self.finds,
            "answers": self.answers,
            "misses": self.misses,
            "miss_reasons": dict(self.miss_reasons),
        }
        end = {
            "sim_s": round(self.sim_s, 3),
            "wall_s": round(self.wall_s, 3),
            "trace_hash": self.trace_hash,
        }
        return report | {name: value for name, value in self.figures.items() if name not in report} | end


def play_scenario(
    scenario: Scenario,
    *,
    size: ScenarioSize | None = None,
    seed: int = 0,
    max_events: int = MAX_KEPT_EVENTS,
    on_start: Callable[[Stop], object] | None = None,
    on_progress: Progress | None = None,
    on_failure: Callable[[ScenarioReport], object] | None = None,
    on_played: Callable[[int], object] | None = None,
    jobs: int = 1,
) -> ScenarioReport:
    """Play a scenario to its end, or until it is stopped: then the report has what was counted by then.

    Where its size has several seeds, it is played under each, from ``seed`` on, and the report is of all of them: those
    that were played to their end.

    Args:
        scenario: what to play.
        size: None: the scenario's own.
        seed: fixes everything; see :func:`~hostmesh.testing.run_sim`.
        max_events: how many events the trace keeps.
        on_start: is given what stops the scenario.
        on_progress: is called each simulated minute.
        on_failure: is given what was counted and traced by then, before this raises.
        on_played: is given how many seeds were played, after each.
        jobs: processes that play seeds at once, where the system can fork. The report is the same, without a trace;
            ``on_progress`` is not called.

    Raises:
        trio.TooSlowError: it did not end within an hour after its minutes.
        Whatever the scenario raises, without the groups of nurseries around a single error.
    """
    wanted = size or scenario.size
    seeds = range(seed, seed + wanted.seeds)
    is_stopped = False

    def start(stop: Stop) -> None:
        def stop_all() -> None:
            nonlocal is_stopped
            is_stopped = True
            stop()

        if on_start is not None:
            on_start(stop_all)

    def play_here(number: int) -> ScenarioReport:
        return _play_once(
            scenario,
            wanted,
            number,
            max_events=max_events,
            on_start=start,
            on_progress=on_progress,
            on_failure=on_failure,
        )

    def play_elsewhere(number: int) -> dict[str, Any]:
        report = _play_once(scenario, wanted, number, max_events=0)
        return {each.name: getattr(report, each.name) for each in fields(report) if each.name != "trace"}

    def play_all() -> Iterator[ScenarioReport]:
        if jobs == 1 or wanted.seeds == 1 or not can_fork():
            yield from map(play_here, seeds)
            return
        start(lambda: None)
        all_played = play_side_by_side(play_elsewhere, seeds, jobs, lambda: is_stopped)
        for number, played in zip(seeds, all_played, strict=False):  # fewer where it was stopped
            yield play_here(number) if played is None else ScenarioReport(**played, trace=Trace(max_events=0))

    reports: list[ScenarioReport] = []
    for report in play_all():
        reports.append(report)
        if on_played is not None:
            on_played(len(reports))
        if is_stopped:
            break
    return _sum_up(scenario, reports) if reports else _nothing(scenario, wanted, seed)


def _play_once(
    scenario: Scenario,
    wanted: ScenarioSize,
    seed: int,
    *,
    max_events: int,
    on_start: Callable[[Stop], object] = lambda stop: None,
    on_progress: Progress | None = None,
    on_failure: Callable[[ScenarioReport], object] | None = None,
) -> ScenarioReport:
    runs: list[ScenarioRun] = []
    began_s = time.perf_counter()

    async def main(network: SimNetwork) -> ScenarioRun:
        run = ScenarioRun(network, wanted, seed)
        runs.append(run)

        async def report() -> None:
            while True:
                await trio.sleep(_PROGRESS_EVERY_S)
                if on_progress is not None:
                    on_progress(run)

        async with trio.open_nursery() as nursery:
            on_start(partial(trio.lowlevel.current_trio_token().run_sync_soon, nursery.cancel_scope.cancel))
            # Also when nobody looks: the trace is to be the same.
            nursery.start_soon(report)
            await scenario.play(run)
            nursery.cancel_scope.cancel()
        return run

    options = SimOptions(link=scenario.link, max_events=max_events, max_sim_s=wanted.minutes * 60 + _SPARE_S)
    try:
        done = run_sim(main, seed=seed, network=options)
    except BaseException as error:  # noqa: BLE001 - raised again below
        if on_failure is not None and runs:
            wall_s = time.perf_counter() - began_s
            on_failure(_report(scenario, runs[0], sim_s=runs[0].network.trace.last_s, wall_s=wall_s))
        raise _single(error) from None
    return _report(scenario, done.result, sim_s=done.sim_s, wall_s=done.wall_s)


def _sum_up(scenario: Scenario, reports: Sequence[ScenarioReport]) -> ScenarioReport:
    """Return one report of those of several seeds; its trace is the last one's."""
    figures = reports[-1].figures if scenario.sum_up is None else scenario.sum_up([each.figures for each in reports])
    if len(reports) == 1:
        return replace(reports[0], figures=figures)
    reasons: Counter[str] = Counter()
    for each in reports:
        reasons.update(each.miss_reasons)
    return replace(
        reports[-1],
        seed=reports[0].seed,
        finds=sum(each.finds for each in reports),
        answers=sum(each.answers for each in reports),
        misses=sum(each.misses for each in reports),
        sim_s=sum(each.sim_s for each in reports),
        wall_s=sum(each.wall_s for each in reports),
        trace_hash=hashlib.sha256("".join(each.trace_hash for each in reports).encode()).hexdigest(),
        miss_reasons=dict(sorted(reasons.items())),
        figures=figures,
    )


def _report(scenario: Scenario, run: ScenarioRun, *, sim_s: float, wall_s: float) -> ScenarioReport:
    trace = run.network.trace
    return ScenarioReport(
        scenario=scenario.name,
        nodes=run.nodes,
        minutes=run.minutes,
        seed=run.seed,
        finds=run.finds,
        answers=run.answers,
        misses=run.misses,
        sim_s=sim_s,
        wall_s=wall_s,
        trace_hash=trace.hash(),
        miss_reasons=dict(sorted(run.miss_reasons.items())),
        figures=run.figures,
        machines=tuple(run.network.machines),
        trace=trace,
    )


def _nothing(scenario: Scenario, wanted: ScenarioSize, seed: int) -> ScenarioReport:
    """Return the report of a scenario that was stopped before one of its seeds was played."""
    trace = Trace(max_events=0)
    return ScenarioReport(
        scenario=scenario.name,
        nodes=wanted.nodes,
        minutes=wanted.minutes,
        seed=seed,
        finds=0,
        answers=0,
        misses=0,
        sim_s=0.0,
        wall_s=0.0,
        trace_hash=trace.hash(),
        miss_reasons={},
        figures={},
        machines=(),
        trace=trace,
    )


def _single(error: BaseException) -> BaseException:
    """Return the one error in groups of groups, or the group if it has several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def read_scenario(file: Path) -> Scenario:
    """Return the scenario that a Python file defines, by running the file: it may import what is beside it.

    Raises:
        UsageError: the file cannot be read or run, or does not define exactly one :class:`Scenario`.
    """
    spec = importlib.util.spec_from_file_location("hostmesh_scenario", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise UsageError(f"{file} is no Python file", remedy="name a scenario, or a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module there
    if (folder := str(file.resolve().parent)) not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{file} does not run: {error!r}", remedy="mend the file: python " + str(file)) from error
    found = {id(value): value for value in vars(module).values() if isinstance(value, Scenario)}
    if len(found) != 1:
        raise UsageError(
            f"{file} defines {len(found)} scenarios", remedy="let it define one hostmesh.testing.Scenario at its top"
        )
    return next(iter(found.values()))


def _reason(error: HostmeshError) -> str:
    """Return the error's code, and of a miss where in the funnel the last hosts went."""
    if not isinstance(error, NoHostFoundError):
        return error.code
    last = [criterion for criterion, count in error.rejected.items() if count]
    return f"{error.code}: {'no host was seen' if not error.seen else last[-1] if last else 'unknown'}"
