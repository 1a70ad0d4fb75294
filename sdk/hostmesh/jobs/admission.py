"""Which job runs now, which waits, which is turned away. Pure.

A fixed number of slots, one bounded queue in order of arrival, and a share of both that no single peer exceeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from hostmesh.errors import ConfigError
from hostmesh.jobs.reasons import job_refused
from hostmesh.net.peer_id import PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLimits:
    """How much work a host takes at once."""

    max_concurrent_jobs: int = 4
    """Jobs in the engine at once, >= 1."""
    max_queued_jobs: int = 128
    """Jobs that wait for a slot, >= 0."""
    max_jobs_per_peer: int = 64
    """Jobs of one peer, running and waiting, >= 1."""
    quote_lifetime_s: float = 60.0
    """How long a quote can be accepted, seconds, 1 to 3600."""
    max_output_tokens: int | None = None
    """The host's own cap on one answer, below the models'; None = the models' limits alone."""
    max_job_s: float = 3600.0
    """Longest time of a job in the engine, whatever its caller's deadline; a slot is never held for ever. Clients hold
    less than 600 s against the host."""
    engine_silence_s: float = 300.0
    """An engine that makes no event for so long has failed; restarts with each event."""
    retry_after_ms: int = 1000
    """What a client is told that came while the host was busy."""

    def __post_init__(self) -> None:
        for name, value, low in (
            ("max_concurrent_jobs", self.max_concurrent_jobs, 1),
            ("max_queued_jobs", self.max_queued_jobs, 0),
            ("max_jobs_per_peer", self.max_jobs_per_peer, 1),
            ("max_output_tokens", 1 if self.max_output_tokens is None else self.max_output_tokens, 1),
            ("retry_after_ms", self.retry_after_ms, 0),
        ):
            if not low <= value < 2**32:
                raise ConfigError(f"{name} is {value}", name=name, remedy=f"Give {low} or more.")
        if not 1 <= self.quote_lifetime_s <= 3600:
            raise ConfigError(
                f"quote_lifetime_s is {self.quote_lifetime_s}",
                name="quote_lifetime_s",
                remedy="Give 1 to 3600 seconds.",
            )
        for name, seconds in (("max_job_s", self.max_job_s), ("engine_silence_s", self.engine_silence_s)):
            if not seconds > 0:
                raise ConfigError(f"{name} is {seconds}", name=name, remedy="Give more than 0 seconds.")


MayStart = Callable[[bytes], bool]
"""Whether a job may start as far as others than the engine say; it starts then."""


def _always(job_id: bytes) -> bool:
    return True


class Admission:
    """Slots and queue. Job ids are any unique bytes."""

    def __init__(self, limits: JobLimits) -> None:
        self._limits = limits
        self._active: dict[bytes, PeerId] = {}
        self._queue: dict[bytes, PeerId] = {}
        self._per_peer: Counter[PeerId] = Counter()
        self._draining = False

    @property
    def active(self) -> int:
        """Jobs that hold a slot."""
        return len(self._active)

    @property
    def queued(self) -> int:
        """Jobs that wait."""
        return len(self._queue)

    @property
    def is_draining(self) -> bool:
        """True once :meth:`drain` was called."""
        return self._draining

    @property
    def jobs_ahead(self) -> int:
        """The queue position that the next job would get: 0 = it would start at once."""
        return 0 if len(self._active) < self._limits.max_concurrent_jobs else len(self._queue) + 1

    def check(self, peer_id: PeerId) -> None:
        """Raise what :meth:`submit` would raise now.

        Raises:
            JobError: ``DRAINING``, or ``BUSY`` with a time to come back.
        """
        if self._draining:
            raise job_refused("DRAINING", "the host takes no new jobs")
        places = self._limits.max_concurrent_jobs + self._limits.max_queued_jobs
        full = len(self._active) + len(self._queue) >= places
        if full or self._per_peer[peer_id] >= self._limits.max_jobs_per_peer:
            message = "every slot and queue place is taken" if full else "this peer has as many jobs here as it may"
            raise job_refused("BUSY", message, retry_after_ms=self._limits.retry_after_ms)

    def submit(self, job_id: bytes, peer_id: PeerId, may_start: MayStart = _always) -> int:
        """Give the job a slot or a place in the queue.

        Args:
            job_id: unique.
            peer_id: its client.
            may_start: asked once a slot is free for the job; takes what it needs beside it. Without it, the job waits.

        Returns:
            0 = it has a slot; n >= 1 = it is the n-th in the queue.

        Raises:
            JobError: as :meth:`check`; nothing changed.
        """
        self.check(peer_id)
        self._per_peer[peer_id] += 1
        if len(self._active) < self._limits.max_concurrent_jobs and may_start(job_id):
            self._active[job_id] = peer_id
            return 0
        self._queue[job_id] = peer_id
        return len(self._queue)

    def leave(self, job_id: bytes, may_start: MayStart = _always) -> bytes | None:
        """Take the job out, wherever it stands.

        Args:
            job_id: of :meth:`submit`.
            may_start: asked of those who wait, in order.

        Returns:
            The job that now has the slot, if one was waiting for it.
        """
        if job_id in self._queue:
            self._forget(self._queue.pop(job_id))
            return None
        self._forget(self._active.pop(job_id))
        return self.promote(may_start)

    def promote(self, may_start: MayStart = _always) -> bytes | None:
        """Give a free slot to the first job in the queue that may start.

        Returns:
            That job; None = no slot is free, or nobody may start.
        """
        if len(self._active) >= self._limits.max_concurrent_jobs:
            return None
        promoted = next((job_id for job_id in self._queue if may_start(job_id)), None)
        if promoted is not None:
            self._active[promoted] = self._queue.pop(promoted)
        return promoted

    def drain(self) -> None:
        """Turn away every new job from now on; those that are here stay."""
        self._draining = True

    def _forget(self, peer_id: PeerId) -> None:
        self._per_peer[peer_id] -= 1
        if not self._per_peer[peer_id]:
            del self._per_peer[peer_id]
