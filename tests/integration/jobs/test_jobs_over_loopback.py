"""Jobs between two real nodes: wallet, session, quote, tokens, usage, over Noise and Yamux on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from tests.unit.jobs.kit import CHAT, Script

from hostmesh.errors import ConnectionLostError, EngineError, JobError
from hostmesh.jobs.stats import JobOutcome

if TYPE_CHECKING:
    from tests.integration.jobs.conftest import Pair

PATIENCE_S = 30.0
"""For what takes milliseconds on an idle machine."""


def assert_done(pair: Pair, **outcomes: int) -> None:
    stats = pair.host.server.stats()
    assert (stats.active_jobs, stats.queued_jobs, pair.host.engine.running) == (0, 0, 0)
    assert {outcome.value: count for outcome, count in stats.outcomes.items()} == outcomes
    assert stats.accepted == sum(outcomes.values())


async def test_a_job_is_paid_for_in_its_session(pair: Pair) -> None:
    with trio.fail_after(PATIENCE_S):
        async with pair.sessions.open_session(pair.chat, spending_limit_micros=40) as session:
            for _ in range(2):
                async with pair.jobs.run(session, prompt="Hi there", parameters={"temperature": 0}) as job:
                    assert await job.read_text() == "Hello world"
                # 4 tokens of prompt and 3 of answer, 0.25 each, rounded up.
                assert job.usage.cost_micros == 2
            # 36 are left; 4 tokens and 64 of answer can cost 17, so two at once fit and a third does not.
            pair.host.engine.default = Script(hang_after=0)
            async with pair.jobs.run(session, prompt="Hi there"), pair.jobs.run(session, prompt="Hi there"):
                with pytest.raises(JobError) as caught:
                    async with pair.jobs.run(session, prompt="Hi there"):
                        pass
            assert caught.value.reason == "SPENDING_LIMIT"
            await pair.host.until_idle()
        with pytest.raises(JobError) as caught:
            async with pair.jobs.run(session, prompt="Hi there"):
                pass
        assert caught.value.reason == "UNAUTHORIZED"
    assert_done(pair, succeeded=2, cancelled=2)
    assert pair.book.outcomes == [(pair.chat.peer_id, True)] * 2


async def test_texts_are_embedded_for_nothing(pair: Pair) -> None:
    with trio.fail_after(PATIENCE_S):
        async with (
            pair.sessions.open_session(pair.embedding, spending_limit_micros=0) as session,
            pair.jobs.run(session, texts=["ab", "abc"]) as job,
        ):
            assert await job.read_vectors() == ((2.0, 1.0), (3.0, 1.0))
    assert_done(pair, succeeded=1)


async def test_leaving_a_job_reaches_the_engine_within_a_second(pair: Pair) -> None:
    pair.host.engine.default = Script(pieces=("x",) * 5, hang_after=3)
    with trio.fail_after(PATIENCE_S):
        async with pair.sessions.open_session(pair.chat, spending_limit_micros=1000) as session:
            async with pair.jobs.run(session, prompt="Hi there") as job:
                assert [(await anext(job)).index for _ in range(3)] == [0, 1, 2]
            left_at = trio.current_time()
            await pair.host.until_idle()
            assert pair.host.engine.stopped_at[0] - left_at < 1.0
            pair.host.engine.default = Script()
            async with pair.jobs.run(session, prompt="Hi there") as job:
                assert await job.read_text() == "Hello world"
    assert_done(pair, cancelled=1, succeeded=1)


async def test_a_client_that_is_gone_frees_its_slot(pair: Pair) -> None:
    pair.host.engine.default = Script(hang_after=1)

    async def run() -> None:
        session = await pair.sessions.start_session(pair.chat, spending_limit_micros=1000)
        async with pair.jobs.run(session, prompt="Hi there") as job:
            await anext(job)
            await pair.client_node.stop()
            await anext(job)

    with trio.fail_after(PATIENCE_S):
        with pytest.raises(ConnectionLostError):
            await run()
        await pair.host.until_idle()
    assert_done(pair, cancelled=1)


async def test_a_host_that_is_gone_is_a_connection_that_is_lost(pair: Pair) -> None:
    pair.host.engine.default = Script(hang_after=1)

    async def run() -> None:
        session = await pair.sessions.start_session(pair.chat, spending_limit_micros=1000)
        async with pair.jobs.run(session, prompt="Hi there") as job:
            await anext(job)
            await pair.host_node.stop()
            await anext(job)

    with trio.fail_after(PATIENCE_S):
        with pytest.raises(ConnectionLostError) as caught:
            await run()
        assert caught.value.may_have_executed
        await pair.host.until_idle()
    assert pair.book.outcomes == [(pair.chat.peer_id, False)]


async def test_fifty_jobs_at_once_and_two_hundred_in_a_row_end_each_exactly_once(pair: Pair) -> None:
    texts: list[str] = []

    async with pair.sessions.open_session(pair.chat, spending_limit_micros=10_000) as session:

        async def one() -> None:
            async with pair.jobs.run(session, prompt="Hi there") as job:
                texts.append(await job.read_text())

        with trio.fail_after(120):
            await one()
            tasks_before = trio.lowlevel.current_statistics().tasks_living
            async with trio.open_nursery() as nursery:
                for _ in range(50):
                    nursery.start_soon(one)
            for _ in range(200):
                await one()
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert trio.lowlevel.current_statistics().tasks_living <= tasks_before + 4
    assert texts == ["Hello world"] * 251
    assert pair.host.engine.most_running == 4
    assert_done(pair, succeeded=251)
    assert len(pair.book.outcomes) == 251


async def test_a_failing_engine_and_a_draining_host_are_told_apart(pair: Pair) -> None:
    pair.host.engine.scripts = [Script(fail_after=1, error=EngineError("x")), Script(hang_after=1)]
    with trio.fail_after(PATIENCE_S):
        async with pair.sessions.open_session(pair.chat, spending_limit_micros=1000) as session:
            with pytest.raises(JobError) as failed:
                async with pair.jobs.run(session, prompt="Hi there") as job:
                    await job.read_text()
            async with pair.jobs.run(session, prompt="Hi there") as job:
                await anext(job)
                await pair.host.server.drain(0)
                with pytest.raises(JobError) as drained:
                    await job.read_text()
            with pytest.raises(JobError) as refused:
                await pair.jobs.request_quote(pair.chat.peer_id, CHAT)
    assert [error.value.reason for error in (failed, drained, refused)] == ["ENGINE_FAILED", "DRAINING", "DRAINING"]
    assert pair.host.server.stats().outcomes == {JobOutcome.FAILED: 1, JobOutcome.DRAINED: 1}
    assert pair.book.outcomes == [(pair.chat.peer_id, False)]
