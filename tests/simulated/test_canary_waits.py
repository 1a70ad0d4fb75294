"""A user who asks one thing after the other: his next job waits for the end of a canary, so that neither is told."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import trio
from tests.simulated.checked_market import Market, engine, market, reference
from tests.support.simulated import eventually, simulated

from hostmesh.testing import JobEnding, SimNetwork

SLOW_S = 1000.0


def running_together(made: Market) -> dict[bool, list[int]]:
    """Return how many canaries (True) and real jobs another one came to while they ran, and how many there were."""
    own = set(made.prompts)
    seen = {True: [0, 0], False: [0, 0]}
    jobs = made.jobs("host")
    for (job, work), (later, _) in pairwise(jobs):
        counts = seen[work.messages[-1].content not in own]
        counts[0] += job.ended_at_s is None or later.began_at_s < job.ended_at_s
        counts[1] += 1
    return seen


@simulated()
async def test_no_two_jobs_run_at_once_and_no_gap_tells(net: SimNetwork) -> None:
    pauses_s = (0.02, 0.05, 0.03)
    async with market(net, {"host": engine()}) as made:
        async with made.check(reference=reference, rate=0.5):
            await made.use("host", 120, pause_s=pauses_s)
        seen = running_together(made)
        assert (seen[True][0], seen[False][0]) == (0, 0)
        assert seen[True][1] > 20
        jobs = [job for job, _ in made.jobs("host")]
        gaps_s = [later.began_at_s - job.ended_at_s for job, later in pairwise(jobs)]
        fewest_s = min(gaps_s[:30])  # the user's own
        canaries = made.canaries("host")
        after = [gap for gap, (_, work) in zip(gaps_s, made.jobs("host"), strict=False) if work in canaries]
        assert min(after) >= fewest_s - 0.005
        assert max(after) <= max(gaps_s[:30]) + 0.005


async def hold_a_canary(made: Market) -> None:
    """Use the host until a canary runs there that takes very long; the job that waits for it is given up."""
    host = made.engines["host"]
    await made.use("host", 40, pause_s=(0.05,), timeout_s=60.0)
    for _ in range(50):
        host.first_token_s = SLOW_S
        async with trio.open_nursery() as user:
            user.start_soon(partial(made.use, "host", 1, timeout_s=60.0))
            await eventually(lambda: host.counts.running > 0, within_s=5.0)
            host.first_token_s = 1.0
            is_canary = made.asked("host")[-1] in made.canaries("host")
            user.cancel_scope.cancel()
        await trio.sleep(0.05)
        if is_canary:
            assert host.counts.running == 1
            return
        await made.use("host", 1, pause_s=(0.05,), timeout_s=60.0)
    raise AssertionError("no canary came")


@simulated()
async def test_a_job_waits_for_half_of_its_own_limit_at_most(net: SimNetwork) -> None:
    async with market(net, {"host": engine()}) as made, made.check(reference=reference):
        await hold_a_canary(made)
        began_s = trio.current_time()
        await made.use("host", 1, pause_s=(0.0,), timeout_s=60.0)
        assert 30.0 < trio.current_time() - began_s < 35.0
        assert made.jobs("host")[-1][1].messages[-1].content == made.prompts[-1]
        assert made.engines["host"].jobs[-1].ending is JobEnding.FINISHED
        assert made.engines["host"].counts.running == 1, "the canary"


@simulated()
async def test_a_job_that_is_given_up_while_it_waits_never_leaves(net: SimNetwork) -> None:
    async with market(net, {"host": engine()}) as made, made.check(reference=reference):
        await hold_a_canary(made)
        left = len(made.engines["host"].jobs)
        with trio.move_on_after(5.0) as given_up:
            await made.use("host", 1)
        assert given_up.cancelled_caught
        await trio.sleep(5.0)
        assert len(made.engines["host"].jobs) == left


@simulated()
async def test_when_checks_end_a_job_waits_no_more(net: SimNetwork) -> None:
    async with market(net, {"host": engine()}) as made, trio.open_nursery() as nursery:
        jobs = made.engines["host"].jobs
        async with made.check(reference=reference):
            await hold_a_canary(made)
            left = len(jobs)
            nursery.start_soon(made.use, "host", 1)
            await trio.sleep(5.0)
            assert len(jobs) == left
        ended_s = trio.current_time()
        await eventually(lambda: len(made.jobs("host")) > left, within_s=5.0)
        assert made.jobs("host")[-1][0].began_at_s - ended_s < 1.0
