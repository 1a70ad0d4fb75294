"""The schedule: every repetition does every work on every stack, the stacks in a new random order for each work.

So two runs that are divided by each other stand seconds apart. The pairs of a repetition stay up from one work to the
next, idle while another's is measured; a pair that failed is replaced before its stack's next work.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import trio
from tests.benchmarks.transport.figures import Row
from tests.benchmarks.transport.machine import LoadMeter
from tests.benchmarks.transport.pair import Measured, Pair, measure_memory, open_pair
from tests.benchmarks.transport.process import PeerError
from tests.benchmarks.transport.works import Sizes, Work

RUN_LIMIT_S = 120.0
"""Most time for one run, the start of its processes included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run."""

    peers: Mapping[str, Sequence[str]]
    """The command of each stack's peer."""
    unprepared: Mapping[str, str] = field(default_factory=dict)
    """Stacks that were asked for and cannot run, with the reason."""
    works: Sequence[Work]
    reps: int
    sizes: Sizes
    seed: int

    @property
    def stacks(self) -> tuple[str, ...]:
        """Every stack that was asked for."""
        return (*self.peers, *self.unprepared)


@dataclass(slots=True)
class Results:
    """What came out."""

    rows: list[Row] = field(default_factory=list)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By stack: versions and tuning, as its server told."""


async def run_plan(plan: Plan, folder: Path, tell: Callable[[str], None]) -> Results:
    """Run everything; a run that fails becomes a failed row, and the next one starts.

    Args:
        plan: what to run.
        folder: for the peers' logs.
        tell: gets a line for each run.
    """
    results = Results()
    order = Random(plan.seed)
    meter = LoadMeter()
    for rep in range(1, plan.reps + 1):
        async with _open_pairs(plan, folder, results.settings) as pairs:
            # Memory last: its pairs are its own, and the others should be gone.
            for work in sorted(plan.works, key=lambda work: work.fresh_server):
                if work.fresh_server:
                    await pairs.close()
                for stack in order.sample(plan.stacks, len(plan.stacks)):
                    row = await _run(plan, pairs, folder, meter, stack, work, rep)
                    results.rows.append(row)
                    tell(f"{rep}/{plan.reps} {_line(row)}")
    return results


async def _run(plan: Plan, pairs: _Pairs, folder: Path, meter: LoadMeter, stack: str, work: Work, rep: int) -> Row:
    load: dict[str, float | None] = {}
    measured: Measured | None = None
    error = plan.unprepared.get(stack, "")
    if not error:
        with trio.move_on_after(RUN_LIMIT_S):
            try:
                if work.fresh_server:
                    load = meter.before_run()
                    measured = await measure_memory(stack, plan.peers[stack], work, plan.sizes, folder)
                else:
                    pair = await pairs.get(stack)
                    load = meter.before_run()
                    measured = await pair.measure(work, plan.sizes)
            except PeerError as failure:
                error = str(failure)
        load |= meter.after_run()
    if measured is None:
        await pairs.drop(stack)
        return Row(
            stack=stack,
            work=work.name,
            rep=rep,
            unit=work.unit,
            ok=False,
            error=error or f"late: not done within {RUN_LIMIT_S:g} s",
            load=load,
        )
    return Row(
        stack=stack,
        work=work.name,
        rep=rep,
        unit=work.unit,
        ok=True,
        value=measured.value,
        cpu_us_per_op=measured.cpu_us_per_op,
        latency_us=measured.latency_us,
        load=load,
    )


class _Pairs:
    """The pairs of a repetition, each started when it is first needed."""

    def __init__(self, plan: Plan, folder: Path, settings: dict[str, dict[str, Any]]) -> None:
        self._plan = plan
        self._folder = folder
        self._settings = settings
        self._pairs: dict[str, tuple[Pair, AsyncExitStack]] = {}
        self._not_starting: dict[str, str] = {}

    async def get(self, stack: str) -> Pair:
        """Return a stack's pair, ready to be measured.

        Raises:
            PeerError: it does not start, now or earlier in this repetition.
        """
        if stack in self._pairs:
            return self._pairs[stack][0]
        if stack in self._not_starting:
            raise PeerError(self._not_starting[stack])
        # Should it be cancelled, that is what went wrong.
        self._not_starting[stack] = "its pair did not start in time"
        async with AsyncExitStack() as opening:
            try:
                pair = await opening.enter_async_context(
                    open_pair(stack, self._plan.peers[stack], self._plan.sizes, self._folder)
                )
            except PeerError as error:
                self._not_starting[stack] = str(error)
                raise
            self._pairs[stack] = (pair, opening.pop_all())
        del self._not_starting[stack]
        self._settings[stack] = pair.settings
        return pair

    async def drop(self, stack: str) -> None:
        """End a stack's pair, if it has one."""
        if stack in self._pairs:
            _, opened = self._pairs.pop(stack)
            await opened.aclose()

    async def close(self) -> None:
        """End every pair."""
        for stack in list(self._pairs):
            await self.drop(stack)


@asynccontextmanager
async def _open_pairs(plan: Plan, folder: Path, settings: dict[str, dict[str, Any]]) -> AsyncIterator[_Pairs]:
    pairs = _Pairs(plan, folder, settings)
    try:
        yield pairs
    finally:
        with trio.CancelScope(shield=True):
            await pairs.close()


def _line(row: Row) -> str:
    name = f"{row.stack} {row.work}"
    if not row.ok:
        return f"{name}: FAILED: {row.error}"
    cpu = "" if row.cpu_us_per_op is None else f", {row.cpu_us_per_op:,.1f} us CPU each"
    load = ", ".join(
        f"{label} {number:.1f}"
        for label, key in (("psi", "psi_cpu_some_avg10"), ("load", "loadavg_1m"), ("steal", "steal_percent_during"))
        if (number := row.load.get(key)) is not None
    )
    return f"{name}: {row.value:,.1f} {row.unit}{cpu}" + (f" ({load})" if load else "")
