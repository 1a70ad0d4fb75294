"""Probes between whole nodes: the price that is quoted, the place that is refuted, and what it costs the host."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
from tests.simulated.world import MODEL, PRICE, World, join, offer, world_of
from tests.support.simulated import simulated

from hostmesh import (
    CHEAPEST,
    SDK,
    SPECIFIC,
    HostCriteria,
    HostDescription,
    HostsThrottledError,
    HostUnfitError,
    JobError,
    NoHostFoundError,
    Price,
    UsageError,
)
from hostmesh.discovery.measurement import Origin, QuotedPrice, QuoteRefusal
from hostmesh.discovery.probe import ProbeConfig, Prober
from hostmesh.discovery.record import HostInfo
from hostmesh.errors import RpcError, StatusCode
from hostmesh.hosting import HEALTH_CHECK_S
from hostmesh.net.peer_key import PeerKey
from hostmesh.reputation.evidence import EvidenceKind
from hostmesh.rpc.limits import BUILT_IN_LIMITS
from hostmesh.sessions.authorization import ModelPrice
from hostmesh.status.server import STATUS_LIMITS
from hostmesh.testing import FakeEngine, SimNetwork, make_wallet

OPERATOR = make_wallet("host").address.lower()
ROUND_TRIP_S = 0.04
"""Between two machines, by default."""


def prober_of(world: World) -> Prober:
    """Return the client's prober, as one that remembers nothing."""
    running = world.client.get_discovery_manager()._life.require()
    return Prober.over(running, system=world.client._system, config=ProbeConfig(max_age_s=0.0))


@simulated(world_of)
async def test_a_search_finds_the_price_that_the_host_signs(world: World) -> None:
    async with world.host.get_host_manager().serve(offer(), world.engine):
        choice = await world.find()
        assert choice.quote is not None
        assert choice.quote.model_id == MODEL
        assert choice.price == choice.quote.price == Price(micros_per_mtok=PRICE, currency="USD")
        assert choice.origins["price"] is Origin.MEASURED
        assert choice.address == world.host_address.partition("/p2p/")[0]


@simulated(world_of)
async def test_a_host_that_quotes_more_than_its_record_says_is_not_chosen(world: World) -> None:
    async with world.host.get_host_manager().serve(offer(), world.engine) as serving:
        serving._jobs.set_prices({MODEL: ModelPrice(micros_per_mtok=PRICE + 1, currency="USD")})
        with pytest.raises(NoHostFoundError) as caught:
            await world.find()
        assert caught.value.rejected == {"price": 1}
        assert not caught.value.relaxation
        explained = await world.client.get_discovery_manager().explain(HostCriteria(required_models=[MODEL]))
        assert [each.detail for each in explained.funnel.rejections] == [
            "quotes 0.250001 USD/Mtok, its record says 0.25 USD/Mtok"
        ]


@simulated(world_of)
async def test_a_quote_that_another_key_signed_is_none(world: World) -> None:
    async with world.host.get_host_manager().serve(offer(), world.engine) as serving:
        serving._jobs._key = PeerKey(b"\x05" * 32)
        with pytest.raises(NoHostFoundError) as caught:
            await world.find()
        assert caught.value.rejected == {"price": 1}


@simulated(world_of)
async def test_a_host_that_drains_gives_no_quote(world: World) -> None:
    """Its status still says that it is free."""
    async with world.host.get_host_manager().serve(offer(), world.engine) as serving:
        serving._jobs.begin_drain()
        with pytest.raises(NoHostFoundError) as caught:
            await world.find()
        assert caught.value.rejected == {"ready": 1}


