"""Tokens of one job: the host's meter and what a client may believe. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.errors import EngineError
from hostmesh.jobs.engine import ChatWork, EmbeddingWork, Finished, TextPiece, Work
from hostmesh.receipts.pricing import cost_micros


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a job used and costs."""

    prompt_tokens: int
    """Counted by the host's tokenizer."""
    completion_tokens: int
    """0 for embeddings."""
    cost_micros: int
    """Micro-units of ``currency``."""
    currency: str


def most_tokens(work: Work, *, prompt_tokens: int | None, context_tokens: int) -> int:
    """Return the most tokens that the work can be charged for.

    Args:
        work: with its limit on the answer.
        prompt_tokens: counted beforehand; None = the engine cannot, so that the context bounds it.
        context_tokens: of the model.
    """
    match work:
        case ChatWork():
            known = context_tokens if prompt_tokens is None else prompt_tokens + work.max_output_tokens
            return min(known, context_tokens)
        case EmbeddingWork():
            return context_tokens * len(work.texts) if prompt_tokens is None else prompt_tokens


class TokenMeter:
    """Counts the tokens of one job while it runs.

    What is charged never exceeds ``reserved_tokens`` nor the answer's limit: a host that miscounted beforehand bears
    the difference itself.

    Args:
        reserved_tokens: prompt and answer together, reserved in the session before the start.
        max_output_tokens: the answer's limit; 0 for embeddings.
        prompt_tokens: counted beforehand; None = not known until the end.
        price_micros_per_mtok: quoted.
        currency: of the price.
    """

    def __init__(
        self,
        *,
        reserved_tokens: int,
        max_output_tokens: int,
        prompt_tokens: int | None,
        price_micros_per_mtok: int,
        currency: str,
    ) -> None:
        self._reserved_tokens = reserved_tokens
        self._max_output_tokens = max_output_tokens
        self._prompt_tokens = prompt_tokens
        self._price = price_micros_per_mtok
        self._currency = currency
        self._completion_tokens = 0
        self._is_started = False

    @property
    def completion_tokens(self) -> int:
        """Tokens of the answer, as the engine counted them up to now."""
        return self._completion_tokens

    def start(self) -> None:
        """Note that the engine begins: a job that only waited costs nothing, one that began costs its prompt."""
        self._is_started = True

    def piece(self, piece: TextPiece) -> bool:
        """Count a piece; one whose engine does not count is one token.

        Returns:
            False = the piece goes over the answer's limit: it is not counted and must not be sent.

        Raises:
            EngineError: the engine's count went back.
        """
        counted = piece.completion_tokens
        tokens = self._completion_tokens + bool(piece.text) if counted is None else counted
        if tokens < self._completion_tokens:
            raise EngineError(f"the engine's token count went back from {self._completion_tokens} to {tokens}")
        if tokens > self._max_output_tokens:
            return False
        self._completion_tokens = tokens
        return True

    def finish(self, finished: Finished) -> None:
        """Take the engine's own final counts.

        Raises:
            EngineError: a negative count.
        """
        if finished.prompt_tokens < 0 or finished.completion_tokens < 0:
            raise EngineError("the engine counted fewer than no tokens")
        self._prompt_tokens = finished.prompt_tokens
        self._completion_tokens = finished.completion_tokens

    def usage(self) -> Usage:
        """Return what is to be paid for the work up to now."""
        completion = min(self._completion_tokens, self._max_output_tokens, self._reserved_tokens)
        known = self._prompt_tokens if self._is_started and self._prompt_tokens is not None else 0
        prompt = min(known, self._reserved_tokens - completion)
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            cost_micros=cost_micros(prompt + completion, self._price),
            currency=self._currency,
        )
