"""What a prompt takes of the slice before anything of it is countersigned, counted or not. Pure.

Spec: docs/protocols/receipt.md, "Uncounted prompts".
"""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.receipts.chain import JobInput
from hostmesh.receipts.counting import estimated_prompt_tokens, most_prompt_tokens
from hostmesh.receipts.pricing import cost_micros
from hostmesh.receipts.reasons import ReceiptFault, fault
from hostmesh.v1 import job_pb2

LEAST_ANSWER_TOKENS = 16
"""Tokens of an answer that have room beside a prompt that is not counted yet: half of them come to a receipt, so that a
client which answers at once makes room for the next ones. Chosen here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRoom:
    """A prompt's part of the slice."""

    is_counted: bool
    tokens: int
    """Its count; of one that is not counted the most that it is billed for, held until its count is known."""
    answer_tokens: int
    """Of the answer, that must have room beside it; 0 beside a counted one, which can be countersigned by itself."""
    estimated_tokens: int
    """What the last receipt of a job claims whose prompt was never counted, at most."""
    most_tokens: int
    """Of prompt and answer together, that the model's context has."""

    def claimed_tokens(self, completion_tokens: int) -> int:
        """Return what the last receipt claims for a prompt that was never counted, beside this much of an answer."""
        return max(0, min(self.estimated_tokens, self.most_tokens - completion_tokens))

    def check_slice(self, slice_micros: int, price_micros_per_mtok: int) -> None:
        """Check that a job can begin under a slice; call it before the job is accepted.

        Raises:
            ReceiptError: SLICE_TOO_SMALL; the message says which slice is needed.
        """
        needed = cost_micros(self.tokens + self.answer_tokens, price_micros_per_mtok)
        if needed <= slice_micros:
            return
        what = "the prompt alone costs" if self.is_counted else "the prompt is counted at its end, and can cost"
        raise fault(
            ReceiptFault.SLICE_TOO_SMALL,
            f"{what} {needed} micro-units, the slice is {slice_micros}",
            remedy=f"Open a session with slice_micros of {needed} or more, or send a shorter prompt.",
        )


def prompt_room(job_input: JobInput, counted: int | None, *, context_tokens: int, max_output_tokens: int) -> PromptRoom:
    """Return what a prompt takes of its session's slice.

    One that was counted beforehand takes its cost. Of one that nobody can count before it is answered:

    - the most that it can come to is held from acceptance on: what bytes allow, as a client without the tokenizer
      bounds it, but no more than the context leaves beside the beginning of an answer. A slice that has no room for
      both is too small;
    - the engine's count at the end is billed, at most what was held, and the rest of that is free again;
    - of a job that ends before it was counted, the last receipt claims an estimate: one token for each six bytes of
      text, nothing for the template. Every client takes that claim, whatever its tokenizer says
      (:func:`hostmesh.receipts.counting.most_claimed_tokens`). Once it is countersigned the rest is free again; until
      then all of it stays unacknowledged, so that who leaves without signing has used it up.

    Args:
        job_input: as it was sent.
        counted: its tokens; None = the engine cannot say beforehand.
        context_tokens: of the model; an embedding model has it for each text.
        max_output_tokens: of the answer; unused for texts to embed.

    >>> chat = job_pb2.ChatInput()
    >>> chat.messages.add(role="user", content="x" * 60).role
    'user'
    >>> room = prompt_room(chat, None, context_tokens=4096, max_output_tokens=512)
    >>> room.tokens, room.answer_tokens, room.estimated_tokens
    (1148, 16, 10)
    >>> prompt_room(chat, None, context_tokens=256, max_output_tokens=512).tokens
    240
    """
    is_chat = isinstance(job_input, job_pb2.ChatInput)
    contexts = 1 if isinstance(job_input, job_pb2.ChatInput) else len(job_input.texts)
    most_tokens = context_tokens * contexts
    if counted is not None:
        return PromptRoom(
            is_counted=True, tokens=counted, answer_tokens=0, estimated_tokens=counted, most_tokens=most_tokens
        )
    answer_tokens = min(LEAST_ANSWER_TOKENS, max_output_tokens) if is_chat else 0
    tokens = min(most_prompt_tokens(job_input), max(0, most_tokens - answer_tokens))
    return PromptRoom(
        is_counted=False,
        tokens=tokens,
        answer_tokens=answer_tokens,
        estimated_tokens=min(estimated_prompt_tokens(job_input), tokens),
        most_tokens=most_tokens,
    )
