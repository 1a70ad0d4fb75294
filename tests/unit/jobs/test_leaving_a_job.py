"""How a client leaves a job: what it still delivers, and how long it stays with a host that answers nothing."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import trio
import trio.testing
from tests.unit.jobs.kit import (
    HOST_KEY,
    NETWORK,
    Book,
    FakeSession,
    Liar,
    MemoryStream,
    Purse,
    Script,
    make_client,
    make_host,
)
from tests.unit.jobs.receipt_kit import PROMPT, setting

from hostmesh.errors import ConnectionLostError, JobError, RpcError, StatusCode
from hostmesh.jobs.countersigning import SETTLE_TIMEOUT_S
from hostmesh.receipts.host_ledger import COUNTERSIGN_TIMEOUT_S
from hostmesh.receipts.receipt import open_sealed, seal_receipt
from hostmesh.rpc.context import CallContext
from hostmesh.v1 import job_pb2


class Silent(Liar):
    """Runs jobs, and answers no question about them."""

    async def get_receipt(self, request: job_pb2.GetReceiptRequest, context: CallContext) -> job_pb2.GetReceiptResponse:
        await trio.sleep_forever()
        raise AssertionError


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_leaving_a_job_at_a_silent_host_takes_one_limit_and_not_two(
    is_cancelled: bool, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host = make_host()
    host.engine.default = Script(hang_after=1)
    manager, _ = make_client(host, nursery, handler=Silent(host.server))
    with trio.CancelScope() as scope:
        async with manager.run(FakeSession(), prompt="Hi") as job:
            await anext(job)
            left_s = trio.current_time()
            if is_cancelled:
                scope.cancel()
                await trio.lowlevel.checkpoint()
    assert trio.current_time() - left_s == pytest.approx(SETTLE_TIMEOUT_S, abs=0.1)


class Refusing(Liar):
    """Answers no question about jobs but with a refusal."""

    async def get_receipt(self, request: job_pb2.GetReceiptRequest, context: CallContext) -> job_pb2.GetReceiptResponse:
        raise RpcError("no", status=StatusCode.UNAVAILABLE)


async def test_a_host_that_refuses_to_end_a_job_is_left_at_once(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host = make_host()
    host.engine.default = Script(hang_after=1)
    manager, _ = make_client(host, nursery, handler=Refusing(host.server))
    async with manager.run(FakeSession(), prompt="Hi") as job:
        await anext(job)
        left_s = trio.current_time()
    assert trio.current_time() == left_s


def _delay(stream: MemoryStream, monkeypatch: pytest.MonkeyPatch, *, delay_s: float) -> None:
    """Make each write arrive so late, and one after the other."""
    receive = stream.receive

    async def receive_late(max_bytes: int = 1 << 20) -> bytes:
        await trio.sleep(delay_s)
        return await receive(max_bytes)

    monkeypatch.setattr(stream, "receive", receive_late)


async def test_what_is_under_way_when_a_job_is_left_is_read_and_paid_for(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although the last receipt is there before it: that comes on a stream of its own."""
    host = make_host()
    host.engine.default = Script(pieces=("x",) * 6, hang_after=6)
    manager, wire = make_client(host, nursery)
    session = FakeSession()
    async with manager.run(session, prompt="Hi") as job:
        await anext(job)
        _delay(wire.ours[-1], monkeypatch, delay_s=0.1)
        await trio.testing.wait_all_tasks_blocked()  # the host has sent all six
    last = host.receipts.last_issued(session.session_id, job.job_id)
    assert last is not None
    assert last.receipt.output_pieces == 6
    assert host.receipts.unpaid(session.session_id) == ()


class Hushed(Liar):
    """Answers no countersignature."""

    async def countersign(
        self, request: job_pb2.CountersignRequest, context: CallContext
    ) -> job_pb2.CountersignResponse:
        await super().countersign(request, context)
        await trio.sleep_forever()
        raise AssertionError


