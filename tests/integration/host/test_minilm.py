"""The embedding engine: what its vectors mean, and what it refuses."""

from __future__ import annotations

import math
import socket
from urllib.parse import urlsplit

import httpx
import openai
import pytest
import trio
from engine_process import RunningEngine

from hostmesh import ContextExceededError, EmbeddingWork, Finished, ModelKind, Vector
from hostmesh_host.engines.describe import open_engine

MODEL = "all-minilm-l6-v2"
CAT, KITTEN, BANK = "A cat sits on the mat.", "A kitten rests on the rug.", "The bank raised its interest rates."


async def embed(minilm: RunningEngine, *texts: str) -> tuple[list[tuple[float, ...]], Finished]:
    async with (
        open_engine(minilm.url, model_ids=[MODEL], api_key=minilm.key) as engine,
        engine.generate(EmbeddingWork(model_id=MODEL, texts=texts)) as stream,
    ):
        *vectors, last = [event async for event in stream]
    assert isinstance(last, Finished)
    assert [vector.index for vector in vectors if isinstance(vector, Vector)] == list(range(len(texts)))
    return [vector.values for vector in vectors if isinstance(vector, Vector)], last


def cosine(left: tuple[float, ...], right: tuple[float, ...]) -> float:
    return (
        math.sumprod(left, right) if hasattr(math, "sumprod") else sum(a * b for a, b in zip(left, right, strict=True))
    )


async def test_the_model_is_described(minilm: RunningEngine) -> None:
    async with open_engine(minilm.url, model_ids=[MODEL], api_key=minilm.key) as engine:
        (model,) = engine.models()
        assert await engine.ready() == {MODEL: True}
    assert (model.kind, model.context_tokens, model.quantisation) == (ModelKind.EMBEDDING, 256, "int8")
    assert model.parameters == frozenset()


async def test_related_texts_are_near_and_others_far(minilm: RunningEngine) -> None:
    (cat, kitten, bank), finished = await embed(minilm, CAT, KITTEN, BANK)
    assert {len(vector) for vector in (cat, kitten, bank)} == {384}
    assert all(abs(cosine(vector, vector) - 1) < 1e-4 for vector in (cat, kitten, bank))
    assert cosine(cat, kitten) > 0.5
    assert cosine(cat, bank) < 0.2
    assert finished.completion_tokens == 0


async def test_a_text_has_one_vector_whatever_its_neighbours(minilm: RunningEngine) -> None:
    (alone,), _ = await embed(minilm, CAT)
    among, finished = await embed(minilm, *([BANK, CAT] * 20))
    assert set(among[1::2]) == {alone}
    one, _ = await embed(minilm, BANK)
    assert set(among[::2]) == set(one)
    assert finished.prompt_tokens == 20 * (
        len(CAT.split()) + 3 + len(BANK.split()) + 3
    )  # words, full stop, [CLS], [SEP]


async def test_the_openai_client_gets_the_same_vectors(minilm: RunningEngine) -> None:
    def ask() -> list[list[float]]:
        assert minilm.key is not None
        with openai.OpenAI(base_url=f"{minilm.url}/v1", api_key=minilm.key) as client:
            answer = client.embeddings.create(model=MODEL, input=[CAT, BANK])  # as base64, its default
            return [item.embedding for item in answer.data]

    theirs = await trio.to_thread.run_sync(ask)
    ours, _ = await embed(minilm, CAT, BANK)
    for left, right in zip(theirs, ours, strict=True):
        assert left == pytest.approx(right, abs=1e-6)


async def test_tokens_are_counted_before_as_after(minilm: RunningEngine) -> None:
    work = EmbeddingWork(model_id=MODEL, texts=(CAT, "Grüße aus 東京", ""))
    async with open_engine(minilm.url, model_ids=[MODEL], api_key=minilm.key) as engine:
        before = await engine.count_prompt_tokens(work)
        async with engine.generate(work) as stream:
            last = [event async for event in stream][-1]
    assert isinstance(last, Finished)
    assert last.prompt_tokens == before


