"""How engines differ: what each takes beyond the OpenAI API, and what it lets a host count. Pure.

Sources: llama.cpp tools/server/README.md; vLLM "OpenAI-Compatible Server" and entrypoints/serve/tokenize/protocol.py;
docs.ollama.com/api/openai-compatibility.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from hostmesh import ChatWork


class Dialect(Enum):
    """A family of engines."""

    LLAMA_CPP = "llama.cpp"
    VLLM = "vLLM"
    OLLAMA = "Ollama"
    MINILM = "hostmesh-minilm"
    """Our own embedding engine."""
    OTHER = "openai-compatible"

    @property
    def has_health(self) -> bool:
        """It answers ``/health``, with 503 while it loads."""
        return self in (Dialect.LLAMA_CPP, Dialect.VLLM, Dialect.MINILM)

    @property
    def has_tokenizer(self) -> bool:
        """It answers ``/tokenize``."""
        return self in (Dialect.LLAMA_CPP, Dialect.VLLM, Dialect.MINILM)


_OPENAI = frozenset({"temperature", "top_p", "seed", "stop", "frequency_penalty", "presence_penalty"})

PARAMETERS: Mapping[Dialect, frozenset[str]] = MappingProxyType(
    {
        Dialect.LLAMA_CPP: _OPENAI | {"top_k"},
        Dialect.VLLM: _OPENAI | {"top_k"},
        Dialect.OLLAMA: _OPENAI,
        Dialect.MINILM: frozenset(),
        Dialect.OTHER: _OPENAI,
    }
)
"""The job parameters that each family obeys in a chat; Ollama drops ``top_k`` in silence, so it is not
offered there."""


def dialect_of(owned_by: str) -> Dialect:
    """Return the family that a model list's ``owned_by`` names.

    >>> dialect_of("llamacpp")
    <Dialect.LLAMA_CPP: 'llama.cpp'>
    """
    match owned_by:
        case "llamacpp":
            return Dialect.LLAMA_CPP
        case "vllm":
            return Dialect.VLLM
        case "library":
            return Dialect.OLLAMA
        case "hostmesh":
            return Dialect.MINILM
        case _:
            return Dialect.OTHER


def chat_body(work: ChatWork, dialect: Dialect) -> dict[str, object]:
    """Return the body of ``POST /v1/chat/completions`` for a streamed answer with usage."""
    options: dict[str, object] = {"include_usage": True}
    body: dict[str, object] = {
        "model": work.model_id,
        "messages": chat_messages(work),
        "max_tokens": work.max_output_tokens,
        "stream": True,
        "stream_options": options,
    }
    for name, value in work.parameters.items():
        body[name] = list(value) if isinstance(value, tuple) else value
    if dialect is Dialect.LLAMA_CPP:
        # Without progress llama.cpp does not look at its connection until the whole prompt is computed, so that a
        # cancelled job would go on for tens of seconds; with it, at every batch.
        body["return_progress"] = True
        body["timings_per_token"] = True
    if dialect is Dialect.VLLM:
        options["continuous_usage_stats"] = True
        if body.get("top_k") == 0:
            body["top_k"] = -1  # how every vLLM spells "off"
    return body


def chat_messages(work: ChatWork) -> list[dict[str, str]]:
    """Return the messages as the OpenAI API writes them."""
    return [{"role": message.role.value, "content": message.content} for message in work.messages]


def embedding_body(model_id: str, texts: tuple[str, ...]) -> dict[str, object]:
    """Return the body of ``POST /v1/embeddings``."""
    return {"model": model_id, "input": list(texts), "encoding_format": "float"}
