"""What an observer asks of its prober, and what it makes of silence. The prober keeps account of every question."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import trio
from discovery_world import (
    EPOCH,
    FakeBook,
    make_description,
    make_info,
    make_key,
    make_operator,
    make_record,
    make_records,
)
from trio.testing import MockClock, wait_all_tasks_blocked

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import HostState
from hostmesh.discovery.measurement import Measurement, Origin, Path, Throttling
from hostmesh.discovery.observer import Observer, with_perfect_probe
from hostmesh.discovery.terms import Place
from hostmesh.discovery.view import HostView, ProbeResult, Readiness, Standing
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System

HOST = make_key("host").peer_id
NEVADA = Place(country_code="US", region="Nevada")
ANSWER = ProbeResult(latency=None, readiness=None)
BOTH = HostCriteria()


class Asked(NamedTuple):
    what: str
    peer_id: PeerId
    model_id: str | None
    place: Place | None
    since_s: float | None


def only_loaded(*model_ids: str, **fields: Any) -> ProbeResult:
    ready = Readiness(state=HostState.AVAILABLE, ready_models=frozenset(model_ids), free_slots=1)
    return ProbeResult(latency=None, readiness=ready, **fields)


class Prober:
    """Answers at once with ``result``, or never; remembers by model what it was told to."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.result: ProbeResult | None = ANSWER
        self.answers_before_silence = 0
        self.connected = True
        self.remembered: dict[str | None, ProbeResult] = {}

    def is_connected(self, peer_id: PeerId) -> bool:
        assert peer_id == HOST
        return self.connected

    def recall(self, peer_id: PeerId, *, offer: Any, place: Any, since_s: float | None = None) -> ProbeResult | None:
        name = None if offer is None else offer.model_id
        self.asked.append(Asked("recall", peer_id, name, place, since_s))
        return self.remembered.get(name)

    async def probe(
        self,
        peer_id: PeerId,
        *,
        offer: Any,
        place: Any,
        since_s: float | None,
        answered: Callable[[], None] = lambda: None,
    ) -> ProbeResult:
        name = None if offer is None else offer.model_id
        self.asked.append(Asked("probe", peer_id, name, place, since_s))
        if name in self.remembered:
            return self.remembered[name]
        for _ in range(self.answers_before_silence):
            answered()
        await trio.lowlevel.checkpoint()
        if self.result is None:
            await trio.sleep_forever()
        assert self.result is not None
        return self.result

    def probes(self) -> list[Asked]:
        return [each for each in self.asked if each.what == "probe"]


class Book:
    """Of the one host that is blacklisted here."""

    def __init__(self) -> None:
        self.looks = 0

    def snapshot(self) -> Book:
        self.looks += 1
        return self

    def of(self, peer_id: PeerId, operator_address: str) -> Standing:
        is_host = (peer_id, operator_address) == (HOST, "0x" + make_operator("host").hex())
        return Standing(barred="blacklisted" if is_host else "", priority=3)


class Bench:
    def __init__(self, *, standings: Any = None, knows: bool = True, **record: Any) -> None:
        self.skew_s = 0.0
        system = System(
            unix_s=lambda: EPOCH + trio.current_time() + self.skew_s, monotonic_s=lambda: 500.0 + trio.current_time()
        )
        self.records = make_records(system)
        self.prober = Prober()
        self.probed: list[tuple[PeerId, ProbeResult]] = []
        self.observer = Observer(
            self.records,
            self.prober,  # type: ignore[arg-type]
            FakeBook(),
            system,
            standings=standings,
            on_probed=lambda peer_id, result: self.probed.append((peer_id, result)),
        )
        self.record = record
        if knows:
            self.hear(1)

    def hear(self, sequence: int, introducer: PeerId | None = None) -> None:
        issued = EPOCH + int(trio.current_time())
        description = make_description("a", "b", location="US/Nevada")
        signed = make_record("host", description, sequence=sequence, issued=issued, **self.record)
        self.records.accept(signed, introducer=introducer)

    async def probe(self, since_s: float | None = 7.0) -> ProbeResult:
        return await self.observer.probe(HOST, BOTH, self.observer.opinions(), since_s=since_s)

    async def miss(self, for_s: float = 1.0) -> None:
        """Probe a host that says nothing, until a search has no time left."""
        self.prober.result = None
        with trio.move_on_after(for_s):
            await self.probe()

    def left_alone(self) -> ProbeResult | None:
        known = self.records.known(HOST)
        assert known is not None
        return self.observer.left_alone(known)

    def view(self) -> HostView:
        known = self.records.known(HOST)
        assert known is not None
        return self.observer.view(known, None, self.observer.opinions())


