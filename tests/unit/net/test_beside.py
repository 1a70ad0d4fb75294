"""Work beside a block: whose error is whose, and when the work ends."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from hostmesh.net.beside import working_beside


async def test_the_block_s_own_error_is_met_as_it_is_and_ends_the_work(autojump_clock: MockClock) -> None:
    ended = trio.Event()

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async def block() -> None:
        async with working_beside(work):
            await trio.sleep(1)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await block()
    assert ended.is_set()


async def test_the_work_ends_with_the_block_and_a_cancellation_is_none_of_its_business(
    autojump_clock: MockClock,
) -> None:
    runs: list[float] = []

    async def work() -> None:
        while True:
            runs.append(trio.current_time())
            await trio.sleep(1)

    async with working_beside(work):
        await trio.sleep(2.5)
    assert len(runs) == 3
    with trio.move_on_after(1.5) as scope:
        async with working_beside(work):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert len(runs) == 5


async def test_work_that_fails_ends_the_block(autojump_clock: MockClock) -> None:
    async def work() -> None:
        await trio.sleep(1)
        raise OSError("the work's")

    with pytest.raises(ExceptionGroup) as caught:
        async with working_beside(work):
            await trio.sleep_forever()
    assert [type(error) for error in caught.value.exceptions] == [OSError]
