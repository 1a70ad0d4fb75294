"""What is true of each job: what its engine makes, what left the host, what came to the client, what was signed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import trio
from tests.unit.jobs.kit import CHAT

from hostmesh.errors import EngineError
from hostmesh.identity.structs import Receipt
from hostmesh.jobs.engine import ChatWork, EngineEvent, Finished, FinishReason, ModelInfo, TextPiece, Work
from hostmesh.model_kind import ModelKind
from hostmesh.receipts.chain import JobInput
from hostmesh.v1 import job_pb2

MAX_OUTPUT_TOKENS = 64


class Words:
    """The tokenizer, which both sides have: a token a word, two more for each message."""

    tokenizer_sha256 = b"t" * 32

    def count_text(self, text: str) -> int:
        return len(text.split())

    def count_prompt(self, job_input: JobInput) -> int | None:
        assert isinstance(job_input, job_pb2.ChatInput)
        return sum(len(message.content.split()) + 2 for message in job_input.messages)


def price(tokens: int, micros_per_mtok: int) -> int:
    """Rounded up, once."""
    return -(-tokens * micros_per_mtok // 10**6)


@dataclass
class Facts:
    """One job, named by its prompt, which is the only one like it."""

    prompt: str
    pieces: tuple[int, ...]
    """What the engine makes: so many words in each piece."""
    fail_after: int | None = None
    delay_s: float = 0.0
    is_begun: bool = False
    """The engine read the prompt."""
    sent_tokens: int = 0
    """Of the engine's pieces, that left the host."""
    sent_pieces: int = 0
    issued: dict[int, Receipt] = field(default_factory=dict)
    """By sequence: receipts that left the host."""
    paid_micros: int = 0
    """For which the host has a signature."""
    given_up_micros: int = 0
    """What the host wrote off itself: it failed the job, or lost its memory."""
    arrived: list[str] = field(default_factory=list)
    """Texts that came to the client."""
    signed_micros: int = 0
    """What the client's key signed."""

    @property
    def prompt_tokens(self) -> int:
        return len(self.prompt.split()) + 2


UNCOUNTED_CONTEXT_TOKENS = 64
"""Of a model whose engine counts no prompt before it is answered: so much is held for any of them and its answer."""


class TrueEngine:
    """Makes what each job's facts say.

    Args:
        facts: by prompt.
        on_begin: told when it reads a prompt.
        counts_prompts: before they are answered.
    """

    def __init__(self, facts: Mapping[str, Facts], on_begin: Callable[[Facts], None], *, counts_prompts: bool) -> None:
        self._all = facts
        self._on_begin = on_begin
        self._counts_prompts = counts_prompts

    def models(self) -> tuple[ModelInfo, ...]:
        return (
            ModelInfo(
                model_id=CHAT,
                kind=ModelKind.CHAT,
                context_tokens=4096 if self._counts_prompts else UNCOUNTED_CONTEXT_TOKENS,
                max_output_tokens=MAX_OUTPUT_TOKENS,
                engine="scripted 1",
                tokenizer_sha256=Words.tokenizer_sha256,
            ),
        )

    async def ready(self) -> Mapping[str, bool]:
        return {CHAT: True}

    async def count_prompt_tokens(self, work: Work) -> int | None:
        await trio.lowlevel.checkpoint()
        return self._facts(work).prompt_tokens if self._counts_prompts else None

    @asynccontextmanager
    async def generate(self, work: Work) -> AsyncIterator[AsyncIterator[EngineEvent]]:
        facts = self._facts(work)
        self._on_begin(facts)
        async with aclosing(self._events(facts)) as events:
            yield events

    async def _events(self, facts: Facts) -> AsyncGenerator[EngineEvent, None]:
        tokens = 0
        for number, words in enumerate(facts.pieces):
            await trio.sleep(facts.delay_s)
            if facts.fail_after == number:
                raise EngineError("out of order")
            tokens += words
            yield TextPiece(text=text_of(number, words), completion_tokens=tokens)
        await trio.sleep(facts.delay_s)
        yield Finished(prompt_tokens=facts.prompt_tokens, completion_tokens=tokens, finish_reason=FinishReason.STOP)

    def _facts(self, work: Work) -> Facts:
        assert isinstance(work, ChatWork)
        return self._all[work.messages[-1].content]


def text_of(number: int, words: int) -> str:
    """A piece of an answer: every word is a token."""
    return f"{number}{'abcdefgh'[number % 8]} " * words
