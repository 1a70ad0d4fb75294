"""Jobs between two nodes: wallet, session, quote, tokens, usage, over Noise and Yamux."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
from tests.simulated.world import join
from tests.support.simulated import simulated

from hostmesh import (
    SDK,
    ConnectionLostError,
    HostChoice,
    HostCriteria,
    HostDescription,
    JobError,
    JobLimits,
    JobManager,
    ModelKind,
    ModelOffer,
    Price,
    Serving,
    Session,
    SessionError,
)
from hostmesh.jobs.stats import JobOutcome
from hostmesh.testing import (
    FailsAfter,
    FakeEngine,
    HangsAfter,
    SimMachine,
    SimNetwork,
    chat_model,
    embedding_model,
)
from hostmesh.testing.engine_text import vector_of

CHAT, EMBED = "tiny-chat", "tiny-embed"
LATENCY_S = 0.02
"""One way between two machines, by default."""
OFFER = HostDescription(
    models=[
        ModelOffer(model_id=CHAT, price=Price(micros_per_mtok=250_000, currency="USD")),
        ModelOffer(model_id=EMBED, kind=ModelKind.EMBEDDING, price=Price(micros_per_mtok=0, currency="USD")),
    ]
)


@dataclass
class Pair:
    """Both ends."""

    net: SimNetwork
    serving: Serving
    engine: FakeEngine
    client: SDK
    jobs: JobManager
    chat: HostChoice
    embedding: HostChoice

    def session(self, choice: HostChoice, spending_limit_micros: int) -> AbstractAsyncContextManager[Session]:
        return self.client.get_session_manager().open_session(choice, spending_limit_micros=spending_limit_micros)

    async def until_idle(self) -> None:
        """Wait until the engine and the host have no job."""
        await self.engine.wait_until(lambda counts: counts.running == 0)
        await trio.sleep(10 * LATENCY_S)

    def outcomes(self) -> tuple[int, int]:
        """What the client noted of the host: good and bad."""
        noted = self.client._files.reputation.of(self.chat.peer_id, self.chat.operator_address)
        return noted.good, noted.bad

    def assert_done(self, **outcomes: int) -> None:
        stats = self.serving.stats()
        assert (stats.active_jobs, stats.queued_jobs, self.engine.counts.running) == (0, 0, 0)
        assert {outcome.value: count for outcome, count in stats.outcomes.items()} == outcomes
        assert stats.accepted == sum(outcomes.values())


async def _run_host(
    machine: SimMachine, engine: FakeEngine, *, task_status: trio.TaskStatus[tuple[Serving, str]]
) -> None:
    async with machine.open_sdk(ephemeral_key=True, enable_dht=False) as sdk:
        address = await join(sdk, machine)
        async with sdk.get_host_manager().serve(OFFER, engine, limits=JobLimits()) as serving:
            task_status.started((serving, address))
            await trio.sleep_forever()


@asynccontextmanager
async def pair_of(net: SimNetwork) -> AsyncIterator[Pair]:
    """A host that serves, in a process that can be killed, and a client that found it."""
    engine = FakeEngine(
        [chat_model(CHAT, context_tokens=256, max_output_tokens=64), embedding_model(EMBED, context_tokens=32)],
        answer=lambda work: "Hello world",
    )
    async with trio.open_nursery() as nursery:
        serving, address = await nursery.start(_run_host, net.machine("host"), engine)
        machine = net.machine("client")
        async with machine.open_sdk(ephemeral_key=True, enable_dht=False) as client:
            await join(client, machine)
            discovery = client.get_discovery_manager()
            await discovery.connect_to_peer(address)
            chat, embedding = [
                await discovery.find_host(HostCriteria(required_models=[model])) for model in (CHAT, EMBED)
            ]
            yield Pair(net, serving, engine, client, client.get_job_manager(), chat, embedding)
        nursery.cancel_scope.cancel()


@simulated(pair_of)
async def test_a_job_is_paid_for_in_its_session(pair: Pair) -> None:
    async with pair.session(pair.chat, 40) as session:
        for _ in range(2):
            async with pair.jobs.run(session, prompt="Hi there", parameters={"temperature": 0}) as job:
                assert await job.read_text() == "Hello world"
            # 4 tokens of prompt and 2 of answer, 0.25 each, rounded up.
            assert job.usage.cost_micros == 2
        # 36 are left; 4 tokens and 64 of answer can cost 17, so two at once fit and a third does not.
        pair.engine.fault = HangsAfter(0)
        async with pair.jobs.run(session, prompt="Hi there"), pair.jobs.run(session, prompt="Hi there"):
            with pytest.raises(JobError) as caught:
                async with pair.jobs.run(session, prompt="Hi there"):
                    pass
        assert caught.value.reason == "SPENDING_LIMIT"
        await pair.until_idle()
    with pytest.raises(SessionError) as closed:
        async with pair.jobs.run(session, prompt="Hi there"):
            pass
    assert closed.value.reason == "SESSION_CLOSED"
    pair.assert_done(succeeded=2, cancelled=2)
    assert pair.outcomes() == (2, 0)


@simulated(pair_of)
async def test_texts_are_embedded_for_nothing(pair: Pair) -> None:
    async with pair.session(pair.embedding, 0) as session, pair.jobs.run(session, texts=["ab", "abc"]) as job:
        vectors = await job.read_vectors()
    assert vectors == tuple(pytest.approx(vector_of(EMBED, text, 8)) for text in ("ab", "abc"))
    assert job.usage.cost_micros == 0
    pair.assert_done(succeeded=1)


@simulated(pair_of)
async def test_leaving_a_job_reaches_the_engine_at_once(pair: Pair) -> None:
    pair.engine.answer = lambda work: "one two three four five"
    pair.engine.fail_next(HangsAfter(3))
    async with pair.session(pair.chat, 1000) as session:
        async with pair.jobs.run(session, prompt="Hi there") as job:
            assert [(await anext(job)).index for _ in range(3)] == [0, 1, 2]
            left_at_s = trio.current_time()
        await pair.until_idle()
        (left,) = pair.engine.jobs
        assert left.ended_at_s == pytest.approx(left_at_s + LATENCY_S, abs=0.001)
        async with pair.jobs.run(session, prompt="Hi there") as job:
            assert await job.read_text() == "one two three four five"
    pair.assert_done(cancelled=1, succeeded=1)


@simulated(pair_of)
async def test_a_client_that_is_gone_frees_its_slot(pair: Pair) -> None:
    pair.engine.fault = HangsAfter(1)

    async def run() -> None:
        session = await pair.client.get_session_manager().start_session(pair.chat, spending_limit_micros=1000)
        async with pair.jobs.run(session, prompt="Hi there") as job:
            await anext(job)
            await pair.client.get_discovery_manager().stop()
            await anext(job)

    with pytest.raises(ConnectionLostError):
        await run()
    await pair.until_idle()
    pair.assert_done(cancelled=1)


@simulated(pair_of)
async def test_a_host_that_is_killed_is_a_connection_that_is_lost(pair: Pair) -> None:
    pair.engine.fault = HangsAfter(1)
    killed_at_s = []

    async def run() -> None:
        session = await pair.client.get_session_manager().start_session(pair.chat, spending_limit_micros=1000)
        async with pair.jobs.run(session, prompt="Hi there") as job:
            await anext(job)
            pair.net.machines["host"].kill()
            killed_at_s.append(trio.current_time())
            await anext(job)

    with pytest.raises(ConnectionLostError) as caught:
        await run()
    assert caught.value.may_have_executed
    assert trio.current_time() - killed_at_s[0] < 0.1
    assert pair.engine.counts.running == 0
    assert pair.outcomes() == (0, 1)


@simulated(pair_of)
async def test_fifty_jobs_at_once_and_two_hundred_in_a_row_end_each_exactly_once(pair: Pair) -> None:
    texts: list[str] = []

    async with pair.session(pair.chat, 10_000) as session:

        async def one() -> None:
            async with pair.jobs.run(session, prompt="Hi there") as job:
                texts.append(await job.read_text())

        await one()
        tasks_before = trio.lowlevel.current_statistics().tasks_living
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(one)
        for _ in range(200):
            await one()
        await pair.until_idle()
        assert trio.lowlevel.current_statistics().tasks_living <= tasks_before
    assert texts == ["Hello world"] * 251
    assert pair.engine.counts.most_running == 4
    pair.assert_done(succeeded=251)
    assert pair.outcomes() == (251, 0)


@simulated(pair_of)
async def test_a_failing_engine_and_a_draining_host_are_told_apart(pair: Pair) -> None:
    pair.engine.fail_next(FailsAfter(1), HangsAfter(1))
    async with pair.session(pair.chat, 1000) as session:
        with pytest.raises(JobError) as failed:
            async with pair.jobs.run(session, prompt="Hi there") as job:
                await job.read_text()
        async with pair.jobs.run(session, prompt="Hi there") as job:
            await anext(job)
            await pair.serving.drain(0)
            with pytest.raises(JobError) as drained:
                await job.read_text()
        with pytest.raises(JobError) as refused:
            await pair.jobs.request_quote(pair.chat.peer_id, CHAT)
    assert [error.value.reason for error in (failed, drained, refused)] == ["ENGINE_FAILED", "DRAINING", "DRAINING"]
    assert pair.serving.stats().outcomes == {JobOutcome.FAILED: 1, JobOutcome.DRAINED: 1}
    assert pair.outcomes() == (0, 1)
