"""Hosts that lie, among unmodified nodes: what is caught, when, and what only the client's own evidence shows."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest
import trio
from tests.simulated.adversary_world import LATENCY_S, MODEL, OPTIONS, World, world_on
from tests.support.simulated import simulated

from hostmesh import DeadlineExceededError, HostChoice, HostCriteria, JobError, NoHostFoundError, RemoteProtocolError
from hostmesh.discovery.measurement import Origin
from hostmesh.testing import FakeEngine, make_description, make_wallet
from hostmesh.testing.adversary_host import HostLies, JobLie, LyingHost, PingLie, run_lying_host

RTT_MS = 2000 * LATENCY_S
CHEAP = make_description(MODEL, price_micros_per_mtok=1)
"""What makes a host first in the ranking, the rest being equal."""


def liar_on(world: World, lies: HostLies, **truth: object) -> AbstractAsyncContextManager[LyingHost]:
    """Run a lying host in the world."""
    arguments: dict[str, object] = {"description": CHEAP, "bootstrap": world.bootstrap, **truth}
    return run_lying_host(world.net.machine("liar"), lies, **arguments)  # type: ignore[arg-type]


async def run_job(world: World, choice: HostChoice, *, timeout_s: float = 10.0) -> tuple[str, int]:
    """Return a job's answer and the tokens that were charged."""
    sessions, jobs = world.client.get_session_manager(), world.client.get_job_manager()
    async with (
        sessions.open_session(choice, spending_limit_micros=1000) as session,
        jobs.run(session, prompt="why?", timeout_s=timeout_s, max_output_tokens=100) as job,
    ):
        text = await job.read_text()
        return text, job.usage.prompt_tokens + job.usage.completion_tokens


def only(liar: LyingHost) -> HostCriteria:
    """Return criteria that the liar alone can meet."""
    return HostCriteria(required_models=[MODEL], include=[liar.adversary.peer_id])


# --- claims ---


@simulated(world_on, network=OPTIONS)
async def test_without_a_lie_it_is_a_host_like_any_other(world: World) -> None:
    async with liar_on(world, HostLies()) as liar:
        await world.start_client()
        choice, _ = await world.find_timed()
        assert choice.peer_id == liar.adversary.peer_id
        text, tokens = await run_job(world, choice)
        assert text
        assert tokens == liar.jobs.stats().prompt_tokens + liar.jobs.stats().completion_tokens
        assert world.discovery.reputation(choice.peer_id, choice.operator_address).points > 100


@simulated(world_on, network=OPTIONS)
async def test_models_that_it_does_not_have_are_seen_not_to_be_ready(world: World) -> None:
    async with liar_on(world, HostLies(extra_models=("huge",))) as liar:
        await world.start_client()
        with pytest.raises(NoHostFoundError) as refused:
            await world.discovery.find_host(HostCriteria(required_models=["huge"]))
        assert refused.value.seen == 2
        assert refused.value.rejected == {"model": 1, "ready": 1}
        assert liar.engine.counts.started == 0


@simulated(world_on, network=OPTIONS)
async def test_a_model_that_it_swears_is_ready_fails_at_the_quote_and_it_is_not_chosen(world: World) -> None:
    lies = HostLies(extra_models=("huge",), is_always_ready=True)
    async with liar_on(world, lies) as liar:
        await world.start_client()
        with pytest.raises(NoHostFoundError) as refused:
            await world.discovery.find_host(HostCriteria(required_models=["huge"]))
        assert refused.value.rejected == {"model": 1, "ready": 1}
        assert liar.engine.counts.started == 0


@simulated(world_on, network=OPTIONS)
async def test_full_slots_that_it_says_are_free_are_seen_at_the_quote(world: World) -> None:
    engine = FakeEngine([MODEL], tokens_per_s=0.001)
    one_slot = make_description(MODEL, price_micros_per_mtok=1, max_concurrent_jobs=1, max_queued_jobs=0)
    lies = HostLies(is_always_ready=True)
    async with liar_on(world, lies, engine=engine, description=one_slot) as liar:
        await world.start_client()
        choice, _ = await world.find_timed()
        assert choice.peer_id == liar.adversary.peer_id
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_run_for_ever, world, choice)
            await engine.wait_until(lambda counts: counts.running == 1)
            world.discovery.forget_measurements(choice.peer_id)
            again, _ = await world.find_timed()
            assert again.peer_id == world.honest
            assert engine.counts.started == 1
            nursery.cancel_scope.cancel()


