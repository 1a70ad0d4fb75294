"""Models that are checked with canaries, through the whole SDK: what hosts see, what is found, what it costs.

What was asked, of whom and when, is taken from the hosts' engines and from what their servers got.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from tests.simulated.checked_market import MODEL, PARAMETERS, PRICE, Market, engine, market, reference, says
from tests.support.simulated import eventually, simulated

from hostmesh import ModelInfo, ModelKind, NodeNotRunningError, OptedInPrompt, UsageError, canary_budget
from hostmesh.cli.reputation import explanation_lines
from hostmesh.jobs.server import JobServer
from hostmesh.testing import FakeEngine, JobEnding, SimNetwork, chat_model
from hostmesh.testing.engine import prompt_tokens

WINDOW = 60


async def until_window(made: Market, name: str) -> None:
    """Use a host until as many canaries were answered as one piece of evidence takes."""
    for _ in range(300):
        if len(made.canaries(name)) > WINDOW:
            return
        await made.use(name, 1)
    raise AssertionError("there are too few canaries")


@pytest.mark.parametrize(("model", "speaks_against"), [("true", False), ("smaller", True)])
@simulated()
async def test_a_host_that_serves_another_model_is_found_out(net: SimNetwork, model: str, speaks_against: bool) -> None:
    async with market(net, {"host": engine(model)}) as made:
        peer_id, operator = made.peer_ids["host"], made.operator("host")
        async with made.check(reference=reference) as checks:
            await until_window(made, "host")
            [found] = checks.evidence
            assert (found.n, found.speaks_against, found.peer_id) == (WINDOW, speaks_against, peer_id)
            assert checks.stopped == ""
        jobs = made.engines["host"].counts.finished
        good, bad = (jobs, 5 * WINDOW) if speaks_against else (jobs + 1, 0)
        points = made.client.get_discovery_manager().reputation(peer_id, operator).points
        assert points == 1000 * (1 + good) // (10 + good + bad)
        told = "\n".join(
            explanation_lines(
                made.client._files.reputation.explain(peer_id, operator), barred="", suspension=None, now=0.0
            )
        )
        if speaks_against:
            assert "canaries failed" in told
            assert "accuses an honest host in 1 %: 60 of 60 answers to canaries part from the reference" in told
            assert made.client._files.standings.of(peer_id, "").barred.startswith("blacklisted")
        else:
            assert "canaries passed" in told
            assert "canaries failed" not in told
            assert made.client._files.standings.of(peer_id, "").barred == ""


@simulated()
async def test_a_prompt_that_was_not_opted_in_never_reaches_a_second_host(net: SimNetwork) -> None:
    """Seen at the engines; one that was opted in does, which shows that there is something to see."""
    names = ["used", "one", "two", "three"]
    opened = [f"An opted-in prompt of some length, number {number:04d} of all." for number in range(5)]
    async with market(net, {name: engine() for name in names}) as made:
        quorum = [made.sessions[name] for name in names[1:]]
        async with made.check(quorum=quorum, prompts=[OptedInPrompt(text=text) for text in opened]):
            for _ in range(30):
                await made.use("used", 1, system_prompt="SECRET of the user's own")
                await made.use("used", 1)
        at_others = [work for name in names[1:] for work in made.asked(name)]
        assert len(at_others) > 3 * 10
        texts = {message.content for work in at_others for message in work.messages}
        assert not texts & set(made.prompts)
        assert not [text for text in texts if "Own prompt" in text or "SECRET" in text]
        assert texts & set(opened)
        assert texts <= {work.messages[-1].content for work in made.canaries("used")}, "the host is asked, too"
        first = {work.messages[-1].content: job.ended_at_s for job, work in made.jobs("used")}
        for name in names[1:]:
            for job, work in made.jobs(name):
                assert job.began_at_s > first[work.messages[-1].content], "and first"


@simulated()
async def test_a_restart_gives_no_host_another_row_of_jobs_without_canaries(net: SimNetwork) -> None:
    engines = {"host": engine()}
    async with market(net, engines) as made:
        async with made.check(reference=reference):
            await made.use("host", 50, system_prompt="Be brief.")
        before = made.canaries("host")
        assert before
        await made.close()
        await made.open()
        async with made.check(reference=reference):
            await made.use("host", 12, system_prompt="Be brief.")
        after = made.canaries("host")[len(before) :]
        assert len(after) > 3
        assert all(work.messages[0].content == "Be brief." for work in after)
        sent = [work.messages[-1].content for work in [*before, *after]]
        assert len(sent) == len(set(sent)), "none is sent again"
        [kept] = list(made.machine.folder.rglob("canaries.sqlite3"))
        assert kept.stat().st_mode & 0o777 == 0o600
        on_disk = b"".join(path.read_bytes() for path in kept.parent.glob("canaries.sqlite3*"))
        assert b"Own prompt" not in on_disk
        assert b"Be brief" not in on_disk
        # What is not there is what makes the difference.
        await made.close()
        for path in kept.parent.glob("canaries.sqlite3*"):
            path.unlink()
        await made.open()
        async with made.check(reference=reference) as checks:
            await made.use("host", 12, system_prompt="Be brief.")
            assert checks.sent == 0


Call = tuple[object, ...]


class Arrivals:
    """What hosts get: of each run the last message, and all but words and random bytes of it and of its quote."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.quotes: list[tuple[bytes, Call]] = []
        self._runs: list[tuple[str, bytes, Call]] = []
        for name in ("quote", "run"):
            self._watch(name, patch)

    def _watch(self, name: str, patch: pytest.MonkeyPatch) -> None:
        served: Callable[..., Awaitable[Any]] = getattr(JobServer, name)

        async def serve(server: JobServer, request: Any, context: Any, *more: Any) -> Any:
            fields = tuple(field.name for field, _ in request.ListFields())
            settings = tuple(one.name if one.name == "seed" else str(one) for one in request.parameters)
            left_s = None if context.deadline is None else round(context.deadline - server._system.monotonic_s(), 1)
            call = (fields, settings, left_s, context.session_id, context.version, context.idempotency_key)
            call = (*call, tuple(context.metadata.items()))
            if name == "quote":
                response = await served(server, request, context, *more)
                call = (*call, request.max_output_tokens, request.prompt_tokens_estimate)
                self.quotes.append((response.quote, call))
                return response
            messages = request.chat.messages
            call = (*call, tuple(message.role for message in messages), len(request.salt))
            self._runs.append((messages[-1].content, request.quote_id, call))
            return await served(server, request, context, *more)

        patch.setattr(JobServer, name, serve)

    def runs(self) -> list[tuple[str, Call, Call]]:
        """Return the last message of each run, its quote and the run itself."""
        found = []
        for words, quote_id, run in self._runs:
            [quote] = [call for envelope, call in self.quotes if quote_id in envelope]
            found.append((words, quote, run))
        return found


