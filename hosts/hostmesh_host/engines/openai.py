"""The adapter: any OpenAI-compatible engine as a hostmesh engine.

Participants: this host and one engine (llama.cpp's server, vLLM, Ollama, or one of our own children). Requests are
``POST /v1/chat/completions`` (streamed) and ``POST /v1/embeddings``; ``/v1/models``, ``/health`` and ``/tokenize`` are
asked where the engine's family has them. Tokens are counted by the engine's tokenizer: from its usage, else by asking
``/tokenize``; an engine that offers neither cannot be billed, so its work fails.

Bounds: an event 256 KiB; a chat's stream 1 MiB and 4 KiB for each token asked; any other answer 16 MiB.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from hostmesh import (
    ChatWork,
    EmbeddingWork,
    EngineEvent,
    Finished,
    FinishReason,
    ModelInfo,
    Vector,
    Work,
)
from hostmesh.errors import EngineError, ModelNotReadyError
from hostmesh_host.engines.answers import ChatReader, TokenUsage, read_token_count, read_usage, read_vectors
from hostmesh_host.engines.dialect import Dialect, chat_body, chat_messages, embedding_body
from hostmesh_host.engines.http import ByteStream, EngineHttp
from hostmesh_host.engines.listing import read_models
from hostmesh_host.engines.sse import SseDecoder

TEXTS_PER_REQUEST = 16
"""Texts embedded by one request: small, so that vectors flow and a cancelled job wastes little."""
_STREAM_BASE_BYTES = 1024 * 1024
_STREAM_BYTES_PER_TOKEN = 4096


class OpenAIEngine:
    """An :class:`hostmesh.Engine` behind HTTP.

    Args:
        http: the way to the engine.
        models: what it serves, as :func:`hostmesh_host.engines.describe.describe` found.
        dialect: its family.
    """

    def __init__(self, *, http: EngineHttp, models: Iterable[ModelInfo], dialect: Dialect) -> None:
        self._http = http
        self._models = {model.model_id: model for model in models}
        self._dialect = dialect

    @property
    def dialect(self) -> Dialect:
        """The engine's family."""
        return self._dialect

    def models(self) -> tuple[ModelInfo, ...]:
        """Return the models."""
        return tuple(self._models.values())

    async def ready(self) -> Mapping[str, bool]:
        """Ask the engine which of the models it lists now. Cancellation: safe."""
        listed: frozenset[str] = frozenset()
        try:
            if self._dialect.has_health:
                await self._http.ask("/health")
            listed = frozenset(model.model_id for model in read_models(await self._http.ask("/v1/models")))
        except EngineError:
            listed = frozenset()
        return {model_id: model_id in listed for model_id in self._models}

    @asynccontextmanager
    async def generate(self, work: Work) -> AsyncIterator[AsyncIterator[EngineEvent]]:
        """Start the work and yield its events; leaving the block closes the engine's connection.

        Raises:
            EngineError: see :class:`hostmesh.Engine`.

        Cancellation: safe; the engine sees its connection close.
        """
        model = self._model(work.model_id)
        if isinstance(work, EmbeddingWork):
            events = _EmbeddingEvents(self, model, work)
            try:
                yield events
            finally:
                events.close()
            return
        async with AsyncExitStack() as stack:
            with trio.move_on_after(self.first_event_s) as opening:
                stream = await stack.enter_async_context(
                    self._http.open("/v1/chat/completions", chat_body(work, self._dialect), model=model)
                )
            if opening.cancelled_caught:
                raise _silent(self.first_event_s)
            yield _ChatEvents(self, stream, model, work)

    async def count_prompt_tokens(self, work: Work) -> int | None:
        """Count the input's tokens by the engine's tokenizer; None = it has none. Cancellation: safe."""
        model = self._model(work.model_id)
        if isinstance(work, EmbeddingWork):
            return await self._count_texts(work.texts, model)
        if self._dialect is Dialect.LLAMA_CPP:
            templated = await self._http.ask("/apply-template", {"messages": chat_messages(work)}, model=model)
            prompt = templated.get("prompt")
            if not isinstance(prompt, str):
                raise EngineError("the engine's template gave no prompt")
            return await self._count({"content": prompt, "add_special": True, "parse_special": True}, model)
        if self._dialect is Dialect.VLLM:
            return await self._count({"model": model.model_id, "messages": chat_messages(work)}, model)
        return None

    async def count_text_tokens(self, text: str, model: ModelInfo) -> int | None:
        """Count the tokens of a generated text; None = the engine has no tokenizer. Cancellation: safe."""
        if self._dialect is Dialect.VLLM:
            body: dict[str, object] = {"model": model.model_id, "prompt": text, "add_special_tokens": False}
            return await self._count(body, model)
        if self._dialect.has_tokenizer:
            return await self._count({"content": text, "add_special": False, "parse_special": True}, model)
        return None

    async def embed(self, texts: tuple[str, ...], model: ModelInfo) -> tuple[list[tuple[float, ...]], int]:
        """Return the vectors of some texts, and how many tokens they had. Cancellation: safe."""
        document = await self._http.ask(
            "/v1/embeddings",
            embedding_body(model.model_id, texts),
            timeout_s=self._http.timeouts.first_event_s,
            model=model,
        )
        vectors = read_vectors(document, expected=len(texts))
        usage = read_usage(document.get("usage"))
        tokens = await self._count_texts(texts, model) if usage is None else usage.prompt_tokens
        if tokens is None:
            raise _uncounted()
        return vectors, tokens

    async def _count_texts(self, texts: tuple[str, ...], model: ModelInfo) -> int | None:
        if not self._dialect.has_tokenizer:
            return None
        total = 0
        for text in texts:
            if self._dialect is Dialect.VLLM:
                total += await self._count({"model": model.model_id, "prompt": text}, model)
            else:
                total += await self._count({"content": text, "add_special": True}, model)
        return total

    async def _count(self, body: Mapping[str, object], model: ModelInfo) -> int:
        return read_token_count(await self._http.ask("/tokenize", body, model=model))

    def _model(self, model_id: str) -> ModelInfo:
        try:
            return self._models[model_id]
        except KeyError:
            # llama.cpp answers for any model name, with whatever it has loaded.
            raise ModelNotReadyError(f"this engine does not serve {model_id!r}") from None

    @property
    def idle_s(self) -> float:
        """Most seconds between two events."""
        return self._http.timeouts.idle_s

    @property
    def first_event_s(self) -> float:
        """Most seconds until the first event."""
        return self._http.timeouts.first_event_s


