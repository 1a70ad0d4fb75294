"""Receipts of jobs that end early: cut, refused, failed, or lost with their connection."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from tests.unit.jobs.kit import (
    CHAT,
    HOST_KEY,
    OTHER_KEY,
    Host,
    Liar,
    Purse,
    Script,
    Wire,
    make_client,
    make_host,
)
from tests.unit.jobs.receipt_kit import (
    EVERYTHING,
    PROMPT,
    SESSION_ID,
    ask,
    assert_free,
    begin,
    cut,
    numbers,
    receipts_of,
    run_to_end,
    session_of,
    setting,
    sign,
)

from hostmesh.errors import ConnectionLostError, EngineError, JobError, RpcError
from hostmesh.jobs.job import Job
from hostmesh.jobs.stats import JobOutcome
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.receipts.receipt import JobState
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.v1.job_hostmesh import JobServiceClient


async def test_the_last_receipt_of_a_cut_job_is_over_what_its_client_says_that_came(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, _, _ = setting(nursery, 100)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    stub, job_id = await cut(manager, host, after=9)
    receipt = await ask(stub, job_id, 7)
    assert numbers([receipt]) == [(4, 7, 7, JobState.CANCELLED)]
    # What the first call said counts.
    for pieces in (0, 7, 9, EVERYTHING):
        assert await ask(stub, job_id, pieces) == receipt
    await sign(stub, receipt)
    await sign(stub, receipt)
    assert host.receipts.unpaid(SESSION_ID) == ()
    # Two pieces were sent that nobody paid for; they keep their part of the slice.
    host.engine.default = Script(pieces=("x",))
    await run_to_end(manager, session_of(100), "x " * 95)
    started = trio.current_time()
    # Nobody can countersign them any more: the session is over when a job had to wait for that.
    for prompt in ("x " * 97, "x"):
        with pytest.raises(JobError) as caught:
            await run_to_end(manager, session_of(100), prompt)
        assert caught.value.reason == "RECEIPT_OVERDUE"
        assert trio.current_time() == started + 30.0


@pytest.mark.parametrize(("said", "pieces"), [(0, 0), (8, 8), (9, 9), (10, 9), (EVERYTHING, 9)])
async def test_no_more_than_was_sent_is_claimed(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, said: int, pieces: int
) -> None:
    host, manager, _, _ = setting(nursery, 100)
    host.engine.default = Script(pieces=("x",) * 9, delay_s=1.0, hang_after=9)
    stub, job_id = await cut(manager, host, after=9)
    assert numbers([await ask(stub, job_id, said)]) == [(4, pieces, pieces, JobState.CANCELLED)]


async def test_a_cut_job_does_not_go_back_behind_a_receipt(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, _, _ = setting(nursery, 20)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    stub, job_id = await cut(manager, host, after=9)
    assert receipts_of(host, job_id)[-1].output_pieces == 6
    with pytest.raises(RpcError) as caught:
        await ask(stub, job_id, 5)
    assert caught.value.reason == "PIECES_WENT_BACK"
    assert numbers([await ask(stub, job_id, 6)]) == [(4, 6, 6, JobState.CANCELLED)]


async def test_a_last_receipt_is_for_the_peer_and_the_session_of_the_job(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, _, _ = setting(nursery, 20)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    other, _ = make_client(host, nursery, key=OTHER_KEY)
    strange = JobServiceClient(other._caller, HOST_KEY.peer_id)
    stub, request = await begin(manager)
    async with stub.run(request, timeout_s=None, session_id=SESSION_ID) as responses:
        async for response in responses:
            if response.WhichOneof("event") == "text":
                break
        for caller, session_id in ((strange, SESSION_ID), (stub, b"o" * 16), (stub, b"")):
            with pytest.raises(RpcError) as caught:
                await ask(caller, request.quote_id, 0, session_id=session_id)
            assert caught.value.reason == "UNKNOWN_RECEIPT"
        assert host.server.stats().active_jobs == 1, "nor do strangers end it"
    await host.until_idle()
    with pytest.raises(RpcError):
        await ask(strange, request.quote_id, 0)
    receipt = await ask(stub, request.quote_id, 1)
    with pytest.raises(RpcError) as caught:
        await sign(strange, receipt)
    assert caught.value.reason == "UNKNOWN_RECEIPT"
    assert len(host.receipts.unpaid(SESSION_ID)) == 1


async def test_asking_for_the_last_receipt_of_a_job_that_runs_ends_it(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, _, _ = setting(nursery, 100)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    stub, request = await begin(manager)
    async with stub.run(request, timeout_s=None, session_id=SESSION_ID) as responses:
        seen = 0
        async for response in responses:
            seen += response.WhichOneof("event") == "text"
            if seen == 3:
                break
        receipt = await ask(stub, request.quote_id, EVERYTHING)
        with pytest.raises(RpcError) as caught:
            async for _ in responses:
                pass
    assert caught.value.status.name == "CANCELLED"
    assert numbers([receipt]) == [(4, 3, 3, JobState.CANCELLED)]
    assert host.server.stats().outcomes == {JobOutcome.CANCELLED: 1}


async def test_a_host_that_started_again_has_what_it_issued(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, _, _ = setting(nursery, 20)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    _, job_id = await cut(manager, host, after=9)
    again = make_host(prices={CHAT: ModelPrice(micros_per_mtok=10**6, currency="USD")}, receipts=host.receipts)
    again.purses.update(host.purses)
    # The ids that were drawn before are not drawn again.
    for _ in range(9):
        again.server._system.random_bytes(16)
    later, _ = make_client(again, nursery)
    stub = JobServiceClient(later._caller, HOST_KEY.peer_id)
    receipt = await ask(stub, job_id, 3)
    assert numbers([receipt]) == [(4, 6, 6, JobState.RUNNING)]
    # 10 of the slice of 20 are taken, as before.
    again.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    started = trio.current_time()
    async with later.run(session_of(20), prompt="x " * 9) as job:
        await trio.sleep(5)
        assert again.engine.works == []
        await sign(stub, receipt)
        await anext(job)
    assert trio.current_time() < started + 7


async def test_a_client_that_leaves_pays_for_what_was_sent_and_the_slice_is_free(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, _ = setting(nursery, 20)
    for after in (1, 3, 9):
        for delay_s in (0.0, 1.0):
            host.engine.default = Script(pieces=("x",) * 12, delay_s=delay_s)
            async with manager.run(session, prompt=PROMPT) as job:
                async for delta in job:
                    if delta.index == after - 1:
                        break
            assert receipts_of(host, job.job_id)[-1].state in (JobState.CANCELLED, JobState.SUCCEEDED)
            assert host.receipts.unpaid(SESSION_ID) == ()
    assert manager._receipts.refused() == ()
    await assert_free(manager, host, 20)


async def _break_after(job: Job, wire: Wire, pieces: int) -> None:
    stream = wire.ours[-1]
    for _ in range(pieces):
        await anext(job)
    await trio.testing.wait_all_tasks_blocked()  # a receipt that follows the piece is written
    await stream.reset()
    await anext(job)


async def test_a_job_whose_connection_breaks_is_settled_over_a_new_one(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host = make_host(
        purse=Purse(limit=10_000, slice_micros=100, price_ceiling=10**7),
        prices={CHAT: ModelPrice(micros_per_mtok=10**6, currency="USD")},
    )
    manager, wire = make_client(host, nursery)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    with pytest.raises(ConnectionLostError):
        async with manager.run(session_of(100), prompt=PROMPT) as job:
            await _break_after(job, wire, 5)
    assert numbers(receipts_of(host, job.job_id)) == [(4, 5, 5, JobState.CANCELLED)]
    await assert_free(manager, host, 100)


def _lose_receipts(response: Any) -> list[Any]:
    return [] if response.WhichOneof("event") == "receipt" else [response]


async def test_a_job_whose_receipt_was_lost_with_its_connection_is_settled_by_the_next_one(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, _, session, front = setting(nursery, 20)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    manager, wire = make_client(host, nursery, handler=front)
    front.edit = _lose_receipts
    with pytest.raises(ConnectionLostError):
        async with manager.run(session, prompt=PROMPT) as job:
            await _break_after(job, wire, 6)
    issued = [(4, 6, 6, JobState.RUNNING), (4, 6, 6, JobState.CANCELLED)]
    assert numbers(receipts_of(host, job.job_id)) == issued
    assert job.is_settled
    assert manager._receipts.refused() == ()
    front.edit = lambda response: [response]
    await assert_free(manager, host, 20)


async def test_of_a_failed_job_whose_receipt_was_lost_nothing_is_signed_and_nothing_held_against_the_host(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, front = setting(nursery, 20)
    host.engine.default = Script(pieces=("x",) * 20, fail_after=9, error=EngineError("no"))
    front.edit = _lose_receipts
    with pytest.raises(JobError):
        async with manager.run(session, prompt=PROMPT) as job:
            await job.read_text()
    issued = [(4, 6, 6, JobState.RUNNING), (4, 6, 6, JobState.FAILED)]
    assert numbers(receipts_of(host, job.job_id)) == issued
    assert manager._receipts.countersigned(peer_id_to_bytes(HOST_KEY.peer_id), SESSION_ID) == ()
    assert not job.is_settled
    assert manager._receipts.refused() == ()


async def test_a_job_whose_host_started_again_is_settled_when_what_it_issued_is_countersigned(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, _, session, front = setting(nursery, 20)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    manager, wire = make_client(host, nursery, handler=front)
    again = make_host(receipts=host.receipts)

    def restart(response: Any) -> list[Any]:
        if response.WhichOneof("event") == "text" and response.text.index == 6:
            front.honest = again.server
        return [response]

    front.edit = restart
    with pytest.raises(ConnectionLostError):
        async with manager.run(session, prompt=PROMPT) as job:
            await _break_after(job, wire, 7)
    # The seventh piece is in nobody's books.
    assert numbers(receipts_of(host, job.job_id)) == [(4, 6, 6, JobState.RUNNING)]
    assert host.receipts.unpaid(SESSION_ID) == ()
    assert job.is_settled


async def test_leaving_a_host_that_does_not_answer_takes_two_seconds(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    class Mute(Liar):
        async def get_receipt(self, request: Any, context: Any) -> Any:
            await trio.sleep_forever()

    host, manager, session, _ = setting(nursery, 100, handler=Mute)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    async with manager.run(session, prompt=PROMPT) as job:
        await anext(job)
        left = trio.current_time()
    # Once on the job's stream, and once after it.
    assert trio.current_time() - left <= 4.0


@pytest.mark.parametrize("issued", [True, False])
async def test_a_job_that_the_host_fails_costs_what_was_countersigned_before(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, issued: bool
) -> None:
    host, manager, session, _ = setting(nursery, 20 if issued else 100)
    host.engine.default = Script(pieces=("x",) * 20, fail_after=9, error=EngineError("no"))
    with pytest.raises(JobError) as caught:
        async with manager.run(session, prompt=PROMPT) as job:
            await job.read_text()
    assert caught.value.reason == "ENGINE_FAILED"
    before = [(4, 6, 6, JobState.RUNNING), (4, 6, 6, JobState.FAILED)]
    assert numbers(receipts_of(host, job.job_id)) == (before if issued else [(0, 0, 0, JobState.FAILED)])
    assert sum(session.charged) == (10 if issued else 0)
    await assert_free(manager, host, 20 if issued else 100)


async def _read_while(job: Job, nursery: trio.Nursery, host: Host) -> None:
    nursery.start_soon(host.server.drain, 8.5)
    await job.read_text()


async def test_a_host_that_leaves_bills_nothing_more(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, _ = setting(nursery, 20)
    host.engine.default = Script(pieces=("x",) * 60, delay_s=1.0)
    with pytest.raises(JobError) as caught:
        async with manager.run(session, prompt=PROMPT) as job:
            await _read_while(job, nursery, host)
    assert caught.value.reason == "DRAINING"
    assert numbers(receipts_of(host, job.job_id))[-1] == (4, 6, 6, JobState.FAILED)
    assert host.receipts.unpaid(SESSION_ID) == ()


async def test_what_is_countersigned_after_the_session_ended_is_taken(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, _ = setting(nursery, 20)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    async with manager.run(session, prompt=PROMPT) as job:
        host.purses.clear()
        await job.read_text()
    assert host.receipts.unpaid(SESSION_ID) == ()
    host.purses[SESSION_ID] = Purse(limit=10_000, slice_micros=20, price_ceiling=10**7)
    stub, job_id = await cut(manager, host, after=9)
    host.purses.clear()
    await sign(stub, await ask(stub, job_id, 9))
    assert host.receipts.unpaid(SESSION_ID) == ()
