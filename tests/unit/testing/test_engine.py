"""The fake engine keeps the contract of a real one, at the speed and with the failures that were set."""

from __future__ import annotations

import doctest
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from hostmesh import (
    ChatMessage,
    ChatWork,
    EmbeddingWork,
    Engine,
    EngineEvent,
    Finished,
    FinishReason,
    Role,
    TextPiece,
    Vector,
    Work,
)
from hostmesh.errors import ConfigError, ContextExceededError, EngineError, ModelNotReadyError
from hostmesh.testing import engine as engine_module
from hostmesh.testing import engine_faults, engine_plan, engine_text
from hostmesh.testing.engine import (
    DiesAfter,
    EndsAfter,
    EngineFault,
    FailsAfter,
    FailsToLoad,
    FakeEngine,
    HangsAfter,
    JobEnding,
    LiesAboutUsage,
    Says,
    chat_model,
    embedding_model,
    prompt_tokens,
)
from hostmesh.testing.engine_text import count_tokens, split_tokens

MODELS = (chat_model(), embedding_model())


def chat(
    text: str = "why is the sky blue?", *, limit: int = 512, model: str = "fake-chat", **settings: Any
) -> ChatWork:
    messages = (ChatMessage(role=Role.USER, content=text),)
    return ChatWork(model_id=model, messages=messages, max_output_tokens=limit, parameters=settings)


def embed(*texts: str) -> EmbeddingWork:
    return EmbeddingWork(model_id="fake-embedding", texts=texts or ("one text",))


async def run(engine: Engine, work: Work) -> list[EngineEvent]:
    async with engine.generate(work) as events:
        return [event async for event in events]


def text_of(events: list[EngineEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextPiece))


async def timed(engine: FakeEngine, work: Work) -> tuple[list[float], list[EngineEvent]]:
    """Return when each event came, from the start."""
    began, times, said = trio.current_time(), [], []
    async with engine.generate(work) as events:
        async for event in events:
            times.append(trio.current_time() - began)
            said.append(event)
    return times, said


@pytest.mark.parametrize("module", [engine_module, engine_faults, engine_plan, engine_text], ids=lambda m: m.__name__)
def test_docstring_examples(module: Any) -> None:
    failed, attempted = doctest.testmod(module)
    assert attempted > 0
    assert failed == 0


# --- what it says ---


async def test_the_same_work_has_the_same_answer_in_every_engine() -> None:
    first, second = await run(FakeEngine(), chat()), await run(FakeEngine(tokens_per_s=1e9), chat())
    assert first == second
    assert text_of(first) != text_of(await run(FakeEngine(), chat("another question")))
    assert text_of(first) != text_of(await run(FakeEngine(), chat(seed=1)))


async def test_usage_is_what_was_said() -> None:
    said = await run(FakeEngine(), chat("three more words"))
    pieces, end = said[:-1], said[-1]
    assert isinstance(end, Finished)
    assert end.prompt_tokens == 5
    assert end.completion_tokens == len(pieces) == count_tokens(text_of(said))
    assert [piece.completion_tokens for piece in pieces if isinstance(piece, TextPiece)] == [*range(1, len(pieces) + 1)]
    assert end.finish_reason is FinishReason.STOP


async def test_a_limit_cuts_the_answer_and_says_so() -> None:
    whole = text_of(await run(FakeEngine(), chat()))
    said = await run(FakeEngine(), chat(limit=4))
    assert whole.startswith(text_of(said))
    assert said[-1] == Finished(prompt_tokens=7, completion_tokens=4, finish_reason=FinishReason.LENGTH)


@pytest.mark.parametrize(
    "model", [chat_model(max_output_tokens=3), chat_model(context_tokens=10, max_output_tokens=None)]
)
async def test_model_and_context_bound_the_answer(model: Any) -> None:
    said = await run(FakeEngine([model]), chat())
    assert said[-1] == Finished(prompt_tokens=7, completion_tokens=3, finish_reason=FinishReason.LENGTH)


async def test_a_stop_text_ends_the_answer_before_itself() -> None:
    engine = FakeEngine(answer=lambda work: "one two, three END four")
    said = await run(engine, chat(stop=("END", "three")))
    assert text_of(said) == "one two, "
    assert said[-1] == Finished(prompt_tokens=7, completion_tokens=3, finish_reason=FinishReason.STOP)


async def test_a_stop_text_beyond_the_limit_is_never_reached() -> None:
    engine = FakeEngine(answer=lambda work: "one two three END")
    said = await run(engine, chat(limit=2, stop=("END",)))
    assert text_of(said) == "one two"
    assert said[-1] == Finished(prompt_tokens=7, completion_tokens=2, finish_reason=FinishReason.LENGTH)


async def test_vectors_come_in_order_with_length_one() -> None:
    said = await run(FakeEngine(MODELS, dimensions=5), embed("first text", "second", "first text"))
    vectors = [event for event in said if isinstance(event, Vector)]
    assert [vector.index for vector in vectors] == [0, 1, 2]
    assert vectors[0].values == vectors[2].values != vectors[1].values
    for vector in vectors:
        assert len(vector.values) == 5
        assert math.isclose(math.hypot(*vector.values), 1)
    assert said[-1] == Finished(prompt_tokens=5, completion_tokens=0, finish_reason=FinishReason.STOP)


