"""Any interleaving of quotes, jobs, leaving, failing engines, price changes and draining.

Whatever happens: every job ends exactly once on both sides, slots return to zero, no session owes more than its limit,
and what was charged is what the jobs' own tokens cost.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.jobs.kit import (
    CHAT,
    CLIENT_KEY,
    HOST_KEY,
    OTHER_KEY,
    FakeSession,
    Purse,
    Script,
    make_client,
    make_host,
)

from hostmesh.errors import EngineError, HostmeshError
from hostmesh.jobs.admission import JobLimits
from hostmesh.jobs.offer import QuoteOffer
from hostmesh.jobs.stats import JobOutcome
from hostmesh.sessions.authorization import ModelPrice

LIMITS = JobLimits(
    max_concurrent_jobs=2,
    max_queued_jobs=2,
    max_jobs_per_peer=3,
    engine_silence_s=7.0,
    max_job_s=20.0,
    quote_lifetime_s=5,
)


@dataclass(frozen=True)
class Run:
    """A client starts a job."""

    client: int
    script: int
    leave_after: int | None
    timeout_s: float | None
    with_quote: bool


@dataclass(frozen=True)
class Quote:
    """A client asks for a quote that a later job may use."""

    client: int


@dataclass(frozen=True)
class Leave:
    """The caller of one of the jobs is cancelled."""

    which: int


@dataclass(frozen=True)
class Wait:
    seconds: float


@dataclass(frozen=True)
class Price:
    micros: int


@dataclass(frozen=True)
class Drain:
    timeout_s: float


SCRIPTS = (
    Script(delay_s=0.5),
    Script(pieces=("x",) * 64, delay_s=0.5),
    Script(pieces=("x",) * 10),
    Script(pieces=("x",) * 70),
    Script(fail_after=0, error=EngineError("no")),
    Script(pieces=("x",) * 6, fail_after=3, error=EngineError("no"), delay_s=0.3),
    Script(hang_after=2),
    Script(finish=False),
    Script(completion_tokens=10_000),
)

STEPS = st.one_of(
    st.builds(
        Run,
        client=st.integers(0, 1),
        script=st.integers(0, len(SCRIPTS) - 1),
        leave_after=st.none() | st.integers(0, 5),
        timeout_s=st.none() | st.sampled_from([0.7, 3.0, 9.0]),
        with_quote=st.booleans(),
    ),
    st.builds(Quote, client=st.integers(0, 1)),
    st.builds(Leave, which=st.integers(0, 20)),
    st.builds(Wait, seconds=st.sampled_from([0.0, 0.1, 0.6, 3.0, 8.0])),
    st.builds(Price, micros=st.sampled_from([0, 1, 250_000, 10**6])),
    st.builds(Drain, timeout_s=st.sampled_from([0.0, 2.0, 100.0])),
)


async def play(steps: list[Run | Quote | Leave | Wait | Price | Drain], limit: int) -> None:
    host = make_host(limits=LIMITS)
    keys = (CLIENT_KEY, OTHER_KEY)
    sessions = [
        FakeSession(session_id=bytes([n]) * 16, spending_limit_micros=limit, max_price_micros_per_mtok=10**6)
        for n in range(2)
    ]
    host.purses.clear()
    for session in sessions:
        host.purses[session.session_id] = Purse(limit=limit, price_ceiling=10**6)
    ends: Counter[int] = Counter()
    charged: Counter[int] = Counter()
    scopes: list[trio.CancelScope] = []
    quotes: list[list[QuoteOffer]] = [[], []]

    def check() -> None:
        stats = host.server.stats()
        assert stats.active_jobs <= LIMITS.max_concurrent_jobs
        assert stats.queued_jobs <= LIMITS.max_queued_jobs
        assert host.engine.running <= stats.active_jobs
        assert stats.accepted == sum(stats.outcomes.values()) + stats.active_jobs + stats.queued_jobs
        for purse in host.purses.values():
            assert purse.spent + sum(purse.reserved.values()) <= purse.limit

    async with trio.open_nursery() as world:
        clients = [make_client(host, world, key=key)[0] for key in keys]

        async def run(number: int, step: Run, scope: trio.CancelScope) -> None:
            offer = quotes[step.client].pop() if step.with_quote and quotes[step.client] else None
            try:
                with scope:
                    async with clients[step.client].run(
                        sessions[step.client], prompt="Hi there", timeout_s=step.timeout_s, quote=offer
                    ) as job:
                        async for delta in job:
                            if delta.index == step.leave_after:
                                break
                        if job.is_done:
                            charged[step.client] += job.usage.cost_micros
            except HostmeshError:
                pass
            finally:
                ends[number] += 1

        async with trio.open_nursery() as jobs:
            for step in steps:
                match step:
                    case Run():
                        host.engine.scripts.append(SCRIPTS[step.script])
                        scopes.append(trio.CancelScope())
                        jobs.start_soon(run, len(scopes) - 1, step, scopes[-1])
                    case Quote():
                        with suppress(HostmeshError):
                            quotes[step.client].append(await clients[step.client].request_quote(HOST_KEY.peer_id, CHAT))
                    case Leave() if scopes:
                        scopes[step.which % len(scopes)].cancel()
                    case Wait():
                        await trio.sleep(step.seconds)
                    case Price():
                        host.server.set_prices({CHAT: ModelPrice(micros_per_mtok=step.micros, currency="USD")})
                    case Drain():
                        jobs.start_soon(host.server.drain, step.timeout_s)
                check()
        await host.until_idle()
        check()
        world.cancel_scope.cancel()
    stats = host.server.stats()
    assert all(ends[number] == 1 for number in range(len(scopes)))
    assert (stats.active_jobs, stats.queued_jobs, host.engine.running) == (0, 0, 0)
    assert all(purse.reserved == {} for purse in host.purses.values())
    assert sum(purse.closed for purse in host.purses.values()) == stats.accepted
    done = stats.outcomes.get(JobOutcome.SUCCEEDED, 0)
    uncharged = stats.outcomes.get(JobOutcome.FAILED, 0) + stats.outcomes.get(JobOutcome.DRAINED, 0)
    for number, session in enumerate(sessions):
        purse = host.purses[session.session_id]
        assert charged[number] <= purse.spent <= limit
    assert sum(len(purse.settled) for purse in host.purses.values()) == stats.accepted - uncharged
    assert done <= stats.accepted


@given(steps=st.lists(STEPS, max_size=25), limit=st.sampled_from([0, 17, 40, 10_000]))
@settings(deadline=None)
def test_every_job_ends_once_and_nothing_is_left(
    steps: list[Run | Quote | Leave | Wait | Price | Drain], limit: int
) -> None:
    trio.run(play, steps, limit, clock=trio.testing.MockClock(autojump_threshold=0.0))
