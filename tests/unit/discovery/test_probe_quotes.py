"""Quotes and places in a probe: what is asked when, what comes of it, and what memory answers."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from discovery_world import FakeBook, FakeNetwork, FakeNode, FakePeer, make_description, make_records, trio_system
from trio.testing import MockClock

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import HostDescription, ModelOffer
from hostmesh.discovery.measurement import Origin, QuotedPrice, QuoteRefusal
from hostmesh.discovery.observer import Observer
from hostmesh.discovery.probe import ProbeConfig, Prober
from hostmesh.discovery.probe_memory import MAX_QUOTES_PER_HOST
from hostmesh.discovery.terms import Place, Price
from hostmesh.errors import BadSignatureError, ConnectionLostError, DeadlineExceededError
from hostmesh.net.peer_id import PeerId
from hostmesh.v1.discovery_hostmesh import DiscoveryServiceMethods

RTT_S = 0.01
Answer = QuotedPrice | QuoteRefusal | Exception


def offer(model_id: str = "m", price: int | None = 100) -> ModelOffer:
    return ModelOffer(model_id=model_id, price=None if price is None else Price(micros_per_mtok=price, currency="USD"))


def quoted(model_id: str = "m", price: int = 100, *, jobs_ahead: int = 0) -> QuotedPrice:
    asked = Price(micros_per_mtok=price, currency="USD")
    return QuotedPrice(model_id=model_id, price=asked, jobs_ahead=jobs_ahead, at_unix_s=1.0)


class FakeQuotes:
    """Answers after a round trip, by model; who is not told of says that it has no such model."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.in_flight = 0
        self.takes_s = RTT_S

    async def request_quote(self, _peer_id: PeerId, model_id: str, *, timeout_s: float) -> QuotedPrice | QuoteRefusal:
        self.asked.append(model_id)
        self.in_flight += 1
        try:
            with trio.move_on_after(timeout_s):
                await trio.sleep(self.takes_s)
                answer = self.answers.get(model_id, QuoteRefusal(reason="UNSUPPORTED_MODEL"))
                if isinstance(answer, Exception):
                    raise answer
                return answer
            raise DeadlineExceededError("no quote")
        finally:
            self.in_flight -= 1


class Bench:
    """A prober of one host."""

    def __init__(
        self,
        quotes: FakeQuotes | None,
        *,
        own: str | None = None,
        described: HostDescription | None = None,
        **config: Any,
    ) -> None:
        network = FakeNetwork()
        self.peer: FakePeer = network.add_host("host", described or make_description("m"), rtt_s=RTT_S)
        self.node = FakeNode(network)
        self.quotes = quotes
        place = None if own is None else Place(country_code=own)
        self.prober = Prober(
            self.node,
            self.node,
            quotes=quotes,
            own_place=place,
            system=trio_system(),
            config=ProbeConfig(**config),
        )

    async def probe(self, wanted: ModelOffer | None = None, claims: str | None = None) -> Any:
        place = None if claims is None else Place(country_code=claims)
        return await self.prober.probe(self.peer.peer_id, offer=wanted, place=place)


async def test_a_quote_costs_no_round_trip_of_its_own(autojump_clock: MockClock) -> None:
    bench = Bench(FakeQuotes(m=quoted()), samples=3)
    began = trio.current_time()
    result = await bench.probe(offer())
    # The ping that opens, snapshot and quote, three pings.
    assert trio.current_time() - began == pytest.approx(5 * RTT_S)
    assert result.quote == quoted()
    assert result.quote.origin is Origin.MEASURED
    assert result.unquoted is None
    assert result.readiness is not None
    assert result.latency is not None


