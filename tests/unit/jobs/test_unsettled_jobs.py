"""A client asks again for the last receipts of jobs that an outage left open. A token costs one micro-unit.

The prompt ``Hi there`` has four tokens.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing
from tests.unit.jobs.kit import CHAT, HOST_KEY, NETWORK, Book, FakeSession, Host, Liar, Purse, Script, make_host
from tests.unit.jobs.kit import make_client as make_client_of
from tests.unit.jobs.receipt_kit import PROMPT, SESSION_ID, assert_free, numbers, receipts_of, run_to_end, session_of

from hostmesh.errors import ConnectionLostError, DialError, HostmeshError
from hostmesh.jobs import client_sessions, unsettled
from hostmesh.jobs.client import JobManager
from hostmesh.jobs.job import Job
from hostmesh.net.stream import Stream
from hostmesh.receipts.receipt import JobState, open_sealed, seal_receipt
from hostmesh.receipts.spending import SessionSpending
from hostmesh.sessions.authorization import ModelPrice

RATE = ModelPrice(micros_per_mtok=1_000_000, currency="USD")


class Front(Liar):
    """Notes who asks for last receipts, and may not answer."""

    is_mute = False
    is_deaf = False

    def __init__(self, honest: Any) -> None:
        super().__init__(honest)
        self.asked: list[bytes] = []
        self.edit_last: Callable[[bytes], bytes] = lambda envelope: envelope

    async def get_receipt(self, request: Any, context: Any) -> Any:
        self.asked.append(request.job_id)
        if self.is_mute:
            await trio.sleep_forever()
        response = await super().get_receipt(request, context)
        response.receipt = self.edit_last(response.receipt)
        return response

    async def countersign(self, request: Any, context: Any) -> Any:
        if self.is_deaf:
            await trio.sleep_forever()
        return await super().countersign(request, context)


class Line:
    """A client's line to its host, which can be down."""

    def __init__(self, nursery: trio.Nursery, slice_micros: int) -> None:
        self.host = make_host(
            purse=Purse(limit=10_000, slice_micros=slice_micros, price_ceiling=10**7), prices={CHAT: RATE}
        )
        self.host.engine.default = Script(pieces=("x",) * 60, delay_s=0.1)
        self.front = Front(self.host.server)
        self.book = Book()
        self.manager, self.wire = make_client_of(self.host, nursery, handler=self.front, book=self.book)
        self.session = session_of(slice_micros)
        self._is_down = False
        self._open_stream, self.wire.open_stream = self.wire.open_stream, self.open_stream  # type: ignore[method-assign]

    async def open_stream(self, *args: Any, **options: Any) -> Stream:
        if self._is_down:
            raise DialError("no route", stage="dial")
        return await self._open_stream(*args, **options)

    async def go_down(self, for_s: float) -> None:
        self._is_down = True
        for stream in self.wire.ours:
            await stream.reset()
        await trio.sleep(for_s)
        self._is_down = False

    @asynccontextmanager
    async def down_after(self, after_s: float) -> AsyncIterator[None]:
        """Lose the connection in the middle of the block, for longer than a client tries to settle."""

        async def lose() -> None:
            await trio.sleep(after_s)
            await self.go_down(3.0)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lose)
            yield

    async def lose_a_job(self, *, after_s: float = 4.35, session: FakeSession | None = None) -> Job:
        async with self.down_after(after_s):
            with pytest.raises(ConnectionLostError):
                async with self.manager.run(session or self.session, prompt=PROMPT) as job:
                    await job.read_text()
        return job

    @property
    def kept(self) -> int:
        return len(self.manager._sessions.unsettled)


def last_of(host: Host, job: Job) -> tuple[int, int, int, JobState]:
    return numbers(receipts_of(host, job.job_id))[-1]


@pytest.mark.parametrize("slice_micros", [100, 60])
async def test_outages_do_not_eat_the_slice_of_two_honest_parties(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, slice_micros: int
) -> None:
    line = Line(nursery, slice_micros)
    for _ in range(4):
        job = await line.lose_a_job()
        assert not job.is_settled
        assert line.kept == 1
    line.host.engine.default = Script(pieces=("y",))
    started = trio.current_time()
    await run_to_end(line.manager, line.session, PROMPT)
    assert trio.current_time() == started
    assert line.kept == 0
    assert last_of(line.host, job) == (4, 43, 43, JobState.CANCELLED)
    # What was countersigned is counted once, also where a part of it was before the outage.
    assert sum(line.session.charged) == 4 * 47 + 5
    assert line.manager._sessions.track(line.session).spending.spent_micros == 4 * 47 + 5
    assert line.manager._receipts.refused() == ()
    await assert_free(line.manager, line.host, slice_micros)


