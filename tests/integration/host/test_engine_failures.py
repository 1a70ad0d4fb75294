"""What a bad engine can do to a host: end one job with an error, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import trio
from engine_process import RunningEngine

from hostmesh import (
    ChatMessage,
    ChatWork,
    ConfigError,
    ContextExceededError,
    EmbeddingWork,
    EngineError,
    EngineEvent,
    Finished,
    ModelNotReadyError,
    Role,
    TextPiece,
)
from hostmesh_host.engines.describe import open_engine
from hostmesh_host.engines.http import EngineTimeouts

QUICK = EngineTimeouts(connect_s=2, first_event_s=0.3, idle_s=0.3, probe_s=2)
SECRET = "my secret prompt"


def chat(model_id: str, *, most: int = 16) -> ChatWork:
    return ChatWork(model_id=model_id, messages=(ChatMessage(role=Role.USER, content=SECRET),), max_output_tokens=most)


async def run(engine: RunningEngine, model_id: str, *, timeouts: EngineTimeouts | None = None) -> list[EngineEvent]:
    events: list[EngineEvent] = []
    async with (
        open_engine(engine.url, model_ids=[model_id], api_key=engine.key, timeouts=timeouts) as opened,
        opened.generate(chat(model_id)) as stream,
    ):
        events += [event async for event in stream]
    return events


@pytest.mark.parametrize(
    ("model_id", "kind", "words"),
    [
        ("fail-500", EngineError, "HTTP status 500"),
        ("fail-loading", ModelNotReadyError, "loading"),
        ("fail-busy", EngineError, "busy"),
        ("fail-context", ContextExceededError, "longer than"),
        ("fail-midway", EngineError, "broke .* off|ended before"),
        ("fail-event", EngineError, "HTTP status 500"),
        ("fail-old-event", EngineError, "HTTP status 500"),
        ("fail-no-end", EngineError, "ended before its end"),
        ("fail-no-reason", EngineError, "without saying why"),
        ("fail-garbage", EngineError, "no JSON"),
        ("fail-not-utf8", EngineError, "no UTF-8"),
        ("fail-huge-event", EngineError, "more than 262144 bytes"),
        ("fail-endless", EngineError, "far longer"),
        ("fail-overrun", EngineError, "more tokens than"),
        ("fail-redirect", EngineError, "redirects"),
        ("fail-compressed", EngineError, "compressed"),
        ("fail-surrogate", EngineError, "half a character"),
    ],
)
async def test_a_failing_engine_ends_the_job_with_an_error_of_ours(
    recorded: RunningEngine, model_id: str, kind: type[EngineError], words: str
) -> None:
    with pytest.raises(EngineError) as caught:
        await run(recorded, model_id)
    assert type(caught.value) is kind
    assert re.search(words, caught.value.message)
    assert SECRET not in f"{caught.value.message} {caught.value.remedy}"
    assert (await recorded.stats())["stolen"] == 0
    assert len(await run(recorded, "recorded")) > 1  # and the next job runs


async def test_events_before_a_failure_stand(recorded: RunningEngine) -> None:
    seen: list[EngineEvent] = []
    async with (
        open_engine(recorded.url, model_ids=["fail-event"], api_key=recorded.key) as opened,
        opened.generate(chat("fail-event")) as stream,
    ):
        seen += [await anext(stream) for _ in range(3)]
        with pytest.raises(EngineError):
            await anext(stream)
    assert [type(event) for event in seen] == [TextPiece] * 3


@pytest.mark.parametrize("model_id", ["fail-hang", "fail-comments"])
async def test_a_silent_engine_is_given_up_and_its_connection_closed(recorded: RunningEngine, model_id: str) -> None:
    with pytest.raises(EngineError, match=r"silent for 0\.3 s"):
        await run(recorded, model_id, timeouts=QUICK)
    assert (await recorded.stats(wait="cancelled:1"))["cancelled"] == 1


async def test_without_usage_the_engines_tokenizer_counts(recorded: RunningEngine) -> None:
    *pieces, finished = await run(recorded, "fail-no-usage")
    assert isinstance(finished, Finished)
    asked = [{"role": "user", "content": SECRET}]
    template = (await recorded.post("/apply-template", {"messages": asked}))["prompt"]
    counted = await recorded.post("/tokenize", {"content": template})
    assert finished.prompt_tokens == len(counted["tokens"])
    text = "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))
    assert finished.completion_tokens == len((await recorded.post("/tokenize", {"content": text}))["tokens"])


async def test_without_usage_and_tokenizer_the_work_fails(start_recorded: Callable[..., RunningEngine]) -> None:
    engine = start_recorded("--owner", "somebody")
    with pytest.raises(EngineError, match="cannot be counted"):
        await run(engine, "fail-no-usage")


@pytest.mark.parametrize(
    ("model_id", "words"),
    [
        ("fail-vectors", "one vector for each"),
        ("fail-nan", "no JSON"),
        ("fail-huge-vectors", "over 16777216 bytes"),
    ],
)
async def test_bad_vectors_are_refused(recorded: RunningEngine, model_id: str, words: str) -> None:
    async with open_engine(
        recorded.url, model_ids=[model_id], embedding_ids=[model_id], api_key=recorded.key
    ) as opened:
        with pytest.raises(EngineError, match=words):
            async with opened.generate(EmbeddingWork(model_id=model_id, texts=("a", "b"))) as stream:
                [event async for event in stream]


async def test_proxies_of_the_environment_are_ignored(
    recorded: RunningEngine, start_recorded: Callable[..., RunningEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    thief = start_recorded()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, thief.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert len(await run(recorded, "recorded")) > 1
    assert (await thief.stats())["requests"] == 0


@pytest.mark.parametrize("url", ["http://192.0.2.1:80", "http://engine.example", "http://0.0.0.0:1", "http://[::]:1"])
async def test_an_engine_elsewhere_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(ConfigError, match="not on this machine"):
        async with open_engine(url, model_ids=["m"]):
            pass


async def test_an_engine_that_is_not_there_is_said_so(recorded: RunningEngine) -> None:
    assert recorded.process.stdin is not None
    recorded.process.stdin.close()
    recorded.process.wait(timeout=10)
    with pytest.raises(EngineError, match="cannot be reached") as caught:
        await run(recorded, "recorded")
    assert caught.value.remedy


async def test_an_engine_that_dies_is_not_ready_any_more(recorded: RunningEngine) -> None:
    async with open_engine(recorded.url, model_ids=["recorded"], api_key=recorded.key) as opened:
        assert await opened.ready() == {"recorded": True}
        recorded.process.kill()
        recorded.process.wait(timeout=10)
        assert await opened.ready() == {"recorded": False}
        with pytest.raises(EngineError):
            async with opened.generate(chat("recorded")):
                pass


async def test_parameters_reach_the_engine_as_its_family_spells_them(
    start_recorded: Callable[..., RunningEngine],
) -> None:
    work = ChatWork(
        model_id="recorded",
        messages=(
            ChatMessage(role=Role.SYSTEM, content="Be brief."),
            ChatMessage(role=Role.USER, content="Hello"),
        ),
        max_output_tokens=5,
        parameters={"temperature": 0.5, "top_k": 0, "stop": ("END", "\n"), "seed": 7},
    )
    for owner, top_k in (("llamacpp", 0), ("vllm", -1)):
        engine = start_recorded("--owner", owner)
        async with open_engine(engine.url, model_ids=["recorded"]) as opened, opened.generate(work) as stream:
            [event async for event in stream]
        (body,) = (await engine.get("/requests")).json()["requests"]
        assert body["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
        ]
        assert (body["temperature"], body["top_k"], body["seed"]) == (0.5, top_k, 7)
        assert body["stop"] == ["END", "\n"]
        assert body["max_tokens"] == 5
        assert body["stream_options"]["include_usage"] is True


async def test_fifty_at_once_leave_nothing_open(recorded: RunningEngine) -> None:
    done: list[int] = []

    async def one() -> None:
        async with opened.generate(chat("recorded", most=8)) as stream:
            done.append(len([event async for event in stream]))

    async with (
        open_engine(recorded.url, model_ids=["recorded"], api_key=recorded.key) as opened,
        trio.open_nursery() as nursery,
    ):
        for _ in range(50):
            nursery.start_soon(one)
    assert done == [9] * 50
    counts = await recorded.stats(wait="completed:50")
    assert (counts["active"], counts["requests"], counts["completed"]) == (0, 50, 50)
