"""Jobs from quote to usage: the real client and server of jobs and calls, over streams in memory."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing
from tests.unit.jobs.kit import (
    CHAT,
    CHAT_PRICE,
    EMBED,
    EMBED_PRICE,
    HOST_KEY,
    OTHER_KEY,
    Book,
    FakeSession,
    Host,
    Purse,
    Script,
    ScriptedEngine,
    make_client,
    make_host,
)

from hostmesh.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    EngineError,
    JobError,
    ParameterError,
    RpcError,
    UsageError,
)
from hostmesh.jobs.admission import JobLimits
from hostmesh.jobs.engine import ChatWork, FinishReason, Role
from hostmesh.jobs.stats import JobOutcome
from hostmesh.sessions.authorization import ModelPrice

PROMPT = "tell me a very particular secret"
PROMPT_TOKENS = 6 + 2
SESSION = FakeSession()
EMBED_SESSION = FakeSession(model_id=EMBED, max_price_micros_per_mtok=0)


def purse_of(host: Host) -> Purse:
    return host.purses[SESSION.session_id]


def assert_idle(host: Host, **outcomes: int) -> None:
    """Nothing runs, nothing is reserved, and every accepted job ended once, as said."""
    stats = host.server.stats()
    assert (stats.active_jobs, stats.queued_jobs) == (0, 0)
    assert host.engine.running == 0
    assert {outcome.value: count for outcome, count in stats.outcomes.items()} == outcomes
    assert stats.accepted == sum(outcomes.values())
    for purse in host.purses.values():
        assert purse.reserved == {}
    assert sum(purse.closed for purse in host.purses.values()) == stats.accepted


# --- the way it should go ---


async def test_a_job_streams_its_answer_and_ends_with_its_usage(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, book = make_host(), Book()
    manager, _ = make_client(host, nursery, book=book)
    async with manager.run(
        SESSION,
        prompt=PROMPT,
        system_prompt="Be brief",
        parameters={"temperature": 0, "stop": "\n"},
        max_output_tokens=9,
    ) as job:
        assert (job.queue_position, job.peer_id, len(job.job_id)) == (0, HOST_KEY.peer_id, 16)
        with pytest.raises(UsageError):
            _ = job.usage
        deltas = [delta async for delta in job]
    assert [(delta.index, delta.text) for delta in deltas] == [(0, "Hel"), (1, "lo"), (2, " world")]
    assert (job.usage.prompt_tokens, job.usage.completion_tokens) == (PROMPT_TOKENS + 4, 3)
    # 15 tokens at 0.25 a million tokens, rounded up, by hand.
    assert (job.usage.cost_micros, job.usage.currency) == (4, "USD")
    assert job.finish_reason is FinishReason.STOP
    assert job.text is None, "pieces are not kept unless asked"
    work = host.engine.works[0]
    assert isinstance(work, ChatWork)
    assert [(m.role, m.content) for m in work.messages] == [(Role.SYSTEM, "Be brief"), (Role.USER, PROMPT)]
    assert work.parameters == {"temperature": 0.0, "stop": ("\n",)}
    assert work.max_output_tokens == 9
    assert purse_of(host).spent == 4
    assert book.outcomes == [(HOST_KEY.peer_id, True)]
    assert_idle(host, succeeded=1)
    stats = host.server.stats()
    assert (stats.prompt_tokens, stats.completion_tokens) == (PROMPT_TOKENS + 4, 3)


async def test_a_whole_answer_can_be_asked_for(autojump_clock: trio.testing.MockClock, nursery: trio.Nursery) -> None:
    host = make_host()
    manager, _ = make_client(host, nursery)
    async with manager.run(SESSION, messages=[{"role": "user", "content": "Hi"}]) as job:
        assert await job.read_text() == "Hello world" == job.text
        assert await job.read_text() == "Hello world"
        assert job.is_done


async def test_a_free_model_embeds_texts(autojump_clock: trio.testing.MockClock, nursery: trio.Nursery) -> None:
    host = make_host(purse=Purse(limit=0, signed_limit=0))
    manager, _ = make_client(host, nursery)
    session = FakeSession(model_id=EMBED, max_price_micros_per_mtok=0, spending_limit_micros=0)
    async with manager.run(session, texts=["abc", "a b"]) as job:
        assert await job.read_vectors() == ((3.0, 1.0), (3.0, 1.0))
    assert (job.usage.prompt_tokens, job.usage.completion_tokens, job.usage.cost_micros) == (3, 0, 0)
    assert_idle(host, succeeded=1)


async def test_the_quote_holds_no_prompt(autojump_clock: trio.testing.MockClock, nursery: trio.Nursery) -> None:
    """Upstream J32: the prompt went to every candidate before any had accepted."""
    host = make_host()
    manager, wire = make_client(host, nursery)
    async with manager.run(SESSION, prompt=PROMPT, system_prompt="hidden rules") as job:
        await job.read_text()
    quote, run, countersign = wire.ours
    for word in (PROMPT, "hidden rules", "secret"):
        assert word.encode() not in quote.sent + countersign.sent
        assert word.encode() in run.sent
    await manager.request_quote(HOST_KEY.peer_id, CHAT, prompt_tokens_estimate=5)
    assert len(host.engine.works) == 1, "a quote does no work"


async def test_a_quote_can_be_asked_for_first_and_keeps_its_price(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Upstream M18: a price that changed meanwhile led to refused claims."""
    host = make_host()
    manager, _ = make_client(host, nursery)
    offer = await manager.request_quote(HOST_KEY.peer_id, CHAT, max_output_tokens=7)
    assert (offer.price_micros_per_mtok, offer.max_output_tokens, offer.context_tokens) == (250_000, 7, 256)
    host.server.set_prices({CHAT: ModelPrice(micros_per_mtok=900_000, currency="USD")})
    client = manager._peer_id
    assert host.server.price_of(CHAT, client) == CHAT_PRICE, "who holds a quote may open a session at its price"
    assert host.server.price_of(CHAT, OTHER_KEY.peer_id) == ModelPrice(micros_per_mtok=900_000, currency="USD")
    async with manager.run(SESSION, prompt=PROMPT, quote=offer) as job:
        await job.read_text()
    assert job.usage.cost_micros == -(-(PROMPT_TOKENS + 3) // 4)
    with pytest.raises(JobError) as caught:
        await manager.request_quote(
            HOST_KEY.peer_id, CHAT, max_price_micros_per_mtok=CHAT_PRICE.micros_per_mtok, currency="USD"
        )
    assert caught.value.reason == "PRICE_TOO_LOW"
    await trio.sleep(61)
    assert host.server.price_of(CHAT, client) == ModelPrice(micros_per_mtok=900_000, currency="USD")
    assert host.server.price_of("nope", client) is None


async def test_ten_minutes_of_slow_tokens_complete(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Upstream W19: a fixed timeout of 60 s killed long streams."""
    host = make_host()
    host.engine.default = Script(pieces=tuple(f"{n} " for n in range(60)), delay_s=10.0)
    manager, _ = make_client(host, nursery)
    started = trio.current_time()
    async with manager.run(SESSION, prompt=PROMPT) as job:
        assert len([delta async for delta in job]) == 60
    assert trio.current_time() - started >= 600
    assert_idle(host, succeeded=1)


async def test_a_slow_reader_of_a_free_model_is_waited_for(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host = make_host(limits=JobLimits(engine_silence_s=5.0), prices={CHAT: EMBED_PRICE})
    host.engine.default = Script(pieces=("x",) * 60)
    manager, _ = make_client(host, nursery)
    async with manager.run(SESSION, prompt=PROMPT) as job:
        await trio.sleep(1000)
        assert len([delta async for delta in job]) == 60
    assert_idle(host, succeeded=1)


async def test_an_engine_that_cannot_count_beforehand_is_bounded_by_the_context(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    engine = ScriptedEngine(counts_prompts=False)
    host = make_host(engine=engine, purse=Purse(limit=64))
    manager, _ = make_client(host, nursery)
    async with manager.run(SESSION, prompt=PROMPT) as job:
        assert purse_of(host).reserved == {1: 64}, "256 tokens of context"
        await job.read_text()
    assert purse_of(host).spent == job.usage.cost_micros == 3


# --- the queue ---


async def test_jobs_beyond_the_slots_wait_in_order_and_the_rest_is_told_to_come_back(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host = make_host(limits=JobLimits(max_concurrent_jobs=1, max_queued_jobs=2, retry_after_ms=77))
    host.engine.default = Script(delay_s=1.0)
    manager, _ = make_client(host, nursery)
    positions: list[int] = []
    ended: list[str] = []

    async def one(name: str) -> None:
        async with manager.run(SESSION, prompt=name) as job:
            positions.append(job.queue_position)
            await job.read_text()
        ended.append(name)

    async with trio.open_nursery() as jobs:
        for name in ("a", "b", "c"):
            jobs.start_soon(one, name)
            await host.until_accepted("abc".index(name) + 1)
        with pytest.raises(JobError) as caught:
            await one("d")
        assert (caught.value.reason, caught.value.retry_after_ms) == ("BUSY", 77)
        assert (caught.value.retry_safe, caught.value.may_have_executed) == (True, False)
    assert sorted(positions) == [0, 1, 2]
    assert ended == ["a", "b", "c"]
    assert host.engine.most_running == 1
    assert_idle(host, succeeded=3)


async def test_fifty_jobs_at_once_end_each_exactly_once(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, book = make_host(limits=JobLimits(max_concurrent_jobs=4)), Book()
    host.engine.default = Script(delay_s=0.1)
    manager, _ = make_client(host, nursery, book=book)
    texts: list[str] = []

    async def one() -> None:
        async with manager.run(SESSION, prompt="Hi") as job:
            texts.append(await job.read_text())

    async with trio.open_nursery() as jobs:
        for _ in range(50):
            jobs.start_soon(one)
    assert texts == ["Hello world"] * 50
    assert host.engine.most_running == 4
    # 3 tokens of prompt and 3 of answer cost 2 after rounding, each.
    assert purse_of(host).settled == [2] * 50
    assert len(book.outcomes) == 50
    assert_idle(host, succeeded=50)


async def test_the_load_is_told_whenever_it_changes(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host = make_host()
    seen: list[tuple[int, bool]] = []
    stop = host.server.on_change(
        lambda: seen.append((host.server.stats().active_jobs, host.server.stats().is_draining))
    )
    manager, _ = make_client(host, nursery)
    async with manager.run(SESSION, prompt=PROMPT) as job:
        await job.read_text()
    host.server.begin_drain()
    assert seen == [(1, False), (0, False), (0, True)]
    stop()
    stop()
    await host.server.drain(1)
    assert len(seen) == 3


# --- leaving early ---


async def test_leaving_the_block_stops_the_engine_and_charges_the_tokens_so_far(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, book = make_host(), Book()
    host.engine.default = Script(pieces=("x",) * 60, delay_s=1.0)
    manager, _ = make_client(host, nursery, book=book)
    async with manager.run(SESSION, prompt=PROMPT) as job:
        async for delta in job:
            if delta.index == 4:
                break
    left = trio.current_time()
    await host.until_idle()
    assert host.engine.stopped_at[0] - left < 1.0
    # 5 pieces, of which the last may be one that was on its way.
    assert purse_of(host).spent == -(-(PROMPT_TOKENS + 5) // 4)
    assert book.outcomes == [], "a client that leaves says nothing about the host"
    assert_idle(host, cancelled=1)


async def test_a_waiting_job_that_is_left_never_reaches_the_engine_and_costs_nothing(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host = make_host(limits=JobLimits(max_concurrent_jobs=1))
    host.engine.default = Script(pieces=("x",) * 10, delay_s=1.0)
    manager, _ = make_client(host, nursery)
    async with manager.run(SESSION, prompt="one") as first:
        async with manager.run(SESSION, prompt="two") as second:
            assert second.queue_position == 1
        await first.read_text()
    await host.until_idle()
    assert len(host.engine.works) == 1
    assert purse_of(host).spent == first.usage.cost_micros
    assert_idle(host, succeeded=1, cancelled=1)


async def test_a_cancelled_caller_cancels_its_job(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host = make_host()
    host.engine.default = Script(delay_s=100.0)
    manager, _ = make_client(host, nursery)
    with trio.move_on_after(5) as scope:
        async with manager.run(SESSION, prompt=PROMPT) as job:
            await job.read_text()
    assert scope.cancelled_caught
    await host.until_idle()
    assert host.engine.stopped_at[0] < 6.0
    assert_idle(host, cancelled=1)


async def test_the_callers_deadline_ends_the_job_on_both_sides(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, book = make_host(), Book()
    host.engine.default = Script(delay_s=100.0)
    manager, _ = make_client(host, nursery, book=book)
    with pytest.raises(DeadlineExceededError):
        async with manager.run(SESSION, prompt=PROMPT, timeout_s=5) as job:
            await job.read_text()
    assert trio.current_time() == pytest.approx(5, abs=0.5)
    await host.until_idle()
    assert book.outcomes == []
    stats = host.server.stats()
    assert stats.outcomes.keys() <= {JobOutcome.EXPIRED, JobOutcome.CANCELLED}, "whichever side saw it first"
    assert sum(stats.outcomes.values()) == 1


async def test_a_job_holds_no_slot_for_ever(autojump_clock: trio.testing.MockClock, nursery: trio.Nursery) -> None:
    host = make_host(limits=JobLimits(max_job_s=30.0))
    host.engine.default = Script(pieces=("x",) * 60, delay_s=1.0)
    manager, _ = make_client(host, nursery)
    with pytest.raises(JobError) as caught:
        async with manager.run(SESSION, prompt=PROMPT) as job:
            await job.read_text()
    assert (caught.value.reason, caught.value.may_have_executed, caught.value.retry_safe) == (
        "JOB_TIME_LIMIT",
        True,
        False,
    )
    assert purse_of(host).spent > 0
    assert_idle(host, expired=1)


# --- the engine fails ---


@pytest.mark.parametrize("after", [0, 2])
async def test_an_engine_that_fails_costs_nothing_and_tells_nothing_of_itself(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, after: int
) -> None:
    host, book = make_host(), Book()
    host.engine.default = Script(fail_after=after, error=EngineError("CUDA at /home/operator failed"))
    manager, wire = make_client(host, nursery, book=book)
    with pytest.raises(JobError) as caught:
        async with manager.run(SESSION, prompt=PROMPT) as job:
            await job.read_text()
    error = caught.value
    assert (error.reason, error.may_have_executed, error.retry_safe) == ("ENGINE_FAILED", True, after == 0)
    assert isinstance(error.__cause__, RpcError), "what came over the wire, for a traceback"
    assert "CUDA" not in error.message
    assert b"CUDA" not in wire.ours[-1].peer.sent
    assert purse_of(host).spent == 0
    assert book.outcomes == [(HOST_KEY.peer_id, False)]
    with pytest.raises(JobError):
        await anext(aiter(job))
    assert len(book.outcomes) == 1
    assert_idle(host, failed=1)


@pytest.mark.parametrize(
    "script",
    [
        Script(finish=False),
        Script(hang_after=1),
        Script(events=()),
        Script(pieces=("x" * 65_537,)),
        Script(pieces=("\ud800",)),
    ],
    ids=["no end", "silent", "nothing", "too long", "no text"],
)
async def test_an_engine_that_breaks_its_promise_has_failed(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, script: Script
) -> None:
    host = make_host(limits=JobLimits(engine_silence_s=20.0))
    host.engine.default = script
    manager, _ = make_client(host, nursery)
    with pytest.raises(JobError) as caught:
        async with manager.run(SESSION, prompt=PROMPT) as job:
            await job.read_text()
    assert caught.value.reason == "ENGINE_FAILED"
    assert trio.current_time() < 21
    assert_idle(host, failed=1)


async def test_an_engine_that_goes_on_is_stopped_at_the_limit(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host = make_host()
    host.engine.default = Script(pieces=("x",) * 60)
    manager, _ = make_client(host, nursery)
    async with manager.run(SESSION, prompt=PROMPT, max_output_tokens=3) as job:
        assert await job.read_text() == "xxx"
    assert job.finish_reason is FinishReason.LENGTH
    assert (job.usage.completion_tokens, host.engine.finished, len(host.engine.stopped_at)) == (3, 0, 1)
    assert_idle(host, succeeded=1)


async def test_an_engine_that_counts_more_than_was_reserved_bears_the_difference(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host = make_host()
    host.engine.default = Script(completion_tokens=10**9)
    manager, _ = make_client(host, nursery)
    async with manager.run(SESSION, prompt=PROMPT, max_output_tokens=5) as job:
        await job.read_text()
    assert (job.usage.prompt_tokens, job.usage.completion_tokens) == (PROMPT_TOKENS, 3), (
        "what no piece shows is not billed"
    )


async def test_a_connection_that_is_lost_counts_against_the_host_once_it_had_accepted(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, book = make_host(), Book()
    host.engine.default = Script(pieces=("x",) * 60, delay_s=1.0)
    manager, wire = make_client(host, nursery, book=book)

    async def read() -> None:
        async with manager.run(SESSION, prompt=PROMPT) as job:
            async for delta in job:
                if delta.index == 3:
                    await wire.ours[-1].peer.reset()

    with pytest.raises(ConnectionLostError) as caught:
        await read()
    assert caught.value.may_have_executed
    assert book.outcomes == [(HOST_KEY.peer_id, False)]
    await host.until_idle()
    assert_idle(host, cancelled=1)


async def test_a_connection_that_is_lost_before_the_host_accepted_does_not_count(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, book = make_host(), Book()
    manager, wire = make_client(host, nursery, book=book)
    offer = await manager.request_quote(HOST_KEY.peer_id, CHAT)
    host.engine.count_delay_s = 10.0

    async def cut() -> None:
        await trio.sleep(1)
        await wire.ours[-1].peer.reset()

    nursery.start_soon(cut)
    with pytest.raises(ConnectionLostError):
        async with manager.run(SESSION, prompt=PROMPT, quote=offer):
            pass
    assert book.outcomes == []
    assert host.engine.works == []


# --- draining ---


async def test_draining_waits_for_accepted_jobs_and_takes_no_new_ones(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, book = make_host(limits=JobLimits(max_concurrent_jobs=1)), Book()
    host.engine.default = Script(pieces=("x",) * 5, delay_s=1.0)
    manager, _ = make_client(host, nursery, book=book)
    offer = await manager.request_quote(HOST_KEY.peer_id, CHAT)

    async def one() -> None:
        async with manager.run(SESSION, prompt=PROMPT) as job:
            await job.read_text()

    async with trio.open_nursery() as jobs:
        jobs.start_soon(one)
        jobs.start_soon(one)
        await host.until_accepted(2)
        jobs.start_soon(host.server.drain, 60.0)
        await host.until(lambda stats: stats.is_draining)
        for quote in (None, offer):
            with pytest.raises(JobError) as caught:
                async with manager.run(SESSION, prompt=PROMPT, quote=quote):
                    pass
            assert (caught.value.reason, caught.value.retry_safe) == ("DRAINING", True)
    assert 12 <= trio.current_time() < 20
    assert book.outcomes == [(HOST_KEY.peer_id, True)] * 2
    assert_idle(host, succeeded=2)


@pytest.mark.parametrize("says_so", [True, False])
async def test_draining_cancels_what_is_left_after_its_time(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, says_so: bool
) -> None:
    host, book = make_host(limits=JobLimits(max_concurrent_jobs=1)), Book()
    host.engine.default = Script(pieces=("x",) * 60, delay_s=1.0)
    manager, _ = make_client(host, nursery, book=book, says_draining=lambda peer_id: says_so)
    errors: list[JobError] = []

    async def one() -> None:
        with pytest.raises(JobError) as caught:
            async with manager.run(SESSION, prompt=PROMPT) as job:
                await job.read_text()
        errors.append(caught.value)

    async with trio.open_nursery() as jobs:
        jobs.start_soon(one)
        jobs.start_soon(one)
        await host.until_accepted(2)
        await host.server.drain(10.0)
        assert trio.current_time() < 11.5
        assert host.engine.running == 0
    assert [error.reason for error in errors] == ["DRAINING"] * 2
    assert purse_of(host).spent == 0
    assert book.outcomes == ([] if says_so else [(HOST_KEY.peer_id, False)] * 2)
    assert_idle(host, drained=2)


# --- what is kept to itself ---


async def test_prompts_and_answers_are_never_logged(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    host = make_host()
    host.engine.scripts = [Script(), Script(fail_after=1, error=EngineError("it broke")), Script(pieces=("\ud800",))]
    manager, _ = make_client(host, nursery)
    async with manager.run(SESSION, prompt=PROMPT) as job:
        await job.read_text()
    for _ in range(2):
        with pytest.raises(JobError):
            async with manager.run(SESSION, prompt=PROMPT) as job:
                await job.read_text()
    with pytest.raises(ParameterError):
        async with manager.run(SESSION, prompt=PROMPT, parameters={"top_k": 1}):
            pass
    logged = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "it broke" in logged
    assert "job ended" in logged
    for word in ("particular", "secret", "Hel", "world"):
        assert word not in logged


async def test_a_job_tells_how_it_stands_and_nothing_of_what_is_said_in_it(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host = make_host()
    host.engine.scripts = [Script(), Script(fail_after=1, error=EngineError("it broke"))]
    manager, _ = make_client(host, nursery)
    told = []
    async with manager.run(SESSION, prompt=PROMPT) as job:
        told.append(repr(job))
        await job.read_text()
        told.append(repr(job))
    with pytest.raises(JobError):
        async with manager.run(SESSION, prompt=PROMPT) as job:
            await job.read_text()
    told.append(repr(job))
    for text, state in zip(told, ("running", "done", "failed"), strict=True):
        assert f", {state}, " in text
        assert HOST_KEY.peer_id in text
        assert "particular" not in text
        assert "Hello" not in text
