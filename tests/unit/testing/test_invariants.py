"""Each invariant of the mesh holds of an account without fault, and names what breaks it in one with a single fault."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from hostmesh import ChatMessage, ChatWork, NoHostFoundError, Price, Role
from hostmesh.discovery.choice import HostChoice
from hostmesh.jobs.usage import Usage
from hostmesh.testing import MESH_INVARIANTS, FakeEngine, MeshAccount
from hostmesh.testing.mesh_account import Call, Ending, Listing, Submission, answer, answer_to, prompt_of

PROMPT = prompt_of(1, words=3, word_bytes=6)


async def work(engine: FakeEngine, *, reads: int | None = None) -> None:
    chat = ChatWork(
        model_id="fake-chat", messages=(ChatMessage(role=Role.USER, content=PROMPT),), max_output_tokens=100
    )
    async with engine.generate(chat) as events:
        count = 0
        async for _ in events:
            count += 1
            if count == reads:
                return


def run(what: Callable[[FakeEngine], Awaitable[None]], engine: FakeEngine) -> None:
    """Run at 0 s."""
    trio.run(what, engine, clock=trio.testing.MockClock())


def choice(price: int) -> HostChoice:
    return cast("HostChoice", SimpleNamespace(price=Price(micros_per_mtok=price, currency="USD")))


def call(what: str, began_s: float = 10.0, ended_s: float = 11.0, **fields: Any) -> Call:
    given: dict[str, Any] = {"due_s": 13.0, "ending": Ending.DONE, **fields}
    return Call(what=what, machine="c1", began_s=began_s, ended_s=ended_s, **given)


@pytest.fixture
def account() -> MeshAccount:
    """One host that serves till 20 s and again from 30 s, and one job."""
    engine = FakeEngine(answer=answer)
    run(work, engine)
    usage = Usage(prompt_tokens=8, completion_tokens=3, cost_micros=1, currency="USD")
    return MeshAccount(
        calls=[
            call("find", choice=choice(100)),
            call("job", number=1, text=answer_to(PROMPT), usage=usage),
            call("find", ending=Ending.FAILED, error=NoHostFoundError("none", seen=2, rejected={"model": 2})),
            call("find", began_s=19.0, ended_s=20.1, due_s=30.0, choice=choice(100)),
            call("find", began_s=200.0, ended_s=201.0, due_s=210.0, choice=choice(101), is_final=True),
        ],
        submissions=[Submission(number=1, machine="c1", prompt=PROMPT, ended_s=12.0)],
        listings=[
            Listing(host="h1", price=100, from_s=1.0, until_s=20.0, heard_by=frozenset({"c1"})),
            Listing(host="h1", price=101, from_s=30.0),
        ],
        engines={"h1": engine},
        sums=[("jobs that h1 accepted", 1, 1)],
    )


def late(account: MeshAccount) -> None:
    account.calls[0].ended_s = 13.5


def hanging(account: MeshAccount) -> None:
    account.calls[1].is_overdue = True


def crashing(account: MeshAccount) -> None:
    account.calls[0].ending, account.calls[0].error = Ending.CRASHED, KeyError("x")


def inventing(account: MeshAccount) -> None:
    account.calls[1].text = account.calls[1].text.replace("1-1", "1-2")


def cutting_short(account: MeshAccount) -> None:
    account.calls[1].text = account.calls[1].text[:-1]


def finishing_what_never_ran(account: MeshAccount) -> None:
    engine = FakeEngine(answer=answer)
    run(partial(work, reads=1), engine)
    account.engines = {"h1": engine}


def running_twice(account: MeshAccount) -> None:
    other = FakeEngine(answer=answer)
    run(work, other)
    account.engines["h2"] = other


def going_on(account: MeshAccount) -> None:
    account.submissions[0].ended_s = -121.0


def miscounting_hosts(account: MeshAccount) -> None:
    account.calls[2].error = NoHostFoundError("none", seen=3, rejected={"model": 2})


def miscounting_jobs(account: MeshAccount) -> None:
    account.sums.append(("jobs that h2 accepted", 3, 2))


def finding_what_was_taken_back(account: MeshAccount) -> None:
    account.calls[3].began_s = 20.05


def finding_what_has_expired(account: MeshAccount) -> None:
    account.listings[0].heard_by = frozenset()
    account.calls[4].choice = choice(100)


def finding_what_never_was(account: MeshAccount) -> None:
    account.calls[0].choice = choice(7)


def lagging(account: MeshAccount) -> None:
    account.calls.append(call("watch", lag="shows 1 active job"))


def leaving_things(account: MeshAccount) -> None:
    account.left_over.append("h1: 1 inbound streams of /x")


def not_working(account: MeshAccount) -> None:
    account.calls[4].ending = Ending.FAILED


FAULTS: dict[Callable[[MeshAccount], None], str] = {
    late: "every call ends in time",
    hanging: "every call ends in time",
    crashing: "errors are typed",
    inventing: "a job's text is what the engine said",
    cutting_short: "a job's text is what the engine said",
    finishing_what_never_ran: "a job's text is what the engine said",
    running_twice: "a submission runs once",
    going_on: "engines stop with their clients",
    miscounting_hosts: "counts add up",
    miscounting_jobs: "counts add up",
    finding_what_was_taken_back: "finds are not stale",
    finding_what_has_expired: "finds are not stale",
    finding_what_never_was: "finds are not stale",
    lagging: "watches show what is",
    leaving_things: "nothing is left",
    not_working: "a healed network works",
}


def broken(account: MeshAccount) -> Iterator[tuple[str, str]]:
    for name, check in MESH_INVARIANTS.items():
        for what in check(account):
            yield name, what


def test_an_account_without_fault_breaks_nothing(account: MeshAccount) -> None:
    assert [*broken(account)] == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_breaks_its_invariant_and_no_other(fault: Callable[[MeshAccount], None], account: MeshAccount) -> None:
    fault(account)
    ((name, what),) = broken(account)
    assert name == FAULTS[fault]
    assert what
    assert "\n" not in what


def test_every_invariant_can_be_broken() -> None:
    assert {*FAULTS.values()} == {*MESH_INVARIANTS}


def test_who_was_not_told_may_find_a_record_until_it_has_expired(account: MeshAccount) -> None:
    account.listings[0].heard_by = frozenset()
    account.calls[3].began_s, account.calls[3].ended_s, account.calls[3].due_s = 169.0, 169.5, 180.0
    assert [*broken(account)] == []
    account.calls[3].began_s = 170.5
    assert [name for name, _ in broken(account)] == ["finds are not stale"]
    account.max_skew_s = 1.0
    assert [*broken(account)] == []