async def test_a_text_over_the_context_is_refused_and_not_cut_off(minilm: RunningEngine) -> None:
    fits = "word " * 254
    await embed(minilm, fits)
    with pytest.raises(ContextExceededError) as caught:
        await embed(minilm, fits + "word")
    assert (caught.value.context_tokens, caught.value.input_tokens) == (256, 257)


@pytest.mark.parametrize(
    ("request_body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b"[" * 100_000, 400),
        (b'{"model": "all-minilm-l6-v2"}', 400),
        (b'{"model": "all-minilm-l6-v2", "input": []}', 400),
        (b'{"model": "all-minilm-l6-v2", "input": [1]}', 400),
        (b'{"model": "all-minilm-l6-v2", "input": "\\ud800"}', 400),
        (b'{"model": "all-minilm-l6-v2", "input": "x", "encoding_format": "hex"}', 400),
        (b'{"model": "other", "input": "x"}', 404),
    ],
)
async def test_bad_requests_are_answered(minilm: RunningEngine, request_body: bytes, status: int) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{minilm.url}/v1/embeddings", content=request_body, headers=minilm.headers)
        assert answer.status_code == status
        assert answer.json()["error"]["code"] == status


async def test_strangers_get_nothing(minilm: RunningEngine) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer \xe4"}):
            encoded = {name: value.encode("latin-1") for name, value in headers.items()}
            answer = await client.post(
                f"{minilm.url}/v1/embeddings", json={"model": MODEL, "input": "x"}, headers=encoded
            )
            assert answer.status_code == 401
        assert (await client.get(f"{minilm.url}/health")).status_code == 200


async def test_a_body_over_its_bound_is_refused_unread(minilm: RunningEngine) -> None:
    parts = urlsplit(minilm.url)
    stream = await trio.open_tcp_stream("127.0.0.1", parts.port or 0)
    async with stream:
        await stream.send_all(
            f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {minilm.key}\r\n"
            f"Content-Length: {10**9}\r\n\r\n".encode()
        )
        assert b" 413 " in await stream.receive_some()


async def test_connections_are_bounded(minilm: RunningEngine) -> None:
    """Those over the bound are hung up on; the engine goes on."""
    parts = urlsplit(minilm.url)
    idle = [socket.create_connection(("127.0.0.1", parts.port or 0)) for _ in range(33)]
    try:
        over = trio.SocketStream(trio.socket.from_stdlib_socket(_nonblocking(idle.pop())))
        async with over:
            with trio.fail_after(5):
                assert await over.receive_some() == b""
    finally:
        for connection in idle:
            connection.close()
    with trio.fail_after(5):
        while not await is_served(minilm):
            await trio.lowlevel.checkpoint()


async def is_served(minilm: RunningEngine) -> bool:
    try:
        return (await minilm.get("/health")).status_code == 200
    except httpx.RemoteProtocolError:  # hung up on: the threads of those who left end in their own time
        return False


def _nonblocking(connection: socket.socket) -> socket.socket:
    connection.setblocking(False)
    return connection


async def test_a_client_that_leaves_stops_the_work(minilm: RunningEngine) -> None:
    """512 long texts take a minute and more; who asks next is served at once when the first has left."""
    texts = ("word " * 250,) * 256
    async with open_engine(minilm.url, model_ids=[MODEL], api_key=minilm.key) as engine:
        async with engine.generate(EmbeddingWork(model_id=MODEL, texts=texts)) as stream:
            assert isinstance(await anext(stream), Vector)
        with trio.CancelScope() as scope:
            async with engine.generate(EmbeddingWork(model_id=MODEL, texts=texts)) as stream:
                assert isinstance(await anext(stream), Vector)
                scope.cancel()
                await anext(stream)
        with trio.fail_after(1):
            async with engine.generate(EmbeddingWork(model_id=MODEL, texts=(CAT,))) as stream:
                assert isinstance(await anext(stream), Vector)