@simulated(world_of)
async def test_while_an_offer_changes_the_lower_price_is_quoted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks meanwhile holds the old record or the new one; a dearer quote would look like a lie."""
    meanwhile: list[int] = []
    async with world.host.get_host_manager().serve(offer(500), world.engine) as serving:
        announce = serving._stack.publisher.announce

        async def watched(description: HostDescription, **options: Any) -> HostInfo:
            info = await announce(description, **options)
            quote = await world.client.get_job_manager().request_quote(world.host_id, MODEL)
            meanwhile.append(quote.price_micros_per_mtok)
            if description == refused:
                raise UsageError("not published")
            return info

        monkeypatch.setattr(serving._stack.publisher, "announce", watched)
        refused = None
        for price in (900, 100):
            await serving.announce(offer(price))
            quote = await world.client.get_job_manager().request_quote(world.host_id, MODEL)
            assert quote.price_micros_per_mtok == price
        assert meanwhile == [500, 100]
        # What was not published is not quoted.
        refused = serving._complete(offer(50))
        with pytest.raises(UsageError):
            await serving.announce(offer(50))
        quote = await world.client.get_job_manager().request_quote(world.host_id, MODEL)
        assert (meanwhile[-1], quote.price_micros_per_mtok) == (50, 100)


# --- the time that it takes ---

WAYS_S = (0.020, 0.050, 0.079)
"""One way to each of three hosts."""


@asynccontextmanager
async def three_hosts(net: SimNetwork) -> AsyncIterator[SDK]:
    """A client that is connected with three hosts at work; the farthest is the cheapest."""
    client_machine = net.machine("client")
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(client_machine.open_sdk(ephemeral_key=True, enable_dht=False))
        await join(client, client_machine)
        for number, way_s in enumerate(WAYS_S):
            machine = net.machine(f"host-{number}")
            net.link(client_machine, machine).latency_s = way_s
            host = await stack.enter_async_context(machine.open_sdk(ephemeral_key=True, enable_dht=False))
            address = await join(host, machine)
            engine = FakeEngine([MODEL])
            await stack.enter_async_context(host.get_host_manager().serve(offer(PRICE // (number + 1)), engine))
            await client.get_discovery_manager().connect_to_peer(address)
        yield client


@simulated(three_hosts)
async def test_a_warm_find_ends_with_the_slowest_probe(client: SDK) -> None:
    """Every probe is sent anew, with a quote in each: four round trips to the host that is farthest away."""
    discovery, wanted = client.get_discovery_manager(), HostCriteria(required_models=[MODEL])
    await discovery.find_host(wanted, strategy=CHEAPEST)
    swept, began_s, began_unix_s = discovery.stats().searches["swept"], trio.current_time(), client._system.unix_s()
    choice = await discovery.find_host(wanted, strategy=CHEAPEST)
    assert trio.current_time() - began_s <= 4 * 2 * WAYS_S[-1] + 0.010
    assert discovery.stats().searches["swept"] == swept
    assert choice.latency is not None
    assert choice.quote is not None
    assert choice.latency.value == pytest.approx(2000 * WAYS_S[-1])
    assert min(choice.latency.at_unix_s, choice.quote.at_unix_s) >= began_unix_s


# --- what it costs the host ---


class CountingEngine(FakeEngine):
    """Counts what it is asked for."""

    def __init__(self, engine: FakeEngine) -> None:
        super().__init__(engine.models(), load_s=3600.0)
        self.asked = {"ready": 0, "count": 0, "generate": 0}

    async def ready(self) -> Mapping[str, bool]:
        self.asked["ready"] += 1
        return await super().ready()

    async def count_prompt_tokens(self, work: object) -> int | None:
        self.asked["count"] += 1
        return await super().count_prompt_tokens(work)  # type: ignore[arg-type]

    def generate(self, work: object) -> AbstractAsyncContextManager[object]:  # type: ignore[override]
        self.asked["generate"] += 1
        return super().generate(work)  # type: ignore[arg-type]


@simulated(world_of)
async def test_a_thousand_probes_load_nothing_and_take_no_slot(world: World) -> None:
    engine = CountingEngine(world.engine)
    async with world.host.get_host_manager().serve(offer(), engine) as serving:
        prober, wanted = prober_of(world), offer().models[0]
        before, began_s = dict(engine.asked), trio.current_time()
        for _ in range(1000):
            result = await prober.probe(world.host_id, offer=wanted)
            assert isinstance(result.quote, QuotedPrice)
            assert result.readiness is not None
            assert (result.readiness.free_slots, result.readiness.ready_models) == (2, frozenset())
            assert result.latency is not None
            assert result.latency.value == pytest.approx(ROUND_TRIP_S * 1000)
            assert serving.stats().active_jobs == serving.stats().queued_jobs == 0
        checks = engine.asked["ready"] - before["ready"]
        assert checks <= (trio.current_time() - began_s) / HEALTH_CHECK_S + 1, "its own checks, and no more"
        assert (engine.asked["count"], engine.asked["generate"], engine.counts.started) == (0, 0, 0)
        assert serving.stats().accepted == 0
        # Quotes that nobody uses are bounded, too.
        assert len(serving._jobs._quoter.book) <= 64


async def flood(call: Callable[[], object], calls: int, at_once: int) -> list[RpcError | JobError]:
    """Make so many calls, some at once; return how they were refused."""
    refused: list[RpcError | JobError] = []
    left = iter(range(calls))

    async def caller() -> None:
        for _ in left:
            try:
                await call()  # type: ignore[misc]
            except (RpcError, JobError) as error:
                refused.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(caller)
    return refused


@simulated(world_of)
async def test_a_flood_of_snapshots_is_refused_and_jobs_go_on(world: World) -> None:
    async with world.host.get_host_manager().serve(offer(), world.engine):
        status, limits = world.client.get_status_client(), STATUS_LIMITS.per_peer
        began_s = trio.current_time()
        refused = await flood(lambda: status.get_snapshot(world.host_id), limits.burst + 500, limits.max_concurrent)
        passed_s = trio.current_time() - began_s
        assert len(refused) >= 500 - passed_s * limits.calls_per_s > 0
        for error in refused:
            assert isinstance(error, RpcError)
            assert (error.status, error.reason) == (StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
            assert error.retry_after_ms
        # Counted apart: the same peer's quotes are as good as before.
        assert (await world.client.get_job_manager().request_quote(world.host_id, MODEL)).price_micros_per_mtok == PRICE
        await trio.sleep(refused[-1].retry_after_ms / 1000)
        assert (await status.get_snapshot(world.host_id)).free_slots == 2


@simulated(world_of)
async def test_a_flood_of_quotes_is_refused(world: World) -> None:
    async with world.host.get_host_manager().serve(offer(), world.engine) as serving:
        jobs, limits = world.client.get_job_manager(), BUILT_IN_LIMITS.per_peer
        began_s = trio.current_time()
        refused = await flood(
            lambda: jobs.request_quote(world.host_id, MODEL), limits.burst + 500, limits.max_concurrent
        )
        passed_s = trio.current_time() - began_s
        assert len(refused) >= 500 - passed_s * limits.calls_per_s > 0
        assert {error.reason for error in refused} == {"RATE_LIMITED"}
        assert all(error.retry_after_ms for error in refused)
        assert len(serving._jobs._quoter.book) <= 64
        # A probe whose quote is turned away says so.
        result = await prober_of(world).probe(world.host_id, offer=offer().models[0])
        assert result.unquoted is None or result.unquoted.reason == QuoteRefusal.RATE_LIMITED


@simulated(world_of)
async def test_whoever_searches_too_often_is_told_so_and_not_that_the_host_is_gone(world: World) -> None:
    limits = STATUS_LIMITS.per_peer
    discovery, wanted = world.client.get_discovery_manager(), HostCriteria(required_models=[MODEL])
    async with world.host.get_host_manager().serve(offer(), world.engine):
        assert (await world.find()).peer_id == world.host_id
        status, this_host = world.client.get_status_client(), HostCriteria(include=[world.host_id])
        await flood(lambda: status.ping(world.host_id), limits.burst + 500, limits.max_concurrent)
        async with trio.open_nursery() as nursery:
            # Seven times as many calls as are allowed, of the same client's, while it searches.
            nursery.start_soon(flood, lambda: status.ping(world.host_id), 10**6, limits.max_concurrent - 4)
            with pytest.raises(HostsThrottledError) as caught:
                await discovery.find_host(wanted)
            with pytest.raises(HostUnfitError) as unfit:
                await discovery.find_host(this_host, strategy=SPECIFIC)
            explained = await discovery.explain(wanted)
            nursery.cancel_scope.cancel()
        assert (caught.value.seen, caught.value.rejected) == (1, {"throttled": 1})
        assert caught.value.retry_after_ms
        assert unfit.value.criterion == "throttled"
        assert (explained.funnel.seen, explained.funnel.rejected) == (1, {"throttled": 1})
        assert explained.funnel.rejections[0].detail.startswith("allows this client no more calls now: RATE_LIMITED")
        # It is neither left alone nor thought to have been away.
        await trio.sleep(1)
        choice = await discovery.find_host(wanted)
        assert choice.uptime is not None
        assert choice.uptime.value >= 1


# --- places ---


@asynccontextmanager
async def placed_world(net: SimNetwork) -> AsyncIterator[World]:
    """As :func:`world_of`; the client's settings say that it is in Germany."""
    host_machine, client_machine = net.machine("host"), net.machine("client")
    async with (
        host_machine.open_sdk(ephemeral_key=True, enable_dht=False) as host,
        client_machine.open_sdk(ephemeral_key=True, enable_dht=False, location="DE/berlin") as client,
    ):
        address = await join(host, host_machine)
        await join(client, client_machine)
        host_id = await client.get_discovery_manager().connect_to_peer(address)
        yield World(net, host, client, host_id, address, FakeEngine([MODEL]))


