"""What checks of models ask of the client's job manager: with whom, at which price, by when."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from hostmesh.canaries.asking import CanaryRequest
from hostmesh.canaries.canary_store import CanaryStore
from hostmesh.canaries.comparison import Agreement
from hostmesh.canaries.evidence import WINDOW, Calibration, Warmth
from hostmesh.canary_budget import CanaryBudget
from hostmesh.jobs.watch import WatchedJob
from hostmesh.model_checks import ModelChecks
from hostmesh.reputation.evidence import EvidenceKind
from hostmesh.system import System

MODEL = "m"
PEER = "host"
A, B = b"\xaa" * 20, b"\xbb" * 20
ROUND_TRIP_S = 0.3
SEEN = [Agreement(characters=40, parted=False)] * 50 + [Agreement(characters=20, parted=True)] * 10
CALIBRATIONS = {
    name: Calibration(model_id=name, engines={"another": dict.fromkeys(Warmth, SEEN)}) for name in (MODEL, "other")
}


def session(operator: bytes, *, peer_id: str = PEER, model_id: str = MODEL, **more: object) -> Any:
    given = {"currency": "USD", "max_price_micros_per_mtok": 777, "is_closed": False, **more}
    return SimpleNamespace(
        peer_id=peer_id, model_id=model_id, authorization=SimpleNamespace(operator=operator), **given
    )


@dataclass
class Jobs:
    """Hosts that answer all with one text, whoever asks."""

    text: str = "the wrong one"
    quotes: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    runs: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)

    async def request_quote(self, peer_id: str, model_id: str, **given: Any) -> Any:
        self.quotes.append((peer_id, model_id, given))
        await trio.sleep(ROUND_TRIP_S)
        return SimpleNamespace(peer_id=peer_id, max_output_tokens=64, context_tokens=2048, price_micros_per_mtok=1)

    @asynccontextmanager
    async def run(self, ran_in: Any, **given: Any) -> AsyncIterator[Any]:
        self.runs.append((ran_in, given))

        async def read_text() -> str:
            await trio.sleep(1.0)
            return self.text

        yield SimpleNamespace(read_text=read_text, usage=SimpleNamespace(cost_micros=0))


@dataclass
class World:
    """Checks, and what came of them."""

    jobs: Jobs = field(default_factory=Jobs)
    recorded: list[tuple[str, str, Any]] = field(default_factory=list)

    def record(self, peer_id: str, operator_address: str, told: Any) -> None:
        self.recorded.append((peer_id, operator_address, told))

    def checks(self, **options: Any) -> ModelChecks:
        async def reference(request: CanaryRequest) -> str:
            return "what the true model says, at some length"

        given: dict[str, Any] = {"reference": reference, "quorum": (), **options}
        return ModelChecks(
            jobs=lambda: self.jobs,  # type: ignore[arg-type, return-value]
            calibrations=CALIBRATIONS,
            prompts=(),
            rate=1.0,
            budget=CanaryBudget(10**9, "USD"),
            history=self,  # type: ignore[arg-type]
            store=CanaryStore(),
            system=System(
                monotonic_s=trio.current_time, unix_s=trio.current_time, random_bytes=random.Random(1).randbytes
            ),
            **given,
        )


async def use(
    checks: ModelChecks,
    in_session: Any,
    jobs: int,
    *,
    system_prompt: str = "",
    same_conversation: bool = False,
    **more: object,
) -> None:
    """Run a user's jobs while checks are on; two make a conversation, or each is one."""
    source = random.Random(1)
    for number in range(jobs):
        words = [("system", system_prompt)] * bool(system_prompt)
        if same_conversation and number % 2:
            words += [("user", f"a question, number {number - 1} of mine"), ("assistant", "an answer")]
        words.append(("user", f"a question, number {number} of mine"))
        chat: Any = SimpleNamespace(messages=[SimpleNamespace(role=role, content=text) for role, text in words])
        given: dict[str, Any] = {"parameters": {"temperature": 0.0}, "max_output_tokens": 64, "timeout_s": None, **more}
        job = WatchedJob(session=in_session, chat=chat, **given)
        assert await checks.leaves(job) is not None
        await trio.sleep(1.0)
        checks.job_ended(job)
        await trio.sleep(2.0 if same_conversation and number % 2 == 0 else source.expovariate(1 / 30))


@asynccontextmanager
async def running(checks: ModelChecks) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checks.run)
        yield
        nursery.cancel_scope.cancel()


