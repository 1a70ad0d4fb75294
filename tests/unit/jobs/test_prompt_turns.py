"""Prompts of one session leave while all that have no answer come to a slice at most; the others wait their turn."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing
from tests.unit.jobs.kit import HOST_KEY, NETWORK, Book, FakeSession, Liar, Script, ScriptedEngine, make_client
from tests.unit.jobs.receipt_kit import SESSION_ID, session_of, setting

from hostmesh.errors import DeadlineExceededError, JobError, RemoteProtocolError, SessionError
from hostmesh.jobs.client import JobManager
from hostmesh.jobs.client_sessions import ClientSessions
from hostmesh.jobs.offer import QuoteOffer
from hostmesh.jobs.prompt_turns import PromptTurns
from hostmesh.jobs.stats import JobOutcome
from hostmesh.net.peer_id import PeerId
from hostmesh.receipts.spending import SessionSpending
from hostmesh.receipts.store import ReceiptStore

SLICE = 20
"""Micro-units, a token each: less than a client without a tokenizer must fear for any prompt."""


@dataclass
class Asked:
    """Jobs of one client, by the order in which they were asked for."""

    manager: JobManager
    session: FakeSession
    ends: dict[int, object] = field(default_factory=dict)

    async def run(self, number: int, **options: Any) -> None:
        try:
            async with self.manager.run(self.session, prompt=f"job {number}", **options) as job:
                await job.read_text()
        except (DeadlineExceededError, JobError, SessionError) as error:
            self.ends[number] = error
        else:
            self.ends[number] = trio.current_time()


def works(engine: ScriptedEngine) -> list[str]:
    return [work.messages[0].content for work in engine.works]  # type: ignore[union-attr]


async def test_they_go_one_after_the_other_as_they_are_answered_or_end(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, _ = setting(nursery, SLICE)
    asked = Asked(manager, session)
    host.engine.default = Script(pieces=("x", "x"), delay_s=10.0)
    async with trio.open_nursery() as jobs:
        for number in range(4):
            jobs.start_soon(asked.run, number)
            await trio.sleep(0.1)
        assert works(host.engine) == ["job 0"]
        await trio.sleep(10)
        assert works(host.engine) == ["job 0", "job 1"], "the first piece was read"
        await trio.sleep(10)
        assert works(host.engine) == ["job 0", "job 1", "job 2"]
    assert works(host.engine) == [f"job {number}" for number in range(4)]
    assert list(asked.ends) == [0, 1, 2, 3]
    assert host.server.stats().outcomes == {JobOutcome.SUCCEEDED: 4}


async def test_a_larger_slice_lets_them_go_at_once(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    # A template of 1,024 is feared, and the model's context is 256.
    host, manager, session, _ = setting(nursery, 3 * 256)
    asked = Asked(manager, session)
    host.engine.default = Script(pieces=("x",), delay_s=10.0)
    async with trio.open_nursery() as jobs:
        for number in range(4):
            jobs.start_soon(asked.run, number)
        await trio.sleep(1)
        assert len(works(host.engine)) == 3


async def test_who_leaves_or_runs_out_of_time_holds_nobody_up(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, _ = setting(nursery, SLICE)
    asked = Asked(manager, session)
    host.engine.default = Script(pieces=("x",), delay_s=10.0)
    async with trio.open_nursery() as jobs:
        jobs.start_soon(asked.run, 0)
        await trio.sleep(0.1)
        left = trio.CancelScope()

        async def leave() -> None:
            with left:
                await asked.run(1)

        jobs.start_soon(leave)
        await trio.sleep(0.1)
        async with trio.open_nursery() as short:
            short.start_soon(lambda: asked.run(2, timeout_s=2.0))
            await trio.sleep(0.1)
            jobs.start_soon(asked.run, 3)
            await trio.sleep(0.1)
            left.cancel()
    error = asked.ends[2]
    assert isinstance(error, DeadlineExceededError)
    assert (error.retry_safe, error.may_have_executed) == (True, False)
    assert "slice_micros" in error.remedy
    assert works(host.engine) == ["job 0", "job 3"]
    assert manager._sessions.track(session).spending.is_busy is False


async def test_a_quote_that_grows_old_in_the_meantime_is_asked_for_again(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, _ = setting(nursery, SLICE)
    asked = Asked(manager, session)
    host.engine.default = Script(pieces=("x",), delay_s=40.0)
    given = await manager.request_quote(HOST_KEY.peer_id, session.model_id)
    async with trio.open_nursery() as jobs:
        for number in range(3):
            jobs.start_soon(asked.run, number)
            await trio.sleep(0.1)
        jobs.start_soon(lambda: asked.run(3, quote=given))
    assert works(host.engine) == ["job 0", "job 1", "job 2"]
    assert [type(asked.ends[number]) for number in range(3)] == [float] * 3
    assert isinstance(asked.ends[3], JobError), "its own quote is kept, and has run out"
    assert asked.ends[3].reason == "QUOTE_EXPIRED"


async def test_a_session_that_was_closed_meanwhile_sends_no_prompt(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    host, manager, session, _ = setting(nursery, SLICE)
    asked = Asked(manager, session)
    host.engine.default = Script(pieces=("x",), delay_s=10.0)
    async with trio.open_nursery() as jobs:
        for number in range(2):
            jobs.start_soon(asked.run, number)
            await trio.sleep(0.1)
        object.__setattr__(session, "is_closed", True)
    assert works(host.engine) == ["job 0"]
    assert isinstance(asked.ends[1], SessionError)


async def test_one_quote_id_for_two_prompts_that_wait_is_a_lie(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    class Same(Liar):
        """It gives everybody the quote that it gave first."""

        first: Any = None

        async def quote(self, request: Any, context: Any) -> Any:
            self.first = self.first or await self.honest.quote(request, context)
            return self.first

    host, _, session, front = setting(nursery, SLICE, handler=Same)
    book = Book()
    manager, _ = make_client(host, nursery, book=book, handler=front)
    host.engine.default = Script(pieces=("x",), delay_s=10.0)
    async with trio.open_nursery() as jobs:
        jobs.start_soon(Asked(manager, session).run, 0)
        await trio.sleep(0.1)
        with pytest.raises(RemoteProtocolError, match="one quote id for two jobs"):
            await Asked(manager, session).run(1)
    assert works(host.engine) == ["job 0"]


def offer(number: int) -> QuoteOffer:
    return QuoteOffer(
        quote_id=bytes([number]) * 16,
        peer_id=PeerId(str(HOST_KEY.peer_id)),
        model_id="m",
        price_micros_per_mtok=1,
        currency="USD",
        max_output_tokens=1,
        context_tokens=1,
        issued_at_unix_s=0,
        expires_at_unix_s=60,
        queue_position=0,
        envelope=b"",
    )


async def test_one_with_a_new_quote_is_the_next_and_no_dearer_than_there_is_room(
    autojump_clock: trio.testing.MockClock,
) -> None:
    spending = SessionSpending(limit_micros=1_000, slice_micros=10)
    turns = PromptTurns(spending)
    went: list[int] = []
    micros = {1: 5, 2: 1, 11: 8, 12: 1}

    async def run(number: int, hold_s: float) -> None:
        async def again() -> QuoteOffer:
            return offer(10 + number)

        async with turns.hold(
            offer(number),
            micros=lambda quote: (0, micros[quote.quote_id[0]]),
            check=lambda quote: None,
            ask_again=again,
            deadline=float("inf"),
        ) as quote:
            went.append(quote.quote_id[0])
            await trio.sleep(hold_s)

    async with trio.open_nursery() as nursery:
        spending.send(b"first", 6)
        nursery.start_soon(run, 1, 50.0)
        await trio.sleep(0.1)
        nursery.start_soon(run, 2, 1.0)
        await trio.sleep(40)
        assert went == []
        spending.send(b"other", 5)
        spending.end(b"first")
        # Five of another one, and five: it has its turn, asks again, and its new price is eight: it waits, the first.
        await trio.sleep(1)
        assert went == []
        spending.end(b"other")
        await trio.sleep(1)
        assert sorted(went) == [11, 12], "there is room for both, and both asked again"


async def test_a_quote_that_lives_for_no_time_is_not_asked_for_again_and_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def again() -> QuoteOffer:
        raise AssertionError("it did not wait")

    spending = SessionSpending(limit_micros=1_000, slice_micros=10)
    short = replace(offer(1), expires_at_unix_s=0)
    async with PromptTurns(spending).hold(
        short, micros=lambda quote: (0, 1), check=lambda quote: None, ask_again=again, deadline=float("inf")
    ) as used:
        assert used is short


async def test_a_large_prompt_that_gives_up_lets_a_small_one_behind_it_go(
    autojump_clock: trio.testing.MockClock,
) -> None:
    spending = SessionSpending(limit_micros=1_000, slice_micros=10)
    turns = PromptTurns(spending)
    spending.send(b"first", 6)
    went: list[float] = []

    async def run(number: int, micros: int, deadline: float) -> None:
        async with turns.hold(
            offer(number), micros=lambda quote: (0, micros), check=lambda quote: None, ask_again=None, deadline=deadline
        ):
            went.append(trio.current_time())

    async with trio.open_nursery() as nursery:

        async def give_up() -> None:
            with pytest.raises(DeadlineExceededError):
                await run(1, 5, 5.0)

        nursery.start_soon(give_up)
        await trio.sleep(1)
        nursery.start_soon(run, 2, 3, float("inf"))
    assert went == [5.0]


def test_a_session_whose_jobs_run_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hostmesh.jobs.client_sessions.MAX_TRACKED_SESSIONS", 2)
    sessions = ClientSessions(network=NETWORK, receipts=ReceiptStore(None))
    busy, idle, new = (replace(session_of(SLICE), session_id=bytes([n]) * 16) for n in range(3))
    first, second = sessions.track(busy), sessions.track(idle)
    first.spending.send(SESSION_ID, 1)
    third = sessions.track(new)
    assert (sessions.track(busy), sessions.track(new)) == (first, third)
    assert sessions.track(idle) is not second


async def test_a_turn_that_comes_in_the_moment_of_a_cancellation_is_given_back(autojump_clock: object) -> None:
    """Two that wait are cancelled together: as the first one goes, it is the second one's turn."""

    async def job(turns: PromptTurns, job_id: bytes, most_micros: int) -> None:
        offer = cast("QuoteOffer", SimpleNamespace(quote_id=job_id, issued_at_unix_s=0, expires_at_unix_s=60))
        async with turns.hold(
            offer, micros=lambda _: (0, most_micros), check=lambda _: None, ask_again=None, deadline=math.inf
        ):
            await trio.sleep_forever()

    for _ in range(20):  # trio draws whom it wakes first
        spending = SessionSpending(limit_micros=1000, slice_micros=10)
        turns = PromptTurns(spending)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(job, turns, b"A", 6)
            await trio.sleep(0.1)
            async with trio.open_nursery() as waiting:
                for job_id, most_micros in ((b"B", 8), (b"C", 3)):
                    waiting.start_soon(job, turns, job_id, most_micros)
                    await trio.sleep(0.1)
                waiting.cancel_scope.cancel()
            assert spending.is_busy
            nursery.cancel_scope.cancel()
        assert not spending.is_busy
