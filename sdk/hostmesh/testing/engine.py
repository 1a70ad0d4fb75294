"""An engine with set speed and set failures, in the place of a real one.

:class:`FakeEngine` is a :class:`hostmesh.Engine` like those of a host: it counts tokens, obeys limits and ``stop``
texts, fits its context, stops when it is left, and fails with the errors of real engines. What it says follows from
the work alone, so that two runs say the same. Time passes only through trio: under a virtual clock an hour of
generation costs nothing.

A token is a word with the space before it. A chat's prompt has two more for each message, as a template would.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import trio

from hostmesh.errors import ConfigError, ContextExceededError, EngineError, ModelNotReadyError
from hostmesh.jobs.engine import (
    ChatWork,
    Engine,
    EngineEvent,
    Finished,
    ModelInfo,
    Work,
)
from hostmesh.model_kind import ModelKind
from hostmesh.testing.engine_account import EngineAccount, EngineCounts, EngineJob, JobEnding
from hostmesh.testing.engine_faults import (
    DiesAfter,
    EndsAfter,
    EngineFault,
    FailsAfter,
    FailsToLoad,
    HangsAfter,
    LiesAboutUsage,
    Says,
)
from hostmesh.testing.engine_plan import Plan, events_of, prompt_tokens
from hostmesh.testing.engine_text import answer_text, count_tokens

__all__ = [
    "DiesAfter",
    "EndsAfter",
    "EngineCounts",
    "EngineFault",
    "EngineJob",
    "FailsAfter",
    "FailsToLoad",
    "FakeEngine",
    "HangsAfter",
    "JobEnding",
    "LiesAboutUsage",
    "Says",
    "chat_model",
    "embedding_model",
    "prompt_tokens",
]

DEFAULT_MODEL_ID = "fake-chat"


def chat_model(
    model_id: str = DEFAULT_MODEL_ID, *, context_tokens: int = 2048, max_output_tokens: int | None = 512
) -> ModelInfo:
    """Return a chat model as :class:`FakeEngine` serves it; it takes ``seed``, ``stop`` and ``temperature``.

    Args:
        model_id: 1 to 128 bytes.
        context_tokens: prompt and answer together, >= 1.
        max_output_tokens: >= 1; None = only the context bounds the answer.

    >>> chat_model("m").context_tokens
    2048
    """
    return ModelInfo(
        model_id=model_id,
        kind=ModelKind.CHAT,
        context_tokens=context_tokens,
        max_output_tokens=max_output_tokens,
        engine="fake 1",
        parameters=frozenset({"seed", "stop", "temperature"}),
    )


def embedding_model(model_id: str = "fake-embedding", *, context_tokens: int = 256) -> ModelInfo:
    """Return an embedding model as :class:`FakeEngine` serves it.

    >>> embedding_model().kind.value
    'embedding'
    """
    return ModelInfo(model_id=model_id, kind=ModelKind.EMBEDDING, context_tokens=context_tokens, engine="fake 1")


class FakeEngine:
    """A :class:`hostmesh.Engine` whose speed, text and failures are set.

    Attributes may be changed while it runs; a job keeps the speed and the fault that it began with.

    Args:
        models: what it serves, ids or descriptions; each id once.
        first_token_s: seconds from the start of a job to its first token or vector, >= 0.
        tokens_per_s: from then on, > 0; ``inf`` = at once. Paced by the job's start, so that no error adds up.
        load_s: seconds until its models are ready, >= 0, from when it is first asked for anything.
        fault: what goes wrong with every job, unless :meth:`fail_next` says otherwise; None = nothing.
        answer: makes the text of a chat's answer; None = 8 to 71 words that follow from the work.
        counts_prompts: whether it can count a prompt's tokens before the job.
        dimensions: numbers in a vector, 1 to 16,384.
        max_kept_jobs: how many jobs :attr:`jobs` remembers, the newest, >= 1.

    Raises:
        ConfigError: a value out of its bounds, or one model twice.

    >>> import trio
    >>> from hostmesh import ChatMessage, ChatWork, Role, TextPiece
    >>> async def ask(engine):
    ...     message = ChatMessage(role=Role.USER, content="why?")
    ...     work = ChatWork(model_id="fake-chat", messages=(message,), max_output_tokens=3)
    ...     async with engine.generate(work) as events:
    ...         return [event.text if isinstance(event, TextPiece) else event async for event in events]
    >>> engine = FakeEngine(answer=lambda work: "It is a law of nature.")
    >>> said = trio.run(ask, engine)
    >>> said[:-1], said[-1].finish_reason.value, said[-1].prompt_tokens
    (['It', ' is', ' a'], 'length', 3)
    >>> engine.counts.finished, engine.counts.tokens
    (1, 3)
    """

    def __init__(
        self,
        models: Iterable[ModelInfo | str] = (DEFAULT_MODEL_ID,),
        *,
        first_token_s: float = 0.0,
        tokens_per_s: float = float("inf"),
        load_s: float = 0.0,
        fault: EngineFault | None = None,
        answer: Callable[[ChatWork], str] | None = None,
        counts_prompts: bool = True,
        dimensions: int = 8,
        max_kept_jobs: int = 1000,
    ) -> None:
        self._models = tuple(chat_model(model) if isinstance(model, str) else model for model in models)
        self._by_id = {model.model_id: model for model in self._models}
        _require(len(self._by_id) == len(self._models), "models", "each model id once")
        _require(first_token_s >= 0, "first_token_s", "0 seconds or more")
        _require(tokens_per_s > 0, "tokens_per_s", "more than 0 tokens a second")
        _require(load_s >= 0, "load_s", "0 seconds or more")
        _require(1 <= dimensions <= 16_384, "dimensions", "1 to 16384 numbers")
        _require(max_kept_jobs >= 1, "max_kept_jobs", "1 job or more")
        self.first_token_s = first_token_s
        self.tokens_per_s = tokens_per_s
        self.fault = fault
        self.answer = answer or answer_text
        self.counts_prompts = counts_prompts
        self.dimensions = dimensions
        self._load_s = load_s
        self._loaded_at_s: float | None = None
        self._next_faults: list[EngineFault | None] = []
        self._death = trio.Event()
        self._account = EngineAccount(max_kept_jobs)

    # --- what it did ---

    @property
    def counts(self) -> EngineCounts:
        """What it did since it was made."""
        return self._account.counts

    @property
    def jobs(self) -> tuple[EngineJob, ...]:
        """The newest jobs, oldest first; those that run are among them."""
        return self._account.jobs

    async def wait_until(self, holds: Callable[[EngineCounts], bool]) -> EngineCounts:
        """Wait until the counts are so, and return them.

        Cancellation: safe.
        """
        return await self._account.wait_until(holds)

    # --- what goes wrong ---

    @property
    def is_dead(self) -> bool:
        """Whether it died and was not revived."""
        return self._death.is_set()

    def fail_next(self, *faults: EngineFault | None) -> None:
        """Set what goes wrong with the next jobs, one each; None = nothing. Those after them have :attr:`fault`."""
        self._next_faults.extend(faults)

    def die(self) -> None:
        """End every job with an error, now, and have no model ready until :meth:`revive`. Idempotent."""
        self._death.set()

    def revive(self) -> None:
        """Start again after :meth:`die`: the models load once more. Does nothing to an engine that lives."""
        if self.is_dead:
            self._death = trio.Event()
            self._loaded_at_s = None

    # --- hostmesh.Engine ---

    def models(self) -> tuple[ModelInfo, ...]:
        """Return what it serves."""
        return self._models

    async def ready(self) -> Mapping[str, bool]:
        """Tell which models are loaded now. Cancellation: safe."""
        await trio.lowlevel.checkpoint()
        return {model_id: self._is_ready(model_id) for model_id in self._by_id}

    async def count_prompt_tokens(self, work: Work) -> int | None:
        """Count the input's tokens; None when it was told not to. Cancellation: safe.

        Raises:
            ModelNotReadyError: the model is not served, not loaded, or the engine is dead.
        """
        await trio.lowlevel.checkpoint()
        if work.model_id not in self._by_id or not self._is_ready(work.model_id):
            raise ModelNotReadyError(f"the fake engine does not hold {work.model_id!r}")
        return prompt_tokens(work) if self.counts_prompts else None

    @asynccontextmanager
    async def generate(self, work: Work) -> AsyncIterator[AsyncIterator[EngineEvent]]:
        """Start the work; iterate for its events. Leaving the block stops it at once.

        Raises:
            ModelNotReadyError: on entering; nothing was begun.
            ContextExceededError: on entering; the input does not fit.
            EngineError: from the iterator: it died, or fails as it was told to.
        """
        await trio.lowlevel.checkpoint()
        fault = self._next_faults.pop(0) if self._next_faults else self.fault
        try:
            model = self._admit(work, fault)
        except EngineError:
            self._account.refuse()
            raise
        plan = Plan(
            events_of(work, model, fault, answer=self.answer, dimensions=self.dimensions),
            fault,
            first_token_s=self.first_token_s,
            tokens_per_s=self.tokens_per_s,
            death=self._death,
        )
        job = self._account.start(work)
        try:
            async with aclosing(self._events(plan, job)) as events:
                yield events
        finally:
            self._account.end(job, plan.ending)

    # --- inside ---

    def _admit(self, work: Work, fault: EngineFault | None) -> ModelInfo:
        model = self._by_id.get(work.model_id)
        if model is None or not self._is_ready(work.model_id) or _keeps_from_loading(fault, work.model_id):
            raise ModelNotReadyError(f"the fake engine does not hold {work.model_id!r}")
        if isinstance(work, ChatWork) is not (model.kind is ModelKind.CHAT):
            raise EngineError(f"{work.model_id!r} is a model for {model.kind.value}")
        longest = prompt_tokens(work) + 1 if isinstance(work, ChatWork) else max(map(count_tokens, work.texts))
        if longest > model.context_tokens:
            raise ContextExceededError(
                "the input does not fit", context_tokens=model.context_tokens, input_tokens=prompt_tokens(work)
            )
        return model

    def _is_ready(self, model_id: str) -> bool:
        now_s = trio.current_time()
        if self._loaded_at_s is None:
            self._loaded_at_s = now_s + self._load_s
        return not self.is_dead and now_s >= self._loaded_at_s and not _keeps_from_loading(self.fault, model_id)

    async def _events(self, plan: Plan, job: EngineJob) -> AsyncGenerator[EngineEvent, None]:
        try:
            for number, event in enumerate(plan.events):
                await self._meet(plan, number)
                await plan.wait_for_token(number)
                if isinstance(event, Finished):
                    plan.ending = JobEnding.FINISHED
                else:
                    self._account.note_token(job)
                yield event
            if plan.ending is not JobEnding.FINISHED:
                plan.ending = JobEnding.FAILED
        except EngineError:
            plan.ending = JobEnding.FAILED
            raise

    async def _meet(self, plan: Plan, number: int) -> None:
        """Let the fault happen that is set before this event."""
        match plan.fault:
            case FailsAfter(tokens=tokens) if tokens == number:
                raise plan.fault.error()
            case HangsAfter(tokens=tokens) if tokens == number:
                await plan.wait_until(math.inf)
            case DiesAfter(tokens=tokens) if tokens == number:
                self.die()


def _keeps_from_loading(fault: EngineFault | None, model_id: str) -> bool:
    return isinstance(fault, FailsToLoad) and (not fault.model_ids or model_id in fault.model_ids)


def _require(holds: bool, name: str, wanted: str) -> None:
    if not holds:
        raise ConfigError(f"{name} is out of its bounds", name=name, source="argument", remedy=f"give {wanted}")


if TYPE_CHECKING:

    def _is_an_engine(engine: FakeEngine) -> Engine:
        """Have the type checker compare the two."""
        return engine
