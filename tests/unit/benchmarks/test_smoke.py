"""The benchmark itself, small: real peers of two stacks do every work."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.transport.figures import failures, ratios
from tests.benchmarks.transport.harness import Plan, run_plan
from tests.benchmarks.transport.stacks import prepare
from tests.benchmarks.transport.works import WORKS, Sizes

TINY = Sizes(
    unary_s=0.1,
    burst_messages=100,
    bulk_frames=4,
    least_timed_s=0.0,
    paced_messages=5,
    connects=2,
    connections_before=2,
    held_connections=3,
    streams_before=2,
    held_streams=5,
    ramp_s=0.0,
)


WORKS_HERE = [work for work in WORKS if work.concurrency <= 1]
"""Many callers at once are a matter of load, not of whether it works."""


async def test_hostmesh_and_tcp_do_every_kind_of_work(tmp_path: Path) -> None:
    stacks = ("tcp", "hostmesh")
    plan = Plan(
        peers={stack: prepare(stack, tmp_path) for stack in stacks}, works=WORKS_HERE, reps=1, sizes=TINY, seed=1
    )
    results = await run_plan(plan, tmp_path, lambda line: None)
    assert failures(results.rows, stacks, [work.name for work in WORKS_HERE], 1) == []
    timed = [work.name for work in WORKS_HERE if not work.fresh_server]
    assert all(ratios(results.rows)[work]["tcp"].median > 0 for work in timed)
    assert all(row.cpu_us_per_op for row in results.rows if row.work in timed)
    assert set(results.settings) == set(stacks)
