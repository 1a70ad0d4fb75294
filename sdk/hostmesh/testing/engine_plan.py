"""How a fake engine does one job: its events and their times."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from hostmesh.errors import EngineError
from hostmesh.jobs.engine import (
    ChatWork,
    EngineEvent,
    Finished,
    FinishReason,
    ModelInfo,
    TextPiece,
    Vector,
    Work,
)
from hostmesh.testing.engine_account import JobEnding
from hostmesh.testing.engine_faults import EndsAfter, EngineFault, LiesAboutUsage, Says
from hostmesh.testing.engine_text import count_tokens, split_tokens, vector_of

TEMPLATE_TOKENS = 2
"""What each message of a chat costs beside its words."""


class Plan:
    """One job: what will be said and when, what goes wrong, and what came of it.

    Args:
        events: in their order.
        fault: what goes wrong.
        first_token_s: seconds from now to the first.
        tokens_per_s: from then on.
        death: set when the engine dies.
    """

    def __init__(
        self,
        events: Sequence[EngineEvent],
        fault: EngineFault | None,
        *,
        first_token_s: float,
        tokens_per_s: float,
        death: trio.Event,
    ) -> None:
        self.events = tuple(events)
        self.fault = fault
        self.ending = JobEnding.CANCELLED
        """As long as the job says nothing else, it was left early."""
        self._first_at_s = trio.current_time() + first_token_s
        self._tokens_per_s = tokens_per_s
        self._last = sum(not isinstance(event, Finished) for event in self.events) - 1
        self._death = death

    async def wait_for_token(self, number: int) -> None:
        """Wait until the event is due; the end of the job comes with its last token."""
        await self.wait_until(self._first_at_s + max(0, min(number, self._last)) / self._tokens_per_s)

    async def wait_until(self, at_s: float) -> None:
        """Wait until then, at least one checkpoint.

        Raises:
            EngineError: the engine died before.
        """
        if at_s <= trio.current_time():
            await trio.lowlevel.checkpoint()
        else:
            with trio.move_on_at(at_s):
                await self._death.wait()
        if self._death.is_set():
            raise EngineError("the fake engine died")


def prompt_tokens(work: Work) -> int:
    """Return the tokens of an input as :class:`FakeEngine` counts them.

    >>> from hostmesh import EmbeddingWork
    >>> prompt_tokens(EmbeddingWork(model_id="m", texts=("two words", "and three more")))
    5
    """
    if isinstance(work, ChatWork):
        return sum(count_tokens(message.content) + TEMPLATE_TOKENS for message in work.messages)
    return sum(map(count_tokens, work.texts))


def events_of(
    work: Work,
    model: ModelInfo,
    fault: EngineFault | None,
    *,
    answer: Callable[[ChatWork], str],
    dimensions: int,
) -> tuple[EngineEvent, ...]:
    """Return what an engine says to the work.

    Args:
        work: whose prompt fits the model.
        model: bounds the answer.
        fault: what goes wrong; those that stop the engine midway change nothing here.
        answer: makes a chat's whole text.
        dimensions: of a vector.
    """
    if isinstance(fault, Says):
        return fault.events
    reason = FinishReason.STOP
    said: list[EngineEvent]
    if isinstance(work, ChatWork):
        tokens, reason = _answer(answer(work), work, model)
        said = [TextPiece(text=token, completion_tokens=number) for number, token in enumerate(tokens, start=1)]
    else:
        vectors = (vector_of(work.model_id, text, dimensions) for text in work.texts)
        said = [Vector(index=index, values=values) for index, values in enumerate(vectors)]
    prompt, completion = prompt_tokens(work), len(said) if isinstance(work, ChatWork) else 0
    if isinstance(fault, EndsAfter) and fault.tokens <= len(said):
        return tuple(said[: fault.tokens])
    if isinstance(fault, LiesAboutUsage):
        prompt += fault.extra_prompt_tokens
        completion += fault.extra_completion_tokens
    return (*said, Finished(prompt_tokens=prompt, completion_tokens=completion, finish_reason=reason))


def _answer(text: str, work: ChatWork, model: ModelInfo) -> tuple[list[str], FinishReason]:
    """Cut the whole answer by the limits, then by the first of the ``stop`` texts."""
    tokens = split_tokens(text)
    limit = min(
        work.max_output_tokens,
        model.context_tokens if model.max_output_tokens is None else model.max_output_tokens,
        model.context_tokens - prompt_tokens(work),
    )
    cut = "".join(tokens[:limit])
    stops = work.parameters.get("stop", ())
    ends = [cut.find(stop) for stop in stops if stop in cut] if isinstance(stops, tuple) else []
    if ends:
        return split_tokens(cut[: min(ends)]), FinishReason.STOP
    return tokens[:limit], FinishReason.LENGTH if len(tokens) > limit else FinishReason.STOP
