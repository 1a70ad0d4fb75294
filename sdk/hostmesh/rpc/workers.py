"""Tasks that serve one call after the other, each in a cancel scope that it keeps.

To make a task and a scope for each call costs more than most calls do. A worker's scope is entered once, and used for
all of its calls until one of them is cancelled; then the worker takes a new one.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

import trio

from hostmesh.net.deadlines import Deadlines
from hostmesh.net.stream import Stream, StreamPlace
from hostmesh.rpc.outcome import outer_part
from hostmesh.rpc.plain import PlainCall
from hostmesh.rpc.routes import Service

if TYPE_CHECKING:
    from trio_typing import TaskStatus

MAX_WORKERS = 64
"""Further calls have tasks of their own. Chosen here: as many as a busy client has calls at once."""

Job = tuple[Service, Stream, StreamPlace]
"""A stream of a service, and where it came from."""
Begin = Callable[[Service, Stream], PlainCall | Awaitable[None]]
"""Begins to serve a stream: returns a call for the worker's own scope, or what serves the stream by itself."""


class _Worker:
    """One task. Its deadline is that of the call it is at."""

    __slots__ = ("job", "scope", "task")

    def __init__(self, job: Job) -> None:
        self.job: Job | None = job
        self.scope: trio.CancelScope | None = None
        self.task: trio.lowlevel.Task | None = None

    def expire(self) -> None:
        """See :class:`hostmesh.net.deadlines.Waiter`."""
        if self.scope is not None:
            self.scope.cancel()


class Workers:
    """Serves streams while :meth:`run` does.

    Args:
        begin: looks at a stream that came.
    """

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._nursery: trio.Nursery | None = None
        self._idle: list[_Worker] = []
        self._workers = 0
        self._deadlines = Deadlines()
        self._context = copy_context()

    @property
    def idle(self) -> int:
        """How many wait for a call."""
        return len(self._idle)

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take jobs until cancelled; what is being served is cancelled with it."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._deadlines.run)
                self._nursery = nursery
                self._context = copy_context()
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    def take(self, job: Job) -> bool:
        """Have a worker do a job, soon. Returns False where none is free."""
        if self._idle:
            worker = self._idle.pop()
            worker.job = job
            assert worker.task is not None
            trio.lowlevel.reschedule(worker.task)
            return True
        if self._nursery is None or self._workers >= MAX_WORKERS:
            return False
        self._workers += 1
        self._nursery.start_soon(self._work, _Worker(job))
        return True

    async def _work(self, worker: _Worker) -> None:
        try:
            await self._serve_calls(worker)
        finally:
            self._workers -= 1

    async def _serve_calls(self, worker: _Worker) -> None:
        while worker.job is not None:
            call: PlainCall | None = None
            failure: Exception | None = None
            try:
                with trio.CancelScope() as scope:
                    worker.scope = scope
                    while worker.job is not None:
                        (service, stream, place), worker.job = worker.job, None
                        begun = self._look(service, stream)
                        if isinstance(begun, PlainCall):
                            call = begun
                            call.place = place
                            await self._serve(worker, call, scope)
                            call = None
                        elif not place.start(stream, go_on := partial(_go_on, begun)):
                            await place.serve(stream, go_on)
                        del begun
                        await self._rest(worker)
                    return
            except Exception as error:  # noqa: BLE001 - the handler boundary: one call fails, and nothing else
                failure = error
            except BaseException as error:  # noqa: BLE001 - raised again, without what is the handler's
                if call is not None:
                    await call.abandon()
                raise outer_part(error) from None
            if call is not None:
                await call.conclude(failure)
                call = failure = None
                await self._rest(worker)

    def _look(self, service: Service, stream: Stream) -> PlainCall | Awaitable[None]:
        try:
            return self._begin(service, stream)
        except Exception as error:  # noqa: BLE001 - told where the errors of handlers are
            return _fail(error)

    async def _serve(self, worker: _Worker, call: PlainCall, scope: trio.CancelScope) -> None:
        if call.deadline == math.inf:
            await call.serve(scope)
            return
        key = self._deadlines.add(worker, call.deadline)
        try:
            await call.serve(scope)
        finally:
            self._deadlines.remove(worker, key)

    async def _rest(self, worker: _Worker) -> None:
        """Wait for the next job."""

        def abort(_: object) -> trio.lowlevel.Abort:
            self._idle.remove(worker)
            return trio.lowlevel.Abort.SUCCEEDED

        worker.task = task = trio.lowlevel.current_task()
        # From its next step on: no call sees context variables that another has set.
        task.context = self._context.copy()  # type: ignore[misc] # attrs has made the slot
        self._idle.append(worker)
        await trio.lowlevel.wait_task_rescheduled(abort)


async def _fail(error: Exception) -> None:
    raise error


def _go_on(serving: Awaitable[None], _: Stream) -> Awaitable[None]:
    return serving
