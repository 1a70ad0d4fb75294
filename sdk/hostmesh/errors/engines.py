"""What goes wrong in a host, behind its job server."""

from __future__ import annotations

from typing import ClassVar

from hostmesh.errors.root import HostmeshError


class EngineError(HostmeshError):
    """A host's engine is missing, does not start or does not answer as the OpenAI API says."""

    code = "ENGINE"
    reason: ClassVar[str] = "ENGINE_FAILED"
    """What a client is told; the text stays on the host."""


class ModelNotReadyError(EngineError):
    """The engine does not hold the model, or is still loading it. Nothing was computed."""

    code = "ENGINE_MODEL_NOT_READY"
    reason = "MODEL_NOT_READY"
    retry_safe = True


class ContextExceededError(EngineError):
    """The input is longer than the model's context. Nothing was computed.

    Args:
        context_tokens: what the model takes.
        input_tokens: what was given; None = the engine did not say.
    """

    code = "ENGINE_CONTEXT_EXCEEDED"
    reason = "CONTEXT_EXCEEDED"

    def __init__(self, message: str, *, context_tokens: int, input_tokens: int | None = None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.context_tokens = context_tokens
        self.input_tokens = input_tokens