async def _run_for_ever(world: World, choice: HostChoice) -> None:
    await run_job(world, choice, timeout_s=1e6)


@simulated(world_on, network=OPTIONS)
async def test_a_low_price_in_the_record_with_a_high_quote_is_turned_away(world: World) -> None:
    dear = make_description(MODEL, price_micros_per_mtok=1_000_000)
    async with liar_on(world, HostLies(price_micros_per_mtok=1), description=dear) as liar:
        await world.start_client()
        choice, _ = await world.find_timed()
        assert choice.peer_id == world.honest
        funnel = (await world.discovery.explain(only(liar))).funnel
        assert funnel.rejected == {"listed": 1, "price": 1}
        detail = next(each.detail for each in funnel.rejections if each.criterion == "price")
        assert detail == "quotes 1 USD/Mtok, its record says 0.000001 USD/Mtok"
        assert liar.engine.counts.started == 0


@simulated(world_on, network=OPTIONS)
async def test_uptime_place_and_speed_are_shown_as_claims_and_the_latency_is_not_one(world: World) -> None:
    lies = HostLies(extra_uptime_s=10**9, location="NZ", capabilities=("1000-tokens-per-s",))
    async with liar_on(world, lies) as liar:
        await world.start_client()
        wanted = HostCriteria(
            required_models=[MODEL], location="NZ", min_uptime_s=10**8, capabilities=["1000-tokens-per-s"]
        )
        choice, _ = await world.find_timed(wanted)
        assert choice.peer_id == liar.adversary.peer_id
        assert choice.claimed_uptime is not None
        assert (choice.claimed_uptime.origin, choice.claimed_uptime.value >= 10**9) == (Origin.CLAIMED, True)
        assert choice.uptime is None or (choice.uptime.origin is Origin.MEASURED and choice.uptime.value < 60)
        assert choice.latency is not None
        assert choice.latency.origin is Origin.MEASURED


# --- latency ---


@pytest.mark.parametrize("ping", [PingLie.EARLY, PingLie.WRONG_NONCE])
@simulated(world_on, network=OPTIONS)
async def test_who_answers_a_ping_without_having_read_it_is_unreachable(world: World, ping: PingLie) -> None:
    """The answer must hold 8 random bytes of the question: it cannot leave before the question has come."""
    async with liar_on(world, HostLies(ping=ping)) as liar:
        await world.start_client()
        choice, took_s = await world.find_timed()
        assert choice.peer_id == world.honest
        assert took_s < 3
        funnel = (await world.discovery.explain(only(liar))).funnel
        assert funnel.rejected == {"listed": 1, "reachable": 1}
        reason = next(each.detail for each in funnel.rejections if each.criterion == "reachable")
        assert reason.startswith("MESSAGE_MALFORMED")


@pytest.mark.parametrize("delay_s", [0.0, 0.2, 1.0])
@simulated(world_on, network=OPTIONS)
async def test_all_that_a_host_can_do_to_its_measured_latency_is_to_add_to_it(world: World, delay_s: float) -> None:
    async with liar_on(world, HostLies(ping_delay_s=delay_s)) as liar:
        await world.start_client()
        choice, took_s = await world.find_timed(only(liar))
        assert choice.latency is not None
        assert choice.latency.value == pytest.approx(RTT_MS + 1000 * delay_s, rel=0.01)
        assert took_s < 6


@simulated(world_on, network=OPTIONS)
async def test_a_ping_that_is_never_answered_costs_the_search_less_than_the_probe_may_take(world: World) -> None:
    async with liar_on(world, HostLies(ping_delay_s=1e6)):
        await world.start_client()
        choice, took_s = await world.find_timed()
        assert choice.peer_id == world.honest
        assert took_s < 3


