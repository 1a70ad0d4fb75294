"""Who watches a client's jobs sees each chat leave and end, once, and gives it what it is sent with."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from tests.simulated.checked_market import MODEL, market
from tests.simulated.test_jobs import Pair, pair_of
from tests.support.simulated import simulated

from hostmesh import SDK, JobError, ParameterError
from hostmesh.jobs.watch import Parameters, WatchedJob
from hostmesh.testing import FailsAfter, FakeEngine, SimNetwork, chat_model


class Diary:
    """A watch that writes down what it sees, and adds settings."""

    def __init__(self, client: SDK, *, adds: Parameters) -> None:
        self.seen: list[tuple[str, float]] = []
        self.jobs: list[WatchedJob] = []
        self.adds = adds
        client._checks = self  # type: ignore[assignment]

    async def leaves(self, job: WatchedJob) -> Parameters:
        self.seen.append(("leaves", trio.current_time()))
        self.jobs.append(job)
        return {**job.parameters, **self.adds}

    def job_ended(self, job: WatchedJob) -> None:
        assert job is self.jobs[-1]
        self.seen.append(("ended", trio.current_time()))

    def seed_refused(self, job: WatchedJob) -> None:
        assert job is self.jobs[-1]
        self.seen.append(("refused", trio.current_time()))

    @property
    def words(self) -> list[str]:
        return [word for word, _ in self.seen]


@simulated(pair_of)
async def test_a_job_ends_when_the_host_said_its_last_word_not_when_its_user_leaves(pair: Pair) -> None:
    diary = Diary(pair.client, adds={"seed": 9})
    async with pair.session(pair.chat, 1000) as session:
        began_s = trio.current_time()
        async with pair.jobs.run(
            session, prompt="Hi", system_prompt="Be brief.", parameters={"temperature": 0}, timeout_s=50
        ) as job:
            await job.read_text()
            read_s = trio.current_time()
            await trio.sleep(30)
    assert diary.seen == [("leaves", began_s), ("ended", read_s)]
    [seen] = diary.jobs
    assert [(message.role, message.content) for message in seen.chat.messages] == [
        ("system", "Be brief."),
        ("user", "Hi"),
    ]
    assert (seen.parameters, seen.max_output_tokens, seen.timeout_s) == ({"temperature": 0.0}, None, 50)
    assert pair.engine.jobs[-1].work.parameters == {"temperature": 0.0, "seed": 9}  # type: ignore[union-attr]


@simulated(pair_of)
async def test_one_that_fails_or_is_left_ends_once(pair: Pair) -> None:
    diary = Diary(pair.client, adds={})
    pair.engine.fail_next(FailsAfter(1))
    async with pair.session(pair.chat, 1000) as session:
        with pytest.raises(JobError):
            async with pair.jobs.run(session, prompt="Hi") as job:
                await job.read_text()
        assert diary.words == ["leaves", "ended"]
        async with pair.jobs.run(session, prompt="Hi"):
            assert diary.words == ["leaves", "ended", "leaves"]
        assert diary.words == ["leaves", "ended"] * 2


@simulated(pair_of)
async def test_texts_and_jobs_under_a_quote_of_the_users_own_are_not_watched(pair: Pair) -> None:
    diary = Diary(pair.client, adds={"seed": 9})
    async with pair.session(pair.embedding, 0) as session, pair.jobs.run(session, texts=["ab"]) as job:
        await job.read_vectors()
    async with pair.session(pair.chat, 1000) as session:
        quote = await pair.jobs.request_quote(session.peer_id, session.model_id)
        async with pair.jobs.run(session, prompt="Hi", quote=quote) as job:
            await job.read_text()
    assert diary.seen == []
    assert pair.engine.jobs[-1].work.parameters == {}  # type: ignore[union-attr]


@simulated(pair_of)
async def test_a_job_that_the_watch_leaves_as_it_is_is_seen_to_end_as_well(pair: Pair) -> None:
    diary = Diary(pair.client, adds={})
    async with pair.session(pair.chat, 1000) as session, pair.jobs.run(session, prompt="Hi") as job:
        await job.read_text()
    assert diary.words == ["leaves", "ended"]
    assert pair.engine.jobs[-1].work.parameters == {}  # type: ignore[union-attr]


@simulated()
async def test_a_setting_that_the_host_refuses_is_the_users_unless_it_is_the_seed_that_was_added(
    net: SimNetwork,
) -> None:
    info = replace(chat_model(MODEL), parameters=frozenset({"temperature"}))
    async with market(net, {"host": FakeEngine([info])}) as made:
        diary = Diary(made.client, adds={"seed": 9})
        await made.use("host", 1, parameters={"temperature": 0.5})
        assert diary.words == ["leaves", "refused", "ended"]
        assert [work.parameters for work in made.asked("host")] == [{"temperature": 0.5}]
        for own in ({"seed": 1}, {"top_k": 1}):
            with pytest.raises(ParameterError) as caught:
                await made.use("host", 1, parameters=own)
            assert caught.value.parameter in own
        assert diary.words == ["leaves", "refused", "ended", *["leaves", "ended"] * 2]