async def test_nothing_is_under_way_beside_the_pings_that_count(autojump_clock: MockClock) -> None:
    quotes = FakeQuotes(m=quoted())
    quotes.takes_s = 0.3
    bench = Bench(quotes, samples=3)
    ping, beside = bench.node.ping, []

    async def watched(peer_id: PeerId, *, timeout_s: float) -> float:
        beside.append(quotes.in_flight)
        return await ping(peer_id, timeout_s=timeout_s)

    bench.node.ping = watched  # type: ignore[method-assign]
    result = await bench.probe(offer())
    assert beside == [0, 0, 0, 0]
    assert result.latency.value == pytest.approx(RTT_S * 1000)


@pytest.mark.parametrize("wanted", [None, offer(price=None)])
async def test_a_price_that_nobody_claims_is_not_asked_for(
    wanted: ModelOffer | None, autojump_clock: MockClock
) -> None:
    bench = Bench(FakeQuotes(m=quoted()))
    result = await bench.probe(wanted)
    assert (result.quote, result.unquoted) == (None, None)
    assert bench.quotes is not None
    assert bench.quotes.asked == []


async def test_a_host_that_serves_no_jobs_is_measured_all_the_same(autojump_clock: MockClock) -> None:
    bench = Bench(FakeQuotes(m=QuoteRefusal(reason=QuoteRefusal.NOT_SERVED)))
    result = await bench.probe(offer())
    assert (result.quote, result.unreachable) == (None, "")
    assert result.unquoted.reason == QuoteRefusal.NOT_SERVED
    assert result.latency is not None


async def test_a_quote_that_proves_nothing_is_a_broken_one(autojump_clock: MockClock) -> None:
    bench = Bench(FakeQuotes(m=BadSignatureError("another key")))
    result = await bench.probe(offer())
    assert (result.quote, result.unquoted.reason, result.unreachable) == (None, QuoteRefusal.BROKEN, "")


async def test_a_host_that_dies_at_the_quote_is_unreachable(autojump_clock: MockClock) -> None:
    bench = Bench(FakeQuotes(m=ConnectionLostError("gone")))
    result = await bench.probe(offer())
    assert result.unreachable == "CONNECTION_LOST: gone"
    assert bench.prober.recall(bench.peer.peer_id, offer=offer()) is None


async def test_a_host_that_never_quotes_costs_the_timeout_and_is_unreachable(autojump_clock: MockClock) -> None:
    quotes = FakeQuotes()
    quotes.takes_s = float("inf")
    bench = Bench(quotes, timeout_s=2.0)
    began = trio.current_time()
    result = await bench.probe(offer())
    assert trio.current_time() - began == pytest.approx(2.0)
    assert result.unreachable.startswith("DEADLINE_EXCEEDED")


async def test_memory_answers_by_model_and_asks_for_what_it_lacks_alone(autojump_clock: MockClock) -> None:
    bench = Bench(FakeQuotes(m=quoted("m"), n=quoted("n", 7)))
    assert bench.quotes is not None
    first = await bench.probe(offer("m"))
    pinged = bench.peer.pinged
    other = await bench.probe(offer("n"))
    assert (other.quote, other.latency) == (quoted("n", 7), first.latency)
    assert (bench.quotes.asked, bench.peer.pinged) == (["m", "n"], pinged)
    assert await bench.probe(offer("m")) is first
    assert await bench.probe(offer("n")) is other
    bare = await bench.probe()
    assert (bare.quote, bare.latency) == (None, first.latency)
    assert (bench.quotes.asked, bench.peer.pinged) == (["m", "n"], pinged)
    assert bench.prober.cache_hit_rate == pytest.approx(3 / 5)

    # What was asked for later is no younger than the measurement that it stands beside.
    await trio.sleep(bench.prober.config.max_age_s + 1)
    assert bench.prober.recall(bench.peer.peer_id, offer=offer("n")) is None
    await bench.probe(offer("n"))
    assert bench.peer.pinged > pinged
    bench.prober.forget(bench.peer.peer_id)
    assert bench.prober.recall(bench.peer.peer_id) is None


