"""The task supervisor: background work that fails is logged, counted and started again, and takes nothing else down.

One of the two places of hostmesh that catch every exception (the other is the boundary of a remote call's handler).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from hostmesh.errors import HostmeshError

if TYPE_CHECKING:
    from trio_typing import TaskStatus

_log = logging.getLogger("hostmesh.discovery")

FIRST_PAUSE_S = 1.0
LAST_PAUSE_S = 60.0


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise the error inside a group of errors that nurseries made, where all of it are errors of ours.

    The first in the order of the group; the group stands behind it as its cause.
    """
    try:
        yield
    except ExceptionGroup as group:
        _, others = group.split(HostmeshError)
        if others is not None:
            raise
        raise first_leaf(group) from group


def first_leaf(error: Exception) -> Exception:
    """Return the first error inside a group that nurseries made; any other error as it is."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


async def contain(name: str, work: Callable[[], Awaitable[None]]) -> Exception | None:
    """Run some work; return what it raised instead of raising it.

    Cancellation: passes through.
    """
    try:
        await work()
    except Exception as error:  # noqa: BLE001 - the task supervisor
        _log.warning("%s failed: %s", name, type(error).__name__, exc_info=error)
        return error
    return None


async def keep_running(
    name: str,
    work: Callable[..., Awaitable[None]],
    *,
    task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run some background work for ever; when it fails or returns, run it again after a pause that doubles to 60 s.

    Args:
        name: for the log.
        work: takes ``task_status`` and calls its ``started()``.
        task_status: ``started()`` comes when the work's first run started or failed.

    Cancellation: ends it.
    """
    has_started = False

    def start() -> None:
        nonlocal has_started
        if not has_started:
            has_started = True
            task_status.started()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(work)
            start()

    pause_s = FIRST_PAUSE_S
    while True:
        began = trio.current_time()
        await contain(name, run)
        start()
        if trio.current_time() - began > LAST_PAUSE_S:
            pause_s = FIRST_PAUSE_S
        await trio.sleep(pause_s)
        pause_s = min(2 * pause_s, LAST_PAUSE_S)
