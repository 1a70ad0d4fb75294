"""A nursery for what runs as long as a block: its tasks end with the block, and no sooner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from hostmesh.rpc.outcome import sole_error

if TYPE_CHECKING:
    from trio_typing import TaskStatus


@asynccontextmanager
async def open_own_nursery() -> AsyncIterator[trio.Nursery]:
    """Open a nursery that no cancellation from outside reaches: the block ends first, and its tasks with it.

    Yields:
        The nursery, which is cancelled and joined when the block is left.

    Raises:
        What the block raised; or what a task of the nursery did, which cancels the block. Neither in a group.
    """
    failure: BaseException | None = None
    crash: BaseException | None = None
    try:
        try:
            async with trio.open_nursery() as outer:
                nursery: trio.Nursery = await outer.start(_hold_tasks)
                try:
                    yield nursery
                except trio.Cancelled:
                    raise  # a scope waits for it
                except BaseException as error:  # noqa: BLE001 - raised again below
                    # Kept aside, so that the caller meets its own error and not a group around it.
                    failure = error
                finally:
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # A task of the nursery failed: that is what ended the block.
            crash = sole_error(group)
        # Raised out here, so that the group is neither cause nor context.
        if crash is not None:
            raise crash
        if failure is not None:
            raise failure
    finally:
        # An error's traceback holds this frame; the frame is not to hold the error.
        del failure, crash


async def _hold_tasks(*, task_status: TaskStatus[trio.Nursery]) -> None:
    # A cancellation that came before there is a block finds nobody to end this, and behind the shield it would not be
    # heard of.
    await trio.lowlevel.checkpoint_if_cancelled()
    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as nursery:
            task_status.started(nursery)
            await trio.sleep_forever()
