"""What a fake engine did, for tests to take their truth from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum

import trio

from hostmesh.jobs.engine import Work


class JobEnding(Enum):
    """How a job of the engine ended."""

    RUNNING = "running"
    """It has not."""
    FINISHED = "finished"
    """It gave all, with the usage."""
    FAILED = "failed"
    """The engine failed it, or ended it without its usage."""
    CANCELLED = "cancelled"
    """It was left before its end."""


@dataclass(slots=True, kw_only=True)
class EngineJob:
    """One job of the engine; it changes until the job has ended."""

    number: int
    """Counts from 1, in the order of starting."""
    work: Work = field(repr=False)
    began_at_s: float
    """By trio's clock."""
    ended_at_s: float | None = None
    """By trio's clock; None = it runs."""
    tokens: int = 0
    """Tokens of a chat, or vectors of an embedding, given out."""
    ending: JobEnding = JobEnding.RUNNING


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCounts:
    """What an engine did. ``started`` is always the sum of the four beneath it."""

    started: int = 0
    running: int = 0
    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    refused: int = 0
    """Never started: the model was not ready, or the input did not fit."""
    most_running: int = 0
    """The most that ever ran at once."""
    tokens: int = 0
    """Tokens and vectors given out, of all jobs."""


class EngineAccount:
    """Counts jobs, and remembers the newest.

    Args:
        max_kept_jobs: how many are remembered, >= 1.
    """

    def __init__(self, max_kept_jobs: int) -> None:
        self._jobs: deque[EngineJob] = deque(maxlen=max_kept_jobs)
        self._changed = trio.Event()
        self.counts = EngineCounts()

    @property
    def jobs(self) -> tuple[EngineJob, ...]:
        """The newest jobs, oldest first."""
        return tuple(self._jobs)

    async def wait_until(self, holds: Callable[[EngineCounts], bool]) -> EngineCounts:
        """Wait until the counts are so, and return them. Cancellation: safe."""
        await trio.lowlevel.checkpoint()
        while not holds(self.counts):
            await self._changed.wait()
        return self.counts

    def refuse(self) -> None:
        """Count work that was not begun."""
        self._set(refused=self.counts.refused + 1)

    def start(self, work: Work) -> EngineJob:
        """Count a job that begins, and return it."""
        counts = self.counts
        job = EngineJob(number=counts.started + 1, work=work, began_at_s=trio.current_time())
        self._jobs.append(job)
        running = counts.running + 1
        self._set(started=job.number, running=running, most_running=max(counts.most_running, running))
        return job

    def note_token(self, job: EngineJob) -> None:
        """Count a token or vector that is given out."""
        job.tokens += 1
        self._set(tokens=self.counts.tokens + 1)

    def end(self, job: EngineJob, ending: JobEnding) -> None:
        """Count the end of a job, once."""
        job.ending = ending
        job.ended_at_s = trio.current_time()
        word = ending.value
        self._set(running=self.counts.running - 1, **{word: getattr(self.counts, word) + 1})

    def _set(self, **numbers: int) -> None:
        self.counts = replace(self.counts, **numbers)
        changed, self._changed = self._changed, trio.Event()
        changed.set()