@simulated(world_on, network=OPTIONS)
async def test_who_answers_pings_and_no_quotes_is_not_chosen_and_the_callers_deadline_ends_a_call(world: World) -> None:
    async with liar_on(world, HostLies(job_delay_s=60.0)) as liar:
        await world.start_client()
        choice, took_s = await world.find_timed()
        assert choice.peer_id == world.honest
        assert took_s < 3
        began_s = trio.current_time()
        with pytest.raises(DeadlineExceededError), trio.fail_after(30):
            await world.client.get_job_manager().request_quote(liar.adversary.peer_id, MODEL, timeout_s=5.0)
        assert trio.current_time() - began_s < 6


# --- jobs ---


@pytest.mark.parametrize("job", [JobLie.FAILS, JobLie.WRONG_COST, JobLie.NO_USAGE, JobLie.REPEATS])
@simulated(world_on, network=OPTIONS)
async def test_jobs_run_badly_cost_the_host_its_reputation_and_then_its_rank(world: World, job: JobLie) -> None:
    async with liar_on(world, HostLies(job=job)) as liar:
        await world.start_client()
        failures = 0
        for _ in range(12):
            choice, _ = await world.find_timed()
            if choice.peer_id == world.honest:
                break
            with pytest.raises(JobError if job is JobLie.FAILS else RemoteProtocolError):
                await run_job(world, choice)
            failures += 1
        else:
            pytest.fail("the client never turned away")
        text, _ = await run_job(world, choice)
        assert text == "It is a law of nature."
        assert failures >= 1
        wallet = make_wallet(liar.adversary.machine.name)
        reputation = world.discovery.reputation(liar.adversary.peer_id, wallet.address)
        assert (reputation.n, reputation.points < 100) == (failures, True)


@simulated(world_on, network=OPTIONS)
async def test_a_job_that_hangs_ends_by_the_clients_deadline(world: World) -> None:
    async with liar_on(world, HostLies(job=JobLie.HANGS)) as liar:
        await world.start_client()
        choice, _ = await world.find_timed()
        began_s = trio.current_time()
        with pytest.raises(DeadlineExceededError):
            await run_job(world, choice, timeout_s=5.0)
        assert trio.current_time() - began_s < 6
        assert liar.engine.counts.started == 1


@simulated(world_on, network=OPTIONS)
async def test_a_host_that_says_free_and_refuses_every_job_is_seen_at_the_quote_and_not_blamed(world: World) -> None:
    async with liar_on(world, HostLies(job=JobLie.REFUSED)) as liar:
        await world.start_client()
        choice, _ = await world.find_timed()
        assert choice.peer_id == world.honest
        funnel = (await world.discovery.explain(only(liar))).funnel
        assert funnel.rejected == {"listed": 1, "ready": 1}
        with pytest.raises(JobError) as refused:
            await world.client.get_job_manager().request_quote(liar.adversary.peer_id, MODEL, timeout_s=5.0)
        assert refused.value.reason == "BUSY"
        assert refused.value.retry_safe
        wallet = make_wallet(liar.adversary.machine.name)
        assert world.discovery.reputation(liar.adversary.peer_id, wallet.address).n == 0


@pytest.mark.parametrize(("extra_tokens", "is_believed"), [(20, True), (3000, False)])
@simulated(world_on, network=OPTIONS)
async def test_tokens_that_were_not_are_believed_within_what_the_input_can_have(
    world: World, extra_tokens: int, is_believed: bool
) -> None:
    async with liar_on(world, HostLies(extra_tokens=extra_tokens)) as liar:
        await world.start_client()
        choice, _ = await world.find_timed()
        if is_believed:
            _, charged = await run_job(world, choice)
            stats = liar.jobs.stats()
            assert charged == stats.prompt_tokens + stats.completion_tokens + extra_tokens
        else:
            with pytest.raises(RemoteProtocolError, match="tokens"):
                await run_job(world, choice)
