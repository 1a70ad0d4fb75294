"""What an engine is to a host: it turns work into events.

A host runs any engine behind the :class:`Engine` protocol; the value types here are all that passes between them.
Prices, sessions, queues and peers are the job server's matter: an engine knows none of them. Pure but for the
protocol's own async methods.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, TypeAlias

from hostmesh.model_kind import ModelKind

ParameterValue: TypeAlias = float | int | str | bool | tuple[str, ...]
"""One setting of the work, in the form that :mod:`hostmesh.jobs.parameters` lets through."""


class Role(Enum):
    """Who speaks in a chat message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class FinishReason(Enum):
    """Why a generation ended by itself."""

    STOP = "stop"
    """The model or a stop text ended it; for embeddings: every text has its vector."""
    LENGTH = "length"
    """The token limit or the context ended it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A model that an engine serves, as the engine itself describes it."""

    model_id: str
    """Exact id, at most 128 bytes of UTF-8; the one that clients ask for."""
    kind: ModelKind
    context_tokens: int
    """Most tokens of prompt and answer together (of one text, for embeddings); >= 1."""
    max_output_tokens: int | None = None
    """Most tokens of one answer; None = only the context bounds it. None for embeddings."""
    quantisation: str | None = None
    """Such as ``Q8_0``; None = not known."""
    weights_sha256: bytes | None = None
    """32 bytes; None = not known."""
    tokenizer_sha256: bytes | None = None
    """32 bytes; None = not known."""
    chat_template_sha256: bytes | None = None
    """Of the template's text in UTF-8, 32 bytes; None = not known, or none."""
    engine: str
    """Name of the engine, at most 64 bytes: ``llama.cpp``."""
    engine_version: str | None = None
    """At most 32 bytes: ``b5000``; None = not known."""
    output_millitokens_per_s: int | None = None
    """Thousandths of a token per second that one job alone got, measured on this machine; None = not measured."""
    parameters: frozenset[str] = frozenset()
    """Names of the settings that the engine obeys for this model, out of :data:`hostmesh.jobs.parameters.ALLOWED`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One message of a conversation. ``content`` is left out of the repr, so that no log can carry it."""

    role: Role
    content: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatWork:
    """Continue a conversation."""

    model_id: str
    messages: tuple[ChatMessage, ...] = field(repr=False)
    """At least one."""
    max_output_tokens: int
    """Most tokens to generate, >= 1; within the model's own limit."""
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    """Checked settings by name; ``max_output_tokens`` is not among them. ``stop`` is a tuple of texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingWork:
    """Turn each text into a vector."""

    model_id: str
    texts: tuple[str, ...] = field(repr=False)
    """At least one."""


Work: TypeAlias = ChatWork | EmbeddingWork


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPiece:
    """The next piece of the answer."""

    text: str = field(repr=False)
    """May be empty; at most 64 KiB of UTF-8; always whole characters."""
    completion_tokens: int | None = None
    """Tokens generated up to and with this piece; None = the engine does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """The embedding of the text at ``index``. Vectors come in the order of the texts, each once."""

    index: int
    values: tuple[float, ...] = field(repr=False)
    """1 to 16,384 finite numbers; as many for every text of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The last event of work that was done. Nothing follows it; a generation without one has failed."""

    prompt_tokens: int
    """Tokens of the input, as the model's tokenizer counts them."""
    completion_tokens: int
    """Tokens generated; 0 for embeddings."""
    finish_reason: FinishReason


EngineEvent: TypeAlias = TextPiece | Vector | Finished


class Engine(Protocol):
    """Serves models. Every method may be called from several tasks at once.

    All failures are :class:`hostmesh.errors.EngineError`: :class:`~hostmesh.errors.ContextExceededError` when the input
    does not fit, :class:`~hostmesh.errors.ModelNotReadyError` when the model is not loaded (now), the root for
    everything else. The job server logs their texts, so these hold no input and no output; a client is told the reason
    alone.
    """

    def models(self) -> tuple[ModelInfo, ...]:
        """Return the models, each id once. Cheap, and the same for the life of the engine."""
        ...

    async def ready(self) -> Mapping[str, bool]:
        """Ask the engine now which models are loaded and answering.

        Returns:
            Every model id of :meth:`models`. An engine that cannot be reached has no model ready; that is an answer
            and no error.

        Cancellation: safe.
        """
        ...

    def generate(self, work: Work) -> AbstractAsyncContextManager[AsyncIterator[EngineEvent]]:
        """Start the work; iterate inside the block for its events, of which :class:`Finished` is the last.

        Leaving the block early, by an exception, cancellation or ``break``, stops the computation itself within a
        second and frees what it held; the block's exit may wait for that, shielded for at most that second. An
        exception of the block's body leaves it as it is, never inside a group.

        Raises:
            EngineError: on entering the block or from the iterator; the events so far stand, no more will come.
        """
        ...

    async def count_prompt_tokens(self, work: Work) -> int | None:
        """Count the tokens of the input as the model will see them, its chat template included.

        Returns:
            The count over all messages or texts; None = this engine cannot tell beforehand.

        Raises:
            EngineError: the engine does not answer.

        Cancellation: safe. Cost: no generation.
        """
        ...