@simulated()
async def test_canaries_stop_when_their_budget_is_used(net: SimNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals, budget = Arrivals(monkeypatch), 330
    monkeypatch.setattr(canary_budget, "HOSTS_SHARE", 1)  # there is one host, and little money
    async with market(net, {"host": engine()}) as made:
        async with made.check(reference=reference, budget_micros=budget) as checks:
            await made.use("host", 60)
            sent = len(made.canaries("host"))
            assert 0 < sent == checks.sent
            assert checks.stopped == "BUDGET_USED"
            quotes = len(arrivals.quotes)
            await made.use("host", 20)
            assert len(arrivals.quotes) == quotes + 20, "nor is a price asked for"
        assert len(made.canaries("host")) == sent
        cost = 0
        for job, work in made.jobs("host"):
            if work in made.canaries("host"):
                cost += -(-(prompt_tokens(work) + job.tokens) * PRICE // 1_000_000)
        assert cost == checks.budget.spent_micros <= budget
        assert made.sessions["host"].spent_micros > cost, "the user's own jobs were paid for besides"


@simulated()
async def test_a_host_that_quotes_long_answers_keeps_no_other_one_from_being_checked(net: SimNetwork) -> None:
    """Where a user names no limit, the host does: its canary could cost more than is left, and the others' do not."""
    dear = FakeEngine([chat_model(MODEL, context_tokens=10**6, max_output_tokens=None)], answer=says("smaller"))
    async with (
        market(net, {"true": engine(), "dear": dear}) as made,
        made.check(reference=reference, budget_micros=100_000) as checks,
    ):
        for _ in range(39):
            await made.use("true", 1, max_output_tokens=None)
            await made.use("dear", 1, max_output_tokens=None)
        assert made.canaries("true")
        assert not made.canaries("dear")
        assert (checks.stopped, checks.unchecked) == ("", ((made.peer_ids["dear"], MODEL),))


@simulated()
async def test_on_the_wire_canaries_differ_from_jobs_by_their_words_alone(
    net: SimNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrivals = Arrivals(monkeypatch)
    kinds: list[dict[str, object]] = [
        {"parameters": {"temperature": 0.0}, "max_output_tokens": 16, "timeout_s": 20.0},
        {"parameters": {"temperature": 0.7, "stop": ["###"]}, "max_output_tokens": None},
        {"system_prompt": "Be brief.", "timeout_s": 300.0},
        {"parameters": {"seed": 5, "temperature": 0.3}},
        {"parameters": {}},
    ]
    async with market(net, {"host": engine()}) as made, made.check(reference=reference):
        for number in range(70):
            await made.use("host", 1, **kinds[number % len(kinds)])
    own = [calls for words, *calls in arrivals.runs() if words in made.prompts]
    canaries = [calls for words, *calls in arrivals.runs() if words not in made.prompts]
    assert len(own) == 70
    unlike = [canary for canary in canaries if canary not in own]
    assert not unlike, "each is like some real job"
    assert all(calls in canaries for calls in own[: len(kinds)]), "and all kinds are copied"


@simulated()
async def test_each_job_carries_a_random_seed_unless_its_user_set_one(net: SimNetwork) -> None:
    async with market(net, {"host": engine()}) as made:
        await made.use("host", 1)
        async with made.check(reference=reference):
            await made.use("host", 4)
            await made.use("host", 1, parameters={"seed": 7})
        await made.use("host", 1)
        seeds = [work.parameters.get("seed") for work in made.asked("host")]
        assert [seeds[0], *seeds[5:]] == [None, 7, None], "only while checks are on"
        assert len({*seeds[1:5]}) == 4
        assert all(isinstance(seed, int) and 0 <= seed < 2**31 for seed in seeds[1:5])


@simulated()
async def test_jobs_that_are_paid_in_another_currency_are_left_as_they_are(net: SimNetwork) -> None:
    async with market(net, {"host": engine()}) as made:
        async with made.check(reference=reference, currency="EUR") as checks:
            await made.use("host", 40)
            assert checks.sent == 0
        assert [dict(work.parameters) for work in made.asked("host")] == [PARAMETERS] * 40


@simulated()
async def test_a_model_that_takes_no_seed_is_used_as_ever_and_named_as_unchecked(net: SimNetwork) -> None:
    info = ModelInfo(
        model_id=MODEL,
        kind=ModelKind.CHAT,
        context_tokens=2048,
        engine="fake 1",
        parameters=frozenset({"temperature"}),
    )
    async with market(net, {"host": FakeEngine([info])}) as made:
        async with made.check(reference=reference) as checks:
            await made.use("host", 50)
            assert checks.unchecked == ((made.peer_ids["host"], MODEL),)
            assert checks.sent == 0
        assert [dict(work.parameters) for work in made.asked("host")] == [PARAMETERS] * 50
        assert made.client._files.standings.of(made.peer_ids["host"], "").barred == ""


@simulated()
async def test_leaving_the_block_stops_the_canaries_under_way(net: SimNetwork) -> None:
    slow = engine()
    async with market(net, {"host": slow}) as made:
        async with made.check(reference=reference) as checks:
            await made.use("host", 40)
            slow.first_token_s = 1000.0
            await eventually(lambda: slow.counts.running == 1, within_s=5_000)
        await eventually(lambda: slow.counts.running == 0, within_s=1.0)
        assert slow.jobs[-1].ending is JobEnding.CANCELLED
        sent = checks.sent
        slow.first_token_s = 1.0
        await made.use("host", 5)
        assert len(made.canaries("host")) == sent == checks.sent


@simulated()
async def test_without_an_open_session_no_canary_leaves(net: SimNetwork) -> None:
    async with market(net, {"host": engine()}) as made, made.check(reference=reference) as checks:
        await made.use("host", 40)
        assert checks.sent
        await made.sessions["host"].close()
        sent = checks.sent
        await trio.sleep(2_000)
        assert (checks.sent, checks.evidence) == (sent, ())
        assert len(made.canaries("host")) == sent


@simulated()
async def test_what_contradicts_is_refused_before_anything_is_sent(net: SimNetwork) -> None:
    async with market(net, {"one": engine(), "two": engine()}) as made:
        sessions = list(made.sessions.values())
        for wrong in (
            {},
            {"quorum": sessions},
            {"quorum": [*sessions, sessions[0]]},
            {"reference": reference, "rate": 0.0},
            {"reference": reference, "budget_micros": -1},
            {"reference": reference, "quorum": sessions},
            {"reference": reference, "prompts": [OptedInPrompt(text="")]},
        ):
            with pytest.raises(UsageError):
                async with made.check(**wrong):
                    pass
        async with made.check(reference=reference):
            with pytest.raises(UsageError, match="already"):
                async with made.check(reference=reference):
                    pass
        async with made.check(reference=engine()):
            await made.client.get_discovery_manager().stop()
            with pytest.raises(NodeNotRunningError):
                made.client.get_job_manager()
        with pytest.raises(NodeNotRunningError):
            async with made.check(reference=reference):
                pass
