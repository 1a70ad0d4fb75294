"""What the checker of canaries asks, and of whom: values, and Protocols that who composes the SDK fills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hostmesh.canaries.evidence import CanaryEvidence

Messages = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryRequest:
    """What is asked of a host or of the reference: the same for both."""

    model_id: str
    messages: Messages
    """Pairs of role and text."""
    max_output_tokens: int | None
    """Of the reference and a quorum what the host quoted; None = the host is to say."""
    parameters: dict[str, object]
    """With ``seed``."""
    timeout_s: float | None = None
    """The deadline of the job that was copied; None = it had none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryAnswer:
    """A host's whole answer."""

    text: str
    max_output_tokens: int
    """As it was quoted: where the answer was cut at the latest."""
    operator: str
    """The wallet of the session in which it was given, as an address in small letters."""


class JobRunner(Protocol):
    """Runs a job at a host as the user's jobs are run: in his session, with its streaming and its payment."""

    async def __call__(self, peer_id: str, request: CanaryRequest) -> CanaryAnswer:
        """Return the whole answer.

        Raises:
            BudgetExceededError: it could cost more than may be spent on it.
            HostmeshError: the job did not end well, or must not be paid for.
        """
        ...


class Reference(Protocol):
    """The client's own engine with the model's weights, in one setting or better in several.

    In several that round differently, such as with one attention path and another: where honest engines go two ways,
    either is then right, and what is left tells more.
    """

    async def __call__(self, request: CanaryRequest) -> Sequence[str]:
        """Return the whole answer in each setting, one or more.

        Raises:
            HostmeshError: it has none.
        """
        ...


class Quorum(Protocol):
    """Names other hosts of a model, of other operators than the host's and each other's."""

    def __call__(self, peer_id: str, model_id: str) -> Sequence[str]:
        """Return their peer ids; fewer than three = no quorum now."""
        ...


class EvidenceBook(Protocol):
    """Where evidence goes."""

    def record_canaries(self, evidence: CanaryEvidence) -> object:
        """Take the evidence of one window."""
        ...
