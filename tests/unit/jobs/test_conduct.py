"""Which ends of a job that a host took are its failures: by the client's clock and what it countersigned."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import trio
import trio.testing
from tests.support.receipts import job_terms
from tests.unit.jobs.kit import CHAT, HOST_KEY, Book, FakeSession, Host, Liar, Purse, Script, make_client, make_host

from hostmesh.errors import ConnectionLostError, DeadlineExceededError, HostmeshError, JobError, RpcError, StatusCode
from hostmesh.jobs.client import JobManager
from hostmesh.jobs.conduct import JobConduct, SessionConduct
from hostmesh.jobs.reasons import REASONS
from hostmesh.jobs.verdict import JobVerdict
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.v1 import job_pb2


def job_of(
    session: SessionConduct | None = None,
    *,
    job_id: bytes = b"j" * 16,
    deadline: float = float("inf"),
    is_long: bool = False,
    is_draining: bool = False,
    most_prompt_micros: int = 0,
    **terms: Any,
) -> JobConduct:
    """A job that was asked for at 100 s."""
    return (session or conduct_of()).begin(
        job_terms(job_id, **terms),
        now=100.0,
        deadline=deadline,
        most_prompt_micros=most_prompt_micros,
        may_fill_context=lambda: is_long,
        says_draining=lambda: is_draining,
    )


def conduct_of(*, is_new: bool = True) -> SessionConduct:
    """A session with a slice of 100 micro-units."""
    return SessionConduct(is_new=is_new, slice_micros=100)


def ended(reason: str) -> JobError:
    return JobError("no", reason=reason, retry_safe=False)


@pytest.mark.parametrize("reason", [*REASONS, "TEA_TIME", "ABORTED", "CANCELLED", "UNAVAILABLE", "", "OK"])
def test_whatever_no_honest_host_ends_a_job_with_is_a_failure(reason: str) -> None:
    assert job_of().is_hosts_failure(ended(reason), 110.0)
    # Two that its client can see to be true; that a model was not ready, it should have said before.
    assert job_of(is_long=True).is_hosts_failure(ended(reason), 110.0) is (reason != "CONTEXT_EXCEEDED")
    assert job_of(is_draining=True).is_hosts_failure(ended(reason), 110.0) is (reason != "DRAINING")


@pytest.mark.parametrize(("now", "is_failure"), [(100.0, True), (699.9, True), (700.0, False), (4000.0, False)])
def test_a_time_limit_is_believed_after_ten_minutes(now: float, is_failure: bool) -> None:
    assert job_of().is_hosts_failure(ended("JOB_TIME_LIMIT"), now) is is_failure


def test_a_deadline_is_believed_when_it_is_over() -> None:
    late = DeadlineExceededError("late")
    for deadline, now, is_failure in (
        (160.0, 158.0, True),
        (160.0, 159.5, False),
        (160.0, 161.0, False),
        (float("inf"), 1e9, True),
    ):
        assert job_of(deadline=deadline).is_hosts_failure(late, now) is is_failure


@pytest.mark.parametrize(
    ("max_output_tokens", "most_prompt_micros", "is_failure"),
    [(400, 0, True), (401, 0, False), (200, 50, True), (200, 51, False)],
)
def test_a_slice_that_holds_the_whole_answer_is_not_too_small(
    max_output_tokens: int, most_prompt_micros: int, is_failure: bool
) -> None:
    # 100 micro-units are 400 tokens at a quarter; what a host may hold for a prompt that it cannot count is beside.
    job = job_of(max_output_tokens=max_output_tokens, most_prompt_micros=most_prompt_micros)
    assert job.is_hosts_failure(ended("SLICE_TOO_SMALL"), 110.0) is is_failure


def test_an_overdue_receipt_is_not_believed_of_a_client_that_kept_its_session() -> None:
    job = job_of()
    job.reading(100.0)
    job.left(101.0)
    job.reading(115.0)
    assert job.is_hosts_failure(ended("RECEIPT_OVERDUE"), 200.0)


def _away_at_once(session: SessionConduct, job: JobConduct) -> None:
    job.left(120.0)


def _away_in_parts(session: SessionConduct, job: JobConduct) -> None:
    for second in range(100, 116):
        job.left(float(second))
        job.reading(second + 1.0)


def _another_job_away(session: SessionConduct, job: JobConduct) -> None:
    other = job_of(session, job_id=b"o" * 16)
    other.left(130.0)


def _another_job_was_away(session: SessionConduct, job: JobConduct) -> None:
    other = job_of(session, job_id=b"o" * 16)
    other.left(100.0)
    session.end(b"o" * 16, now=116.0, is_settled=True)


def _another_job_unsettled(session: SessionConduct, job: JobConduct) -> None:
    job_of(session, job_id=b"o" * 16)
    session.end(b"o" * 16, now=101.0, is_settled=False)


@pytest.mark.parametrize(
    "late", [_away_at_once, _away_in_parts, _another_job_away, _another_job_was_away, _another_job_unsettled]
)
def test_an_overdue_receipt_is_believed_of_a_client_that_was_late_but_not_within_half_a_minute(
    late: Callable[[SessionConduct, JobConduct], None],
) -> None:
    session = conduct_of()
    job = job_of(session)
    late(session, job)
    assert not job.is_hosts_failure(ended("RECEIPT_OVERDUE"), 150.0)
    assert job.is_hosts_failure(ended("RECEIPT_OVERDUE"), 129.9)


def test_an_overdue_receipt_is_believed_in_a_session_of_an_earlier_run() -> None:
    job = job_of(conduct_of(is_new=False))
    assert not job.is_hosts_failure(ended("RECEIPT_OVERDUE"), 130.0)


def test_a_reader_that_takes_its_time_and_reads_each_receipt_is_not_late() -> None:
    session = conduct_of()
    job = job_of(session)
    for number, second in enumerate(range(100, 160, 10), start=1):
        job.left(float(second))
        job.reading(second + 10.0)
        job.countersigned(50 * number, second + 10.0)
    session.end(job_terms().job_id, now=160.0, is_settled=True)
    assert not session.may_owe(1000.0)


def test_a_reader_that_is_away_longer_than_what_it_pays_for_is_late() -> None:
    session = conduct_of()
    job = job_of(session)
    for number, second in enumerate(range(100, 160, 10), start=1):
        job.left(float(second))
        job.reading(second + 10.0)
        # A fiftieth of the slice gives 0.6 s back.
        job.countersigned(2 * number, second + 10.0)
    session.end(job_terms().job_id, now=160.0, is_settled=True)
    assert session.may_owe(1000.0)


def test_a_line_that_is_lost_is_the_hosts_unless_nobody_read_what_it_sent() -> None:
    lost = ConnectionLostError("gone")
    assert job_of().is_hosts_failure(lost, 110.0)
    late = job_of()
    late.left(100.0)
    assert late.is_hosts_failure(lost, 114.0)
    assert not late.is_hosts_failure(lost, 116.0)
    free = job_of(price_micros_per_mtok=0)
    free.left(100.0)
    assert free.is_hosts_failure(lost, 1000.0), "of a free model nobody is hurried"


def test_who_pays_nothing_owes_nothing() -> None:
    job = job_of(conduct_of(is_new=False), price_micros_per_mtok=0)
    assert job.is_hosts_failure(ended("RECEIPT_OVERDUE"), 1000.0)


# --- over the wire ---


class Ending(Liar):
    """A host that ends jobs as it likes, after so many pieces; of these it has receipts by the honest one."""

    error: HostmeshError = RpcError("tea time", status=StatusCode.ABORTED, reason="TEA_TIME")
    after = 2

    async def run(self, request: Any, context: Any, send: Callable[[Any], Any]) -> None:
        sent = 0

        async def tell(response: job_pb2.RunResponse) -> None:
            nonlocal sent
            await send(response)
            sent += response.WhichOneof("event") == "text"
            if sent == self.after:
                raise self.error

        await self.honest.run(request, context, tell)


class Deaf(Liar):
    """No countersignature comes to this host."""

    async def countersign(self, request: Any, context: Any) -> Any:
        return job_pb2.CountersignResponse()


def setting(
    nursery: trio.Nursery, handler: Callable[[Any], Liar] = Liar, slice_micros: int = 20
) -> tuple[Host, JobManager, FakeSession, Book, Liar]:
    host = make_host(
        purse=Purse(limit=10_000, slice_micros=slice_micros, price_ceiling=10**7),
        prices={CHAT: ModelPrice(micros_per_mtok=10**6, currency="USD")},
    )
    host.engine.default = Script(pieces=("x",) * 20)
    book, front = Book(), handler(host.server)
    manager, _ = make_client(host, nursery, book=book, handler=front)
    session = FakeSession(slice_micros=slice_micros, max_price_micros_per_mtok=10**7)
    return host, manager, session, book, front


async def _read(manager: JobManager, session: FakeSession, *, wait_s: float = 0.0, **options: Any) -> None:
    async with manager.run(session, prompt="Hi there", **options) as job:
        await trio.sleep(wait_s)
        await job.read_text()


@pytest.mark.parametrize(
    ("status", "reason", "is_failure"),
    [
        (StatusCode.RESOURCE_EXHAUSTED, "BUSY", True),
        (StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", True),
        (StatusCode.ABORTED, "TEA_TIME", True),
        (StatusCode.ABORTED, "", True),
        (StatusCode.CANCELLED, "", True),
        (StatusCode.UNAUTHENTICATED, "UNAUTHORIZED", True),
        (StatusCode.DEADLINE_EXCEEDED, "", True),
        (StatusCode.DEADLINE_EXCEEDED, "JOB_TIME_LIMIT", True),
        (StatusCode.FAILED_PRECONDITION, "RECEIPT_OVERDUE", True),
        (StatusCode.FAILED_PRECONDITION, "SLICE_TOO_SMALL", False),
        (StatusCode.UNAVAILABLE, "DRAINING", True),
        (StatusCode.UNAVAILABLE, "MODEL_NOT_READY", True),
        (StatusCode.INVALID_ARGUMENT, "CONTEXT_EXCEEDED", False),
    ],
)
async def test_a_host_that_took_a_job_does_not_choose_whether_its_end_counts(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, status: StatusCode, reason: str, is_failure: bool
) -> None:
    _, manager, session, book, front = setting(nursery, Ending)
    assert isinstance(front, Ending)
    front.error = RpcError("no", status=status, reason=reason)
    with pytest.raises(HostmeshError):
        await _read(manager, session)
    assert book.verdicts == ([JobVerdict.FAILED] if is_failure else [])


OVERDUE = RpcError("no", status=StatusCode.FAILED_PRECONDITION, reason="RECEIPT_OVERDUE")


@pytest.mark.parametrize("is_failed", [False, True])
async def test_who_stays_with_a_job_that_is_over_keeps_no_host_waiting(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, is_failed: bool
) -> None:
    _, manager, session, book, front = setting(nursery, Ending)
    assert isinstance(front, Ending)
    front.after = 2 if is_failed else 100
    async with manager.run(session, prompt="Hi there") as job:
        with pytest.raises(JobError) if is_failed else nullcontext():
            await job.read_text()
        await trio.sleep(100)
    front.after, front.error = 2, OVERDUE
    with pytest.raises(JobError):
        await _read(manager, session)
    assert book.verdicts[1:] == [JobVerdict.FAILED]


async def test_a_reader_that_takes_its_time_and_pays_keeps_no_host_waiting(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, book, front = setting(nursery, Ending)
    assert isinstance(front, Ending)
    host.engine.default = Script(pieces=("x",) * 60)
    front.after, front.error = 55, OVERDUE

    async def read_slowly() -> None:
        async with manager.run(session, prompt="Hi there") as job:
            async for _ in job:
                await trio.sleep(0.7)

    with pytest.raises(JobError):
        await read_slowly()
    assert trio.current_time() > 30
    assert book.verdicts == [JobVerdict.FAILED]


async def test_a_host_that_does_not_hear_countersignatures_fails_its_jobs(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    _, manager, session, book, _ = setting(nursery, Deaf)
    with pytest.raises(JobError) as caught:
        await _read(manager, session)
    assert caught.value.reason == "RECEIPT_OVERDUE"
    assert trio.current_time() == 30.0
    assert book.verdicts == [JobVerdict.FAILED]


async def test_an_honest_host_that_waits_for_a_reader_in_vain_is_not_blamed(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    _, manager, session, book, _ = setting(nursery, slice_micros=10)
    with pytest.raises(JobError) as caught:
        await _read(manager, session, wait_s=60.0)
    assert caught.value.reason == "RECEIPT_OVERDUE"
    assert book.verdicts == []


async def test_an_honest_host_whose_slice_a_lost_connection_took_is_not_blamed(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host = make_host(
        purse=Purse(limit=10_000, slice_micros=20, price_ceiling=10**7),
        prices={CHAT: ModelPrice(micros_per_mtok=10**6, currency="USD")},
    )
    host.engine.default = Script(pieces=("x",) * 20, delay_s=1.0)
    book = Book()

    class Unsettled(Liar):
        """Nobody gets through to it after a job."""

        async def get_receipt(self, request: Any, context: Any) -> Any:
            raise RpcError("no", status=StatusCode.UNAVAILABLE)

    manager, wire = make_client(host, nursery, book=book, handler=Unsettled(host.server))
    session = FakeSession(slice_micros=20, max_price_micros_per_mtok=10**7)

    async def lose() -> None:
        async with manager.run(session, prompt="Hi there") as job:
            await anext(job)
            await anext(job)
            await wire.ours[-1].reset()
            await anext(job)

    with pytest.raises(ConnectionLostError):
        await lose()
    assert book.verdicts == [JobVerdict.FAILED], "nobody can tell who lost it"
    with pytest.raises(JobError) as caught:
        async with manager.run(session, prompt="x " * 16) as job:
            await job.read_text()
    assert caught.value.reason == "RECEIPT_OVERDUE"
    assert len(book.verdicts) == 1


async def test_the_callers_own_deadline_is_no_failure_of_the_host(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, book, _ = setting(nursery)
    host.engine.default = Script(delay_s=100.0)
    with pytest.raises(DeadlineExceededError):
        await _read(manager, session, timeout_s=5)
    assert book.verdicts == []


async def test_two_parallel_jobs_of_one_slice_are_nobodys_failure(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """One reader sleeps on the slice; the other job's end is no evidence."""
    _, manager, session, book, _ = setting(nursery)
    reasons = []

    async def read(prompt: str, wait_s: float) -> None:
        try:
            async with manager.run(session, prompt=prompt) as job:
                await trio.sleep(wait_s)
                await job.read_text()
        except JobError as error:
            reasons.append(error.reason)
        except ConnectionLostError:
            reasons.append("LOST")  # what nobody read was broken off

    async with trio.open_nursery() as jobs:
        jobs.start_soon(read, "Hi there", 100.0)
        await trio.sleep(1)
        jobs.start_soon(read, "Ho there", 0.0)
    assert "RECEIPT_OVERDUE" in reasons
    assert JobVerdict.FAILED not in book.verdicts
    assert all(peer_id == HOST_KEY.peer_id for peer_id, _ in book.outcomes)
