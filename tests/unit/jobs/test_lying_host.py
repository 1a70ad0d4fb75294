"""A client in front of a host that lies: nothing is believed, and it counts against the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from tests.unit.jobs.kit import (
    CHAT,
    EMBED,
    HOST_KEY,
    NETWORK,
    OPERATOR,
    OTHER_KEY,
    Book,
    FakeSession,
    Host,
    Liar,
    Purse,
    make_client,
    make_host,
)

from hostmesh.errors import JobError, RemoteProtocolError, RpcError, StatusCode, StoreError, UsageError
from hostmesh.jobs.client import JobManager
from hostmesh.jobs.verdict import JobVerdict
from hostmesh.net.envelope import seal_envelope
from hostmesh.receipts.quote import quote_domain
from hostmesh.v1 import envelope_pb2, job_pb2

SESSION = FakeSession()
Edit = Callable[[job_pb2.RunResponse], list[Any]]


def lying(nursery: trio.Nursery) -> tuple[Host, Liar, JobManager, Book]:
    host, book = make_host(), Book()
    liar = Liar(host.server)
    manager, _ = make_client(host, nursery, book=book, handler=liar)
    return host, liar, manager, book


def without(kind: str) -> Edit:
    return lambda response: [] if response.WhichOneof("event") == kind else [response]


def twice(kind: str) -> Edit:
    return lambda response: [response] * (2 if response.WhichOneof("event") == kind else 1)


def changed(kind: str, change: Callable[[Any], object]) -> Edit:
    def edit(response: job_pb2.RunResponse) -> list[Any]:
        if response.WhichOneof("event") == kind:
            change(getattr(response, kind))
        return [response]

    return edit


def set_usage(**fields: int) -> Edit:
    def change(completed: job_pb2.JobCompleted) -> None:
        for name, value in fields.items():
            setattr(completed.usage, name, value)

    return changed("completed", change)


def overcharge(completed: job_pb2.JobCompleted) -> None:
    completed.usage.cost_micros *= 5


def claim_tokens(completed: job_pb2.JobCompleted) -> None:
    """A false count with a cost that fits it."""
    completed.usage.completion_tokens = 65
    completed.usage.cost_micros = -(-(completed.usage.prompt_tokens + 65) // 4)


@pytest.mark.parametrize(
    "edit",
    [
        without("accepted"),
        twice("accepted"),
        twice("text"),
        changed("text", lambda text: setattr(text, "index", text.index + 1)),
        without("completed"),
        twice("completed"),
        changed("completed", overcharge),
        changed("completed", claim_tokens),
        set_usage(cost_micros=0),
        set_usage(prompt_tokens=250),
        changed("completed", lambda completed: completed.ClearField("usage")),
        changed("completed", lambda completed: setattr(completed, "finish_reason", "done")),
        lambda response: [response, job_pb2.RunResponse()],
        lambda response: [response, job_pb2.RunResponse(vector=job_pb2.EmbeddingVector(values=[1.0]))],
        lambda response: [],
    ],
    ids=[
        "not accepted", "accepted twice", "text twice", "gap", "no usage", "usage twice", "five times the cost",
        "more than the limit", "cost 0", "tokens without cost", "no usage inside", "unknown reason", "empty event",
        "vector in a chat", "nothing",
    ],
)  # fmt: skip
async def test_a_lie_in_a_job_is_found(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, edit: Edit
) -> None:
    host, liar, manager, book = lying(nursery)
    liar.edit = edit
    with pytest.raises(RemoteProtocolError) as caught:
        async with manager.run(SESSION, prompt="Hi there") as job:
            await job.read_text()
    assert book.verdicts == [JobVerdict.PROTOCOL_BROKEN], "nobody else could see it"
    assert book.details == [caught.value.message]
    await host.until_idle()
    assert host.engine.running == 0


async def test_a_job_that_was_completed_and_then_failed_has_no_usage(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    class Regretful(Liar):
        async def run(self, request: Any, context: Any, send: Callable[[Any], Any]) -> None:
            await super().run(request, context, send)
            raise RpcError("I take it back", status=StatusCode.INTERNAL)

    host, book = make_host(), Book()
    manager, _ = make_client(host, nursery, book=book, handler=Regretful(host.server))
    with pytest.raises(JobError):
        async with manager.run(SESSION, prompt="Hi there") as job:
            await job.read_text()
    with pytest.raises(UsageError):
        _ = job.usage
    assert book.verdicts == [JobVerdict.FAILED]


async def test_one_vector_too_few_is_found(autojump_clock: trio.testing.MockClock, nursery: trio.Nursery) -> None:
    _, liar, manager, book = lying(nursery)
    liar.edit = lambda r: [] if r.WhichOneof("event") == "vector" and r.vector.index == 1 else [r]
    with pytest.raises(RemoteProtocolError):
        async with manager.run(FakeSession(model_id=EMBED), texts=["a", "b"]) as job:
            await job.read_vectors()
    assert book.outcomes == [(HOST_KEY.peer_id, False)]


def reseal(key: Any, **changes: Any) -> Callable[[bytes], bytes]:
    def edit(quote: bytes) -> bytes:
        terms = job_pb2.Quote.FromString(envelope_pb2.SignedEnvelope.FromString(quote).payload)
        for name, value in changes.items():
            setattr(terms, name, value)
        return seal_envelope(
            key, domain=quote_domain(NETWORK), payload_type=b"/hostmesh/quote", payload=terms.SerializeToString()
        )

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        reseal(OTHER_KEY),
        reseal(HOST_KEY, model_id=EMBED),
        reseal(HOST_KEY, max_output_tokens=6),
        reseal(HOST_KEY, network="elsewhere"),
        lambda quote: quote[:-1] + bytes([quote[-1] ^ 1]),
        lambda quote: b"\x00" * 20,
    ],
    ids=["signer", "model", "limit", "network", "signature", "no quote"],
)
async def test_a_quote_that_proves_nothing_gets_no_prompt(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, edit: Callable[[bytes], bytes]
) -> None:
    host, liar, manager, book = lying(nursery)
    liar.edit_quote = edit
    with pytest.raises(RemoteProtocolError):
        async with manager.run(SESSION, prompt="Hi there", max_output_tokens=5):
            pass
    assert book.outcomes == [(HOST_KEY.peer_id, False)]
    assert host.server.stats().accepted == 0


async def test_an_honest_reseal_passes_so_that_the_lies_above_are_what_is_refused(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    _, liar, manager, book = lying(nursery)
    liar.edit_quote = reseal(HOST_KEY)
    async with manager.run(SESSION, prompt="Hi there", max_output_tokens=5) as job:
        await job.read_text()
    assert book.outcomes == [(HOST_KEY.peer_id, True)]


async def test_a_host_that_lets_a_session_spend_more_than_was_signed_is_found(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, book = make_host(purse=Purse(limit=10_000, signed_limit=3)), Book()
    manager, _ = make_client(host, nursery, book=book)
    session = FakeSession(spending_limit_micros=3)

    async def one() -> None:
        async with manager.run(session, prompt="Hi") as job:
            await job.read_text()
        assert job.usage.cost_micros == 2

    await one()
    with pytest.raises(RemoteProtocolError, match="limit is 3"):
        await one()
    assert book.outcomes == [(HOST_KEY.peer_id, True), (HOST_KEY.peer_id, False)]


async def test_a_handler_that_crashes_is_the_hosts_fault(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, liar, manager, book = lying(nursery)

    def crash(response: Any) -> list[Any]:
        raise ZeroDivisionError

    liar.edit = crash
    with pytest.raises(Exception, match="internal error") as caught:
        async with manager.run(SESSION, prompt="Hi"):
            pass
    assert (caught.value.reason, caught.value.may_have_executed) == ("INTERNAL", True)  # type: ignore[attr-defined]
    assert book.outcomes == [(HOST_KEY.peer_id, False)]
    assert host.server.stats().active_jobs == 0


async def test_a_book_that_cannot_be_written_does_not_take_the_answer(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    class FullDisk(Book):
        def record_job(self, peer_id: Any, operator: Any, verdict: Any, detail: str) -> None:
            raise StoreError("disk full", path="/x")

    manager, _ = make_client(make_host(), nursery, book=FullDisk())
    async with manager.run(SESSION, prompt="Hi") as job:
        assert await job.read_text() == "Hello world"
    assert "disk full" in caplog.text


async def test_a_quote_that_the_host_fails_to_make_counts_against_it(nursery: trio.Nursery) -> None:
    _, liar, manager, book = lying(nursery)

    def crash(quote: bytes) -> bytes:
        raise ZeroDivisionError

    liar.edit_quote = crash
    with pytest.raises(Exception, match="internal error"):
        await manager.request_quote(HOST_KEY.peer_id, CHAT)
    assert book.outcomes == [(HOST_KEY.peer_id, False)]
    with pytest.raises(Exception, match="internal error"):
        await manager.request_quote(HOST_KEY.peer_id, CHAT, operator=OPERATOR)
    with pytest.raises(Exception, match="internal error"):
        await _run(manager, FakeSession())
    assert book.operators == [b"", OPERATOR, OPERATOR], "of its key, where its wallet is not known"


async def test_a_host_that_gives_one_quote_id_for_two_jobs_gets_no_second_prompt(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, liar, manager, book = lying(nursery)
    session = FakeSession()
    first: list[bytes] = []

    def again(quote: bytes) -> bytes:
        first.append(quote)
        return first[0]

    liar.edit_quote = again
    async with manager.run(session, prompt="Hi there") as job:
        await anext(job)
        # Also while the first one runs, before its receipt.
        with pytest.raises(RemoteProtocolError, match="one quote id"):
            await _run(manager, session)
        await job.read_text()
    charged = list(session.charged)
    with pytest.raises(RemoteProtocolError, match="one quote id"):
        await _run(manager, session)
    assert session.charged == charged
    assert len(host.engine.works) == 1
    assert set(book.operators) == {OPERATOR}
    assert book.verdicts == [JobVerdict.PROTOCOL_BROKEN, JobVerdict.FINISHED, JobVerdict.PROTOCOL_BROKEN]


async def test_a_caller_that_uses_one_quote_for_two_jobs_is_told_so_and_the_host_not_blamed(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, _, manager, book = lying(nursery)
    session = FakeSession()
    offer = await manager.request_quote(HOST_KEY.peer_id, CHAT)
    await _run(manager, session, quote=offer)
    with pytest.raises(JobError) as caught:
        await _run(manager, session, quote=offer)
    assert (caught.value.reason, caught.value.may_have_executed) == ("QUOTE_EXPIRED", False)
    assert book.verdicts == [JobVerdict.FINISHED]
    assert host.server.stats().refused == {}, "it was not even asked"


async def _run(manager: JobManager, session: FakeSession, **options: Any) -> None:
    async with manager.run(session, prompt="Hi there", **options) as job:
        await job.read_text()
