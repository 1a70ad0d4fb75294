"""Jobs of a client whose last receipt did not come when they ended: kept in memory, and asked for again."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeAlias

import trio

from hostmesh.jobs.countersigning import SETTLE_TIMEOUT_S, Countersigner

MAX_UNSETTLED_JOBS = 1024
"""In all sessions: as many as a host remembers."""
MAX_UNSETTLED_BYTES = 64 * 1024 * 1024
"""Of their prompts and answers."""
MAX_ASKED_AT_ONCE = 64
"""As many jobs as a host takes of one peer at once; those that are left are asked for before the job after."""

SessionKey: TypeAlias = tuple[bytes, bytes]
"""A session's host and its id."""


class UnsettledJobs:
    """What is needed to audit the last receipts of jobs that were cut, of all sessions.

    Bounds: jobs, and bytes of prompts and answers; beyond, the oldest is forgotten, and keeps its part of its session's
    slice.
    """

    def __init__(self) -> None:
        self._jobs: OrderedDict[tuple[SessionKey, bytes], Countersigner] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def keep(self, session: SessionKey, job: Countersigner) -> None:
        """Keep a job, if asking for its last receipt again may settle it."""
        if not job.may_settle:
            return
        self._jobs[session, job.job_id] = job
        self._bytes += job.kept_bytes
        while len(self._jobs) > MAX_UNSETTLED_JOBS or self._bytes > MAX_UNSETTLED_BYTES:
            self._take(next(iter(self._jobs)))

    def forget(self, session: SessionKey) -> None:
        """Forget the jobs of a session."""
        for key in [key for key in self._jobs if key[0] == session]:
            self._take(key)

    async def settle(self, session: SessionKey) -> None:
        """Ask for the last receipts of a session's jobs again, all at once. Takes 2 s at most.

        Cancellation: safe; what was not settled is asked for the next time.
        """
        keys = [key for key in self._jobs if key[0] == session][:MAX_ASKED_AT_ONCE]
        jobs = [self._take(key) for key in keys]
        if not jobs:
            return
        try:
            with trio.move_on_after(SETTLE_TIMEOUT_S):
                async with trio.open_nursery() as nursery:
                    for job in jobs:
                        nursery.start_soon(job.settle_again)
        finally:
            for job in jobs:
                self.keep(session, job)

    def _take(self, key: tuple[SessionKey, bytes]) -> Countersigner:
        job = self._jobs.pop(key)
        self._bytes -= job.kept_bytes
        return job
