"""The host's receipts of a job, and what becomes of one that is cut: slice by slice, by hand-counted money.

A token costs one micro-unit. The prompt ``Hi there`` has four tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing
from tests.unit.jobs.kit import (
    CHAT,
    CLIENT_WALLET,
    EMBED,
    HOST_KEY,
    NETWORK,
    OTHER_KEY,
    Book,
    FakeSession,
    Host,
    Liar,
    Purse,
    Script,
    ScriptedEngine,
    Wire,
    make_client,
    make_host,
)

from hostmesh.errors import ConnectionLostError, EngineError, JobError, ReceiptError, RpcError, StoreError
from hostmesh.identity.structs import Receipt
from hostmesh.jobs import receipt_desk
from hostmesh.jobs.client import JobManager
from hostmesh.jobs.engine import TextPiece
from hostmesh.jobs.job import Job
from hostmesh.jobs.server import JobServer
from hostmesh.jobs.stats import JobOutcome
from hostmesh.jobs.verdict import JobVerdict
from hostmesh.receipts import host_ledger
from hostmesh.receipts.proof import proof_from_json, verify_proof
from hostmesh.receipts.receipt import JobState, open_sealed, seal_receipt
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.v1 import envelope_pb2, job_pb2
from hostmesh.v1.job_hostmesh import JobServiceClient

SESSION_ID = b"s" * 16
PROMPT = "Hi there"
EVERYTHING = 2**64 - 1


class Slow(Liar):
    """A host whose calls for countersignatures wait until they are let through, or for ever."""

    def __init__(self, honest: JobServer) -> None:
        super().__init__(honest)
        self.opened = trio.Event()
        self.asked = trio.Event()

    async def countersign(self, request: Any, context: Any) -> Any:
        self.asked.set()
        await self.opened.wait()
        return await super().countersign(request, context)


class Deaf(Liar):
    """A client's countersignatures do not come to this host."""

    async def countersign(self, request: Any, context: Any) -> Any:
        return job_pb2.CountersignResponse()


def setting(
    nursery: trio.Nursery,
    slice_micros: int,
    *,
    handler: Callable[[JobServer], Liar] = Liar,
    price: int = 1_000_000,
    **options: Any,
) -> tuple[Host, JobManager, FakeSession, Liar]:
    rate = ModelPrice(micros_per_mtok=price, currency="USD")
    host = make_host(
        purse=Purse(limit=10_000, slice_micros=slice_micros, price_ceiling=10**7),
        prices={CHAT: rate, EMBED: rate},
        **options,
    )
    front = handler(host.server)
    manager, _ = make_client(host, nursery, handler=front)
    return host, manager, session_of(slice_micros), front


def session_of(slice_micros: int, **changes: Any) -> FakeSession:
    return FakeSession(slice_micros=slice_micros, max_price_micros_per_mtok=10**7, **changes)


def receipts_of(host: Host, job_id: bytes) -> list[Receipt]:
    """As they are on the host's disk, all of them in order."""
    found = []
    while row := host.receipts.issued(SESSION_ID, job_id, len(found) + 1):
        found.append(row.receipt)
    return found


def numbers(receipts: list[Receipt]) -> list[tuple[int, int, int, JobState]]:
    """Prompt tokens, completion tokens, pieces, state."""
    return [(r.prompt_tokens, r.completion_tokens, r.output_pieces, JobState(r.state)) for r in receipts]


async def begin(manager: JobManager) -> tuple[JobServiceClient, job_pb2.RunRequest]:
    """Ask for a quote by the bare stub, and return the request for its job."""
    stub = JobServiceClient(manager._caller, HOST_KEY.peer_id)
    answer = await stub.quote(job_pb2.QuoteRequest(model_id=CHAT), timeout_s=5)
    quote = job_pb2.Quote.FromString(envelope_pb2.SignedEnvelope.FromString(answer.quote).payload)
    request = job_pb2.RunRequest(quote_id=quote.quote_id, salt=bytes(16))
    request.chat.messages.add(role="user", content=PROMPT)
    return stub, request


async def cut(manager: JobManager, host: Host, *, after: int) -> tuple[JobServiceClient, bytes]:
    """Run a job by the bare stub, hang up after so many pieces, and countersign nothing."""
    stub, request = await begin(manager)
    async with stub.run(request, timeout_s=None, session_id=SESSION_ID) as responses:
        async for response in responses:
            if response.WhichOneof("event") == "text" and response.text.index == after - 1:
                break
    await host.until_idle()
    return stub, request.quote_id


async def ask(stub: JobServiceClient, job_id: bytes, pieces: int, *, session_id: bytes = SESSION_ID) -> Receipt:
    response = await stub.get_receipt(
        job_pb2.GetReceiptRequest(job_id=job_id, delivered_pieces=pieces), timeout_s=10, session_id=session_id
    )
    return open_sealed(response.receipt, network=NETWORK).receipt


async def sign(stub: JobServiceClient, receipt: Receipt) -> None:
    signature = CLIENT_WALLET.sign(receipt, NETWORK)
    await stub.countersign(
        job_pb2.CountersignRequest(job_id=receipt.job_id, sequence=receipt.sequence, signature=signature),
        timeout_s=10,
        session_id=SESSION_ID,
    )


async def assert_free(manager: JobManager, host: Host, slice_micros: int) -> None:
    """The slice is free: a job that takes all of it at once runs."""
    host.engine.scripts.insert(0, Script(pieces=("x",)))
    started = trio.current_time()
    async with manager.run(session_of(slice_micros), prompt="x " * (slice_micros - 3)) as job:
        await job.read_text()
    assert job.usage.cost_micros == slice_micros
    assert trio.current_time() == started
    assert host.receipts.unpaid(SESSION_ID) == ()


