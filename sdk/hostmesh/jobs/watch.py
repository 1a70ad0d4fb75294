"""Somebody who sees a client's jobs leave, gives them seeds, and sees them end.

Checks of hosts' models copy real jobs, and compare answers of one seed (docs/canaries.md). The jobs know nothing of it:
what they ask stands here as a Protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from hostmesh.errors import ParameterError
from hostmesh.jobs.client_sessions import OpenSession
from hostmesh.jobs.content import WireInput
from hostmesh.jobs.engine import ParameterValue
from hostmesh.v1 import job_pb2

SEED = "seed"
Parameters = Mapping[str, ParameterValue]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WatchedJob:
    """A chat that is about to be asked for, as its caller gave it."""

    session: OpenSession
    chat: job_pb2.ChatInput
    parameters: Parameters
    max_output_tokens: int | None
    """None = the host's own limit."""
    timeout_s: float | None
    """None = no limit."""


class JobWatch(Protocol):
    """Sees jobs. Nothing here may raise: a user's job is not to fail by who watches it."""

    async def leaves(self, job: WatchedJob) -> Parameters:
        """Wait until a job may leave, half of its own limit at most, note it, and return what it is sent with.

        Cancellation: safe; the job does not leave.
        """
        ...

    def job_ended(self, job: WatchedJob) -> None:
        """Note that a watched job is over, however it ended: no word of the host's is awaited any more."""
        ...

    def seed_refused(self, job: WatchedJob) -> None:
        """Note that the host's model takes no seed, so that the job goes without one; it has not ended yet."""
        ...


class Watching:
    """One job under a watch, for the life of the block.

    Args:
        watch: sees it; None = nobody does.
        session: it runs in.
        wire: its input; one of texts is not watched.
        parameters: as the caller gave them, checked.
        max_output_tokens: as the caller gave it.
        timeout_s: as the caller gave it.
    """

    def __init__(
        self,
        watch: JobWatch | None,
        *,
        session: OpenSession,
        wire: WireInput,
        parameters: Parameters,
        max_output_tokens: int | None,
        timeout_s: float | None,
    ) -> None:
        self.parameters = parameters
        """What the job is sent with."""
        self._watch: JobWatch | None = None
        self._sees = watch if isinstance(wire, job_pb2.ChatInput) else None
        if not isinstance(wire, job_pb2.ChatInput):
            return
        self._job = WatchedJob(
            session=session,
            chat=wire,
            parameters=parameters,
            max_output_tokens=max_output_tokens,
            timeout_s=timeout_s,
        )

    async def leave(self) -> None:
        """Wait until the job may leave, and have it seen; then :attr:`parameters` are what it is sent with."""
        if self._sees is not None:
            self.parameters = await self._sees.leaves(self._job)
            self._watch = self._sees

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.ended()

    def may_go_without_seed(self, error: ParameterError) -> bool:
        """Return whether a host refused a seed that is not the caller's; the job then goes without one."""
        was_added = SEED in self.parameters and SEED not in self._job.parameters
        if self._watch is None or error.parameter != SEED or not was_added:
            return False
        self._watch.seed_refused(self._job)
        self.parameters = self._job.parameters
        return True

    def ended(self) -> None:
        """Note that the host has said its last word. Idempotent."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.job_ended(self._job)
