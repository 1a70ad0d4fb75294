"""Tokens of one job: the host's meter and what a client may believe. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.errors import EngineError
from hostmesh.jobs.engine import ChatWork, EmbeddingWork, Finished, TextPiece, Work


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

    Nothing is counted beyond ``reserved_tokens`` nor the answer's limit: a host that miscounted beforehand bears the
    difference itself.

    Args:
        reserved_tokens: prompt and answer together, reserved in the session before the start.
        max_output_tokens: the answer's limit; 0 for embeddings.
        prompt_tokens: counted beforehand; None = not known until the end.
    """

    def __init__(self, *, reserved_tokens: int, max_output_tokens: int, prompt_tokens: int | None) -> None:
        self._reserved_tokens = reserved_tokens
        self._max_output_tokens = max_output_tokens
        self.prompt_tokens = prompt_tokens
        """Counted beforehand; None = not known."""
        self._completion_tokens = 0

    @property
    def completion_tokens(self) -> int:
        """Tokens of the answer, as the engine counted them up to now."""
        return self._completion_tokens

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
        if tokens > min(self._max_output_tokens, self._reserved_tokens - (self.prompt_tokens or 0)):
            return False
        self._completion_tokens = tokens
        return True

    def billed_prompt_tokens(self, finished: Finished) -> int:
        """Return the prompt's tokens that a job comes to at its end.

        What was counted beforehand stands: receipts may have said so.

        Raises:
            EngineError: a negative count.
        """
        if finished.prompt_tokens < 0 or finished.completion_tokens < 0:
            raise EngineError("the engine counted fewer than no tokens")
        if self.prompt_tokens is not None:
            return self.prompt_tokens
        return min(finished.prompt_tokens, self._reserved_tokens - self._completion_tokens)