async def test_a_countersignature_that_is_not_answered_holds_its_reader_up_once(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host = make_host()
    manager, _ = make_client(host, nursery, handler=Hushed(host.server))
    began_s = trio.current_time()
    async with manager.run(FakeSession(), prompt="Hi") as job:
        await job.read_text()
        assert trio.current_time() - began_s == pytest.approx(COUNTERSIGN_TIMEOUT_S, abs=0.1)


async def test_a_lie_that_is_under_way_when_a_job_is_left_is_kept_once_and_settles_nothing(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, _, session, liar = setting(nursery, 10)  # a receipt is due with the first piece
    host.engine.default = Script(pieces=("x",), hang_after=1)
    manager, _ = make_client(host, nursery, book=(book := Book()), handler=liar)

    def claim_more(response: job_pb2.RunResponse) -> list[job_pb2.RunResponse]:
        if response.WhichOneof("event") == "receipt":
            receipt = open_sealed(response.receipt, network=NETWORK).receipt
            more = replace(receipt, output_pieces=receipt.output_pieces + 1)
            response.receipt = seal_receipt(HOST_KEY, more, network=NETWORK)
        return [response]

    liar.edit = claim_more
    async with manager.run(session, prompt=PROMPT) as job:
        await anext(job)
    assert len(manager._receipts.refused()) == 1
    assert book.outcomes == [(HOST_KEY.peer_id, False)]
    assert not job.is_settled


class Unheard(Liar):
    """The first countersignature does not arrive: ``lose`` it."""

    lose: Callable[[], Awaitable[None]] | None = None

    async def countersign(
        self, request: job_pb2.CountersignRequest, context: CallContext
    ) -> job_pb2.CountersignResponse:
        if self.lose is not None:
            lose, self.lose = self.lose, None
            await lose()
            await trio.sleep_forever()
        return await super().countersign(request, context)


@pytest.mark.parametrize("is_read_to_its_end", [False, True])
async def test_a_countersignature_whose_stream_broke_is_delivered_before_a_job_is_left(
    is_read_to_its_end: bool, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host = make_host()
    host.engine.default = Script(delay_s=1.0)
    front = Unheard(host.server)
    manager, wire = make_client(host, nursery, handler=front)
    front.lose = lambda: wire.ours[-1].reset()
    async with manager.run(FakeSession(), prompt="Hi") as job:
        await (job.read_text() if is_read_to_its_end else anext(job))
    assert front.lose is None, "this test breaks a stream"
    assert host.receipts.unpaid(FakeSession().session_id) == ()


@pytest.mark.parametrize(("is_broken", "is_ended"), [(False, True), (True, False), (True, True)])
async def test_a_client_that_is_cancelled_pays_for_what_came_or_is_under_way(
    is_broken: bool, is_ended: bool, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    slice_micros = 5 if is_ended else 10_000  # a receipt on the way to the last, or none
    host = make_host(purse=Purse(limit=10_000, slice_micros=slice_micros))
    host.engine.default = Script(pieces=("x",) * 6, hang_after=None if is_ended else 6)
    manager, wire = make_client(host, nursery)
    session = FakeSession(slice_micros=slice_micros)
    with trio.CancelScope() as scope:
        async with manager.run(session, prompt="Hi") as job:
            await anext(job)
            await trio.testing.wait_all_tasks_blocked()  # the host has sent all six
            if is_broken:
                await wire.ours[-1].reset()
                with pytest.raises(ConnectionLostError):
                    await anext(job)
            scope.cancel()
            await trio.lowlevel.checkpoint()
    last = host.receipts.last_issued(session.session_id, job.job_id)
    assert last is not None
    assert last.receipt.output_pieces == (1 if is_broken and not is_ended else 6)
    # Nobody signs what was lost, and no honest receipt over it is kept for a lie.
    is_lost = is_broken and is_ended
    assert len(host.receipts.unpaid(session.session_id)) == is_lost
    assert job.is_settled is not is_lost
    assert manager._receipts.refused() == ()


class Unwilling(Liar):
    """Takes no countersignature, and gives no last receipt; or not one that anybody can read."""

    junk = b""

    async def countersign(
        self, request: job_pb2.CountersignRequest, context: CallContext
    ) -> job_pb2.CountersignResponse:
        raise RpcError("deaf ears", status=StatusCode.INTERNAL)

    async def get_receipt(self, request: job_pb2.GetReceiptRequest, context: CallContext) -> job_pb2.GetReceiptResponse:
        await super().get_receipt(request, context)
        if self.junk:
            return job_pb2.GetReceiptResponse(receipt=self.junk)
        raise RpcError("closed books", status=StatusCode.INTERNAL)


@pytest.mark.parametrize("junk", [b"", b"junk"])
async def test_what_leaves_a_job_open_is_logged_with_its_host(
    junk: bytes, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hostmesh.jobs")
    host, manager, session, front = setting(nursery, 10, handler=Unwilling)
    assert isinstance(front, Unwilling)
    front.junk = junk
    host.engine.default = Script(pieces=("x",), hang_after=1)
    async with manager.run(session, prompt=PROMPT) as job:
        with trio.move_on_after(1):
            await job.read_text()
    refused = [each.message for each in manager._receipts.refused()]
    assert len(refused) == bool(junk)
    assert not job.is_settled
    for cause in ("deaf ears", *(refused or ["closed books"])):
        records = [record for record in caplog.records if record.getMessage().endswith(f": {cause}")]
        assert {vars(record).get("peer_id") for record in records} == {HOST_KEY.peer_id}


async def test_a_host_that_refused_a_job_is_asked_nothing_about_it(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    class Busy(Liar):
        asked = 0

        async def run(self, request: job_pb2.RunRequest, context: CallContext, send: Callable[..., object]) -> None:
            raise RpcError("no", status=StatusCode.RESOURCE_EXHAUSTED, reason="BUSY")

        async def get_receipt(
            self, request: job_pb2.GetReceiptRequest, context: CallContext
        ) -> job_pb2.GetReceiptResponse:
            self.asked += 1
            return await super().get_receipt(request, context)

    host = make_host()
    front = Busy(host.server)
    manager, _ = make_client(host, nursery, handler=front)
    with pytest.raises(JobError):
        async with manager.run(FakeSession(), prompt="Hi"):
            pass
    assert front.asked == 0
