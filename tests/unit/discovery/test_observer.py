"""What a client itself sees of hosts: since when they have answered, without a break."""

from __future__ import annotations

from typing import Any

import pytest
from discovery_world import EPOCH, FakeBook, make_description, make_info, make_record, make_records

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.measurement import Origin
from hostmesh.discovery.observer import Observer, with_perfect_probe
from hostmesh.discovery.sightings import Sightings
from hostmesh.discovery.view import HostView, ProbeResult
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System


class Clock:
    """Both clocks, moved by hand."""

    now_s = 1000.0

    def system(self) -> System:
        return System(unix_s=lambda: EPOCH + self.now_s - 1000.0, monotonic_s=lambda: self.now_s)


class FakeProber:
    """Answers, or not; remembers when told to."""

    def __init__(self) -> None:
        self.remembered: ProbeResult | None = None
        self.unreachable = ""

    def is_connected(self, _peer_id: PeerId) -> bool:
        return True

    def recall(self, _peer_id: PeerId, **_: Any) -> ProbeResult | None:
        return self.remembered

    async def probe(self, _peer_id: PeerId, **_: Any) -> ProbeResult:
        return self.remembered or ProbeResult(latency=None, readiness=None, unreachable=self.unreachable)


class Bench:
    def __init__(self, **record: Any) -> None:
        self.clock = Clock()
        system = self.clock.system()
        self.records = make_records(system)
        self.prober = FakeProber()
        self.observer = Observer(self.records, self.prober, FakeBook(), system)  # type: ignore[arg-type]
        self.peer_id = self.records.accept(make_record("host", make_description("m"), **record))[0].peer_id

    def view(self, answers_at_s: float | None = None) -> HostView:
        known = self.records.known(self.peer_id)
        assert known is not None
        return self.observer.view(known, None, self.observer.opinions(), answers_at_s=answers_at_s)

    async def probe(self, after_s: float = 0.0) -> None:
        self.clock.now_s += after_s
        await self.observer.probe(self.peer_id, HostCriteria(), self.observer.opinions())


async def test_uptime_is_observed_from_the_first_answer_to_the_last() -> None:
    bench = Bench()
    assert bench.view().uptime is None
    await bench.probe()
    await bench.probe(after_s=40)
    bench.clock.now_s += 20
    uptime = bench.view().uptime
    assert uptime is not None
    assert (uptime.value, uptime.unit, uptime.samples, uptime.origin) == (40, "s", 2, Origin.MEASURED)
    assert uptime.at_unix_s == EPOCH + 40
    as_if_it_answered = bench.view(answers_at_s=bench.clock.now_s).uptime
    assert as_if_it_answered is not None
    assert as_if_it_answered.value == 60
    before_it_was_seen = bench.view(answers_at_s=0.0).uptime
    assert before_it_was_seen is not None
    assert before_it_was_seen.value == 0


async def test_a_question_without_an_answer_ends_the_row() -> None:
    bench = Bench()
    await bench.probe()
    bench.prober.unreachable = "gone"
    await bench.probe(after_s=10)
    assert bench.view().uptime is None
    bench.prober.unreachable = ""
    await bench.probe(after_s=10)
    uptime = bench.view().uptime
    assert uptime is not None
    assert (uptime.value, uptime.samples) == (0, 1)


async def test_what_is_remembered_is_no_answer() -> None:
    bench = Bench()
    await bench.probe()
    bench.prober.remembered = ProbeResult(latency=None, readiness=None)
    await bench.probe(after_s=25)
    uptime = bench.view().uptime
    assert uptime is not None
    assert (uptime.value, uptime.samples) == (0, 1)


async def test_a_restart_that_the_host_states_shortens_what_was_observed() -> None:
    bench = Bench(started=EPOCH - 7200)
    await bench.probe()
    await bench.probe(after_s=60)
    bench.records.accept(make_record("host", make_description("m"), sequence=2, issued=EPOCH + 60, started=EPOCH + 50))
    view = bench.view()
    assert view.uptime is not None
    assert view.claimed_uptime is not None
    assert view.uptime.value == view.claimed_uptime.value == 10
    assert view.claimed_uptime.origin is Origin.CLAIMED


async def test_a_claim_lengthens_nothing() -> None:
    bench = Bench(started=1)
    await bench.probe()
    view = bench.view()
    assert view.uptime is not None
    assert view.claimed_uptime is not None
    assert (view.uptime.value, view.claimed_uptime.value) == (0, EPOCH - 1)


def test_sightings_are_bounded_and_who_answered_last_stays() -> None:
    sightings = Sightings(max_hosts=2)
    for now_s, name in enumerate(["a", "b", "a", "c"]):
        sightings.answered(PeerId(name), now_s=now_s, unix_s=now_s)
    assert len(sightings) == 2
    assert sightings.of(PeerId("b")) is None
    row = sightings.of(PeerId("a"))
    assert row is not None
    assert (row.first_s, row.last_s, row.last_unix_s, row.answers) == (0, 2, 2, 2)
    sightings.silent(PeerId("a"))
    sightings.silent(PeerId("never seen"))
    assert sightings.of(PeerId("a")) is None
    assert len(sightings) == 1


def test_one_host_at_least_is_remembered() -> None:
    with pytest.raises(ValueError, match=r"^at least one host is remembered$"):
        Sightings(max_hosts=0)
    smallest = Sightings(max_hosts=1)
    for name in ("a", "b"):
        smallest.answered(PeerId(name), now_s=0, unix_s=0)
    assert (len(smallest), smallest.of(PeerId("a"))) == (1, None)
    assert smallest.of(PeerId("b")) is not None


def test_no_probe_is_better_than_the_perfect_one() -> None:
    view = HostView(
        info=make_info("host", make_description("m", "n")),
        uptime=None,
        reputation=FakeBook().of(PeerId("x"), ""),
        probe=None,
        sources=(),
    )
    perfect = with_perfect_probe(view)
    assert perfect.latency is not None
    assert (perfect.latency.value, perfect.free_slots) == (0, 2**32 - 1)
    assert perfect.readiness is not None
    assert perfect.readiness.ready_models == {"m", "n"}
    assert view.probe is None