class _ChatEvents:
    """The events of one chat."""

    def __init__(self, engine: OpenAIEngine, stream: ByteStream, model: ModelInfo, work: ChatWork) -> None:
        self._engine = engine
        self._stream = stream
        self._model = model
        self._work = work
        self._decoder = SseDecoder()
        self._reader = ChatReader(model=model, max_output_tokens=work.max_output_tokens)
        self._waiting: list[EngineEvent] = []
        self._answer: list[str] = []
        self._bytes_left = _STREAM_BASE_BYTES + _STREAM_BYTES_PER_TOKEN * work.max_output_tokens
        self._timeout_s = engine.first_event_s
        self._has_ended = False
        self._failure: EngineError | None = None

    def __aiter__(self) -> _ChatEvents:
        return self

    async def __anext__(self) -> EngineEvent:
        if not self._waiting:
            if self._has_ended:
                raise StopAsyncIteration
            await self._fill()
        else:
            await trio.lowlevel.checkpoint()
        return self._waiting.pop(0)

    async def _fill(self) -> None:
        """Read on until there is something to hand out; the last thing is :class:`Finished`."""
        if self._failure is not None:
            raise self._failure
        with trio.move_on_after(self._timeout_s) as patience:
            while not self._waiting:
                if self._reader.is_done:
                    self._waiting.append(await self._finish())
                    self._has_ended = True
                    return
                chunk = await self._stream.receive()
                if not chunk:
                    raise EngineError("the engine's answer ended before its end", remedy="see the engine's own log")
                self._bytes_left -= len(chunk)
                if self._bytes_left < 0:
                    raise EngineError("the engine's answer is far longer than what was asked for")
                try:
                    took_event = self._take(chunk)
                except EngineError as error:
                    if not self._waiting:
                        raise
                    self._failure = error  # what came before it stands, and goes out first
                    return
                if took_event:
                    # Comments, which llama.cpp sends to keep a connection alive, do not count: it may be stuck.
                    self._timeout_s = self._engine.idle_s
                    patience.deadline = trio.current_time() + self._timeout_s
        if patience.cancelled_caught:
            raise _silent(self._timeout_s)

    def _take(self, chunk: bytes) -> bool:
        events = self._decoder.feed(chunk)
        for event in events:
            if self._reader.is_done:
                break
            data = f'{{"error": {event.data}}}' if event.is_error else event.data
            for piece in self._reader.feed(data):
                self._answer.append(piece.text)
                self._waiting.append(piece)
        return bool(events)

    async def _finish(self) -> Finished:
        if self._reader.finish_reason is None:
            raise EngineError("the engine ended the answer without saying why")
        usage = self._reader.usage or await self._count()
        return Finished(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            finish_reason=self._reader.finish_reason,
        )

    async def _count(self) -> TokenUsage:
        prompt = await self._engine.count_prompt_tokens(self._work)
        completion = await self._engine.count_text_tokens("".join(self._answer), self._model)
        if prompt is None or completion is None:
            raise _uncounted()
        return TokenUsage(prompt_tokens=prompt, completion_tokens=min(completion, self._work.max_output_tokens))