@pytest.mark.parametrize(("country", "is_refuted"), [("AU", True), ("JP", True), ("FR", False), ("US", False)])
@simulated(placed_world)
async def test_a_place_that_light_cannot_reach_in_time_is_refuted(world: World, country: str, is_refuted: bool) -> None:
    """40 ms there and back: from Maine, perhaps, but neither from Japan nor from Australia."""
    discovery = world.client.get_discovery_manager()
    async with world.host.get_host_manager().serve(replace(offer(), location=country), world.engine):
        choice = await discovery.find_host()
        assert bool(choice.place_refuted) is is_refuted
        wanted = HostCriteria(location=country)
        if is_refuted:
            with pytest.raises(NoHostFoundError) as caught:
                await discovery.find_host(wanted)
            assert caught.value.rejected == {"location": 1}
            assert caught.value.relaxation == "no location"
        else:
            assert (await discovery.find_host(wanted)).peer_id == world.host_id


@simulated(placed_world)
async def test_a_refuted_place_is_held_against_its_host_once_however_often_it_is_probed(world: World) -> None:
    discovery = world.client.get_discovery_manager()
    book = world.client._files.reputation
    host = world.host.get_host_manager()
    async with host.serve(replace(offer(), location="AU"), world.engine) as serving:
        for _ in range(4):
            assert (await discovery.find_host()).peer_id == world.host_id, "it may serve well for all that"
            await trio.sleep(100)  # its record was renewed, and what was measured is old
        assert [(each.kind, each.detail[:9]) for each in book.explain(world.host_id, OPERATOR).reasons] == [
            (EvidenceKind.FALSE_MEASUREMENT, "claims AU")
        ]
        await serving.announce(replace(offer(), location="JP"))
        await trio.sleep(100)
        await discovery.find_host()
        assert [each.detail[:9] for each in book.explain(world.host_id, OPERATOR).reasons] == ["claims JP", "claims AU"]


@simulated(placed_world)
async def test_a_place_that_may_be_true_is_not_held_against_its_host(world: World) -> None:
    async with world.host.get_host_manager().serve(replace(offer(), location="US"), world.engine):
        await world.find()
        assert not world.client._files.reputation.knows(world.host_id)


@simulated(world_of)
async def test_who_does_not_say_where_it_is_refutes_nothing(world: World) -> None:
    async with world.host.get_host_manager().serve(replace(offer(), location="AU"), world.engine):
        assert (await world.find()).place_refuted == ""
        assert not world.client._files.reputation.knows(world.host_id)
