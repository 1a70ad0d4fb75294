"""What a host turns away, with which reason; and that nothing is done, kept or charged then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from tests.unit.jobs.kit import (
    CHAT,
    CHAT_PRICE,
    CLIENT_KEY,
    EMBED,
    HOST_KEY,
    OTHER_KEY,
    Book,
    FakeSession,
    Host,
    Liar,
    Purse,
    ScriptedEngine,
    context,
    make_client,
    make_host,
)

from hostmesh.errors import (
    ContextExceededError,
    EngineError,
    HostmeshError,
    JobError,
    ModelNotReadyError,
    ParameterError,
    RpcError,
    SessionError,
    StatusCode,
)
from hostmesh.jobs.admission import JobLimits
from hostmesh.jobs.content import build_input
from hostmesh.v1 import envelope_pb2, job_pb2

SESSION = FakeSession()


@asynccontextmanager
async def refusing(host: Host, reason: str, status: StatusCode, **details: str) -> AsyncIterator[None]:
    """The block is refused so, and leaves no trace but a count."""
    before = host.server.stats()
    with pytest.raises(RpcError) as caught:
        yield
    assert (caught.value.reason, caught.value.status, caught.value.details) == (reason, status, details)
    after = host.server.stats()
    assert after.refused[reason] == before.refused.get(reason, 0) + 1
    assert (after.accepted, after.active_jobs) == (before.accepted, before.active_jobs)
    assert all(purse.reserved == {} and purse.spent == 0 for purse in host.purses.values())
    assert host.engine.works == []


async def quote(host: Host, model_id: str = CHAT, **fields: Any) -> bytes:
    """Return the id of a new quote of the client."""
    response = await host.server.quote(job_pb2.QuoteRequest(model_id=model_id, **fields), context(method="Quote"))
    envelope = envelope_pb2.SignedEnvelope.FromString(response.quote)
    return job_pb2.Quote.FromString(envelope.payload).quote_id


def chat_request(quote_id: bytes, prompt: str = "Hi there", **fields: Any) -> job_pb2.RunRequest:
    return job_pb2.RunRequest(quote_id=quote_id, chat=build_input(prompt=prompt), **fields)


async def never(response: job_pb2.RunResponse) -> None:
    raise AssertionError("a refused job sends nothing")


async def sink(response: job_pb2.RunResponse) -> None:
    await trio.lowlevel.checkpoint()


# --- quotes ---


async def test_quotes_for_models_that_are_not_there_or_unpriced() -> None:
    host = make_host(prices={CHAT: CHAT_PRICE})
    for model_id in ("tiny-chat-2", "tiny", "TINY-CHAT"):
        async with refusing(host, "UNSUPPORTED_MODEL", StatusCode.NOT_FOUND):
            await quote(host, model_id)
    async with refusing(host, "UNPRICED", StatusCode.FAILED_PRECONDITION):
        await quote(host, EMBED)


async def test_quotes_with_parameters_the_model_does_not_take_are_refused_by_name() -> None:
    host = make_host()
    for name, value, reason in (
        ("top_k", {"integer": 5}, "UNSUPPORTED_PARAMETER"),
        ("logit_bias", {"text": "x"}, "UNSUPPORTED_PARAMETER"),
        ("temperature", {"number": 2.5}, "INVALID_PARAMETER"),
        ("temperature", {}, "INVALID_PARAMETER"),
        ("seed", {"number": 1.0}, "INVALID_PARAMETER"),
    ):
        async with refusing(host, reason, StatusCode.INVALID_ARGUMENT, parameter=name):
            await quote(host, parameters=[job_pb2.Parameter(name=name, **value)])


@pytest.mark.parametrize(
    ("model_id", "asked", "reason"),
    [
        (CHAT, 0, "INVALID_PARAMETER"),
        (CHAT, 65, "INVALID_PARAMETER"),
        (CHAT, 2**32 - 1, "INVALID_PARAMETER"),
        (EMBED, 5, "UNSUPPORTED_PARAMETER"),
    ],
)
async def test_quotes_for_more_tokens_than_the_model_makes(model_id: str, asked: int, reason: str) -> None:
    host = make_host()
    async with refusing(host, reason, StatusCode.INVALID_ARGUMENT, parameter="max_output_tokens"):
        await quote(host, model_id, max_output_tokens=asked)


async def test_the_hosts_own_cap_lies_below_the_models() -> None:
    host = make_host(limits=JobLimits(max_output_tokens=10))
    async with refusing(host, "INVALID_PARAMETER", StatusCode.INVALID_ARGUMENT, parameter="max_output_tokens"):
        await quote(host, max_output_tokens=11)
    await quote(host, max_output_tokens=10)


async def test_a_quote_for_a_prompt_that_cannot_fit() -> None:
    host = make_host()
    async with refusing(host, "CONTEXT_EXCEEDED", StatusCode.INVALID_ARGUMENT):
        await quote(host, prompt_tokens_estimate=256)
    await quote(host, prompt_tokens_estimate=255)
    await quote(host, EMBED, prompt_tokens_estimate=100_000)


# --- jobs ---


async def test_a_quote_is_good_for_its_client_once_and_for_a_minute(autojump_clock: trio.testing.MockClock) -> None:
    host = make_host()
    first, second = await quote(host), await quote(host)
    async with refusing(host, "QUOTE_EXPIRED", StatusCode.FAILED_PRECONDITION):
        await host.server.run(chat_request(first), context(OTHER_KEY.peer_id), never)
    async with refusing(host, "QUOTE_EXPIRED", StatusCode.FAILED_PRECONDITION):
        await host.server.run(chat_request(b"?" * 16), context(), never)
    await trio.sleep(61)
    async with refusing(host, "QUOTE_EXPIRED", StatusCode.FAILED_PRECONDITION):
        await host.server.run(chat_request(second), context(), never)
    used = await quote(host)
    await host.server.run(chat_request(used), context(), sink)
    with pytest.raises(RpcError) as caught:
        await host.server.run(chat_request(used), context(), never)
    assert caught.value.reason == "QUOTE_EXPIRED"
    assert host.server.stats().accepted == 1


async def test_two_jobs_that_race_for_one_quote_get_one(autojump_clock: trio.testing.MockClock) -> None:
    host = make_host()
    host.engine.count_delay_s = 1.0
    quote_id = await quote(host)
    ends: list[str] = []

    async def one() -> None:
        try:
            await host.server.run(chat_request(quote_id), context(), sink)
            ends.append("done")
        except RpcError as error:
            ends.append(error.reason)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(one)
    assert sorted(ends) == ["QUOTE_EXPIRED"] * 4 + ["done"]
    assert host.purses[b"s" * 16].closed == 1


async def test_a_job_needs_a_session_at_the_quoted_price() -> None:
    host = make_host()
    quote_id = await quote(host)
    async with refusing(host, "UNAUTHORIZED", StatusCode.UNAUTHENTICATED):
        await host.server.run(chat_request(quote_id), context(session_id=b""), never)
    host.purses[b"low-ceiling....."] = Purse(limit=10_000, price_ceiling=CHAT_PRICE.micros_per_mtok - 1)
    host.purses[b"other-currency.."] = Purse(limit=10_000, currency="EUR")
    for session_id in (b"low-ceiling.....", b"other-currency.."):
        async with refusing(host, "PRICE_TOO_LOW", StatusCode.FAILED_PRECONDITION):
            await host.server.run(chat_request(quote_id), context(session_id=session_id), never)
    await host.server.run(chat_request(quote_id), context(), sink)


async def test_the_most_a_job_can_cost_must_be_left_in_the_session() -> None:
    # 2 + 2 tokens of prompt and 64 of answer: 68 tokens at 0.25 cost 17.
    host = make_host(purse=Purse(limit=16))
    quote_id = await quote(host)
    async with refusing(host, "SPENDING_LIMIT", StatusCode.FAILED_PRECONDITION):
        await host.server.run(chat_request(quote_id), context(), never)
    host.purses[b"s" * 16].limit = 17
    await host.server.run(chat_request(quote_id), context(), sink)


async def test_input_of_another_kind_than_the_model_takes() -> None:
    host = make_host()
    chat_quote, embedding_quote = await quote(host), await quote(host, EMBED)
    texts = job_pb2.RunRequest(quote_id=chat_quote, embedding=build_input(texts=["a"]))
    for request, reason in (
        (texts, "UNSUPPORTED_INPUT"),
        (chat_request(embedding_quote), "UNSUPPORTED_INPUT"),
        (job_pb2.RunRequest(quote_id=chat_quote), "INVALID_INPUT"),
    ):
        async with refusing(host, reason, StatusCode.INVALID_ARGUMENT):
            await host.server.run(request, context(), never)


async def test_parameters_are_checked_again_when_the_job_comes() -> None:
    host = make_host()
    request = chat_request(await quote(host), parameters=[job_pb2.Parameter(name="top_k", integer=1)])
    async with refusing(host, "UNSUPPORTED_PARAMETER", StatusCode.INVALID_ARGUMENT, parameter="top_k"):
        await host.server.run(request, context(), never)


async def test_a_prompt_longer_than_the_context() -> None:
    host = make_host()
    quote_id = await quote(host)
    async with refusing(host, "CONTEXT_EXCEEDED", StatusCode.INVALID_ARGUMENT):
        await host.server.run(chat_request(quote_id, "w " * 254), context(), never)
    await host.server.run(chat_request(quote_id, "w " * 253), context(), sink)
    (work,) = host.engine.works
    assert work.max_output_tokens == 1, "what is left of 256"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("error", "reason", "status"),
    [
        (EngineError("socket at /run/x"), "ENGINE_FAILED", StatusCode.INTERNAL),
        (ModelNotReadyError("loading"), "MODEL_NOT_READY", StatusCode.UNAVAILABLE),
        (ContextExceededError("long", context_tokens=256), "CONTEXT_EXCEEDED", StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_an_engine_that_fails_before_the_job_is_in(error: HostmeshError, reason: str, status: StatusCode) -> None:
    host = make_host()
    host.engine.count_error = error
    async with refusing(host, reason, status):
        await host.server.run(chat_request(await quote(host)), context(), never)


async def test_a_session_that_ends_while_the_prompt_is_counted(autojump_clock: trio.testing.MockClock) -> None:
    """No new work begins in a session that is over, however long the engine took to count."""
    host = make_host()
    host.engine.count_delay_s = 10.0
    request = chat_request(await quote(host))

    async def end_session() -> None:
        await trio.sleep(5)
        host.purses.clear()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_session)
        async with refusing(host, "UNAUTHORIZED", StatusCode.UNAUTHENTICATED):
            await host.server.run(request, context(), never)


async def test_an_engine_that_never_counts(autojump_clock: trio.testing.MockClock) -> None:
    host = make_host(limits=JobLimits(engine_silence_s=20.0))
    host.engine.count_delay_s = 1000.0
    async with refusing(host, "ENGINE_FAILED", StatusCode.INTERNAL):
        await host.server.run(chat_request(await quote(host)), context(), never)
    assert trio.current_time() == pytest.approx(20, abs=0.1)


async def test_an_engine_that_finds_the_prompt_too_long_itself(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, book = make_host(engine=ScriptedEngine(counts_prompts=False)), Book()
    host.engine.default.error = ContextExceededError("long", context_tokens=256)
    host.engine.default.fail_after = 0
    manager, _ = make_client(host, nursery, book=book)
    with pytest.raises(JobError) as caught:
        async with manager.run(SESSION, prompt="w " * 300) as job:
            await job.read_text()
    assert (caught.value.reason, caught.value.retry_safe) == ("CONTEXT_EXCEEDED", False)
    assert "256" in caught.value.message
    assert host.purses[b"s" * 16].spent == 0
    assert book.outcomes == []


async def test_a_host_that_drains_gives_no_quotes() -> None:
    host = make_host()
    quote_id = await quote(host)
    host.server.begin_drain()
    async with refusing(host, "DRAINING", StatusCode.UNAVAILABLE):
        await quote(host)
    async with refusing(host, "DRAINING", StatusCode.UNAVAILABLE):
        await host.server.run(chat_request(quote_id), context(), never)


# --- as the client sees it ---


@pytest.mark.parametrize(
    ("arguments", "error_type", "reason"),
    [
        ({"prompt": "x" * 300_000}, JobError, "TOO_LARGE"),
        ({"prompt": "\udfff"}, JobError, "INVALID_INPUT"),
        ({"prompt": "Hi", "parameters": {"tools": 1}}, ParameterError, "UNSUPPORTED_PARAMETER"),
        ({"prompt": "Hi", "parameters": {"temperature": 3}}, ParameterError, "INVALID_PARAMETER"),
    ],
)
async def test_what_cannot_be_right_is_refused_before_anything_leaves(
    nursery: trio.Nursery, arguments: dict[str, Any], error_type: type[JobError], reason: str
) -> None:
    manager, wire = make_client(make_host(), nursery)
    with pytest.raises(error_type) as caught:
        async with manager.run(SESSION, **arguments):
            pass
    assert caught.value.reason == reason
    assert wire.ours == []


@pytest.mark.parametrize(
    ("arguments", "session", "reason", "retry_safe"),
    [
        ({"prompt": "w " * 300}, SESSION, "CONTEXT_EXCEEDED", False),
        ({"texts": ["a"]}, SESSION, "UNSUPPORTED_INPUT", False),
        ({"prompt": "Hi"}, FakeSession(model_id="tiny-chat-2"), "UNSUPPORTED_MODEL", False),
        ({"prompt": "Hi"}, FakeSession(session_id=b"?" * 16), "UNAUTHORIZED", False),
        ({"prompt": "Hi"}, FakeSession(max_price_micros_per_mtok=1), "PRICE_TOO_LOW", False),
        ({"prompt": "Hi"}, FakeSession(spending_limit_micros=0), "SPENDING_LIMIT", False),
        ({"prompt": "Hi", "parameters": {"top_p": 0.5}}, SESSION, "UNSUPPORTED_PARAMETER", False),
        ({"prompt": "Hi", "max_output_tokens": 65}, SESSION, "INVALID_PARAMETER", False),
    ],
)
async def test_a_refusal_reaches_the_client_and_does_not_count_against_the_host(
    nursery: trio.Nursery, arguments: dict[str, Any], session: FakeSession, reason: str, retry_safe: bool
) -> None:
    host, book = make_host(), Book()
    manager, _ = make_client(host, nursery, book=book)
    with pytest.raises(JobError) as caught:
        async with manager.run(session, **arguments):
            pass
    error = caught.value
    assert (error.reason, error.retry_safe, error.may_have_executed) == (reason, retry_safe, False)
    assert error.remedy
    assert book.outcomes == []
    assert host.engine.works == []


async def test_a_job_that_ran_out_of_time_before_it_left_is_safe_to_retry(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    manager, wire = make_client(make_host(), nursery)
    with pytest.raises(HostmeshError) as caught:
        async with manager.run(SESSION, prompt="Hi", timeout_s=0):
            pass
    assert (caught.value.code, caught.value.may_have_executed) == ("DEADLINE_EXCEEDED", False)
    assert wire.ours == []


@pytest.mark.parametrize(
    ("end_reason", "reason", "remedy"),
    [
        ("BINDING_REVOKED", "BINDING_REVOKED", "another host"),
        ("DELEGATION_REVOKED", "DELEGATION_REVOKED", "new delegation"),
        ("SESSION_EXPIRED", "SESSION_EXPIRED", "new session"),
        ("", "SESSION_CLOSED", "new session"),
    ],
)
async def test_a_session_that_ended_sends_nothing(
    nursery: trio.Nursery, end_reason: str, reason: str, remedy: str
) -> None:
    host = make_host()
    manager, wire = make_client(host, nursery)
    offer = await manager.request_quote(HOST_KEY.peer_id, CHAT)
    sent = len(wire.ours)
    for quote in (None, offer):
        with pytest.raises(SessionError) as caught:
            async with manager.run(FakeSession(is_closed=True, end_reason=end_reason), prompt="Hi", quote=quote):
                pytest.fail("the job ran")
        assert caught.value.reason == reason
        assert remedy in caught.value.remedy
    assert len(wire.ours) == sent
    assert host.engine.works == []


async def test_a_session_that_ends_while_the_host_names_its_price_sends_no_prompt(nursery: trio.Nursery) -> None:
    host, session = make_host(), FakeSession()
    liar = Liar(host.server)
    manager, wire = make_client(host, nursery, handler=liar)

    def revoked(quote: bytes) -> bytes:
        object.__setattr__(session, "is_closed", True)
        object.__setattr__(session, "end_reason", "BINDING_REVOKED")
        return quote

    liar.edit_quote = revoked
    with pytest.raises(SessionError, match="no more work") as caught:
        async with manager.run(session, prompt="For nobody's eyes"):
            pytest.fail("the job ran")
    assert caught.value.reason == "BINDING_REVOKED"
    assert len(wire.ours) == 1, "the quote alone"


async def test_a_quote_of_another_host_model_limit_or_price_is_not_used(nursery: trio.Nursery) -> None:
    host = make_host()
    manager, wire = make_client(host, nursery)
    offer = await manager.request_quote(HOST_KEY.peer_id, CHAT, max_output_tokens=5)
    runs: list[Callable[[], Any]] = [
        lambda: manager.run(FakeSession(peer_id=CLIENT_KEY.peer_id), prompt="Hi", quote=offer),
        lambda: manager.run(FakeSession(model_id=EMBED), prompt="Hi", quote=offer),
        lambda: manager.run(SESSION, prompt="Hi", quote=offer, max_output_tokens=6),
        lambda: manager.run(FakeSession(max_price_micros_per_mtok=1), prompt="Hi", quote=offer),
        lambda: manager.run(FakeSession(currency="EUR"), prompt="Hi", quote=offer),
    ]
    for run in runs:
        with pytest.raises(HostmeshError):
            async with run():
                pass
    assert len(wire.ours) == 1, "the quote alone"


@pytest.mark.parametrize("wrong", [0, -1, 2**32, 1.5, True])
async def test_a_token_count_that_is_none_is_the_callers_bug(nursery: trio.Nursery, wrong: Any) -> None:
    manager, wire = make_client(make_host(), nursery)
    with pytest.raises(HostmeshError, match="max_output_tokens"):
        await manager.request_quote(HOST_KEY.peer_id, CHAT, max_output_tokens=wrong)
    assert wire.ours == []
