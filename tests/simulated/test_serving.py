"""Being a host, seen by a client: serve, change the offer, drain, leave."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import pytest
import trio
from tests.simulated.world import MODEL, PRICE, TOKEN_S, World, join, offer, world_of
from tests.support.simulated import simulated

from hostmesh import (
    AlreadyRunningError,
    ClockSkewError,
    ConfigError,
    HostCriteria,
    HostmeshError,
    JobError,
    ModelKind,
    NodeNotRunningError,
    NoHostFoundError,
    ProtocolNotSupportedError,
    SessionError,
    UsageError,
)
from hostmesh.jobs.stats import JobOutcome
from hostmesh.testing import FailsToLoad


@simulated(world_of)
async def test_a_job_from_end_to_end(world: World) -> None:
    async with world.host.get_host_manager().serve(offer(), world.engine) as serving:
        choice = await world.find()
        async with (
            world.client.get_session_manager().open_session(choice, spending_limit_micros=100) as session,
            world.client.get_job_manager().run(session, prompt="one two three") as job,
        ):
            assert await job.read_text() == "first last"
        # ceil(5 tokens * 250,000 / 1,000,000)
        assert job.usage.cost_micros == 2
        assert serving.stats().outcomes == {JobOutcome.SUCCEEDED: 1}


@simulated(world_of)
async def test_serving_twice_is_refused_and_the_first_goes_on(world: World) -> None:
    hosts = world.host.get_host_manager()
    async with hosts.serve(offer(), world.engine) as serving:
        with pytest.raises(AlreadyRunningError):
            async with hosts.serve(offer(), world.engine):
                pytest.fail("the block was entered")
        assert (await world.find()).peer_id == world.host_id
        assert serving.record is not None
    # After the block, again.
    async with hosts.serve(offer(), world.engine):
        assert (await world.find()).peer_id == world.host_id


@simulated(world_of)
async def test_a_node_comes_first(world: World) -> None:
    await world.host.get_discovery_manager().stop()
    with pytest.raises(NodeNotRunningError):
        async with world.host.get_host_manager().serve(offer(), world.engine):
            pytest.fail("the block was entered")


@simulated(world_of)
async def test_a_start_that_fails_leaves_nothing_served(world: World) -> None:
    wrong = offer()
    hosts = world.host.get_host_manager()
    with pytest.raises(ConfigError, match="no model"):
        async with hosts.serve(
            type(wrong)(models=[type(wrong.models[0])(model_id="another", price=wrong.models[0].price)]), world.engine
        ):
            pytest.fail("the block was entered")
    with pytest.raises(ProtocolNotSupportedError):
        await world.client.get_job_manager().request_quote(world.host_id, MODEL)
    async with hosts.serve(offer(), world.engine):
        assert (await world.find()).peer_id == world.host_id


@simulated(world_of)
async def test_leaving_withdraws(world: World) -> None:
    async with world.host.get_host_manager().serve(offer(), world.engine):
        await world.find()
    # The tombstone was pushed to the connected client: it does not ask, and nobody is left to be asked.
    assert world.client._records.live() == []
    with pytest.raises(NoHostFoundError):
        await world.find()
    with pytest.raises(ProtocolNotSupportedError):
        await world.client.get_job_manager().request_quote(world.host_id, MODEL)


@simulated(world_of)
async def test_draining_ends_what_runs_and_takes_nothing_new(world: World) -> None:
    async with world.host.get_host_manager().serve(offer(), world.engine) as serving:
        choice = await world.find()
        sessions, jobs = world.client.get_session_manager(), world.client.get_job_manager()
        async with sessions.open_session(choice, spending_limit_micros=100) as session:
            quote = await jobs.request_quote(world.host_id, MODEL)
            async with jobs.run(session, prompt="one two three") as job, trio.open_nursery() as nursery:
                assert (await anext(job)).text == "first"
                began_s = trio.current_time()
                nursery.start_soon(serving.drain, 30.0)
                await trio.sleep(1)
                assert serving.stats().is_draining
                with pytest.raises(JobError) as refused:
                    await jobs.request_quote(world.host_id, MODEL)
                assert refused.value.reason == "DRAINING"
                with pytest.raises(JobError) as refused:
                    async with jobs.run(session, prompt="more", quote=quote):
                        pytest.fail("the job was accepted")
                assert refused.value.reason == "DRAINING"
                assert refused.value.retry_safe
                with pytest.raises(SessionError) as closed:
                    await sessions.start_session(choice, spending_limit_micros=100)
                assert closed.value.reason == "DRAINING"
                assert await job.read_text() == " last"
                assert job.usage.cost_micros == 2
            # Draining took as long as the job, and not the 30 s that it might.
            assert trio.current_time() - began_s == pytest.approx(TOKEN_S, abs=0.5)
        assert serving.stats().outcomes == {JobOutcome.SUCCEEDED: 1}
        with pytest.raises(NoHostFoundError):
            await world.find()


@pytest.mark.parametrize("says_so", [True, False])
@simulated(world_of)
async def test_what_drains_too_long_ends_and_costs_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, says_so: bool
) -> None:
    """It is no failure of a host that tells everybody that it drains."""

    async def tell_nobody() -> None:
        await trio.lowlevel.checkpoint()

    async with world.host.get_host_manager().serve(offer(), world.engine) as serving:
        choice = await world.find()
        if not says_so:
            monkeypatch.setattr(serving._stack.publisher, "drain", tell_nobody)
        async with (
            world.client.get_session_manager().open_session(choice, spending_limit_micros=100) as session,
            world.client.get_job_manager().run(session, prompt="x") as job,
        ):
            assert (await anext(job)).text == "first"
            await serving.drain(0)
            with pytest.raises(JobError) as ended:
                await job.read_text()
        assert ended.value.reason == "DRAINING"
        assert world.client._files.reputation.knows(world.host_id) is not says_so
        assert serving.stats().outcomes == {JobOutcome.DRAINED: 1}
        assert serving.stats().completion_tokens == 0
        assert (world.engine.counts.started, world.engine.counts.cancelled) == (1, 1)


@simulated(world_of)
async def test_who_has_a_job_here_hears_first_that_the_host_drains(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where not all peers can be told, and it came last: else the end of its job is a failure to it."""
    machine = world.net.machine("late")
    async with (
        machine.open_sdk(ephemeral_key=True, enable_dht=False) as late,
        world.host.get_host_manager().serve(offer(), world.engine) as serving,
    ):
        await join(late, machine)
        await late.get_discovery_manager().connect_to_peer(world.host_address)
        choice = await late.get_discovery_manager().find_host(HostCriteria(required_models=[MODEL]))
        monkeypatch.setattr(serving._stack.publisher._pusher, "_max_peers", 1)
        async with (
            late.get_session_manager().open_session(choice, spending_limit_micros=100) as session,
            late.get_job_manager().run(session, prompt="x") as job,
        ):
            assert (await anext(job)).text == "first"
            await serving.drain(0)
            with pytest.raises(JobError, match="left"):
                await job.read_text()
        assert not late._files.reputation.knows(world.host_id)


