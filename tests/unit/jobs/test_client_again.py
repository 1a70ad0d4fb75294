"""A client that starts again in a session, and what it then owes, sends and refuses. A token costs one micro-unit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.unit.jobs.kit import (
    CHAT,
    CLIENT_KEY,
    HOST_KEY,
    NETWORK,
    OTHER_KEY,
    Book,
    FakeSession,
    Host,
    Liar,
    Purse,
    Script,
    Wire,
    make_host,
)

from hostmesh.errors import ReceiptError
from hostmesh.identity.structs import SessionAuthorization
from hostmesh.jobs.client import JobManager
from hostmesh.jobs.client_sessions import ClientSessions
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.receipts.store import ReceiptStore
from hostmesh.rpc.client import RpcClient
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.v1 import job_pb2

SESSION_ID = b"s" * 16


class Dead(Liar):
    """The client dies when it has signed: what it sends does not arrive."""

    is_dead = True
    heard = 0

    async def countersign(self, request: Any, context: Any) -> Any:
        if self.is_dead:
            return job_pb2.CountersignResponse()
        self.heard += 1
        return await super().countersign(request, context)

    async def get_receipt(self, request: Any, context: Any) -> Any:
        await trio.sleep_forever()


def manager_of(host: Host, nursery: trio.Nursery, front: Liar, receipts: ReceiptStore, book: Book | None) -> JobManager:
    wire = Wire(host, nursery, peer_id=CLIENT_KEY.peer_id, handler=front)
    system = host.clock.system()
    return JobManager(
        caller=RpcClient(wire, prefix="/hostmesh", system=system),
        peer_id=CLIENT_KEY.peer_id,
        network=NETWORK,
        receipts=receipts,
        outcomes=book,
        system=system,
    )


def dear_host(slice_micros: int) -> Host:
    return make_host(
        purse=Purse(limit=10_000, slice_micros=slice_micros, price_ceiling=10**7),
        prices={CHAT: ModelPrice(micros_per_mtok=10**6, currency="USD")},
    )


def session_of(slice_micros: int, **changes: Any) -> FakeSession:
    return FakeSession(slice_micros=slice_micros, max_price_micros_per_mtok=10**7, **changes)


@pytest.mark.parametrize("is_cut", [True, False])
async def test_what_a_killed_client_had_signed_is_sent_again_and_the_slice_is_free(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, tmp_path: Path, is_cut: bool
) -> None:
    host = dear_host(20)
    # 4 of the prompt and 6 are half a slice, or all that the job makes.
    host.engine.default = Script(pieces=("x",) * 6, hang_after=6 if is_cut else None)
    front = Dead(host.server)
    first = ReceiptStore(tmp_path / "receipts.sqlite3")
    manager = manager_of(host, nursery, front, first, None)
    with trio.move_on_after(3):
        async with manager.run(session_of(20), prompt="Hi there") as job:
            await job.read_text()
    first.close()
    await host.until_idle()
    assert sum(unpaid.issued_micros for unpaid in host.receipts.unpaid(SESSION_ID)) == 10
    front.is_dead = False
    book = Book()
    again = ReceiptStore(tmp_path / "receipts.sqlite3")
    manager = manager_of(host, nursery, front, again, book)
    host.engine.default = Script(pieces=("x",))
    started = trio.current_time()
    # It takes the whole slice.
    async with manager.run(session_of(20), prompt="x " * 17) as job:
        await job.read_text()
    assert trio.current_time() == started
    assert job.usage.cost_micros == 20
    assert host.receipts.unpaid(SESSION_ID) == ()
    heard = front.heard
    async with manager.run(session_of(20), prompt="x") as job:
        await job.read_text()
    assert front.heard == heard + 1, "once a run"
    assert book.outcomes == [(job.peer_id, True)] * 2
    again.close()


async def test_a_host_that_does_not_answer_what_is_sent_again_holds_no_job_up_for_long(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mute(Dead):
        is_mute = False

        async def countersign(self, request: Any, context: Any) -> Any:
            if self.is_mute:
                await trio.sleep_forever()
            return await super().countersign(request, context)

    host = dear_host(1000)
    front = Mute(host.server)
    front.is_dead = False
    receipts = ReceiptStore(None)
    for _ in range(3):
        manager = manager_of(host, nursery, front, receipts, None)
        async with manager.run(session_of(1000), prompt="Hi there") as job:
            await job.read_text()
    front.is_mute = True
    manager = manager_of(host, nursery, front, receipts, None)
    started = trio.current_time()
    async with manager.run(session_of(1000), prompt="Hi there") as job:
        assert trio.current_time() - started == pytest.approx(10.0, abs=0.1)
        front.is_mute = False
        await job.read_text()


def test_two_hosts_that_agree_on_an_id_have_each_its_own_limit_and_slice() -> None:
    @dataclass(frozen=True)
    class AtHost(FakeSession):
        host: bytes = b""

        @property
        def authorization(self) -> SessionAuthorization:
            return replace(super().authorization, host_peer_id=self.host)

    sessions = ClientSessions(network=NETWORK, receipts=ReceiptStore(None))
    hosts = [peer_id_to_bytes(key.peer_id) for key in (HOST_KEY, OTHER_KEY)]
    rich = sessions.track(AtHost(host=hosts[0], spending_limit_micros=100, slice_micros=100))
    poor = sessions.track(AtHost(host=hosts[1], spending_limit_micros=10, slice_micros=10))
    rich.spending.owe(b"a" * 16, 100, is_answered=True)
    with pytest.raises(ReceiptError, match="the slice is 10"):
        poor.spending.owe(b"a" * 16, 11, is_answered=True)
    poor.spending.owe(b"a" * 16, 10, is_answered=True)
    assert sessions.track(AtHost(host=hosts[0], spending_limit_micros=100, slice_micros=100)) is rich


async def test_a_stream_that_cannot_be_read_out_in_time_is_no_lie_of_the_host(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    class Slow(Liar):
        """What it sends after the second piece arrives late; the host knows that it sent it."""

        async def run(self, request: Any, context: Any, send: Any) -> None:
            numbers = count()
            arrives, late = trio.open_memory_channel[Any](100)

            async def bring() -> None:
                async for number, response in late:
                    if number > 2:
                        await trio.sleep(3)
                    await send(response)

            async def tell(response: Any) -> None:
                arrives.send_nowait((next(numbers), response))

            async with trio.open_nursery() as pipe:
                pipe.start_soon(bring)
                try:
                    await self.honest.run(request, context, tell)
                finally:
                    arrives.close()

    host = dear_host(100)
    host.engine.default = Script(pieces=("x",) * 8, hang_after=8)
    book, receipts = Book(), ReceiptStore(None)
    manager = manager_of(host, nursery, Slow(host.server), receipts, book)
    session = session_of(100)
    async with manager.run(session, prompt="Hi there") as job:
        await anext(job)
        await trio.sleep(0.1)
    (unpaid,) = host.receipts.unpaid(SESSION_ID)
    assert unpaid.issued_micros > 5, "the host's last receipt is over pieces that did not come"
    assert receipts.refused() == ()
    assert session.charged == []
    assert book.verdicts == []