@given(st.text())
def test_the_tokens_of_a_text_are_the_text(text: str) -> None:
    assert "".join(split_tokens(text)) == text
    assert all(len(token.encode("utf-8", "surrogatepass")) <= 65_536 for token in split_tokens(text))


async def test_prompts_are_counted_beforehand_as_at_the_end() -> None:
    engine = FakeEngine(MODELS)
    for work in (chat(), embed("a b", "c")):
        end = (await run(engine, work))[-1]
        assert isinstance(end, Finished)
        assert await engine.count_prompt_tokens(work) == end.prompt_tokens == prompt_tokens(work)
    assert await FakeEngine(counts_prompts=False).count_prompt_tokens(chat()) is None


# --- time ---


async def test_tokens_come_at_the_set_speed_without_drift(autojump_clock: Any) -> None:
    engine = FakeEngine(first_token_s=0.5, tokens_per_s=20, answer=lambda work: "a b c d")
    times, _ = await timed(engine, chat())
    assert times == pytest.approx([0.5, 0.55, 0.6, 0.65, 0.65])


async def test_a_slow_reader_does_not_slow_the_engine(autojump_clock: Any) -> None:
    engine = FakeEngine(first_token_s=1, tokens_per_s=1, answer=lambda work: "a b c d")
    times = []
    async with engine.generate(chat()) as events:
        async for _ in events:
            times.append(trio.current_time())
            if len(times) == 1:
                await trio.sleep(2.5)
    assert [time - times[0] for time in times] == pytest.approx([0, 2.5, 2.5, 3, 3])


async def test_two_jobs_run_at_once_and_keep_the_speed_they_began_with(autojump_clock: Any) -> None:
    engine = FakeEngine(first_token_s=1, answer=lambda work: "a")
    ends: list[float] = []

    async def one() -> None:
        await run(engine, chat())
        ends.append(trio.current_time())

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        await engine.wait_until(lambda counts: counts.running == 1)
        engine.first_token_s = 7
        nursery.start_soon(one)
    assert [end - began for end in ends] == pytest.approx([1, 7])
    assert engine.counts.most_running == 2


async def test_loading_takes_its_time(autojump_clock: Any) -> None:
    engine = FakeEngine(MODELS, load_s=3)
    assert await engine.ready() == {"fake-chat": False, "fake-embedding": False}
    for ask in (run(engine, chat()), engine.count_prompt_tokens(chat())):
        with pytest.raises(ModelNotReadyError):
            await ask
    await trio.sleep(3)
    assert await engine.ready() == {"fake-chat": True, "fake-embedding": True}
    assert (await run(engine, chat(limit=1)))[-1] is not None
    assert (engine.counts.started, engine.counts.refused) == (1, 1)


# --- failures ---


async def test_a_model_that_fails_to_load_leaves_the_others() -> None:
    engine = FakeEngine(MODELS, fault=FailsToLoad(model_ids=frozenset({"fake-chat"})))
    assert await engine.ready() == {"fake-chat": False, "fake-embedding": True}
    with pytest.raises(ModelNotReadyError):
        await run(engine, chat())
    assert isinstance((await run(engine, embed()))[-1], Finished)
    engine.fault = FailsToLoad()
    assert await engine.ready() == {"fake-chat": False, "fake-embedding": False}


async def collect_until_error(engine: FakeEngine, work: Work) -> list[EngineEvent]:
    said: list[EngineEvent] = []

    async def collect() -> None:
        async with engine.generate(work) as events:
            async for event in events:
                said.append(event)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(EngineError):
        await collect()
    return said


@pytest.mark.parametrize("tokens", [0, 2, 4])
@pytest.mark.parametrize("make", [FailsAfter, DiesAfter])
async def test_it_fails_after_exactly_so_many_tokens(make: Callable[[int], EngineFault], tokens: int) -> None:
    engine = FakeEngine(fault=make(tokens), answer=lambda work: "a b c d")
    assert len(await collect_until_error(engine, chat())) == tokens
    assert engine.jobs[-1].ending is JobEnding.FAILED
    assert engine.jobs[-1].tokens == engine.counts.tokens == tokens
    assert engine.is_dead is (make is DiesAfter)


async def test_a_fault_beyond_the_answer_never_comes() -> None:
    engine = FakeEngine(fault=FailsAfter(5), answer=lambda work: "a b c d")
    assert isinstance((await run(engine, chat()))[-1], Finished)


async def test_a_failure_midway_in_vectors() -> None:
    engine = FakeEngine(MODELS, fault=FailsAfter(1))
    assert len(await collect_until_error(engine, embed("a", "b"))) == 1


async def test_a_hung_job_ends_when_it_is_left(autojump_clock: Any) -> None:
    engine = FakeEngine(fault=HangsAfter(2), answer=lambda work: "a b c d")
    said = []
    with trio.move_on_after(3600) as scope:
        async with engine.generate(chat()) as events:
            async for event in events:
                said.append(event)  # noqa: PERF401
    assert scope.cancelled_caught
    assert text_of(said) == "a b"
    assert engine.counts.cancelled == 1
    assert engine.counts.running == 0


