"""How a client leaves a job: what it still delivers, and how long it stays with a host that answers nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from tests.unit.jobs.kit import FakeSession, Liar, Purse, Script, make_client, make_host

from hostmesh.errors import ConnectionLostError
from hostmesh.jobs.countersigning import SETTLE_TIMEOUT_S
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


@pytest.mark.parametrize("is_broken", [False, True])
async def test_a_client_that_is_cancelled_pays_for_what_came_or_is_under_way(
    is_broken: bool, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host = make_host(purse=Purse(limit=10_000, slice_micros=5))
    host.engine.default = Script(pieces=("x",) * 6)
    manager, wire = make_client(host, nursery)
    session = FakeSession(slice_micros=5)
    with trio.CancelScope() as scope:
        async with manager.run(session, prompt="Hi") as job:
            await anext(job)
            if is_broken:
                await wire.ours[-1].reset()
                with pytest.raises(ConnectionLostError):
                    await anext(job)
            scope.cancel()
            await trio.lowlevel.checkpoint()
    last = host.receipts.last_issued(session.session_id, job.job_id)
    assert last is not None
    assert (last.receipt.output_pieces == 1) is is_broken
    assert host.receipts.unpaid(session.session_id) == ()
