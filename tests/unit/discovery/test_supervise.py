"""The task supervisor and the unwrapping of error groups."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from hostmesh.discovery.supervise import contain, keep_running, plain_errors
from hostmesh.errors import ConfigError, StoreError


async def test_a_failure_is_returned_and_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        await trio.lowlevel.checkpoint()
        raise OSError("no such interface")

    with caplog.at_level(logging.WARNING, logger="hostmesh.discovery"):
        error = await contain("source mdns", work)
    assert isinstance(error, OSError)
    assert caplog.records[0].exc_info is not None
    assert "source mdns failed: OSError" in caplog.text


async def test_cancellation_passes_through(autojump_clock: MockClock) -> None:
    with trio.move_on_after(1) as scope:
        await contain("sleeper", trio.sleep_forever)
    assert scope.cancelled_caught


async def test_work_is_started_again_with_growing_pauses(autojump_clock: MockClock) -> None:
    starts: list[float] = []

    async def work(*, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        starts.append(trio.current_time())
        task_status.started()
        await trio.lowlevel.checkpoint()
        raise ValueError("a bug")

    async with trio.open_nursery() as nursery:
        await nursery.start(keep_running, "work", work)
        await trio.sleep(200)
        nursery.cancel_scope.cancel()
    assert starts[:7] == [0, 1, 3, 7, 15, 31, 63]
    assert starts[7] - starts[6] == 60


async def test_work_that_cannot_start_does_not_block_the_start(autojump_clock: MockClock) -> None:
    async def work(*, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        await trio.lowlevel.checkpoint()
        raise OSError("no")

    async with trio.open_nursery() as nursery:
        await nursery.start(keep_running, "work", work)
        assert trio.current_time() == 0
        nursery.cancel_scope.cancel()


async def test_after_a_long_good_run_the_pause_is_short_again(autojump_clock: MockClock) -> None:
    starts: list[float] = []

    async def work(*, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        starts.append(trio.current_time())
        task_status.started()
        await trio.sleep(100)

    async with trio.open_nursery() as nursery:
        await nursery.start(keep_running, "work", work)
        await trio.sleep(300)
        nursery.cancel_scope.cancel()
    assert starts == [0, 101, 202]


def test_an_error_of_ours_comes_out_plain() -> None:
    inner = StoreError("full", path="x")
    with pytest.raises(StoreError) as caught, plain_errors():
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [inner]), ConfigError("second")])
    assert caught.value is inner
    assert isinstance(caught.value.__cause__, ExceptionGroup)


def test_a_bug_stays_in_its_group() -> None:
    with pytest.raises(ExceptionGroup), plain_errors():
        raise ExceptionGroup("outer", [StoreError("full", path="x"), TypeError("a bug")])