async def test_also_a_session_that_is_resumed_asks_before_its_next_job(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    line = Line(nursery, 100)
    job = await line.lose_a_job()
    resumed = session_of(100)
    line.host.engine.default = Script(pieces=("y",))
    await run_to_end(line.manager, resumed, PROMPT)
    assert line.front.asked == [job.job_id]
    assert line.host.receipts.unpaid(SESSION_ID) == ()


async def test_a_countersignature_that_was_not_delivered_is_delivered_before_the_next_job(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    line = Line(nursery, 100)
    line.host.engine.default = Script(pieces=("x",) * 10)
    line.front.is_deaf = True
    async with line.down_after(1.0):
        with pytest.raises(HostmeshError):
            async with line.manager.run(line.session, prompt=PROMPT) as job:
                await job.read_text()
    assert line.kept == 1
    line.front.is_deaf = False
    await run_to_end(line.manager, line.session, PROMPT)
    assert line.front.asked == [], "it has the last receipt"
    assert last_of(line.host, job) == (4, 10, 10, JobState.SUCCEEDED)
    assert line.host.receipts.unpaid(SESSION_ID) == ()
    assert sum(line.session.charged) == 28


async def test_a_job_whose_acceptance_was_lost_is_asked_for(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    line = Line(nursery, 100)
    line.front.edit = lambda response: []
    async with line.down_after(0.55):
        with pytest.raises(ConnectionLostError):
            await run_to_end(line.manager, line.session, PROMPT)
    assert (line.kept, line.front.asked) == (1, [])
    line.front.edit = lambda response: [response]
    line.host.engine.default = Script(pieces=())
    await run_to_end(line.manager, line.session, PROMPT)
    (lost,) = line.front.asked
    assert numbers(receipts_of(line.host, lost)) == [(4, 0, 0, JobState.CANCELLED)]
    assert line.host.receipts.unpaid(SESSION_ID) == ()


async def test_a_host_that_knows_nothing_of_the_job_is_asked_once(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    line = Line(nursery, 100)
    job = await line.lose_a_job()
    line.host.server._desk._cut.clear()
    line.host.engine.default = Script(pieces=("y",))
    for _ in range(2):
        await run_to_end(line.manager, line.session, PROMPT)
    assert line.front.asked == [job.job_id]
    assert line.kept == 0


async def test_what_this_client_never_pays_for_is_not_asked_for_again(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Prompts without an answer, up to a slice of the session: a second one is above that."""
    line = Line(nursery, 100)
    line.host.engine.default = Script(pieces=("x",), delay_s=9.0)
    for prompt in (" ".join(["a"] * 38), " ".join(["abc"] * 62)):
        with trio.move_on_after(5.0):
            async with line.manager.run(line.session, prompt=prompt) as job:
                await trio.sleep(0.1)
    assert line.front.asked[-1] == job.job_id
    assert not job.is_settled
    assert line.kept == 0


async def test_a_host_that_does_not_answer_holds_the_next_job_up_for_two_seconds_and_is_asked_again(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    line = Line(nursery, 100)
    job = await line.lose_a_job()
    line.host.engine.default = Script(pieces=("y",))
    line.front.is_mute = True
    started = trio.current_time()
    await run_to_end(line.manager, line.session, PROMPT)
    assert trio.current_time() == started + 2.0
    with trio.move_on_after(1.0):
        await run_to_end(line.manager, line.session, PROMPT)
    assert line.kept == 1, "also where the wait was cancelled"
    line.front.is_mute = False
    await run_to_end(line.manager, line.session, PROMPT)
    assert line.front.asked == [job.job_id] * 3
    assert line.kept == 0
    await assert_free(line.manager, line.host, 100)


async def test_a_last_receipt_that_lies_is_refused_however_late(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    def dearer(envelope: bytes) -> bytes:
        receipt = open_sealed(envelope, network=NETWORK).receipt
        receipt = replace(receipt, prompt_tokens=receipt.prompt_tokens + 1, cost_micros=receipt.cost_micros + 2)
        return seal_receipt(HOST_KEY, receipt, network=NETWORK)

    line = Line(nursery, 100)
    await line.lose_a_job()
    line.front.edit_last = dearer
    line.host.engine.default = Script(pieces=("y",))
    for _ in range(2):
        await run_to_end(line.manager, line.session, PROMPT)
    assert [refused.reason for refused in line.manager._receipts.refused()] == ["WRONG_COST"]
    assert len(line.front.asked) == 1
    assert sum(line.session.charged) == 10


async def test_jobs_that_begin_together_ask_once(autojump_clock: trio.testing.MockClock, nursery: trio.Nursery) -> None:
    line = Line(nursery, 100)
    lost = await line.lose_a_job()
    line.host.engine.default = Script(pieces=("y",))
    async with trio.open_nursery() as jobs:
        for _ in range(5):
            jobs.start_soon(run_to_end, line.manager, line.session, PROMPT)
    assert line.front.asked == [lost.job_id]
    assert line.host.receipts.unpaid(SESSION_ID) == ()


@pytest.mark.parametrize("bound", ["MAX_UNSETTLED_JOBS", "MAX_UNSETTLED_BYTES"])
async def test_only_so_much_is_kept_and_the_oldest_goes(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    # 43 pieces each of a byte, and the prompt in its message: 18.
    monkeypatch.setattr(unsettled, bound, 2 if bound == "MAX_UNSETTLED_JOBS" else 2 * 61)
    line = Line(nursery, 200)
    line.front.is_mute = True
    lost = [await line.lose_a_job(after_s=after_s) for after_s in (4.35, 6.35, 6.35)]
    jobs = line.manager._sessions.unsettled
    assert (line.kept, jobs._bytes) == (2, 2 * 61)
    line.front.is_mute = False
    line.front.asked.clear()
    line.host.engine.default = Script(pieces=("y",))
    await run_to_end(line.manager, line.session, PROMPT)
    assert set(line.front.asked) == {job.job_id for job in lost[1:]}
    assert (line.kept, jobs._bytes) == (0, 0)


async def test_more_jobs_than_a_host_takes_at_once_are_asked_for_in_turns(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsettled, "MAX_ASKED_AT_ONCE", 2)
    line = Line(nursery, 1000)
    async with line.down_after(1.35), trio.open_nursery() as jobs:
        for _ in range(3):
            jobs.start_soon(lose, line.manager, line.session)
    line.host.engine.default = Script(pieces=("y",))
    for asked in (2, 3):
        await run_to_end(line.manager, line.session, PROMPT)
        assert len(line.front.asked) == asked
    assert line.host.receipts.unpaid(SESSION_ID) == ()


async def lose(manager: JobManager, session: FakeSession) -> None:
    with pytest.raises(ConnectionLostError):
        await run_to_end(manager, session, PROMPT)


async def test_what_is_kept_of_a_session_goes_with_it(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_sessions, "MAX_TRACKED_SESSIONS", 1)
    line = Line(nursery, 100)
    await line.lose_a_job()
    other = b"o" * 16
    line.host.purses[other] = Purse(limit=10_000, slice_micros=100, price_ceiling=10**7, session_id=other)
    line.host.engine.default = Script(pieces=("y",))
    await run_to_end(line.manager, session_of(100, session_id=other), PROMPT)
    assert (line.kept, line.front.asked) == (0, [])


@pytest.mark.parametrize("is_answered", [True, False])
def test_what_is_opened_again_and_ends_with_nothing_more_changes_nothing(is_answered: bool) -> None:
    spending = SessionSpending(limit_micros=100, slice_micros=20)
    spending.send(b"a", 8)
    spending.owe(b"a", 8, is_answered=False)
    if is_answered:
        spending.answered(b"a")
        spending.owe(b"a", 9, is_answered=True)
    spending.end(b"a")

    def room() -> int:
        """How large a prompt may leave beside another one."""
        spending.send(b"b", 1)
        most = max(micros for micros in range(21) if spending.may_send(micros))
        spending.end(b"b")
        return most

    before = (spending.spent_micros, room())
    # As long as a receipt of it may come no other prompt leaves in its place.
    spending.reopen(b"a", 9 if is_answered else 8, is_answered=is_answered)
    assert spending.is_busy
    assert [spending.may_send(micros) for micros in (12, 13)] == [True, is_answered]
    spending.end(b"a")
    assert before == ((9, 19) if is_answered else (8, 11))
    for _ in range(2):
        spending.reopen(b"a", 9 if is_answered else 8, is_answered=is_answered)
        spending.end(b"a")
        assert (spending.spent_micros, room()) == before
    # A receipt that comes after all adds what it says more.
    spending.reopen(b"a", 9 if is_answered else 8, is_answered=is_answered)
    spending.owe(b"a", 12, is_answered=is_answered)
    spending.end(b"a")
    assert (spending.spent_micros, room()) == ((12, 19) if is_answered else (12, 7))