async def test_a_host_that_names_another_price_is_asked_for_another_quote(autojump_clock: MockClock) -> None:
    bench = Bench(FakeQuotes(m=quoted("m", 100)))
    assert bench.quotes is not None
    await bench.probe(offer("m", 100))
    pinged = bench.peer.pinged
    bench.quotes.answers["m"] = quoted("m", 70)
    assert (await bench.probe(offer("m", 70))).quote == quoted("m", 70)
    assert (bench.quotes.asked, bench.peer.pinged) == (["m", "m"], pinged)


async def test_memory_of_quotes_is_bounded(autojump_clock: MockClock) -> None:
    names = [f"m{index}" for index in range(MAX_QUOTES_PER_HOST + 5)]
    bench = Bench(FakeQuotes(**{name: quoted(name) for name in names}))
    for name in names:
        await bench.probe(offer(name))
    known = [bench.prober.recall(bench.peer.peer_id, offer=offer(name)) is not None for name in names]
    assert known == [False] * 5 + [True] * MAX_QUOTES_PER_HOST
    assert bench.prober.recall(bench.peer.peer_id) is not None


async def test_a_host_whose_quote_speaks_of_a_queue_has_no_free_slot(autojump_clock: MockClock) -> None:
    bench = Bench(FakeQuotes(m=quoted(jobs_ahead=3), n=quoted("n")))
    assert (await bench.probe(offer())).readiness.free_slots == 0
    bench = Bench(FakeQuotes(m=quoted()))
    assert (await bench.probe(offer())).readiness.free_slots == 2


# --- places ---


@pytest.mark.parametrize(
    ("own", "claims", "is_refuted"),
    [("DE", "AU", True), ("DE", "FR", False), (None, "AU", False), ("DE", None, False), ("DE", "ZZ", False)],
)
async def test_a_place_is_refuted_by_a_round_trip_that_is_too_short(
    own: str | None, claims: str | None, is_refuted: bool, autojump_clock: MockClock
) -> None:
    bench = Bench(None, own=own)
    result = await bench.probe(claims=claims)
    assert bool(result.refuted) is is_refuted
    if is_refuted:
        assert "claims AU" in result.refuted
    assert await bench.probe(claims=claims) is result


async def test_a_place_that_is_far_enough_away_in_time_is_not_refuted(autojump_clock: MockClock) -> None:
    bench = Bench(None, own="DE")
    bench.peer.rtt_s = 0.3
    assert (await bench.probe(claims="AU")).refuted == ""


async def test_another_place_is_measured_anew(autojump_clock: MockClock) -> None:
    bench = Bench(None, own="DE")
    assert (await bench.probe(claims="FR")).refuted == ""
    assert (await bench.probe(claims="AU")).refuted


# --- which model is asked for ---


async def test_the_quote_is_of_the_model_that_a_job_would_use(autojump_clock: MockClock) -> None:
    """By its record the cheap model is the choice; it is not loaded, as the host says, so a job would use the other."""
    described = HostDescription(models=[offer("cheap", 1), offer("dear", 50)], location="FR")
    bench = Bench(FakeQuotes(cheap=quoted("cheap", 1), dear=quoted("dear", 900)), described=described)
    bench.peer.ready_models = ("dear",)
    records = make_records()
    got = await bench.node.unary(bench.peer.peer_id, DiscoveryServiceMethods.GET_RECORD, None, timeout_s=1)
    records.accept(got.record)
    observer = Observer(records, bench.prober, FakeBook(), trio_system())
    opinions = observer.opinions()
    result = await observer.probe(bench.peer.peer_id, HostCriteria(), opinions)
    assert result.quote == quoted("dear", 900)
    assert bench.quotes is not None
    assert bench.quotes.asked == ["cheap", "dear"]
    pinged = bench.peer.pinged
    named = await observer.probe(bench.peer.peer_id, HostCriteria(required_models=["cheap"]), opinions)
    assert named.quote == quoted("cheap", 1)
    assert (bench.quotes.asked, bench.peer.pinged) == (["cheap", "dear"], pinged)
