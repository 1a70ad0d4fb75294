"""What a client accepts as the course of a job. Pure.

::

    START --accepted--> OPEN --text*, vector* or receipt*--> OPEN --completed--> COMPLETED --OK status--> ENDED

Texts are numbered 0, 1, 2, ... without gaps, vectors likewise and one for each text; the usage is recomputed. Whatever
else comes is a :class:`~hostmesh.errors.RemoteProtocolError`, and nothing of it is believed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

from hostmesh.errors import MalformedMessageError, RemoteProtocolError
from hostmesh.jobs.content import WireInput, input_bytes
from hostmesh.jobs.engine import FinishReason
from hostmesh.jobs.offer import QuoteOffer
from hostmesh.jobs.usage import Usage
from hostmesh.receipts.pricing import cost_micros
from hostmesh.v1 import job_pb2

OVERHEAD_TOKENS = 1024
"""Tokens that a chat template may add of its own; chosen here."""
OVERHEAD_TOKENS_PER_ITEM = 64
"""Tokens that a chat template or an embedding model may add to each message or text; chosen here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """The next piece of an answer."""

    index: int
    """0, 1, 2, ... without gaps."""
    text: str = field(repr=False)
    completion_tokens: int
    """Tokens of the whole answer up to the end of this piece, as the host counts them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The host took the job."""

    job_id: bytes
    queue_position: int
    """0 = starts at once; n = the n-th in the queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingResult:
    """The vector of one text."""

    index: int
    values: tuple[float, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The job is done."""

    usage: Usage
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptIssued:
    """The host asks for a countersignature."""

    envelope: bytes = field(repr=False)
    """As it came."""


JobEvent: TypeAlias = Accepted | TextDelta | EmbeddingResult | ReceiptIssued | Completed


class Transcript:
    """Checks one job's events in order.

    Args:
        offer: the quote that it runs under.
        wire: its input.
    """

    def __init__(self, offer: QuoteOffer, wire: WireInput) -> None:
        self._offer = offer
        self._is_chat = isinstance(wire, job_pb2.ChatInput)
        items = len(wire.messages) if isinstance(wire, job_pb2.ChatInput) else len(wire.texts)
        self._vectors_due = 0 if self._is_chat else items
        # A tokenizer makes at most a token of a byte.
        self._max_prompt_tokens = input_bytes(wire) + items * OVERHEAD_TOKENS_PER_ITEM + OVERHEAD_TOKENS
        self._next_index = 0
        self._completion_tokens = 0
        self._dimensions: int | None = None
        self._accepted = False
        self._completed = False

    @property
    def is_accepted(self) -> bool:
        """The host said that it took the job."""
        return self._accepted

    @property
    def is_delivered(self) -> bool:
        """A part of the answer has come."""
        return self._next_index > 0

    def event(self, response: job_pb2.RunResponse) -> JobEvent:
        """Return the event that a response holds.

        Raises:
            RemoteProtocolError: it may not come here, or does not hold what it must.
        """
        kind = response.WhichOneof("event")
        if self._completed:
            raise RemoteProtocolError("the host went on after it had completed the job")
        if not self._accepted:
            if kind != "accepted":
                raise RemoteProtocolError("the host worked before it accepted the job")
            if response.accepted.job_id != self._offer.quote_id:
                raise MalformedMessageError("the job is not named by its quote", field="accepted.job_id")
            self._accepted = True
            return Accepted(job_id=response.accepted.job_id, queue_position=response.accepted.queue_position)
        match kind:
            case "text" if self._is_chat:
                return self._text(response.text)
            case "vector" if not self._is_chat:
                return self._vector(response.vector)
            case "receipt":
                return ReceiptIssued(envelope=response.receipt)
            case "completed":
                return self._complete(response.completed)
        raise RemoteProtocolError(f"the host sent {kind or 'an empty event'} where this job has none")

    @property
    def delivered_pieces(self) -> int:
        """Pieces of the answer that have come."""
        return self._next_index

    def end(self) -> None:
        """Note the OK status.

        Raises:
            RemoteProtocolError: the job was not completed.
        """
        if not self._completed:
            raise RemoteProtocolError("the host ended the job with OK and without its usage")

    def _text(self, delta: job_pb2.TextDelta) -> TextDelta:
        self._check_index(delta.index, "text.index")
        if not self._completion_tokens <= delta.completion_tokens <= self._offer.max_output_tokens:
            raise MalformedMessageError(
                f"the answer's tokens went from {self._completion_tokens} to {delta.completion_tokens}",
                field="text.completion_tokens",
            )
        self._completion_tokens = delta.completion_tokens
        return TextDelta(index=delta.index, text=delta.text, completion_tokens=delta.completion_tokens)

    def _vector(self, vector: job_pb2.EmbeddingVector) -> EmbeddingResult:
        self._check_index(vector.index, "vector.index")
        values = tuple(vector.values)
        if self._next_index > self._vectors_due:
            raise MalformedMessageError("more vectors than texts", field="vector.index")
        if not values or len(values) != (self._dimensions or len(values)) or not all(map(math.isfinite, values)):
            raise MalformedMessageError("not a vector of this job", field="vector.values")
        self._dimensions = len(values)
        return EmbeddingResult(index=vector.index, values=values)

    def _check_index(self, index: int, name: str) -> None:
        if index != self._next_index:
            raise MalformedMessageError(f"{name} is {index}, {self._next_index} was due", field=name)
        self._next_index += 1

    def _complete(self, completed: job_pb2.JobCompleted) -> Completed:
        usage = completed.usage
        tokens = usage.prompt_tokens + usage.completion_tokens
        if not completed.HasField("usage"):
            raise MalformedMessageError("the job was completed without its usage", field="completed.usage")
        if not self._is_chat and self._next_index != self._vectors_due:
            raise RemoteProtocolError(f"{self._next_index} vectors for {self._vectors_due} texts")
        if usage.completion_tokens > self._offer.max_output_tokens:
            raise MalformedMessageError("more tokens than the quote allows", field="completed.usage.completion_tokens")
        over_context = self._is_chat and tokens > self._offer.context_tokens
        if usage.prompt_tokens > self._max_prompt_tokens or over_context:
            raise MalformedMessageError("more tokens than the input can have", field="completed.usage.prompt_tokens")
        if usage.cost_micros != cost_micros(tokens, self._offer.price_micros_per_mtok):
            raise MalformedMessageError("the cost is not tokens times price", field="completed.usage.cost_micros")
        try:
            reason = FinishReason(completed.finish_reason)
        except ValueError as error:
            raise MalformedMessageError("no such finish reason", field="completed.finish_reason") from error
        self._completed = True
        return Completed(
            usage=Usage(
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                cost_micros=usage.cost_micros,
                currency=self._offer.currency,
            ),
            finish_reason=reason,
        )
