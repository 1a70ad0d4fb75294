"""Plays scenarios: under one seed, or under several, one after the other or side by side."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import fields, replace
from functools import partial
from typing import Any

import trio

from hostmesh.testing.network import SimNetwork
from hostmesh.testing.run import SimOptions, run_sim
from hostmesh.testing.scenario import Scenario, ScenarioReport, ScenarioRun, ScenarioSize
from hostmesh.testing.side_by_side import can_fork, play_side_by_side
from hostmesh.testing.trace import MAX_KEPT_EVENTS, Trace

_SPARE_S = 3600.0
"""How much longer than its minutes a scenario may take to begin and to end."""
_PROGRESS_EVERY_S = 60.0

Progress = Callable[[ScenarioRun], None]
"""Is told what was counted so far, each simulated minute."""
Stop = Callable[[], object]
"""Ends a scenario soon; it may be called from a signal handler or another thread."""


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

    def play_all() -> Generator[ScenarioReport, None, None]:
        if jobs == 1 or wanted.seeds == 1 or not can_fork():
            yield from map(play_here, seeds)
            return
        start(lambda: None)
        with closing(play_side_by_side(play_elsewhere, seeds, jobs, lambda: is_stopped)) as all_played:
            for number, played in zip(seeds, all_played, strict=False):  # fewer where it was stopped
                yield play_here(number) if played is None else ScenarioReport(**played, trace=Trace(max_events=0))

    reports: list[ScenarioReport] = []
    with closing(play_all()) as reported:
        for report in reported:
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