async def test_a_canary_is_asked_for_as_its_session_allows_and_within_the_jobs_time(autojump_clock: object) -> None:
    world, own = World(), session(A)
    async with running(checks := world.checks()):
        await use(checks, own, 60, timeout_s=5.0)
    assert len(world.jobs.runs) > 5
    for (peer_id, model_id, asked), (ran_in, run) in zip(
        world.jobs.quotes,
        world.jobs.runs,
        strict=False,  # the end may come between the last two
    ):
        assert (peer_id, model_id, asked["operator"], asked["currency"]) == (PEER, MODEL, A, "USD")
        assert asked["max_price_micros_per_mtok"] == 777, "the host could quote any price else"
        assert ran_in is own
        assert 0 < asked["timeout_s"] <= 5.0 * 1.2
        assert run["timeout_s"] == pytest.approx(asked["timeout_s"] - ROUND_TRIP_S), "the quote's time is the job's"


async def test_a_job_without_a_limit_gives_canaries_without_one(autojump_clock: object) -> None:
    world = World()
    async with running(checks := world.checks()):
        await use(checks, session(A), 60)
    assert {run["timeout_s"] for _, run in world.jobs.runs} == {None}


async def test_evidence_is_of_the_wallet_that_answered(autojump_clock: object) -> None:
    world = World()
    async with running(checks := world.checks()):
        before = 0
        while before < WINDOW // 2:
            await use(checks, session(A), 5)
            before = len(world.jobs.runs)
        while not world.recorded:
            await use(checks, session(B), 5)
    [(peer_id, operator_address, told)] = world.recorded
    assert (peer_id, operator_address) == (PEER, "0x" + "bb" * 20)
    assert (told.kind, told.answers) == (EvidenceKind.CANARY_FAILED, WINDOW)
    under_b = [ran_in for ran_in, _ in world.jobs.runs if ran_in.authorization.operator == B]
    assert len(under_b) >= WINDOW, "none of the other wallet's"


async def test_no_host_of_the_checked_operator_is_asked_as_one_of_its_quorum(autojump_clock: object) -> None:
    """It would answer as its fellow does."""
    world = World()
    quorum = [session(bytes([number]) * 20, peer_id=f"member {number}") for number in range(4)]
    quorum.append(session(A, peer_id="fellow"))
    async with running(checks := world.checks(reference=None, quorum=quorum)):
        await use(checks, session(A), 60)
    asked = {ran_in.peer_id for ran_in, _ in world.jobs.runs}
    assert asked == {PEER, *(f"member {number}" for number in range(4))}


async def test_a_member_that_is_checked_itself_answers_for_the_model_that_was_asked(autojump_clock: object) -> None:
    """Where the session of the other model is over, that of the quorum is none for it."""
    world = World()
    quorum = [session(bytes([number]) * 20, peer_id=f"member {number}") for number in range(3)]
    other = session(bytes(20), peer_id="member 0", model_id="other")
    async with running(checks := world.checks(reference=None, quorum=quorum)):
        await use(checks, other, 40)
        assert (before := len(world.jobs.runs)) > 0
        other.is_closed = True
        await trio.sleep(3_000.0)
    assert before == len(world.jobs.runs)
    assert {ran_in.model_id for ran_in, _ in world.jobs.runs} == {"other"}


async def test_a_quorum_gets_no_copy_of_jobs_with_a_system_prompt_which_is_said_once(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    quorum = [session(bytes([number]) * 20, peer_id=f"member {number}") for number in range(3)]
    async with running(checks := world.checks(reference=None, quorum=quorum)):
        await use(checks, session(A), 60, system_prompt="You are my own.")
    assert not world.jobs.runs
    assert [record.levelname for record in caplog.records if "a quorum hears nothing" in record.message] == ["WARNING"]


async def test_a_reference_gets_the_system_prompt_and_the_hosts_answers(autojump_clock: object) -> None:
    """As the documentation says: who gives a remote one shows them to whoever runs it. The user's words stay here."""
    world, asked = World(), list[CanaryRequest]()

    async def reference(request: CanaryRequest) -> str:
        asked.append(request)
        return "true"

    async with running(checks := world.checks(reference=reference)):
        await use(checks, session(A), 120, system_prompt="You are my own.", same_conversation=True)
    assert len(asked) > 5
    assert all(request.messages[0] == ("system", "You are my own.") for request in asked)
    assert any(("assistant", world.jobs.text) in request.messages for request in asked)
    assert "of mine" not in str([request.messages for request in asked])
