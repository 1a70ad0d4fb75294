"""What can go wrong with a :class:`hostmesh.testing.FakeEngine`: one frozen value a fault. Pure.

Counts are of tokens of a chat, or vectors of an embedding. A fault after more of them than the answer has never comes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from hostmesh.errors import ConfigError, EngineError
from hostmesh.jobs.engine import EngineEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class FailsToLoad:
    """Models never become ready; work for them is refused with :class:`~hostmesh.errors.ModelNotReadyError`."""

    model_ids: frozenset[str] = frozenset()
    """Which; empty = all."""


@dataclass(frozen=True, slots=True)
class _After:
    tokens: int
    """Given out before, >= 0."""

    def __post_init__(self) -> None:
        if self.tokens < 0:
            raise ConfigError(f"tokens is {self.tokens}", name="tokens", source="argument", remedy="give 0 or more")


@dataclass(frozen=True, slots=True)
class FailsAfter(_After):
    """Gives so much of the answer, then raises an error; other jobs are unharmed.

    >>> FailsAfter(3).tokens
    3
    """

    message: str = "the fake engine failed, as it was told to"

    def error(self) -> EngineError:
        """Return a new error: one that is raised twice would keep the traces of both."""
        return EngineError(self.message)


@dataclass(frozen=True, slots=True)
class HangsAfter(_After):
    """Gives so much of the answer, then nothing for ever, until it is left or dies."""


@dataclass(frozen=True, slots=True)
class DiesAfter(_After):
    """Gives so much of the answer, then the engine dies: every job fails, and no model is ready until it is revived."""


@dataclass(frozen=True, slots=True)
class EndsAfter(_After):
    """Gives so much of the answer, then ends without :class:`~hostmesh.Finished`, which no honest engine does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiesAboutUsage:
    """Answers well, then adds these to the final counts; a sum below 0 is said as it is."""

    extra_prompt_tokens: int = 0
    extra_completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Says:
    """Gives exactly these events at the set speed, whatever the work is, lawful or not."""

    events: tuple[EngineEvent, ...] = field(repr=False)


EngineFault: TypeAlias = FailsToLoad | FailsAfter | HangsAfter | DiesAfter | EndsAfter | LiesAboutUsage | Says
"""Any of the faults."""