async def test_death_takes_every_job_and_a_revival_loads_again(autojump_clock: Any) -> None:
    engine = FakeEngine(first_token_s=10, tokens_per_s=1, load_s=2, answer=lambda work: "a b c d")
    await engine.ready()
    await trio.sleep(2)
    engine.fail_next(HangsAfter(0), None, DiesAfter(1))
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(collect_until_error, engine, chat())
    assert trio.current_time() - began == pytest.approx(10)
    assert engine.counts.failed == 3
    assert await engine.ready() == {"fake-chat": False}
    engine.revive()
    assert not (await engine.ready())["fake-chat"]
    await trio.sleep(2)
    assert isinstance((await run(engine, chat()))[-1], Finished)


async def test_an_end_without_usage_is_a_failure() -> None:
    engine = FakeEngine(fault=EndsAfter(2), answer=lambda work: "a b c d")
    assert text_of(await run(engine, chat())) == "a b"
    assert engine.counts.failed == 1


async def test_a_lie_is_in_the_usage_alone() -> None:
    engine = FakeEngine(answer=lambda work: "a b")
    honest = await run(engine, chat())
    engine.fail_next(LiesAboutUsage(extra_prompt_tokens=10, extra_completion_tokens=-1))
    lie = await run(engine, chat())
    assert lie[:-1] == honest[:-1]
    assert lie[-1] == Finished(prompt_tokens=17, completion_tokens=1, finish_reason=FinishReason.STOP)
    assert await run(engine, chat()) == honest
    assert engine.counts.tokens == 6


async def test_it_says_what_it_is_told() -> None:
    events = (Vector(index=3, values=(math.nan,)), TextPiece(text=""))
    assert await run(FakeEngine(fault=Says(events)), chat()) == [*events]


async def test_input_that_does_not_fit_is_refused() -> None:
    engine = FakeEngine([chat_model(context_tokens=4), embedding_model(context_tokens=2)])
    with pytest.raises(ContextExceededError) as refused:
        await run(engine, chat("two words"))
    assert (refused.value.context_tokens, refused.value.input_tokens) == (4, 4)
    assert len(await run(engine, chat("one"))) == 2
    with pytest.raises(ContextExceededError):
        await run(engine, embed("a b c"))
    with pytest.raises(ModelNotReadyError):
        await run(engine, chat(model="unknown"))
    with pytest.raises(EngineError, match="embedding"):
        await run(engine, chat(model="fake-embedding"))
    assert (engine.counts.refused, engine.counts.started) == (4, 1)


# --- counts ---


async def test_a_job_that_is_left_counts_as_cancelled_and_the_bodys_error_leaves_as_it_is() -> None:
    engine = FakeEngine()

    async def leave(how: Callable[[AsyncIterator[EngineEvent]], Any]) -> None:
        block: AbstractAsyncContextManager[AsyncIterator[EngineEvent]] = engine.generate(chat())
        async with block as events:
            await how(events)

    async def first_only(events: AsyncIterator[EngineEvent]) -> None:
        await anext(events)

    async def fail(events: AsyncIterator[EngineEvent]) -> None:
        raise ZeroDivisionError

    await leave(first_only)
    with pytest.raises(ZeroDivisionError):
        await leave(fail)
    assert (engine.counts.cancelled, engine.counts.failed, engine.counts.running) == (2, 0, 0)
    assert [job.tokens for job in engine.jobs] == [1, 0]


async def test_the_counts_add_up_and_the_newest_jobs_are_kept() -> None:
    engine = FakeEngine(max_kept_jobs=2)
    engine.fail_next(None, FailsAfter(0), EndsAfter(1))
    for _ in range(4):
        async with engine.generate(chat(limit=2)) as events:
            try:
                async for _event in events:
                    pass
            except EngineError:
                pass
    counts = engine.counts
    assert counts.started == counts.running + counts.finished + counts.failed + counts.cancelled == 4
    assert (counts.finished, counts.failed) == (2, 2)
    assert [(job.number, job.ending) for job in engine.jobs] == [(3, JobEnding.FAILED), (4, JobEnding.FINISHED)]


async def test_waiting_for_counts(autojump_clock: Any) -> None:
    engine = FakeEngine(first_token_s=60)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, engine, chat(limit=1))
        began = trio.current_time()
        counts = await engine.wait_until(lambda counts: counts.finished == 1)
        assert trio.current_time() - began == pytest.approx(60)
        assert counts.tokens == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"models": ["m", "m"]},
        {"first_token_s": -1},
        {"first_token_s": math.nan},
        {"tokens_per_s": 0},
        {"load_s": -1},
        {"dimensions": 0},
        {"max_kept_jobs": 0},
    ],
)
def test_wrong_settings_are_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        FakeEngine(**settings)
    assert refused.value.name in settings
    assert refused.value.remedy
    with pytest.raises(ConfigError):
        FailsAfter(-1)
