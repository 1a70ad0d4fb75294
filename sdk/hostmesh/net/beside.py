"""Work that goes on beside a block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def working_beside(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run some work for the life of the block, whose own errors pass through as they are.

    Args:
        work: cancelled at the end of the block. What it raises cancels the block, and is raised in a group.
    """
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            try:
                yield
            except trio.Cancelled:
                raise  # a scope waits for it
            except BaseException as error:  # noqa: BLE001 - raised again below
                failure = error
            nursery.cancel_scope.cancel()
    finally:
        try:
            if failure is not None:
                # The caller meets its own error, and not a group that the nursery makes of it.
                raise failure
        finally:
            del failure  # its traceback holds this frame