# --- what is asked for ---


async def test_a_host_without_a_record_is_asked_for_no_quote(autojump_clock: MockClock) -> None:
    bench = Bench(knows=False)
    assert await bench.probe() is ANSWER
    assert bench.prober.asked == [Asked("recall", HOST, None, None, 7.0), Asked("probe", HOST, None, None, 7.0)]
    assert bench.probed == [(HOST, ANSWER)]


async def test_the_quote_is_of_the_model_that_a_job_would_use_and_the_place_is_the_records(
    autojump_clock: MockClock,
) -> None:
    bench = Bench()
    assert await bench.probe() is ANSWER
    assert bench.prober.asked == [Asked("recall", HOST, "a", NEVADA, 7.0), Asked("probe", HOST, "a", NEVADA, 7.0)]


async def test_what_is_remembered_is_asked_for_in_the_same_words(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.prober.remembered["a"] = ANSWER
    assert await bench.probe() is ANSWER
    assert bench.prober.asked == [Asked("recall", HOST, "a", NEVADA, 7.0), Asked("probe", HOST, "a", NEVADA, 7.0)]
    assert bench.probed == []


async def test_where_another_model_is_loaded_its_quote_is_asked_for(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.prober.result = only_loaded("b")
    await bench.probe()
    assert bench.prober.probes() == [Asked("probe", HOST, model, NEVADA, 7.0) for model in ("a", "b")]


@pytest.mark.parametrize(
    "result",
    [
        only_loaded("b", unreachable="gone"),
        only_loaded("b", unasked="no room"),
        only_loaded("b", throttling=Throttling(reason="BUSY")),
    ],
)
async def test_who_does_not_answer_is_not_asked_again(result: ProbeResult, autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.prober.result = result
    assert await bench.probe() is result
    assert len(bench.prober.probes()) == 1
    assert bench.probed == ([] if result.unasked else [(HOST, result)])
    is_seen = result.throttling is not None
    assert (bench.view().uptime is not None) is is_seen


async def test_memory_is_asked_for_the_model_that_a_job_would_use(autojump_clock: MockClock) -> None:
    bench = Bench()
    known = bench.records.known(HOST)
    assert known is not None
    opinions = bench.observer.opinions()
    assert bench.observer.recall(known, BOTH, opinions) is None
    bench.prober.remembered = {"a": ANSWER}
    assert bench.observer.recall(known, BOTH, opinions) is ANSWER
    assert bench.prober.asked == [Asked("recall", HOST, "a", NEVADA, None)] * 2
    bench.prober.asked.clear()
    other = only_loaded("b")
    bench.prober.remembered = {"a": other}
    assert bench.observer.recall(known, BOTH, opinions) is None, "no quote of the one that is loaded"
    assert bench.prober.asked == [Asked("recall", HOST, model, NEVADA, None) for model in ("a", "b")]
    bench.prober.remembered["b"] = ANSWER
    assert bench.observer.recall(known, BOTH, opinions) is ANSWER


async def test_a_probe_under_way_is_shared(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.prober.result = None
    found: list[ProbeResult] = []

    async def probe() -> None:
        found.append(await bench.probe())

    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()
        nursery.start_soon(leave_with, first, bench)
        await wait_all_tasks_blocked()
        for _ in range(2):
            nursery.start_soon(probe)
        await wait_all_tasks_blocked()
        assert len(bench.prober.probes()) == 1
        bench.prober.result = ANSWER
        first.cancel()
    assert found == [ANSWER, ANSWER]
    assert len(bench.prober.probes()) == 2, "who had sent it left: one of the others sent it anew, for both"
    assert len(bench.probed) == 1


async def leave_with(scope: trio.CancelScope, bench: Bench) -> None:
    with scope:
        await bench.probe()


# --- silence ---


async def test_two_probes_without_a_word_over_a_standing_connection_leave_a_host_alone(
    autojump_clock: MockClock,
) -> None:
    bench = Bench()
    await bench.probe()
    assert bench.view().uptime is not None
    await bench.miss()
    assert bench.view().uptime is None
    assert bench.left_alone() is None, "one may be lost"
    await bench.miss(for_s=2.5)
    await trio.sleep(4)
    why = "no answer 2 times in a row, the last time 4 s ago: no answer in 2.5 s over the connection that stood"
    assert bench.left_alone() == ProbeResult(latency=None, readiness=None, unreachable=why)
    bench.skew_s = -60
    alone = bench.left_alone()
    assert alone is not None
    assert "the last time 0 s ago" in alone.unreachable
    bench.skew_s = 0
    await trio.sleep(11)
    assert bench.left_alone() is None, "15 s are over"


@pytest.mark.parametrize(
    ("connected", "answers", "for_s"),
    [(False, 0, 5.0), (True, 1, 5.0), (True, 2, 5.0), (True, 0, 0.99)],
)
async def test_whoever_was_not_given_the_time_missed_nothing(
    connected: bool, answers: int, for_s: float, autojump_clock: MockClock
) -> None:
    bench = Bench()
    await bench.probe()
    bench.prober.connected, bench.prober.answers_before_silence = connected, answers
    for _ in range(3):
        await bench.miss(for_s)
    assert bench.view().uptime is not None
    assert bench.left_alone() is None


async def test_an_unreachable_host_is_left_alone_with_why_until_it_answers(autojump_clock: MockClock) -> None:
    bench = Bench()
    gone = ProbeResult(latency=None, readiness=None, unreachable="refused")
    for result, is_alone in ((gone, False), (gone, True), (ANSWER, False), (gone, False), (gone, True)):
        bench.prober.result = result
        await bench.probe()
        alone = bench.left_alone()
        assert (alone is not None) is is_alone
    assert alone is not None
    assert alone.unreachable == "no answer 2 times in a row, the last time 0 s ago: refused"


@pytest.mark.parametrize("by_itself", [True, False])
async def test_a_record_from_the_host_itself_lets_it_be_asked_again(by_itself: bool, autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.prober.result = ProbeResult(latency=None, readiness=None, unreachable="refused")
    await bench.probe()
    await bench.probe()
    await trio.sleep(2)
    assert bench.left_alone() is not None
    bench.hear(2, introducer=None if by_itself else make_key("gossip").peer_id)
    assert (bench.left_alone() is None) is by_itself


# --- what is told of a host ---


async def test_what_a_host_claims_is_told_as_a_claim(autojump_clock: MockClock) -> None:
    bench = Bench(started=EPOCH - 90)
    await trio.sleep(10)
    claimed = bench.view().claimed_uptime
    assert claimed == Measurement(value=100.0, unit="s", at_unix_s=EPOCH, samples=1, origin=Origin.CLAIMED)
    ahead = Bench(started=EPOCH + 20).view().claimed_uptime
    assert ahead is not None
    assert ahead.value == 0


async def test_a_host_that_states_no_start_is_told_as_long_as_it_was_seen(autojump_clock: MockClock) -> None:
    bench = Bench(started=0)
    await bench.probe()
    await trio.sleep(30)
    await bench.probe()
    view = bench.view()
    assert view.claimed_uptime is None
    assert view.uptime is not None
    assert view.uptime.value == 30


async def test_standings_are_looked_up_once_for_all(autojump_clock: MockClock) -> None:
    book = Book()
    bench = Bench(standings=book)
    known = bench.records.known(HOST)
    assert known is not None
    opinions = bench.observer.opinions()
    assert book.looks == 1
    assert bench.observer.view(known, None, opinions).standing == Standing(barred="blacklisted", priority=3)
    assert book.looks == 1
    assert Bench().view().standing == Standing()


def test_the_perfect_probe_is_a_whole_one() -> None:
    view = HostView(
        info=make_info("host", make_description("m")),
        uptime=None,
        reputation=FakeBook().of(HOST, ""),
        probe=None,
        sources=(),
    )
    perfect = with_perfect_probe(view)
    assert perfect.latency == Measurement(
        value=0.0, unit="ms", at_unix_s=0.0, samples=1, origin=Origin.MEASURED, path=Path.DIRECT
    )
    assert perfect.readiness == Readiness(
        state=HostState.AVAILABLE, ready_models=frozenset(["m"]), free_slots=2**32 - 1
    )
