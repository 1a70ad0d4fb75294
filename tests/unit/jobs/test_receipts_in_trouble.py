"""Receipts where something goes wrong in the middle: full disks, full tables, a used-up budget, a false price."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing
from tests.unit.jobs.kit import (
    CHAT,
    HOST_KEY,
    NETWORK,
    Book,
    FakeSession,
    Liar,
    Purse,
    Script,
    make_client,
    make_host,
)
from tests.unit.jobs.receipt_kit import (
    EVERYTHING,
    PROMPT,
    SESSION_ID,
    Slow,
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

from hostmesh.errors import JobError, ReceiptError, RemoteProtocolError, RpcError, StoreError
from hostmesh.jobs import receipt_desk
from hostmesh.jobs.verdict import JobVerdict
from hostmesh.receipts import host_ledger
from hostmesh.receipts.proof import proof_from_json, verify_proof
from hostmesh.receipts.receipt import JobState, open_sealed, seal_receipt
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.v1 import job_pb2
from hostmesh.v1.job_hostmesh import JobServiceClient


async def test_a_reader_that_is_cancelled_while_it_countersigns_has_countersigned(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Also the last receipt: nothing would follow it."""
    host, manager, session, front = setting(nursery, 100, handler=Slow)
    assert isinstance(front, Slow)
    async with manager.run(session, prompt=PROMPT) as job:
        with trio.move_on_after(1) as scope:
            await job.read_text()
        assert scope.cancelled_caught
        assert receipts_of(host, job.job_id)[-1].state == JobState.SUCCEEDED
        front.opened.set()
    assert session.charged == [7]
    with trio.move_on_after(1):
        front.opened = trio.Event()
        async with manager.run(session, prompt=PROMPT) as job:
            with trio.move_on_after(0.5):
                await job.read_text()
            front.opened.set()
            assert await job.read_text() == ""
            assert job.is_done, "a cancelled iteration loses nothing"
    await assert_free(manager, host, 100)


def disk_full(*_: Any, **__: Any) -> None:
    raise StoreError("disk full", path="/x")


async def _sign_and(stub: JobServiceClient, request: job_pb2.RunRequest, then: Callable[[], None]) -> None:
    async with stub.run(request, timeout_s=None, session_id=SESSION_ID) as responses:
        async for response in responses:
            if response.WhichOneof("event") == "receipt":
                await sign(stub, open_sealed(response.receipt, network=NETWORK).receipt)
                then()


