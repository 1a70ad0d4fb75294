"""The host's receipts of a job, slice by slice, by hand-counted money: see the kit."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from tests.unit.jobs.kit import (
    EMBED,
    Liar,
    Script,
    make_client,
)
from tests.unit.jobs.receipt_kit import (
    PROMPT,
    SESSION_ID,
    Slow,
    assert_free,
    numbers,
    receipts_of,
    run_to_end,
    session_of,
    setting,
)

from hostmesh.errors import JobError
from hostmesh.jobs.engine import TextPiece
from hostmesh.jobs.stats import JobOutcome
from hostmesh.receipts.receipt import JobState
from hostmesh.v1 import job_pb2


class Deaf(Liar):
    """A client's countersignatures do not come to this host."""

    async def countersign(self, request: Any, context: Any) -> Any:
        return job_pb2.CountersignResponse()


async def test_a_receipt_goes_out_at_half_a_slice_and_at_the_end(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, _ = setting(nursery, 20)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    async with manager.run(session, prompt=PROMPT) as job:
        await job.read_text()
    assert numbers(receipts_of(host, job.job_id)) == [
        (4, 6, 6, JobState.RUNNING),
        (4, 16, 16, JobState.RUNNING),
        (4, 20, 20, JobState.SUCCEEDED),
    ]
    assert session.charged == [10, 10, 4]
    assert trio.current_time() == 21.0, "a client that answers at once never stops its host"
    assert host.purses[SESSION_ID].spent == 24
    await assert_free(manager, host, 20)


async def test_a_client_that_countersigns_nothing_gets_a_slice_and_30_seconds(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, _ = setting(nursery, 20, handler=Deaf)
    host.engine.default = Script(pieces=("x",) * 60)
    with pytest.raises(JobError) as caught:
        async with manager.run(session, prompt=PROMPT) as job:
            await job.read_text()
    assert (caught.value.reason, caught.value.retry_safe) == ("RECEIPT_OVERDUE", False)
    assert trio.current_time() == 30.0
    assert receipts_of(host, job.job_id)[-1].cost_micros == 20
    assert host.server.stats().outcomes == {JobOutcome.UNPAID: 1}
    assert host.purses[SESSION_ID].spent == 20
    assert job._transcript.delivered_pieces == 16, "4 of the 20 were the prompt"
    # The session takes no more: the next job is not even accepted.
    with pytest.raises(JobError) as caught:
        async with manager.run(session, prompt=PROMPT) as job:
            await job.read_text()
    assert caught.value.reason == "RECEIPT_OVERDUE"
    assert (caught.value.may_have_executed, trio.current_time()) == (False, 30.0)
    assert len(host.engine.works) == 1


async def test_jobs_that_wait_go_on_in_the_order_in_which_they_asked(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, front = setting(nursery, 12, handler=Slow)
    assert isinstance(front, Slow)
    # One program holds a prompt back itself while another one may cost the slice.
    programs = [manager, *(make_client(host, nursery, handler=front)[0] for _ in range(2))]
    host.engine.default = Script(pieces=("x",) * 5, delay_s=0.5)
    async with trio.open_nursery() as jobs:
        for number in range(3):
            jobs.start_soon(run_to_end, programs[number], session, f"job {number}")
            await host.until_accepted(number + 1)
            await trio.sleep(0.1)
        assert [work.messages[0].content for work in host.engine.works] == ["job 0", "job 1", "job 2"]
        await front.asked.wait()
        await trio.sleep(20)
        assert host.server.stats().active_jobs == 3, "12 were served, nobody goes on"
        front.opened.set()
    assert host.server.stats().outcomes == {JobOutcome.SUCCEEDED: 3}
    await assert_free(manager, host, 12)


async def test_a_job_that_waits_for_another_jobs_engine_is_not_overdue(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """The client has nothing that it could countersign: the first job wrote no receipt yet."""
    host, manager, session, front = setting(nursery, 10)
    other, _ = make_client(host, nursery, handler=front)
    host.engine.scripts = [Script(pieces=("x",), delay_s=40.0), Script(pieces=("x",))]
    async with trio.open_nursery() as jobs:
        jobs.start_soon(run_to_end, manager, session, PROMPT)
        await host.until_accepted(1)
        await trio.sleep(1)
        async with other.run(session, prompt="a b c d e f") as job:
            await job.read_text()
    assert trio.current_time() == 80.0
    assert host.server.stats().outcomes == {JobOutcome.SUCCEEDED: 2}


async def test_who_waits_beside_a_job_whose_receipt_is_overdue_ends_at_its_own_time(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """The first job runs on within its room; its unpaid receipt is nobody's reason to look at the clock again."""
    host, manager, session, _ = setting(nursery, 100, handler=Deaf)
    host.engine.scripts = [
        Script(events=(TextPiece(text="x", completion_tokens=50),), hang_after=1),
        Script(pieces=("x",)),
    ]
    with trio.move_on_after(200):
        async with manager.run(session, prompt=PROMPT) as first:
            await anext(first)
            await trio.sleep(20)
            with pytest.raises(JobError) as caught:
                await run_to_end(manager, session, "x " * 48)
            assert caught.value.reason == "RECEIPT_OVERDUE"
            assert trio.current_time() == 50.0


async def test_a_prompt_above_the_slice_is_refused_and_a_piece_above_it_ends_the_job(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, _ = setting(nursery, 9)
    with pytest.raises(JobError) as caught:
        await run_to_end(manager, session, "a b c d e f g h")
    assert (caught.value.reason, caught.value.may_have_executed) == ("SLICE_TOO_SMALL", False)
    assert host.engine.works == []
    host.engine.default = Script(
        events=(TextPiece(text="x", completion_tokens=1), TextPiece(text="y", completion_tokens=11))
    )
    with pytest.raises(JobError) as caught:
        await run_to_end(manager, session, PROMPT)
    assert (caught.value.reason, caught.value.may_have_executed) == ("SLICE_TOO_SMALL", True)
    assert "10 or more" in caught.value.remedy or "larger" in caught.value.remedy
    host.engine.default = Script(pieces=("x",))
    await assert_free(manager, host, 9)


async def test_texts_are_paid_for_with_their_vectors(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, _, _ = setting(nursery, 4)
    async with manager.run(session_of(4, model_id=EMBED), texts=["a b", "c"]) as job:
        await job.read_vectors()
    assert numbers(receipts_of(host, job.job_id)) == [
        (3, 0, 1, JobState.RUNNING),
        (3, 0, 2, JobState.SUCCEEDED),
    ]
    assert job.usage.cost_micros == 3
    assert host.receipts.unpaid(SESSION_ID) == ()


@pytest.mark.parametrize(("pieces", "receipts"), [(1023, 1), (1024, 2), (2050, 3)])
async def test_of_free_work_there_is_a_receipt_every_1024_pieces_and_the_last(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, pieces: int, receipts: int
) -> None:
    host, manager, session, _ = setting(nursery, 0, price=0)
    # One token that comes a letter at a time.
    script = Script(events=tuple(TextPiece(text="x", completion_tokens=1) for _ in range(pieces)))
    host.engine.default = script
    with pytest.raises(JobError):  # it makes no last event
        async with manager.run(session, prompt=PROMPT) as job:
            await job.read_text()
    issued = receipts_of(host, job.job_id)
    assert len(issued) == receipts, "with the one that says FAILED"
    assert {receipt.cost_micros for receipt in issued} == {0}
