"""Engines that count no prompt before it is answered: neither side loses more than a slice, and both can go on.

A token costs one micro-unit. The model has a context of 256 tokens, so that 240 are held for any prompt of a chat, and
16 are left to the beginning of its answer. The prompt ``Hi there`` has four tokens, and eight bytes.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
import trio.testing
from tests.unit.jobs.kit import (
    CHAT,
    EMBED,
    HOST_KEY,
    NETWORK,
    Book,
    Host,
    Script,
    ScriptedEngine,
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
    numbers,
    receipts_of,
    run_to_end,
    session_of,
    setting,
    sign,
)

from hostmesh.errors import EngineError, JobError, RpcError
from hostmesh.jobs.client import JobManager
from hostmesh.jobs.engine import Finished, FinishReason, TextPiece
from hostmesh.jobs.stats import JobOutcome
from hostmesh.receipts.receipt import JobState, open_sealed
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.v1 import envelope_pb2, job_pb2
from hostmesh.v1.job_hostmesh import JobServiceClient

CONTEXT = 256
LONG = "x " * 224  # 226 tokens, 448 bytes


def uncounted(nursery: trio.Nursery, slice_micros: int = CONTEXT) -> tuple[Host, JobManager]:
    host, manager, _, _ = setting(nursery, slice_micros, engine=ScriptedEngine(counts_prompts=False))
    return host, manager


def unacknowledged(host: Host) -> int:
    return host.server._desk._accounts[SESSION_ID].ledger.unacknowledged_micros


async def assert_whole_slice_is_free(manager: JobManager, host: Host, slice_micros: int = CONTEXT) -> None:
    """At once; a prompt of the whole context is held."""
    host.engine.scripts.insert(0, Script(pieces=("x",)))
    started = trio.current_time()
    await run_to_end(manager, session_of(slice_micros), PROMPT)
    assert trio.current_time() == started
    assert host.receipts.unpaid(SESSION_ID) == ()


@pytest.mark.parametrize("slice_micros", [64, CONTEXT - 1])
async def test_a_slice_that_has_no_room_for_it_is_refused_before_anything_is_done(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, slice_micros: int
) -> None:
    host, manager = uncounted(nursery, slice_micros)
    with pytest.raises(JobError, match="can cost 256 micro-units, the slice is") as caught:
        await run_to_end(manager, session_of(slice_micros), LONG)
    assert (caught.value.reason, caught.value.may_have_executed) == ("SLICE_TOO_SMALL", False)
    assert "slice_micros" in caught.value.remedy
    assert (host.engine.works, host.server.stats().accepted) == ([], 0)


@pytest.mark.parametrize("prompt", [PROMPT, LONG])
async def test_the_count_at_the_end_is_billed_whole_and_the_rest_is_free_again(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, prompt: str
) -> None:
    host, manager = uncounted(nursery)
    host.engine.default = Script(pieces=("x",) * 24)
    tokens = len(prompt.split()) + 2
    for _ in range(5):
        async with manager.run(session_of(CONTEXT), prompt=prompt) as job:
            await job.read_text()
        receipts = receipts_of(host, job.job_id)
        assert all(receipt.prompt_tokens == 0 for receipt in receipts[:-1])
        assert numbers(receipts[-1:]) == [(tokens, 24, 24, JobState.SUCCEEDED)]
        assert job.usage.cost_micros == tokens + 24
    assert host.receipts.unpaid(SESSION_ID) == ()
    assert host.purses[SESSION_ID].settled == [tokens + 24] * 5
    assert unacknowledged(host) == 0


async def test_a_free_model_needs_no_slice(autojump_clock: trio.testing.MockClock, nursery: trio.Nursery) -> None:
    host, manager, session, _ = setting(nursery, 0, price=0, engine=ScriptedEngine(counts_prompts=False))
    async with trio.open_nursery() as jobs:
        for _ in range(3):
            jobs.start_soon(run_to_end, manager, session, LONG)
    assert host.server.stats().outcomes == {JobOutcome.SUCCEEDED: 3}


@pytest.mark.parametrize(("slices", "at_once"), [(1, 1), (4, 2), (6, 3)])
async def test_so_many_run_at_once_as_half_a_slice_holds(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, slices: int, at_once: int
) -> None:
    host, manager = uncounted(nursery, slices * CONTEXT)
    host.engine.default = Script(pieces=("x",) * 30, delay_s=0.2)
    book = Book()
    manager, _ = make_client(host, nursery, book=book)
    async with trio.open_nursery() as jobs:
        for _ in range(5):
            jobs.start_soon(run_to_end, manager, session_of(slices * CONTEXT), PROMPT)
    assert host.engine.most_running == at_once
    assert host.server.stats().outcomes == {JobOutcome.SUCCEEDED: 5}
    assert all(is_good for _, is_good in book.outcomes)
    assert host.receipts.unpaid(SESSION_ID) == ()


async def test_one_that_pays_nothing_gets_one_prompt(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """It leaves each answer in the middle, and asks for no receipt."""
    host, manager = uncounted(nursery)
    host.engine.default = Script(pieces=("x",), hang_after=1)
    await cut(manager, host, after=1)
    with pytest.raises(RpcError) as caught:
        await cut(manager, host, after=1)
    assert caught.value.reason == "RECEIPT_OVERDUE"
    assert len(host.engine.works) == 1


async def test_one_that_asks_for_its_last_receipt_and_does_not_sign_it_gets_one_prompt(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager = uncounted(nursery)
    host.engine.default = Script(pieces=("x",), hang_after=1)
    stub, first = await cut(manager, host, after=1)
    receipt = await ask(stub, first, EVERYTHING)
    assert unacknowledged(host) == 241
    with pytest.raises(RpcError) as caught:
        await cut(manager, host, after=1)
    assert caught.value.reason == "RECEIPT_OVERDUE"
    await sign(stub, receipt)
    assert unacknowledged(host) == 0
    await cut(manager, host, after=1)
    assert len(host.engine.works) == 2


async def test_its_last_receipt_claims_an_estimate_beside_the_pieces_that_came(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager = uncounted(nursery)
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    stub, request = await begin(manager)
    request.chat.messages[0].content = LONG
    # Half of the 16 that have room beside the prompt come to a receipt: eight.
    async with stub.run(request, timeout_s=None, session_id=SESSION_ID) as responses:
        came = 0
        async for response in responses:
            came += response.WhichOneof("event") == "text"
            if came == 9:
                break
    await host.until_idle()
    assert host.purses[SESSION_ID].settled == [448 // 6 + 9]
    assert numbers(receipts_of(host, request.quote_id)) == [(0, 8, 8, JobState.RUNNING)]
    receipt = await ask(stub, request.quote_id, EVERYTHING)
    assert numbers([receipt]) == [(448 // 6, 9, 9, JobState.CANCELLED)]
    await sign(stub, receipt)
    assert unacknowledged(host) == 0


async def test_pieces_that_did_not_come_stay_unacknowledged(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager = uncounted(nursery)
    host.engine.default = Script(pieces=("x",) * 7, hang_after=7)
    stub, job_id = await cut(manager, host, after=7)
    receipt = await ask(stub, job_id, 5)
    assert numbers([receipt]) == [(1, 5, 5, JobState.CANCELLED)]
    await sign(stub, receipt)
    assert unacknowledged(host) == 2


async def test_a_user_who_stops_answers_half_way_goes_on(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, _ = uncounted(nursery)
    manager, _ = make_client(host, nursery, book=(book := Book()))
    host.engine.default = Script(pieces=("x",) * 30, delay_s=0.1)
    session = session_of(CONTEXT)
    for _ in range(10):
        async with manager.run(session, prompt=LONG) as job:
            for _ in range(5):
                await anext(job)
        assert job.is_settled
        assert (unacknowledged(host), host.receipts.unpaid(SESSION_ID)) == (0, ())
    # Before the first piece, too: then it pays for the prompt alone.
    for _ in range(3):
        with trio.move_on_after(0.05):
            async with manager.run(session, prompt=LONG) as job:
                await job.read_text()
        assert unacknowledged(host) == 0
    await assert_whole_slice_is_free(manager, host)
    assert manager._receipts.refused() == ()
    assert all(verdict.is_good for verdict in book.verdicts)


async def test_who_hangs_up_when_its_count_has_come_owes_the_count(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager = uncounted(nursery)
    host.engine.default = Script(pieces=("x", "y"))
    stub, request = await begin(manager)
    request.chat.messages[0].content = LONG
    with suppress(RpcError):
        async with stub.run(request, timeout_s=None, session_id=SESSION_ID) as responses:
            async for response in responses:
                if response.WhichOneof("event") == "text" and response.text.index == 1:
                    await trio.sleep(0.5)
                    break
    await host.until_idle()
    # It waited for no room at its end: what was held covers the count.
    assert numbers(receipts_of(host, request.quote_id))[-1] == (226, 2, 2, JobState.SUCCEEDED)
    assert unacknowledged(host) == 228


async def test_a_job_that_its_host_fails_costs_what_was_signed_and_frees_the_rest(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager = uncounted(nursery)
    host.engine.default = Script(pieces=("x",) * 20, fail_after=9, error=EngineError("no"))
    with pytest.raises(JobError) as caught:
        async with manager.run(session_of(CONTEXT), prompt=LONG) as job:
            await job.read_text()
    assert caught.value.reason == "ENGINE_FAILED"
    assert numbers(receipts_of(host, job.job_id)) == [(0, 8, 8, JobState.RUNNING), (0, 8, 8, JobState.FAILED)]
    await assert_whole_slice_is_free(manager, host)


async def test_an_engine_that_goes_over_its_limit_and_never_counts_is_paid_the_estimate(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager = uncounted(nursery)
    host.engine.default = Script(pieces=("x",) * 70)
    async with manager.run(session_of(CONTEXT), prompt=LONG) as job:
        await job.read_text()
    assert numbers(receipts_of(host, job.job_id))[-1] == (448 // 6, 64, 64, JobState.SUCCEEDED)
    await assert_whole_slice_is_free(manager, host)
    # Who signs all but the last one has used all of the prompt up.
    stub, request = await begin(manager)
    last = None
    async with stub.run(request, timeout_s=None, session_id=SESSION_ID) as responses:
        async for response in responses:
            if response.WhichOneof("event") == "receipt":
                last = open_sealed(response.receipt, network=NETWORK).receipt
                if last.state == JobState.RUNNING:
                    await sign(stub, last)
    assert last is not None
    assert unacknowledged(host) == 240
    await sign(stub, last)
    assert unacknowledged(host) == 0


async def test_a_count_above_what_was_held_is_the_hosts_loss(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager = uncounted(nursery)
    counted = Finished(prompt_tokens=9_000, completion_tokens=1, finish_reason=FinishReason.STOP)
    host.engine.default = Script(events=(TextPiece(text="x"), counted))
    async with manager.run(session_of(CONTEXT), prompt=LONG) as job:
        await job.read_text()
    assert job.usage.prompt_tokens == 240
    assert host.receipts.unpaid(SESSION_ID) == ()


async def test_after_a_restart_its_client_owes_what_a_receipt_can_claim(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager = uncounted(nursery)
    host.engine.default = Script(pieces=("x",) * 3, hang_after=3)
    await cut(manager, host, after=3)
    again = make_host(
        purse=host.purses[SESSION_ID],
        prices={CHAT: ModelPrice(micros_per_mtok=10**6, currency="USD")},
        receipts=host.receipts,
        engine=ScriptedEngine(counts_prompts=False),
    )
    for _ in range(9):
        again.server._system.random_bytes(16)
    manager, _ = make_client(again, nursery)
    session = session_of(CONTEXT + 4)
    again.purses[SESSION_ID].slice_micros = CONTEXT + 4
    await run_to_end(manager, session, PROMPT)
    assert unacknowledged(again) == 3 + 1


async def leave_texts(manager: JobManager, texts: list[str]) -> None:
    """Have texts embedded, and hang up when the last vector has come."""
    stub = JobServiceClient(manager._caller, HOST_KEY.peer_id)
    answer = await stub.quote(job_pb2.QuoteRequest(model_id=EMBED), timeout_s=5)
    quote = job_pb2.Quote.FromString(envelope_pb2.SignedEnvelope.FromString(answer.quote).payload)
    request = job_pb2.RunRequest(quote_id=quote.quote_id, salt=bytes(16))
    request.embedding.texts.extend(texts)
    async with stub.run(request, timeout_s=None, session_id=SESSION_ID) as responses:
        async for response in responses:
            if response.WhichOneof("event") == "vector" and response.vector.index == len(texts) - 1:
                break


async def test_vectors_of_texts_that_nobody_counted_are_not_free(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager = uncounted(nursery, 200)
    host.engine.default = Script(hang_after=2)
    # Two texts of at most 32 tokens each.
    for _ in range(3):
        await leave_texts(manager, ["a b", "c"])
        await host.until_idle()
    with pytest.raises(RpcError) as caught:
        await leave_texts(manager, ["a b", "c"])
    assert caught.value.reason == "RECEIPT_OVERDUE"
    assert len(host.engine.works) == 3
    with pytest.raises(RpcError) as caught:
        await leave_texts(manager, ["x"] * 7)
    assert caught.value.reason in ("SLICE_TOO_SMALL", "RECEIPT_OVERDUE")


async def test_texts_are_billed_as_they_were_counted(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager = uncounted(nursery, 64)
    for _ in range(3):
        async with manager.run(session_of(64, model_id=EMBED), texts=["a b", "c"]) as job:
            await job.read_vectors()
        assert job.usage.cost_micros == 3
    with pytest.raises(JobError) as caught:
        async with manager.run(session_of(64, model_id=EMBED), texts=["a", "b", "c"]):
            pass
    assert caught.value.reason == "SLICE_TOO_SMALL"
    assert host.receipts.unpaid(SESSION_ID) == ()
