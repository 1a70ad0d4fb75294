"""The fakes in whole nodes: a host that serves the fake engine in a simulated network, and a client that finds it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio

from hostmesh import SDK, HostCriteria, JobError, Session
from hostmesh.testing import (
    DiesAfter,
    FailsAfter,
    FakeEngine,
    LiesAboutUsage,
    SimNetwork,
    make_description,
    make_wallet,
    run_sim,
)
from hostmesh.testing.engine_text import split_tokens

ANSWER = "a peer to peer network has no centre"
TOKENS = len(split_tokens(ANSWER))


@dataclass
class World:
    engine: FakeEngine
    client: SDK
    session: Session

    async def ask(self) -> str:
        async with self.client.get_job_manager().run(self.session, prompt="what?") as job:
            return "".join([piece.text async for piece in job])


@asynccontextmanager
async def world(net: SimNetwork) -> AsyncIterator[World]:
    engine = FakeEngine(first_token_s=1, tokens_per_s=2, answer=lambda work: ANSWER)
    host, client = net.machine("host"), net.machine("client")
    async with host.open_sdk(serve_dht=True) as serving, client.open_sdk() as sdk:
        await serving.authenticate(wallet=make_wallet("operator"))
        await sdk.authenticate(wallet=make_wallet("client"))
        peer_id = await serving.get_discovery_manager().create_node()
        async with serving.get_host_manager().serve(make_description(), engine):
            discovery = sdk.get_discovery_manager()
            await discovery.create_node(bootstrap=[f"/ip4/{host.address}/tcp/4001/p2p/{peer_id}"])
            await discovery.wait_ready()
            choice = await discovery.find_host(HostCriteria(required_models=["fake-chat"]))
            assert choice.operator == make_wallet("operator").address_bytes
            async with sdk.get_session_manager().open_session(choice, spending_limit_micros=10_000) as session:
                yield World(engine, sdk, session)


def play(scene: Callable[[World], Awaitable[None]]) -> None:
    async def main(net: SimNetwork) -> None:
        async with world(net) as here:
            await scene(here)

    run_sim(main)


def test_a_job_gets_the_engines_words_at_the_engines_speed() -> None:
    async def scene(here: World) -> None:
        began = trio.current_time()
        assert await here.ask() == ANSWER
        took_s = trio.current_time() - began
        # 1 s to the first token, the others at 2 a second, and a few times the round trip of 40 ms.
        assert took_s == pytest.approx(1 + (TOKENS - 1) / 2, abs=0.3)
        assert (here.engine.counts.started, here.engine.counts.finished, here.engine.counts.tokens) == (1, 1, TOKENS)

    play(scene)


def test_a_failure_of_the_engine_reaches_the_client_as_such_and_the_next_job_runs() -> None:
    async def scene(here: World) -> None:
        here.engine.fail_next(FailsAfter(2))
        with pytest.raises(JobError) as failed:
            await here.ask()
        assert failed.value.reason == "ENGINE_FAILED"
        assert await here.ask() == ANSWER
        assert (here.engine.counts.failed, here.engine.counts.finished) == (1, 1)

    play(scene)


def test_a_dead_engine_serves_again_once_it_is_revived() -> None:
    async def scene(here: World) -> None:
        here.engine.fail_next(DiesAfter(0))
        for _ in range(2):
            with pytest.raises(JobError):
                await here.ask()
        here.engine.revive()
        assert await here.ask() == ANSWER

    play(scene)


def test_a_client_that_leaves_stops_the_engine() -> None:
    async def scene(here: World) -> None:
        async with here.client.get_job_manager().run(here.session, prompt="what?") as job:
            async for _ in job:
                break
        counts = await here.engine.wait_until(lambda counts: counts.running == 0)
        assert (counts.cancelled, counts.finished) == (1, 0)
        assert counts.tokens < TOKENS

    play(scene)


def test_an_engine_that_lies_about_usage_cannot_charge_more_than_was_reserved() -> None:
    async def scene(here: World) -> None:
        here.engine.fail_next(LiesAboutUsage(extra_prompt_tokens=10**6))
        async with here.client.get_job_manager().run(here.session, prompt="what?", max_output_tokens=20) as job:
            async for _ in job:
                pass
        # 1 word and 2 of the template: what was counted before the job stands, whatever the engine adds at its end.
        assert job.usage.prompt_tokens == 3
        assert job.usage.completion_tokens == TOKENS

    play(scene)
