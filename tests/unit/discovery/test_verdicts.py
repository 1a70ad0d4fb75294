"""Hosts that were probed are weighed once, and again when there is something new of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from discovery_world import EPOCH, FakeBook, make_description, make_info, make_record, make_records
from find_world import World
from trio.testing import MockClock

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.description import HostState
from hostmesh.discovery.finder import DiscoveryConfig
from hostmesh.discovery.observer import Observer
from hostmesh.discovery.probe import ProbeConfig
from hostmesh.discovery.ranking import AUTO, Score
from hostmesh.discovery.verdicts import Verdicts
from hostmesh.discovery.view import HostView, ProbeResult
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System

HOSTS = 30


class Counting:
    """AUTO, and how often it was asked about hosts that had answered."""

    scores = 0

    def score(self, view: HostView, criteria: HostCriteria) -> Score:
        self.scores += view.probe is not None and not view.probe.unreachable
        return AUTO.score(view, criteria)

    def best_possible(self, view: HostView, criteria: HostCriteria) -> int:
        return AUTO.best_possible(view, criteria)


async def test_the_work_of_a_search_grows_with_the_hosts_not_with_their_square(autojump_clock: MockClock) -> None:
    world = World(DiscoveryConfig(probe=ProbeConfig(max_probes=HOSTS)))
    for number in range(HOSTS):
        world.host(f"host {number}", "m")
    strategy = Counting()
    async with world.client() as discovery:
        found = await discovery.find_all_hosts(HostCriteria(required_models=["m"]), limit=HOSTS, strategy=strategy)
    assert len(found) == HOSTS
    # Once while the others answer, once at the end, and once for the result.
    assert HOSTS <= strategy.scores <= 3 * HOSTS


def test_a_newer_record_and_another_probe_are_weighed_anew() -> None:
    records = make_records(System(unix_s=lambda: EPOCH + 1.0, monotonic_s=lambda: 0.0))
    book = FakeBook()
    observer = Observer(records, Any, book, System())  # type: ignore[arg-type]
    verdicts = Verdicts(observer, HostCriteria(min_reputation=50), AUTO, opinions=observer.opinions(), answers_at_s=0.0)
    answered = ProbeResult(latency=None, readiness=None)
    silent = replace(answered, unreachable="no answer")

    def verdict_after(probe: ProbeResult, **record: Any) -> bool:
        peer_id = records.accept(make_record("host", make_description("m"), **record))[0].peer_id
        known = records.known(peer_id)
        assert known is not None
        return verdicts.of(known, probe).is_match

    assert verdict_after(answered)
    assert verdict_after(answered)
    assert not verdict_after(silent)
    assert verdict_after(answered)
    book.known[make_info("host").peer_id] = 10
    assert verdict_after(answered)
    verdicts.reconsider(observer.opinions())
    assert not verdict_after(answered)
    book.known.clear()
    verdicts.reconsider(observer.opinions())
    assert not verdict_after(answered, sequence=2, state=HostState.DRAINING)


async def test_uptimes_are_counted_to_the_time_of_the_search(autojump_clock: MockClock) -> None:
    """A host that was first seen 10 s ago has been up for 10 s where the search says that it answers now."""
    records = make_records(System(unix_s=lambda: EPOCH + 1.0, monotonic_s=lambda: 100.0))
    answer = ProbeResult(latency=None, readiness=None)
    observer = Observer(records, Answering(answer), FakeBook(), System(monotonic_s=lambda: 100.0))  # type: ignore[arg-type]
    peer_id = records.accept(make_record("host", make_description("m")))[0].peer_id
    known, opinions = records.known(peer_id), observer.opinions()
    assert known is not None
    await observer.probe(peer_id, HostCriteria(), opinions)
    criteria = HostCriteria(min_uptime_s=10, strict_uptime=True)
    for answers_at_s, is_match in ((110.0, True), (109.9, False)):
        verdicts = Verdicts(observer, criteria, AUTO, opinions=opinions, answers_at_s=answers_at_s)
        assert verdicts.of(known, answer).is_match is is_match


class Answering:
    """A prober that has one answer for everybody."""

    def __init__(self, answer: ProbeResult) -> None:
        self._answer = answer

    def is_connected(self, _peer_id: PeerId) -> bool:
        return True

    def recall(self, _peer_id: PeerId, **_: Any) -> None:
        return None

    async def probe(self, _peer_id: PeerId, **_: Any) -> ProbeResult:
        return self._answer