class _EmbeddingEvents:
    """The events of one embedding; a few texts a request."""

    def __init__(self, engine: OpenAIEngine, model: ModelInfo, work: EmbeddingWork) -> None:
        self._engine = engine
        self._model = model
        self._texts = work.texts
        self._next_text = 0
        self._prompt_tokens = 0
        self._dimensions: int | None = None
        self._waiting: list[Vector] = []
        self._has_ended = False

    def close(self) -> None:
        """Give nothing more out. A request under way ended with the ``__anext__`` that made it."""
        self._has_ended = True
        self._waiting.clear()

    def __aiter__(self) -> _EmbeddingEvents:
        return self

    async def __anext__(self) -> EngineEvent:
        if not self._waiting and not self._has_ended and self._next_text < len(self._texts):
            await self._ask()
        else:
            await trio.lowlevel.checkpoint()
        if self._waiting:
            return self._waiting.pop(0)
        if self._has_ended:
            raise StopAsyncIteration
        self._has_ended = True
        return Finished(prompt_tokens=self._prompt_tokens, completion_tokens=0, finish_reason=FinishReason.STOP)

    async def _ask(self) -> None:
        first = self._next_text
        batch = self._texts[first : first + TEXTS_PER_REQUEST]
        vectors, tokens = await self._engine.embed(batch, self._model)
        if self._dimensions is None:
            self._dimensions = len(vectors[0])
        if len(vectors[0]) != self._dimensions:
            raise EngineError("the engine's vectors differ in length")
        self._next_text += len(batch)
        self._prompt_tokens += tokens
        self._waiting = [Vector(index=first + offset, values=values) for offset, values in enumerate(vectors)]


def _silent(timeout_s: float) -> EngineError:
    return EngineError(f"the engine was silent for {timeout_s:g} s", remedy="see the engine's own log")


def _uncounted() -> EngineError:
    return EngineError(
        "the engine says no usage and has no tokenizer, so its work cannot be counted",
        remedy="use an engine that honours stream_options.include_usage",
    )
