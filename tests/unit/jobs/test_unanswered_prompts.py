"""Prompts that were paid for and not answered: a client's own bound on them is no lie of its host.

A token costs one micro-unit; the slice is worth 100, and the long prompt has 60 tokens.
"""

from __future__ import annotations

import trio
import trio.testing
from tests.unit.jobs.kit import Book, Host, Script, make_client
from tests.unit.jobs.receipt_kit import SESSION_ID, session_of, setting

from hostmesh.errors import JobError
from hostmesh.jobs.client import JobManager
from hostmesh.jobs.stats import JobOutcome

SLICE = 100
LONG = "x " * 58


def both(nursery: trio.Nursery, slice_micros: int = SLICE) -> tuple[Host, JobManager, Book]:
    host, _, _, _ = setting(nursery, slice_micros)
    book = Book()
    manager, _ = make_client(host, nursery, book=book)
    return host, manager, book


async def change_mind(manager: JobManager, host: Host, slice_micros: int = SLICE) -> None:
    """Leave a job before its first token; its prompt is paid for."""
    host.engine.scripts.append(Script(pieces=("x",), delay_s=10.0))
    async with manager.run(session_of(slice_micros), prompt=LONG) as job:
        await trio.sleep(1)
    await host.until_idle()
    assert job.is_settled
    assert host.receipts.unpaid(SESSION_ID) == ()


async def end_of(manager: JobManager, prompt: str, slice_micros: int = SLICE) -> JobError | None:
    try:
        async with manager.run(session_of(slice_micros), prompt=prompt) as job:
            await job.read_text()
    except JobError as error:
        return error
    return None


async def test_a_receipt_over_one_too_many_is_not_signed_and_nobody_is_blamed(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, book = both(nursery)
    await change_mind(manager, host)
    host.engine.scripts = [Script(pieces=("a",) * 60, delay_s=1.0), Script(pieces=("b",) * 5, delay_s=0.1)]
    ends: list[JobError | None] = []

    async def run(prompt: str) -> None:
        ends.append(await end_of(manager, prompt))

    async with trio.open_nursery() as jobs:
        jobs.start_soon(run, "Hi")
        await trio.sleep(37.5)
        # The other one filled the slice: its first piece has no room, and its host writes a receipt over its prompt.
        jobs.start_soon(run, LONG)
    error, other = ends
    assert other is None
    assert error is not None
    assert (error.reason, error.may_have_executed, error.retry_safe) == ("SLICE_TOO_SMALL", True, False)
    assert "Open a new session" in error.remedy
    assert all(verdict.is_good for verdict in book.verdicts)
    assert manager._receipts.refused() == ()


async def test_a_prompt_for_which_nothing_is_left_does_not_leave(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, book = both(nursery, 65)
    await change_mind(manager, host, 65)
    accepted = host.server.stats().accepted
    error = await end_of(manager, LONG, 65)
    assert error is not None
    assert (error.reason, error.may_have_executed) == ("SLICE_TOO_SMALL", False)
    assert "Open a new session" in error.remedy
    assert host.server.stats().accepted == accepted
    # A short one has what is left; what is answered counts no more.
    host.engine.scripts = []
    for _ in range(3):
        assert await end_of(manager, "Hi", 65) is None
    assert len(book.verdicts) == 3
    assert all(verdict.is_good for verdict in book.verdicts)
    assert host.server.stats().outcomes == {JobOutcome.CANCELLED: 1, JobOutcome.SUCCEEDED: 3}


async def test_one_that_waited_meanwhile_is_refused_too_and_lets_the_next_one_go(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, _ = both(nursery, 65)
    host.engine.scripts = [Script(pieces=("x",), delay_s=10.0), Script(pieces=("y",))]
    ends: dict[str, JobError | None] = {}

    async def run(prompt: str) -> None:
        ends[prompt] = await end_of(manager, prompt, 65)

    async with trio.open_nursery() as jobs:
        with trio.move_on_after(5):
            async with manager.run(session_of(65), prompt=LONG) as job:
                jobs.start_soon(run, LONG)
                await trio.sleep(0.1)
                jobs.start_soon(run, "Hi")
                await job.read_text()
    refused = ends[LONG]
    assert refused is not None
    assert refused.reason == "SLICE_TOO_SMALL"
    assert ends["Hi"] is None
