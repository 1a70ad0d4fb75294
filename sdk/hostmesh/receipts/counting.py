"""How many tokens a text can have: what a client and a third party hold a host's count against. Pure.

With the tokenizer that was quoted, the text is counted again. The count of an answer need not come out the same: a
model may write a word in other tokens than those that its tokenizer makes of the word, so a share is tolerated. The
prompt is made of the tokenizer's own tokens; only marks around it are tolerated.

Without it, bytes bound tokens: a token of an answer stands for at least one byte of it, a token of a prompt for one
byte of the input, or it is the template's.
"""

from __future__ import annotations

from typing import Protocol

from hostmesh.identity.structs import NO_DIGEST
from hostmesh.receipts.chain import JobInput
from hostmesh.receipts.reasons import ReceiptFault, fault
from hostmesh.v1 import job_pb2

SILENT_TOKENS = 8
"""Tokens that may show no text: marks around prompt and answer, bytes of a character that was cut apart."""
RETOKENISED_SHARE = 16
"""One token in so many of an answer may be more than the tokenizer makes of its text."""
TEMPLATE_TOKENS = 1024
"""Tokens that a chat template may add of its own, such as a system prompt; chosen here."""
TEMPLATE_TOKENS_PER_ITEM = 64
"""Tokens that a chat template or an embedding model may add to each message or text; chosen here."""

BYTES_PER_ESTIMATED_TOKEN = 6
"""Of a prompt that was never counted; chosen here, above the four bytes or so that a token of most texts has."""


class TokenCounter(Protocol):
    """A tokenizer as the client runs it."""

    @property
    def tokenizer_sha256(self) -> bytes:
        """Of its file, 32 bytes, as hosts quote it."""
        ...

    def count_text(self, text: str) -> int:
        """Return the tokens of a text, without marks around it."""
        ...

    def count_prompt(self, job_input: JobInput) -> int | None:
        """Return the tokens of an input under the chat template of the model; None: the template is not known here."""
        ...


def fitting(counter: TokenCounter | None, tokenizer_sha256: bytes) -> TokenCounter | None:
    """Return the counter if it is the quoted tokenizer; a count of another one says nothing."""
    if counter is None or tokenizer_sha256 == NO_DIGEST or counter.tokenizer_sha256 != tokenizer_sha256:
        return None
    return counter


def most_completion_tokens(answer_bytes: int) -> int:
    """Return the most tokens that an answer of so many bytes of UTF-8 can have.

    >>> most_completion_tokens(5)
    13
    """
    return answer_bytes + SILENT_TOKENS


def most_prompt_tokens(job_input: JobInput, counter: TokenCounter | None = None) -> int:
    """Return the most tokens that an input can have, template included.

    Args:
        job_input: as it was sent.
        counter: of the quoted tokenizer; None = its bytes bound the tokens of a text.
    """
    texts = _texts(job_input)
    within = sum(len(text.encode()) if counter is None else counter.count_text(text) for text in texts)
    return within + len(texts) * TEMPLATE_TOKENS_PER_ITEM + TEMPLATE_TOKENS


def estimated_prompt_tokens(job_input: JobInput) -> int:
    """Return what a host may claim for a prompt that its engine never counted, since the job ended before.

    It is low, so that it is hardly ever above a count: texts of language have some four bytes a token. But every client
    takes it, since host and client compute the same: two that are honest cannot fall out over it.

    >>> estimated_prompt_tokens(job_pb2.EmbeddingInput(texts=["two words", "three"]))
    2
    """
    return sum(len(text.encode()) for text in _texts(job_input)) // BYTES_PER_ESTIMATED_TOKEN


def most_claimed_tokens(job_input: JobInput, counter: TokenCounter | None) -> int:
    """Return the most prompt tokens that :func:`check_prompt` takes for an input.

    Args:
        job_input: as it was sent.
        counter: of the quoted tokenizer; None = bytes alone bound it.
    """
    most = most_prompt_tokens(job_input)
    if counter is None:
        return most
    counted = counter.count_prompt(job_input)
    recounted = most_prompt_tokens(job_input, counter) if counted is None else counted + SILENT_TOKENS
    return min(most, max(recounted, estimated_prompt_tokens(job_input)))


def may_fill(context_tokens: int, job_input: JobInput, counter: TokenCounter | None) -> bool:
    """Return whether an input can leave no room in a model's context, by the same bounds.

    Args:
        context_tokens: of the model; of each text to embed.
        job_input: as it was sent.
        counter: of the quoted tokenizer; None = its bytes bound the tokens of a text.

    >>> chat = job_pb2.ChatInput()
    >>> chat.messages.add(role="user", content="x" * 1000).role
    'user'
    >>> may_fill(2088, chat, None), may_fill(2089, chat, None)
    (True, False)
    """
    if isinstance(job_input, job_pb2.ChatInput):
        counted = None if counter is None else counter.count_prompt(job_input)
        most = most_prompt_tokens(job_input, counter) if counted is None else counted + SILENT_TOKENS
        return most >= context_tokens
    return any(
        (len(text.encode()) if counter is None else counter.count_text(text)) + TEMPLATE_TOKENS_PER_ITEM
        > context_tokens
        for text in job_input.texts
    )


def check_completion(tokens: int, answer: bytes, counter: TokenCounter | None) -> None:
    """Check a claim of completion tokens against the answer.

    Args:
        tokens: claimed; fewer than there are is the host's loss.
        answer: all of its text, UTF-8.
        counter: of the quoted tokenizer; None = bytes alone bound it.

    Raises:
        ReceiptError: COMPLETION_OVER_BYTES or COMPLETION_OVER_COUNT.
    """
    most = most_completion_tokens(len(answer))
    if tokens > most:
        raise fault(
            ReceiptFault.COMPLETION_OVER_BYTES, f"{tokens} tokens for {len(answer)} bytes of text, at most {most}"
        )
    if counter is None:
        return
    counted = counter.count_text(answer.decode())
    most = counted + counted // RETOKENISED_SHARE + SILENT_TOKENS
    if tokens > most:
        raise fault(ReceiptFault.COMPLETION_OVER_COUNT, f"{tokens} tokens claimed, {counted} counted, at most {most}")


def check_prompt(tokens: int, job_input: JobInput, counter: TokenCounter | None) -> None:
    """Check a claim of prompt tokens against the input.

    Args:
        tokens: claimed.
        job_input: as it was sent.
        counter: of the quoted tokenizer; None = bytes alone bound it.

    Raises:
        ReceiptError: PROMPT_OVER_BYTES or PROMPT_OVER_COUNT.
    """
    most = most_prompt_tokens(job_input)
    if tokens > most:
        raise fault(ReceiptFault.PROMPT_OVER_BYTES, f"{tokens} tokens claimed, the input can have {most}")
    if counter is None:
        return
    most = most_claimed_tokens(job_input, counter)
    if tokens > most:
        raise fault(ReceiptFault.PROMPT_OVER_COUNT, f"{tokens} tokens claimed, the input can have {most}")


def _texts(job_input: JobInput) -> list[str]:
    if isinstance(job_input, job_pb2.ChatInput):
        return [message.content for message in job_input.messages]
    return list(job_input.texts)