# --- slice by slice ---


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
    host.engine.default = Script(pieces=("x",) * 5, delay_s=0.5)
    async with trio.open_nursery() as jobs:
        for number in range(3):
            jobs.start_soon(_read, manager, session, f"job {number}")
            await host.until_accepted(number + 1)
            await trio.sleep(0.1)
        assert [work.messages[0].content for work in host.engine.works] == ["job 0", "job 1", "job 2"]
        await front.asked.wait()
        await trio.sleep(20)
        assert host.server.stats().active_jobs == 3, "12 were served, nobody goes on"
        front.opened.set()
    assert host.server.stats().outcomes == {JobOutcome.SUCCEEDED: 3}
    await assert_free(manager, host, 12)


async def _read(manager: JobManager, session: FakeSession, prompt: str) -> None:
    async with manager.run(session, prompt=prompt) as job:
        await job.read_text()


async def test_a_job_that_waits_for_another_jobs_engine_is_not_overdue(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """The client has nothing that it could countersign: the first job wrote no receipt yet."""
    host, manager, session, _ = setting(nursery, 10)
    host.engine.scripts = [Script(pieces=("x",), delay_s=40.0), Script(pieces=("x",))]
    async with trio.open_nursery() as jobs:
        jobs.start_soon(_read, manager, session, PROMPT)
        await host.until_accepted(1)
        await trio.sleep(1)
        async with manager.run(session, prompt="a b c d e f") as job:
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
                await _read(manager, session, "x " * 48)
            assert caught.value.reason == "RECEIPT_OVERDUE"
            assert trio.current_time() == 50.0


async def test_a_prompt_above_the_slice_is_refused_and_a_piece_above_it_ends_the_job(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, _ = setting(nursery, 9)
    with pytest.raises(JobError) as caught:
        await _read(manager, session, "a b c d e f g h")
    assert (caught.value.reason, caught.value.may_have_executed) == ("SLICE_TOO_SMALL", False)
    assert host.engine.works == []
    host.engine.default = Script(
        events=(TextPiece(text="x", completion_tokens=1), TextPiece(text="y", completion_tokens=11))
    )
    with pytest.raises(JobError) as caught:
        await _read(manager, session, PROMPT)
    assert (caught.value.reason, caught.value.may_have_executed) == ("SLICE_TOO_SMALL", True)
    assert "10 or more" in caught.value.remedy or "larger" in caught.value.remedy
    host.engine.default = Script(pieces=("x",))
    await assert_free(manager, host, 9)


@pytest.mark.parametrize(("slice_micros", "billed"), [(100, 4), (6, 4), (3, 3)])
async def test_a_prompt_that_was_not_counted_is_billed_at_the_end_and_up_to_a_slice(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, slice_micros: int, billed: int
) -> None:
    host, manager, session, _ = setting(nursery, slice_micros, engine=ScriptedEngine(counts_prompts=False))
    async with manager.run(session, prompt=PROMPT) as job:
        await job.read_text()
    receipts = receipts_of(host, job.job_id)
    assert all(receipt.prompt_tokens == 0 for receipt in receipts[:-1])
    assert (receipts[-1].prompt_tokens, receipts[-1].completion_tokens) == (billed, 3)
    assert job.usage.cost_micros == billed + 3
    assert host.receipts.unpaid(SESSION_ID) == ()


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


# --- jobs that end early ---


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
    started = trio.current_time()
    with pytest.raises(JobError):
        await _read(manager, session_of(100), "x " * 97)
    assert trio.current_time() == started + 30.0
    host.engine.default = Script(pieces=("x",))
    await _read(manager, session_of(100), "x " * 95)


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
    for _ in range(pieces):
        await anext(job)
    await wire.ours[-1].reset()
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


# --- what goes wrong in the middle ---


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
    await assert_free(manager, host, 100)
    with trio.move_on_after(1):
        front.opened = trio.Event()
        async with manager.run(session, prompt=PROMPT) as job:
            with trio.move_on_after(0.5):
                await job.read_text()
            front.opened.set()
            assert await job.read_text() == ""
            assert job.is_done, "a cancelled iteration loses nothing"


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


async def test_a_client_whose_disk_is_full_signs_nothing(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, manager, session, _ = setting(nursery, 20)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    monkeypatch.setattr(manager._receipts, "put_countersigned", disk_full)
    with pytest.raises(StoreError):
        async with manager.run(session, prompt=PROMPT) as job:
            await job.read_text()
    assert [unpaid.acknowledged_micros for unpaid in host.receipts.unpaid(SESSION_ID)] == [0]
    assert host.receipts.unpaid(SESSION_ID)[0].job_id == job.job_id


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


async def test_too_many_unpaid_jobs_are_a_refusal_and_no_fault_of_the_host(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_ledger, "MAX_JOBS", 1)
    host, manager, session, _ = setting(nursery, 100)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    stub, job_id = await cut(manager, host, after=2)
    with pytest.raises(JobError) as caught:
        await _read(manager, session, PROMPT)
    assert (caught.value.reason, caught.value.may_have_executed) == ("TOO_MANY_JOBS", False)
    assert host.purses[SESSION_ID].reserved == {}
    await sign(stub, await ask(stub, job_id, EVERYTHING))
    await _read(manager, session, PROMPT)


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
        await _read(manager, session_of(10_000), PROMPT)
    assert caught.value.reason == "WRONG_PRICE"
    (refused,) = manager._receipts.refused()
    assert refused.proof is not None
    proven = verify_proof(proof_from_json(refused.proof))
    assert (proven.host, proven.reason) == (HOST_KEY.peer_id, "WRONG_PRICE")
    assert book.verdicts == [JobVerdict.FALSE_RECEIPT]
