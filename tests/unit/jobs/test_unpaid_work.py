"""What a client gets that pays for nothing: no slot, no second slice, and nothing of what others have.

A token costs one micro-unit. The prompt ``Hi there`` has four tokens.
"""

from __future__ import annotations

import pytest
import trio
import trio.testing
from tests.unit.jobs.kit import (
    CHAT,
    NETWORK,
    OTHER_KEY,
    Purse,
    Script,
    make_client,
    make_host,
)
from tests.unit.jobs.receipt_kit import (
    EVERYTHING,
    PROMPT,
    SESSION_ID,
    ask,
    begin,
    cut,
    run_to_end,
    session_of,
    setting,
    sign,
)

from hostmesh.errors import JobError, RpcError
from hostmesh.jobs import receipt_desk
from hostmesh.jobs.admission import JobLimits
from hostmesh.jobs.stats import JobOutcome
from hostmesh.receipts.receipt import JobState, open_sealed
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.v1 import job_pb2
from hostmesh.v1.job_hostmesh import JobServiceClient

RATE = ModelPrice(micros_per_mtok=1_000_000, currency="USD")
OTHER_SESSION = b"o" * 16


async def test_a_job_without_room_takes_no_slot_and_starts_when_there_is_room(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, _ = setting(nursery, 14, limits=JobLimits(max_concurrent_jobs=1))
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    stub, first = await cut(manager, host, after=9)
    host.engine.default = Script(pieces=("x",))
    host.purses[OTHER_SESSION] = Purse(limit=10_000, slice_micros=20, price_ceiling=10**7, session_id=OTHER_SESSION)
    async with trio.open_nursery() as jobs:
        jobs.start_soon(run_to_end, manager, session, PROMPT)
        await host.until_accepted(2)
        started = trio.current_time()
        await run_to_end(manager, session_of(20, session_id=OTHER_SESSION), PROMPT)
        assert trio.current_time() == started
        assert host.server.stats().queued_jobs == 1
        await trio.sleep(29)
        await sign(stub, await ask(stub, first, EVERYTHING))
    assert trio.current_time() == started + 29
    assert host.server.stats().outcomes == {JobOutcome.SUCCEEDED: 2, JobOutcome.CANCELLED: 1}


async def test_a_job_that_never_started_claims_nothing_of_its_prompt(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, _ = setting(nursery, 100, limits=JobLimits(max_concurrent_jobs=1))
    host.engine.default = Script(pieces=("x",), delay_s=5.0)
    async with trio.open_nursery() as jobs:
        jobs.start_soon(run_to_end, manager, session, PROMPT)
        await host.until_accepted(1)
        stub, request = await begin(manager)
        async with stub.run(request, timeout_s=None, session_id=SESSION_ID) as responses:
            await anext(responses)
        await host.until(lambda stats: stats.queued_jobs == 0)
        receipt = await ask(stub, request.quote_id, EVERYTHING)
        assert (receipt.prompt_tokens, receipt.cost_micros) == (0, 0)


async def test_a_restart_forgets_nothing_of_what_jobs_came_to_that_were_cut_without_a_receipt(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, _ = setting(nursery, 100)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    for _ in range(2):
        await cut(manager, host, after=9)
    # 26 micro-units of work, less than half a slice: no receipt was due.
    assert host.receipts.unpaid(SESSION_ID) == ()
    purse = host.purses[SESSION_ID]
    again = make_host(purse=purse, prices={CHAT: RATE}, receipts=host.receipts)
    again.engine.default = Script(pieces=("x",))
    manager, _ = make_client(again, nursery)
    # What fits beside the debt is served, and once it is countersigned it takes nothing away.
    for _ in range(3):
        await run_to_end(manager, session, "x " * 71)
    with pytest.raises(JobError) as caught:
        await run_to_end(manager, session, "x " * 73)
    assert caught.value.reason == "RECEIPT_OVERDUE"
    assert len(again.engine.works) == 3


async def test_whose_cut_jobs_are_most_loses_the_first_of_them(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipt_desk, "MAX_CUT_JOBS", 2)
    host, manager, _, _ = setting(nursery, 100)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    host.purses[OTHER_SESSION] = Purse(
        limit=100, slice_micros=100, price_ceiling=10**7, session_id=OTHER_SESSION, peer_id=OTHER_KEY.peer_id
    )
    other, _ = make_client(host, nursery, key=OTHER_KEY)
    theirs, request = await begin(other)
    async with theirs.run(request, timeout_s=None, session_id=OTHER_SESSION) as responses:
        async for response in responses:
            if response.WhichOneof("event") == "text":
                break
    await host.until_idle()
    stub, first = await cut(manager, host, after=1)
    _, second = await cut(manager, host, after=1)
    with pytest.raises(RpcError) as caught:
        await ask(stub, first, 1)
    assert caught.value.reason == "UNKNOWN_RECEIPT"
    assert (await ask(stub, second, 1)).state == JobState.CANCELLED
    response = await theirs.get_receipt(
        job_pb2.GetReceiptRequest(job_id=request.quote_id, delivered_pieces=1), timeout_s=10, session_id=OTHER_SESSION
    )
    assert response.receipt


async def test_what_cut_jobs_may_go_back_to_is_bounded(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipt_desk, "MAX_CUT_MARKS", 8)
    host, manager, _, _ = setting(nursery, 0, price=0)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    stub, first = await cut(manager, host, after=5)
    _, second = await cut(manager, host, after=5)
    with pytest.raises(RpcError):
        await ask(stub, first, 5)
    assert (await ask(stub, second, 5)).output_pieces == 5


async def read_all(stub: JobServiceClient, request: job_pb2.RunRequest) -> None:
    async with stub.run(request, timeout_s=None, session_id=SESSION_ID) as responses:
        async for _ in responses:
            pass


async def test_a_session_that_is_overdue_takes_no_job_until_something_is_countersigned(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, _, _ = setting(nursery, 20)
    host.engine.default = Script(pieces=("x",) * 30)
    stub, request = await begin(manager)
    with pytest.raises(RpcError) as caught:
        await read_all(stub, request)
    assert caught.value.reason == "RECEIPT_OVERDUE"
    _, second = await begin(manager)
    accepted = host.server.stats().accepted
    with pytest.raises(RpcError) as caught:
        await read_all(stub, second)
    assert (caught.value.reason, host.server.stats().accepted) == ("RECEIPT_OVERDUE", accepted)
    await sign(stub, await ask(stub, request.quote_id, EVERYTHING))
    async with stub.run(second, timeout_s=None, session_id=SESSION_ID) as responses:
        assert (await anext(responses)).WhichOneof("event") == "accepted"


async def test_a_little_countersigned_now_and_then_holds_no_slot_for_long(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, _, _ = setting(nursery, 70, limits=JobLimits(max_concurrent_jobs=1))
    host.engine.default = Script(pieces=("x",) * 60, delay_s=0.1)
    # All but six of the slice is lost, so that receipts are over little.
    await cut(manager, host, after=60)
    started = trio.current_time()
    stub, request = await begin(manager)
    paid = 0

    async def pay_late() -> None:
        nonlocal paid
        async with stub.run(request, timeout_s=None, session_id=SESSION_ID) as responses:
            async for response in responses:
                if response.WhichOneof("event") == "receipt":
                    await trio.sleep(20.0)
                    receipt = open_sealed(response.receipt, network=NETWORK).receipt
                    await sign(stub, receipt)
                    paid = receipt.cost_micros

    with pytest.raises(RpcError) as caught:
        await pay_late()
    assert caught.value.reason == "RECEIPT_OVERDUE"
    assert 0 < paid <= 20
    assert trio.current_time() - started <= 30 * (1 + 2 * paid / 70) + 1


async def test_a_session_keeps_all_its_slots_waiting_for_half_a_minute_together(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, _, _ = setting(nursery, 40, limits=JobLimits(max_concurrent_jobs=2))
    host.engine.default = Script(pieces=("x",) * 50, delay_s=0.01)
    reasons: list[str | None] = []

    async def run() -> None:
        stub, request = await begin(manager)
        with pytest.raises(RpcError) as caught:
            await read_all(stub, request)
        reasons.append(caught.value.reason)

    async with trio.open_nursery() as jobs:
        for _ in range(6):
            jobs.start_soon(run)
    assert reasons == ["RECEIPT_OVERDUE"] * 6
    assert trio.current_time() <= 31.0


@pytest.mark.parametrize("wait_s", [29.0, 31.0])
async def test_who_does_not_read_holds_a_slot_for_half_a_minute(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, wait_s: float
) -> None:
    host, manager, _, _ = setting(nursery, 100_000)
    host.engine.default = Script(pieces=("x",) * 50)
    stub, request = await begin(manager)
    async with stub.run(request, timeout_s=None, session_id=SESSION_ID):
        # The stream holds sixteen responses; then the host waits.
        await trio.sleep(wait_s)
        assert host.server.stats().active_jobs == (1 if wait_s < 30 else 0)
    await host.until_idle()
    outcome = JobOutcome.CANCELLED if wait_s < 30 else JobOutcome.UNPAID
    assert host.server.stats().outcomes == {outcome: 1}


async def test_a_line_that_is_slow_and_not_too_slow_is_waited_for(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, _ = setting(nursery, 100_000)
    # 60 times 20 KB, a second each.
    host.engine.default = Script(pieces=("x" * 20_000,) * 60)
    async with manager.run(session, prompt=PROMPT) as job:
        async for _ in job:
            await trio.sleep(1.0)
    assert trio.current_time() >= 60.0
    assert job.usage.completion_tokens == 60
