"""What an engine behind the adapter does: one suite, against a real llama.cpp server and against the test engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
import trio
from engine_process import RunningEngine

from hostmesh import (
    ChatMessage,
    ChatWork,
    ContextExceededError,
    EngineError,
    EngineEvent,
    Finished,
    FinishReason,
    ModelKind,
    ModelNotReadyError,
    Role,
    TextPiece,
)
from hostmesh_host.engines.describe import open_engine
from hostmesh_host.engines.openai import OpenAIEngine

PROMPTS = ("What is a peer?", "Count from one to five.", "Schreibe ein Wort mit Umlaut. \U0001f600")
LONG_ANSWER = "Write a very long story about a fox, a raven and the sea. Do not stop."


@pytest.fixture(params=["llama", "recorded"])
def engine(request: pytest.FixtureRequest) -> RunningEngine:
    return request.getfixturevalue(request.param)


@asynccontextmanager
async def adapter(engine: RunningEngine, *, model_id: str | None = None) -> AsyncIterator[OpenAIEngine]:
    async with open_engine(engine.url, model_ids=[model_id or engine.chat_model], api_key=engine.key) as opened:
        yield opened


def work(model_id: str, prompt: str, *, most: int = 16, **parameters: Any) -> ChatWork:
    return ChatWork(
        model_id=model_id,
        messages=(ChatMessage(role=Role.USER, content=prompt),),
        max_output_tokens=most,
        parameters={"temperature": 0.0, **parameters},
    )


async def collect(opened: OpenAIEngine, wanted: ChatWork) -> tuple[list[TextPiece], Finished]:
    events: list[EngineEvent] = []
    async with opened.generate(wanted) as stream:
        events += [event async for event in stream]
    *pieces, last = events
    assert isinstance(last, Finished)
    assert all(isinstance(piece, TextPiece) for piece in pieces)
    return pieces, last  # type: ignore[return-value]


async def test_models_are_described_as_the_engine_runs_them(engine: RunningEngine) -> None:
    async with adapter(engine) as opened:
        (model,) = opened.models()
        assert await opened.ready() == {engine.chat_model: True}
    assert model.model_id == engine.chat_model
    assert model.kind is ModelKind.CHAT
    assert model.context_tokens == 2048
    assert model.quantisation == "Q4_1"
    assert model.engine.startswith("llama.cpp")
    assert "top_k" in model.parameters


@pytest.mark.parametrize("prompt", PROMPTS)
async def test_a_streamed_answer_is_what_the_engine_says_when_asked_directly(
    engine: RunningEngine, prompt: str
) -> None:
    direct = await engine.post(
        "/v1/chat/completions",
        {
            "model": engine.chat_model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": 16,
            "temperature": 0,
        },
    )
    async with adapter(engine) as opened:
        pieces, finished = await collect(opened, work(engine.chat_model, prompt))
        counted = await opened.count_prompt_tokens(work(engine.chat_model, prompt))
    assert "".join(piece.text for piece in pieces) == direct["choices"][0]["message"]["content"]
    assert finished.prompt_tokens == direct["usage"]["prompt_tokens"] == counted
    assert finished.completion_tokens == direct["usage"]["completion_tokens"]
    assert finished.finish_reason.value == direct["choices"][0]["finish_reason"]
    assert len(pieces) > 1


async def test_the_openai_client_sees_the_same_answer(engine: RunningEngine) -> None:
    def ask() -> list[Any]:
        with openai.OpenAI(base_url=f"{engine.url}/v1", api_key=engine.key or "none", max_retries=3) as client:
            stream = client.chat.completions.create(
                model=engine.chat_model,
                messages=[{"role": "user", "content": PROMPTS[0]}],
                max_tokens=16,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
            return list(stream)

    chunks = await trio.to_thread.run_sync(ask)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    usage = chunks[-1].usage
    assert usage is not None
    async with adapter(engine) as opened:
        pieces, finished = await collect(opened, work(engine.chat_model, PROMPTS[0]))
    assert "".join(piece.text for piece in pieces) == said
    assert (finished.prompt_tokens, finished.completion_tokens) == (usage.prompt_tokens, usage.completion_tokens)


async def test_pieces_count_the_tokens_so_far(engine: RunningEngine) -> None:
    async with adapter(engine) as opened:
        pieces, finished = await collect(opened, work(engine.chat_model, PROMPTS[0], most=8))
    assert [piece.completion_tokens for piece in pieces] == list(range(1, 9))
    assert finished.completion_tokens == 8
    assert finished.finish_reason is FinishReason.LENGTH


async def test_a_prompt_over_the_context_is_refused_with_the_numbers(engine: RunningEngine) -> None:
    async with adapter(engine) as opened:
        with pytest.raises(ContextExceededError) as caught:
            await collect(opened, work(engine.chat_model, "word " * 3000))
        assert caught.value.context_tokens == 2048
        assert caught.value.input_tokens is not None
        assert caught.value.input_tokens > 3000
        assert "word" not in caught.value.message
        await collect(opened, work(engine.chat_model, PROMPTS[0], most=2))  # the engine goes on


async def test_cancellation_stops_the_engine_within_a_second(engine: RunningEngine) -> None:
    model_id = "recorded-slow" if engine.name == "recorded" else engine.chat_model
    async with adapter(engine, model_id=model_id) as opened:
        with trio.CancelScope() as scope:
            async with opened.generate(work(model_id, LONG_ANSWER, most=1500)) as stream:
                async for _ in stream:
                    assert await engine.active() == 1
                    scope.cancel()
        assert scope.cancelled_caught
        with trio.fail_after(1):
            await engine.until_idle()


async def test_leaving_the_block_stops_the_engine_within_a_second(engine: RunningEngine) -> None:
    model_id = "recorded-slow" if engine.name == "recorded" else engine.chat_model
    async with adapter(engine, model_id=model_id) as opened:
        async with opened.generate(work(model_id, LONG_ANSWER, most=1500)) as stream:
            assert isinstance(await anext(stream), TextPiece)
        with trio.fail_after(1):
            await engine.until_idle()


async def test_jobs_side_by_side_each_end_once(engine: RunningEngine) -> None:
    ends: list[Finished] = []

    async def one(number: int) -> None:
        _, finished = await collect(opened, work(engine.chat_model, f"Say the number {number}.", most=4))
        ends.append(finished)

    async with adapter(engine) as opened, trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(one, number)
    assert len(ends) == 8


async def test_a_wrong_key_is_said_so(engine: RunningEngine) -> None:
    with pytest.raises(EngineError, match="refuses the key"):
        async with open_engine(engine.url, model_ids=[engine.chat_model], api_key="wrong"):
            pass


async def test_a_model_that_the_engine_lacks_is_refused(engine: RunningEngine) -> None:
    with pytest.raises(ModelNotReadyError, match="no-such-model"):
        async with open_engine(engine.url, model_ids=["no-such-model"], api_key=engine.key):
            pass
    async with adapter(engine) as opened:
        # llama.cpp would answer for any name.
        with pytest.raises(ModelNotReadyError):
            async with opened.generate(work("no-such-model", "x")):
                pass