@simulated(world_of)
async def test_draining_goes_on_when_it_cannot_be_published(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The jobs of clients matter more than the record, which expires by itself."""

    async def cannot() -> None:
        raise ClockSkewError("the clock is off", skew_s=31.0)

    async with world.host.get_host_manager().serve(offer(), world.engine) as serving:
        choice = await world.find()
        monkeypatch.setattr(serving._stack.publisher, "drain", cannot)
        async with (
            world.client.get_session_manager().open_session(choice, spending_limit_micros=100) as session,
            world.client.get_job_manager().run(session, prompt="x") as job,
            trio.open_nursery() as nursery,
        ):
            assert (await anext(job)).text == "first"
            with caplog.at_level(logging.WARNING, logger="hostmesh.hosting"):
                nursery.start_soon(serving.drain, 30.0)
                await trio.sleep(1)
                assert await job.read_text() == " last"
        assert serving.stats().outcomes == {JobOutcome.SUCCEEDED: 1}
    assert "the clock is off" in caplog.text


@simulated(world_of)
async def test_a_draining_host_announces_nothing(world: World) -> None:
    """It would be listed as available and refuse every job."""
    async with world.host.get_host_manager().serve(offer(), world.engine) as serving:
        await serving.drain(1)
        with pytest.raises(UsageError, match="drain"):
            await serving.announce(offer())
        with pytest.raises(NoHostFoundError):
            await world.find()


@simulated(world_of)
async def test_what_comes_while_it_leaves_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saying goodbye may take seconds, in which a new job would only be cut."""
    asked: list[str] = []

    @dataclass
    class Publisher:
        real: object

        async def withdraw(self) -> None:
            try:
                await world.client.get_job_manager().request_quote(world.host_id, MODEL)
            except JobError as error:
                asked.append(error.reason)
            try:
                await world.client.get_session_manager().start_session(choice, spending_limit_micros=1)
            except SessionError as error:
                asked.append(error.reason)
            await serving._stack.publisher.__class__.withdraw(self.real)  # type: ignore[arg-type]

    async with world.host.get_host_manager().serve(offer(), world.engine) as serving:
        choice = await world.find()
        publisher = serving._stack.publisher
        monkeypatch.setattr(publisher, "withdraw", Publisher(publisher).withdraw)
    assert asked == ["DRAINING", "DRAINING"]


@simulated(world_of)
async def test_a_price_change_leaves_a_quote_as_it_was(world: World) -> None:
    async with world.host.get_host_manager().serve(offer(), world.engine) as serving:
        choice = await world.find()
        sessions, jobs = world.client.get_session_manager(), world.client.get_job_manager()
        quote = await jobs.request_quote(world.host_id, MODEL)
        assert quote.price_micros_per_mtok == PRICE
        await serving.announce(offer(price=PRICE * 4))
        # Session and job under the quote, at the old price, though the list says another.
        async with sessions.open_session(choice, spending_limit_micros=100) as session:
            async with jobs.run(session, prompt="x", quote=quote) as job:
                await job.read_text()
            assert job.usage.cost_micros == 2
            # One quote, one job: the next one is quoted anew, above the session's ceiling.
            with pytest.raises(JobError) as refused:
                async with jobs.run(session, prompt="x"):
                    pytest.fail("the job was accepted")
            assert refused.value.reason == "PRICE_TOO_LOW"
        # So was the quote that the search asked for, until its minute is over.
        await trio.sleep(60)
        with pytest.raises(SessionError) as too_low:
            await sessions.start_session(choice, spending_limit_micros=100)
        assert too_low.value.reason == "PRICE_TOO_LOW"
        assert (await jobs.request_quote(world.host_id, MODEL)).price_micros_per_mtok == PRICE * 4


@simulated(world_of)
async def test_a_quote_serves_its_own_client_alone(world: World) -> None:
    async with world.host.get_host_manager().serve(offer(), world.engine):
        choice = await world.find()
        quote = await world.client.get_job_manager().request_quote(world.host_id, MODEL)
        machine = world.net.machine("other")
        async with machine.open_sdk(ephemeral_key=True, enable_dht=False) as other:
            await join(other, machine)
            await other.get_discovery_manager().connect_to_peer(world.host_address)
            async with other.get_session_manager().open_session(choice, spending_limit_micros=100) as session:
                with pytest.raises(JobError) as refused:
                    async with other.get_job_manager().run(session, prompt="x", quote=quote):
                        pytest.fail("the job was accepted")
                assert refused.value.reason == "QUOTE_EXPIRED"
        async with world.client.get_session_manager().open_session(choice, spending_limit_micros=100) as session:
            jobs = world.client.get_job_manager()
            async with jobs.run(session, prompt="x", quote=quote) as job:
                await job.read_text()
            with pytest.raises(JobError) as refused:
                async with jobs.run(session, prompt="x", quote=quote):
                    pytest.fail("the job was accepted")
            assert refused.value.reason == "QUOTE_EXPIRED"


@simulated(world_of)
async def test_an_unpriced_model_is_refused(world: World) -> None:
    async with world.host.get_host_manager().serve(offer(price=None), world.engine):
        choice = await world.find()
        assert choice.price is None
        with pytest.raises(JobError) as refused:
            await world.client.get_job_manager().request_quote(world.host_id, MODEL)
        assert refused.value.reason == "UNPRICED"
        with pytest.raises(UsageError, match="no price"):
            await world.client.get_session_manager().start_session(choice, spending_limit_micros=100)
        with pytest.raises(SessionError) as closed:
            await world.client.get_session_manager().start_session(
                choice, spending_limit_micros=100, max_price_micros_per_mtok=10**9, currency="USD"
            )
        assert closed.value.reason == "UNKNOWN_MODEL"


@simulated(world_of)
async def test_an_engine_that_is_not_ready_is_a_typed_refusal(world: World) -> None:
    async with world.host.get_host_manager().serve(offer(), world.engine) as serving:
        assert serving.engine_ready == {MODEL: True}
        choice = await world.find()
        async with world.client.get_session_manager().open_session(choice, spending_limit_micros=100) as session:
            world.engine.fault = FailsToLoad()
            with pytest.raises(JobError) as refused:
                async with world.client.get_job_manager().run(session, prompt="x"):
                    pytest.fail("the job was accepted")
        assert refused.value.reason == "MODEL_NOT_READY"
        assert refused.value.retry_safe
        assert not refused.value.may_have_executed
        assert "fake engine" not in refused.value.message
        assert serving.stats().accepted == 0
        assert (world.engine.counts.started, world.engine.counts.refused) == (0, 0)


@simulated(world_of)
async def test_withdraw_and_announce_again(world: World) -> None:
    async with world.host.get_host_manager().serve(offer(), world.engine) as serving:
        first = serving.record
        assert first is not None
        await serving.withdraw()
        with pytest.raises(NoHostFoundError):
            await world.find()
        # Jobs go on to be taken from whoever knows the host.
        await world.client.get_job_manager().request_quote(world.host_id, MODEL)
        again = await serving.announce(offer())
        assert again.sequence > first.sequence
        assert (await world.find()).peer_id == world.host_id


@simulated(world_of)
async def test_a_node_that_stops_under_a_host_ends_its_jobs(world: World) -> None:
    async with world.host.get_host_manager().serve(offer(), world.engine) as serving:
        choice = await world.find()
        async with (
            world.client.get_session_manager().open_session(choice, spending_limit_micros=100) as session,
            world.client.get_job_manager().run(session, prompt="x") as job,
        ):
            assert (await anext(job)).text == "first"
            await world.host.get_discovery_manager().stop()
            with pytest.raises(HostmeshError):
                await job.read_text()
    assert (world.engine.counts.started, world.engine.counts.cancelled) == (1, 1)
    assert sum(serving.stats().outcomes.values()) == 1
    # Nothing of the old host stands in the way of a new one.
    await world.host.get_discovery_manager().create_node()
    async with world.host.get_host_manager().serve(offer(), world.engine):
        pass


@simulated(world_of)
async def test_a_client_that_stops_its_own_node_blames_no_host(world: World) -> None:
    async with world.host.get_host_manager().serve(offer(), world.engine):
        choice = await world.find()
        assert choice.reputation.n == 0
        async with (
            world.client.get_session_manager().open_session(choice, spending_limit_micros=100) as session,
            world.client.get_job_manager().run(session, prompt="x") as job,
        ):
            assert (await anext(job)).text == "first"
            await world.client.get_discovery_manager().stop()
            with pytest.raises(HostmeshError):
                await job.read_text()
        assert not world.client._files.reputation.knows(world.host_id)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", ModelKind.EMBEDDING),
        ("context_tokens", 65),
        ("max_output_tokens", 65),
        ("parameters", ("temperature",)),
    ],
)
@simulated(world_of)
async def test_a_host_promises_no_more_than_its_engine_does(world: World, field: str, value: object) -> None:
    """A record that says otherwise brings clients whose quotes are then refused."""
    honest = offer()
    wrong = replace(honest, models=[replace(honest.models[0], **{field: value})])
    async with world.host.get_host_manager().serve(honest, world.engine) as serving:
        before = serving.record
        with pytest.raises(ConfigError, match=field) as refused:
            await serving.announce(wrong)
        assert refused.value.name == field
        assert serving.record == before