async def test_a_host_whose_disk_is_full_issues_nothing_and_contradicts_nothing_later(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, manager, _, _ = setting(nursery, 20)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    stub, request = await begin(manager)
    with pytest.raises(RpcError):
        await _sign_and(stub, request, lambda: monkeypatch.setattr(host.receipts, "put_issued", disk_full))
    with pytest.raises(RpcError):
        await ask(stub, request.quote_id, EVERYTHING)
    monkeypatch.undo()
    # The second receipt was never issued: the one that says FAILED takes its number, and repeats the first.
    assert numbers([await ask(stub, request.quote_id, EVERYTHING)]) == [(4, 6, 6, JobState.FAILED)]
    assert [r.sequence for r in receipts_of(host, request.quote_id)] == [1, 2]
    assert host.purses[SESSION_ID].reserved == {}
    await assert_free(manager, host, 20)


async def test_a_client_whose_disk_is_full_signs_nothing_and_blames_nobody(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _, session, _ = setting(nursery, 20)
    manager, _ = make_client(host, nursery, book=(book := Book()))
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    monkeypatch.setattr(manager._receipts, "put_countersigned", disk_full)
    with pytest.raises(StoreError):
        async with manager.run(session, prompt=PROMPT) as job:
            await job.read_text()
    assert [unpaid.acknowledged_micros for unpaid in host.receipts.unpaid(SESSION_ID)] == [0]
    assert host.receipts.unpaid(SESSION_ID)[0].job_id == job.job_id
    assert book.outcomes == [], "that is no fault of the host"


async def test_a_budget_that_refuses_once_is_asked_for_the_whole_the_next_time(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    class Broke(FakeSession):
        def charge(self, amount_micros: int) -> None:
            self.charged.append(amount_micros)
            if len(self.charged) == 2:
                raise JobError("the budget is used up", reason="SPENDING_LIMIT", retry_safe=False)

    host, manager, _, _ = setting(nursery, 20)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    session = Broke(slice_micros=20, max_price_micros_per_mtok=10**7)
    with pytest.raises(JobError) as caught:
        async with manager.run(session, prompt=PROMPT) as job:
            await job.read_text()
    assert caught.value.reason == "SPENDING_LIMIT"
    last = receipts_of(host, job.job_id)[-1]
    # 10 were charged, 10 refused; what follows adds to the 10, not to the 20.
    assert session.charged[:2] == [10, 10]
    assert sum(session.charged) - session.charged[1] == last.cost_micros


async def test_a_last_receipt_that_the_budget_refused_is_not_settled(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    class Broke(FakeSession):
        def charge(self, amount_micros: int) -> None:
            raise JobError("the budget is used up", reason="SPENDING_LIMIT", retry_safe=False)

    host, manager, _, _ = setting(nursery, 100)
    with pytest.raises(JobError):
        async with manager.run(Broke(slice_micros=100, max_price_micros_per_mtok=10**7), prompt=PROMPT) as job:
            await job.read_text()
    assert [unpaid.job_id for unpaid in host.receipts.unpaid(SESSION_ID)] == [job.job_id]
    assert not job.is_settled


async def test_too_many_unpaid_jobs_are_a_refusal_and_no_fault_of_the_host(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_ledger, "MAX_JOBS", 1)
    host, manager, session, _ = setting(nursery, 100)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    stub, job_id = await cut(manager, host, after=2)
    with pytest.raises(JobError) as caught:
        await run_to_end(manager, session, PROMPT)
    assert (caught.value.reason, caught.value.may_have_executed) == ("TOO_MANY_JOBS", False)
    assert host.purses[SESSION_ID].reserved == {}
    await sign(stub, await ask(stub, job_id, EVERYTHING))
    await run_to_end(manager, session, PROMPT)


async def test_a_job_that_was_paid_for_before_it_was_cut_has_its_last_receipt(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, _, _ = setting(nursery, 20)
    host.engine.default = Script(pieces=("x",) * 6, hang_after=6)
    stub, request = await begin(manager)
    async with stub.run(request, timeout_s=None, session_id=SESSION_ID) as responses:
        async for response in responses:
            if response.WhichOneof("event") == "receipt":
                await sign(stub, open_sealed(response.receipt, network=NETWORK).receipt)
                break
    await host.until_idle()
    assert numbers([await ask(stub, request.quote_id, 6)]) == [(4, 6, 6, JobState.CANCELLED)]
    assert host.receipts.unpaid(SESSION_ID) == ()


async def test_only_so_many_accounts_and_cut_jobs_are_remembered(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipt_desk, "MAX_ACCOUNTS", 1)
    monkeypatch.setattr(receipt_desk, "MAX_CUT_JOBS", 2)
    host, manager, _, _ = setting(nursery, 20)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    stub, first = await cut(manager, host, after=9)
    host.purses[b"o" * 16] = Purse(limit=10_000, slice_micros=20, price_ceiling=10**7, session_id=b"o" * 16)
    other = session_of(20, session_id=b"o" * 16)
    host.engine.scripts = [Script(pieces=("x",))]
    async with manager.run(other, prompt=PROMPT) as job:
        await job.read_text()
    # The first session's account went, and what it had in memory: its receipt is on disk.
    receipt = await ask(stub, first, 9)
    assert numbers([receipt]) == [(4, 6, 6, JobState.RUNNING)]
    _, second = await cut(manager, host, after=1)
    await sign(stub, receipt)
    await sign(stub, await ask(stub, second, EVERYTHING))
    assert host.receipts.unpaid(SESSION_ID) == ()
    _, third = await cut(manager, host, after=1)
    _, fourth = await cut(manager, host, after=1)
    _, fifth = await cut(manager, host, after=1)
    # Of the last three, the one that was cut first is forgotten, and had no receipt.
    with pytest.raises(RpcError) as caught:
        await ask(stub, third, 0)
    assert caught.value.reason == "UNKNOWN_RECEIPT"
    assert (await ask(stub, second, 0)).state == JobState.CANCELLED
    assert [numbers([await ask(stub, each, 1)])[0][2] for each in (fourth, fifth)] == [1, 1]


async def test_a_host_that_cannot_keep_a_quote_has_not_begun_its_job(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, manager, _, _ = setting(nursery, 20)
    host.engine.default = Script(pieces=("x",))
    stub, request = await begin(manager)
    monkeypatch.setattr(host.receipts.papers, "put_quote", disk_full)
    with pytest.raises(RpcError) as caught:
        async with stub.run(request, timeout_s=None, session_id=SESSION_ID) as responses:
            await anext(responses)
    assert caught.value.status.name == "INTERNAL"
    assert host.purses[SESSION_ID].reserved == {}
    monkeypatch.undo()
    # The same quote is good once the disk has room again, and nothing of the first attempt is left.
    async with stub.run(request, timeout_s=None, session_id=SESSION_ID) as responses:
        kinds = [response.WhichOneof("event") async for response in responses]
    assert kinds == ["accepted", "text", "receipt", "completed"]
    await sign(stub, receipts_of(host, request.quote_id)[-1])
    assert [account.ledger.jobs for account in host.server._desk._accounts.values()] == [0]


@pytest.mark.parametrize("sequence", [2**63 - 1, 2**63, 2**64 - 1])
async def test_a_sequence_that_no_receipt_can_have_is_an_unknown_receipt(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, sequence: int
) -> None:
    _, manager, session, _ = setting(nursery, 20)
    async with manager.run(session, prompt=PROMPT) as job:
        await job.read_text()
    stub = JobServiceClient(manager._caller, HOST_KEY.peer_id)
    request = job_pb2.CountersignRequest(job_id=job.job_id, sequence=sequence, signature=bytes(65))
    with pytest.raises(RpcError) as caught:
        await stub.countersign(request, timeout_s=10, session_id=SESSION_ID)
    assert caught.value.reason == "UNKNOWN_RECEIPT"


async def test_a_price_that_was_not_quoted_is_proved_with_the_quote(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    book = Book()
    rate = ModelPrice(micros_per_mtok=1_000_000, currency="USD")
    host = make_host(purse=Purse(limit=10_000, price_ceiling=10**7), prices={CHAT: rate})
    liar = Liar(host.server)
    manager, _ = make_client(host, nursery, book=book, handler=liar)

    def dearer(response: Any) -> list[Any]:
        if response.WhichOneof("event") == "receipt":
            receipt = open_sealed(response.receipt, network=NETWORK).receipt
            receipt = replace(receipt, price_micros_per_mtok=2_000_000, cost_micros=2 * receipt.cost_micros)
            response.receipt = seal_receipt(HOST_KEY, receipt, network=NETWORK)
        return [response]

    liar.edit = dearer
    with pytest.raises(ReceiptError) as caught:
        await run_to_end(manager, session_of(10_000), PROMPT)
    assert caught.value.reason == "WRONG_PRICE"
    (refused,) = manager._receipts.refused()
    assert refused.proof is not None
    proven = verify_proof(proof_from_json(refused.proof))
    assert (proven.host, proven.reason) == (HOST_KEY.peer_id, "WRONG_PRICE")
    assert book.verdicts == [JobVerdict.FALSE_RECEIPT]


async def test_a_job_does_not_end_with_the_usage_of_a_receipt_that_was_not_its_last(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    _, manager, session, front = setting(nursery, 10)
    usage = job_pb2.Usage()

    def end_early(response: Any) -> list[Any]:
        if response.WhichOneof("event") == "receipt":
            receipt = open_sealed(response.receipt, network=NETWORK).receipt
            if receipt.state == JobState.SUCCEEDED:
                return []
            usage.prompt_tokens = receipt.prompt_tokens
            usage.completion_tokens = receipt.completion_tokens
            usage.cost_micros = receipt.cost_micros
        elif response.WhichOneof("event") == "completed":
            assert usage.cost_micros, "this test needs an earlier receipt"
            response.completed.usage.CopyFrom(usage)
        return [response]

    front.edit = end_early
    with pytest.raises(RemoteProtocolError, match="usage"):
        await run_to_end(manager, session, PROMPT)
