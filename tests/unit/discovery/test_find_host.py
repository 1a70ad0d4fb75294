"""find_host over a fake network under trio's mock clock: what is asked, when, and what comes out of failures."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from discovery_world import (
    FakePeer,
    FakeSource,
    make_description,
    make_key,
    make_record,
    trio_system,
)
from find_world import World
from trio.testing import MockClock

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.manager import DiscoveryConfig
from hostmesh.discovery.probe import ProbeConfig
from hostmesh.discovery.terms import Price
from hostmesh.errors import NodeNotRunningError, NoHostFoundError
from hostmesh.net.address import AddressOrigin
from hostmesh.v1 import discovery_pb2 as pb


async def test_the_best_host_that_meets_all_criteria_is_found(autojump_clock: MockClock) -> None:
    world = World()
    world.host("dear", "m", price=500_000)
    world.host("other", "n", price=1)
    cheap = world.host("cheap", "m", price=100, rtt_s=0.02)
    async with world.client() as discovery:
        choice = await discovery.find_host(HostCriteria(required_models=["m"]))
        assert choice.peer_id == cheap.peer_id
        assert choice.model_id == "m"
        assert choice.price == Price(micros_per_mtok=100, currency="USD")
        assert choice.latency is not None
        assert choice.latency.value == pytest.approx(20)
        assert choice.latency.samples == 3
        assert choice.sources == ("dht",)
        assert choice.reputation.n == 0
        assert choice.free_slots == 2


async def test_an_empty_network_gives_no_host(autojump_clock: MockClock) -> None:
    """D27: never an invented one."""
    world = World()
    async with world.client() as discovery:
        with pytest.raises(NoHostFoundError) as caught:
            await discovery.find_host(HostCriteria(required_models=["m"]))
        assert (caught.value.seen, caught.value.rejected, caught.value.relaxation) == (0, {}, "")
        assert await discovery.find_all_hosts() == []


async def test_a_miss_says_how_many_each_criterion_turned_away(autojump_clock: MockClock) -> None:
    world = World()
    world.host("a", "n")
    world.host("b", "m", price=900)
    world.host("c", "m", rtt_s=0.4)
    async with world.client() as discovery:
        with pytest.raises(NoHostFoundError) as caught:
            await discovery.find_host(
                HostCriteria(
                    required_models=["m"], max_price=Price(micros_per_mtok=100, currency="USD"), max_latency_ms=300
                )
            )
    assert caught.value.seen == 3
    assert caught.value.rejected == {"model": 1, "price": 1, "latency": 1}
    assert caught.value.relaxation == "max_latency_ms 300 -> 400"
    assert caught.value.message == "no host meets the criteria: seen 3 -> model 2 -> price 1 -> latency 0"


async def test_the_relaxation_was_tried_before_it_is_told(autojump_clock: MockClock) -> None:
    """The cheap near miss is dead and the next one answers: only that one is offered."""
    world = World()
    world.host("dead", "m", price=110).is_dead = True
    world.host("alive", "m", price=190)
    dead = world.network.peers[make_key("dead").peer_id]
    async with world.client() as discovery:
        world.records.accept(dead.record() or pb.SignedHostRecord())
        with pytest.raises(NoHostFoundError) as caught:
            await discovery.find_host(HostCriteria(max_price=Price(micros_per_mtok=100, currency="USD")))
    assert caught.value.seen == 2
    assert caught.value.relaxation == "max_price 100 -> 190 micro-USD/Mtok"


async def test_different_criteria_in_a_row_see_every_host(autojump_clock: MockClock) -> None:
    """D1: what the first question filtered out is there for the second."""
    world = World()
    cheap, near = world.host("cheap", "m", price=1, rtt_s=0.5), world.host("near", "m", price=900, rtt_s=0.01)
    async with world.client() as discovery:
        first = await discovery.find_host(HostCriteria(max_price=Price(micros_per_mtok=10, currency="USD")))
        second = await discovery.find_host(HostCriteria(max_latency_ms=100))
        assert [first.peer_id, second.peer_id] == [cheap.peer_id, near.peer_id]
        assert len(await discovery.find_all_hosts()) == 2


async def test_one_malformed_record_does_not_spoil_the_search(autojump_clock: MockClock) -> None:
    """D8: 1 bad in 100."""
    world = World()
    for index in range(100):
        world.host(f"h{index}", "m")
    bad = world.network.peers[make_key("h7").peer_id]
    record = bad.record()
    assert record is not None
    record.envelope = record.envelope[:-1] + bytes([record.envelope[-1] ^ 1])
    bad.record = lambda: record
    async with world.client() as discovery:
        assert len(await discovery.find_all_hosts(limit=200)) == 99
        assert discovery.stats().records["refused:SIGNATURE_BAD"] >= 1
        assert discovery.stats().fetches["SIGNATURE_BAD"] >= 1


async def test_a_record_of_somebody_else_is_not_taken_for_the_candidates(autojump_clock: MockClock) -> None:
    """D29: a peer speaks for itself only."""
    world = World()
    thief = world.host("thief", "m", price=1)
    victim = make_record("victim", make_description("m", price=1))
    thief.record = lambda: victim
    async with world.client() as discovery:
        with pytest.raises(NoHostFoundError):
            await discovery.find_host(HostCriteria(required_models=["m"]))
        assert discovery.stats().records["refused:peer_id"] >= 1


async def test_a_host_named_by_several_sources_is_one_host(autojump_clock: MockClock) -> None:
    """D7, and the union of who said so."""
    world = World()
    peer = world.host("host", "m")
    lan = FakeSource("mdns").names(peer, addresses=("/ip4/10.0.0.5/tcp/4001",))
    world.sources.append(lan)
    async with world.client() as discovery:
        choices = await discovery.find_all_hosts()
        assert [choice.peer_id for choice in choices] == [peer.peer_id]
        assert choices[0].sources == ("dht", "mdns")
        assert peer.asked == 1
        assert ("/ip4/10.0.0.5/tcp/4001", AddressOrigin.REMOTE) in world.node.addresses[peer.peer_id]


async def test_addresses_of_a_record_are_a_strangers_word(autojump_clock: MockClock) -> None:
    world = World()
    peer = world.host("host", "m", addresses=("/ip4/127.0.0.1/tcp/6379",))
    async with world.client() as discovery:
        await discovery.find_host()
        assert world.node.addresses[peer.peer_id] == [("/ip4/127.0.0.1/tcp/6379", AddressOrigin.REMOTE)]


async def test_a_failing_source_takes_nothing_else_down(autojump_clock: MockClock) -> None:
    world = World()
    peer = world.host("host", "m")
    world.sources.append(FakeSource("mdns", fails=OSError("no interface")))
    world.sources.append(FakeSource("bug", fails=TypeError("a bug")))
    async with world.client() as discovery:
        assert (await discovery.find_host()).peer_id == peer.peer_id
        stats = discovery.stats().sources
        assert (stats["mdns"].failures, stats["mdns"].last_error) == (1, "OSError")
        assert stats["bug"].failures == 1
        assert (stats["dht"].successes, stats["dht"].candidates) == (1, 1)
        assert stats["dht"].last_ok_unix_s is not None


async def test_a_peer_that_is_no_host_is_counted_as_such(autojump_clock: MockClock) -> None:
    world = World()
    peer = world.host("host", "m")
    plain = FakePeer(make_key("bootstrap").peer_id)
    world.network.peers[plain.peer_id] = plain
    world.source.names(plain)
    async with world.client() as discovery:
        assert (await discovery.find_host()).peer_id == peer.peer_id
        assert discovery.stats().fetches["not_a_host"] == 1


async def test_a_killed_host_is_not_returned(autojump_clock: MockClock) -> None:
    """D9: its record still holds, but it does not answer."""
    world = World()
    peer = world.host("host", "m")
    async with world.client() as discovery:
        await discovery.find_host()
        peer.is_dead = True
        await discovery.disconnect_peer(peer.peer_id)
        with pytest.raises(NoHostFoundError) as caught:
            await discovery.find_host()
        assert caught.value.rejected == {"reachable": 1}
        await trio.sleep(151)
        with pytest.raises(NoHostFoundError) as caught:
            await discovery.find_host()
        assert caught.value.seen == 0


async def test_a_host_that_cannot_be_measured_needs_to_be_allowed(autojump_clock: MockClock) -> None:
    world = World()
    world.host("host", "m", serves_status=False)
    async with world.client() as discovery:
        with pytest.raises(NoHostFoundError) as caught:
            await discovery.find_host(HostCriteria(max_latency_ms=1000))
        assert caught.value.relaxation == "accept_unmeasured"
        choice = await discovery.find_host(HostCriteria(max_latency_ms=1000, accept_unmeasured=True))
        assert choice.latency is None
        assert (await discovery.find_host()).latency is None


async def test_a_measured_host_beats_an_unmeasured_one(autojump_clock: MockClock) -> None:
    world = World()
    world.host("free", "m", price=0, serves_status=False)
    measured = world.host("dear", "m", price=10_000, rtt_s=0.9)
    async with world.client() as discovery:
        assert (await discovery.find_host()).peer_id == measured.peer_id


async def test_a_host_whose_model_is_not_loaded_is_passed_over(autojump_clock: MockClock) -> None:
    world = World()
    world.host("loading", "m", price=0, ready_models=())
    ready = world.host("ready", "m", price=500)
    async with world.client() as discovery:
        assert (await discovery.find_host(HostCriteria(required_models=["m"]))).peer_id == ready.peer_id


async def test_a_draining_host_is_passed_over(autojump_clock: MockClock) -> None:
    world = World()
    world.host("draining", "m", price=0).state = pb.HOST_STATE_DRAINING
    other = world.host("other", "m", price=500)
    async with world.client() as discovery:
        assert (await discovery.find_host()).peer_id == other.peer_id


async def test_reputation_decides_between_equals_and_filters(autojump_clock: MockClock) -> None:
    world = World()
    good, bad = world.host("good", "m"), world.host("bad", "m")
    world.reputation.known = {good.peer_id: 800, bad.peer_id: 40}
    async with world.client() as discovery:
        assert (await discovery.find_host()).peer_id == good.peer_id
        with pytest.raises(NoHostFoundError) as caught:
            await discovery.find_host(HostCriteria(min_reputation=900))
        assert caught.value.relaxation == "min_reputation 900 -> 800"
        assert discovery.reputation(bad.peer_id, bad.operator_address).points == 40


async def test_a_warm_search_asks_no_source_and_no_record(autojump_clock: MockClock) -> None:
    world = World()
    peer = world.host("host", "m", rtt_s=0.1)
    async with world.client() as discovery:
        await discovery.find_host()
        asked, queries = peer.asked, len(world.source.queries)
        for number in range(1, 4):
            pings, began, began_unix_s = peer.pinged, trio.current_time(), trio_system().unix_s()
            choice = await discovery.find_host()
            # A snapshot and three pings, one after another: nothing but the probe, however young the last one is.
            assert trio.current_time() - began == pytest.approx(0.4)
            assert choice.latency is not None
            assert choice.latency.at_unix_s >= began_unix_s
            assert (peer.asked, len(world.source.queries)) == (asked, queries)
            assert peer.pinged == pings + 3
            assert discovery.stats().searches["warm"] == number
        assert discovery.stats().probe_cache_hit_rate == 0


async def test_after_a_minute_the_sources_are_asked_again(autojump_clock: MockClock) -> None:
    """D3: nothing is cached for ever."""
    world = World()
    world.host("host", "m")
    async with world.client() as discovery:
        await discovery.find_host()
        await trio.sleep(61)
        await discovery.find_host()
        assert len(world.source.queries) == 2


async def test_a_miss_asks_the_sources_whatever_the_cache_says(autojump_clock: MockClock) -> None:
    """D9: the index is refreshed on a miss."""
    world = World()
    world.host("host", "m")
    async with world.client() as discovery:
        with pytest.raises(NoHostFoundError):
            await discovery.find_host(HostCriteria(required_models=["n"]))
        late = world.host("late", "n")
        assert (await discovery.find_host(HostCriteria(required_models=["n"]))).peer_id == late.peer_id


async def test_new_measurements_reach_the_ranking(autojump_clock: MockClock) -> None:
    """D4: the host that became slow drops."""
    world = World()
    first, second = world.host("first", "m", rtt_s=0.01), world.host("second", "m", rtt_s=0.05)
    async with world.client() as discovery:
        assert (await discovery.find_host()).peer_id == first.peer_id
        first.rtt_s = 0.5
        await trio.sleep(31)
        assert (await discovery.find_host()).peer_id == second.peer_id
        first.rtt_s = 0.001
        discovery.forget_measurements(first.peer_id)
        assert (await discovery.find_host()).peer_id == first.peer_id


async def test_a_host_that_changed_its_price_during_the_search_is_judged_by_the_new_one(
    autojump_clock: MockClock,
) -> None:
    world = World()
    changing = world.host("changing", "m", price=1, after_s=0.5)
    other = world.host("other", "m", price=50, after_s=0.5)
    async with world.client() as discovery:
        assert (await discovery.find_host()).peer_id == changing.peer_id
        replaced = world.network.add_host("changing", make_description("m", price=5_000_000))
        assert replaced.peer_id == changing.peer_id
        await trio.sleep(61)
        assert (await discovery.find_host()).peer_id == other.peer_id


async def test_a_newer_record_that_comes_after_the_probe_still_counts(autojump_clock: MockClock) -> None:
    """The best host by its old record became dear; one that seemed hopeless beside it wins."""
    world = World(DiscoveryConfig(probe=ProbeConfig(max_parallel=1)))
    changing = world.host("changing", "m", price=1, after_s=0.5)
    other = world.host("other", "m", price=110_000, after_s=0.5)
    async with world.client() as discovery:
        assert (await discovery.find_host()).peer_id == changing.peer_id
        world.network.add_host("changing", make_description("m", price=10**9))
        await trio.sleep(61)
        pings = other.pinged
        assert (await discovery.find_host()).peer_id == other.peer_id
        assert other.pinged > pings


async def test_a_wide_question_follows_a_narrow_miss(autojump_clock: MockClock) -> None:
    """Hosts without the model are seen for the funnel's sake, though the narrow question does not name them."""
    world = World()
    other = world.network.add_host("other", make_description("n"))
    world.source = FakeSource("dht", wide_only=True).names(other)
    world.sources = [world.source]
    async with world.client() as discovery:
        with pytest.raises(NoHostFoundError) as caught:
            await discovery.find_host(HostCriteria(required_models=["m"], location="US"))
        assert caught.value.seen == 1
        assert caught.value.rejected == {"model": 1}
        assert [(query.model_ids, query.country_code) for query in world.source.queries] == [(("m",), "US"), ((), None)]


async def test_explain_shows_every_host_and_does_not_raise(autojump_clock: MockClock) -> None:
    world = World()
    peer = world.host("host", "m")
    world.host("other", "n")
    async with world.client() as discovery:
        explained = await discovery.explain(HostCriteria(required_models=["m"]))
        assert [choice.peer_id for choice in explained.choices] == [peer.peer_id]
        assert explained.choices[0].score.total > 0
        assert explained.funnel.to_dict() == {
            "seen": 2,
            "rejected": {"model": 1},
            "matched": 1,
            "relaxation": "",
            "retry_after_ms": None,
            "hosts": [{"peer_id": make_key("other").peer_id, "criterion": "model", "detail": "serves no 'm'"}],
        }
        nothing = await discovery.explain(HostCriteria(required_models=["x"]))
        assert nothing.choices == ()
        assert nothing.funnel.rejected == {"model": 2}


async def test_a_host_does_not_find_itself(autojump_clock: MockClock) -> None:
    world = World()
    async with world.client() as discovery:
        await discovery.announce(make_description("m"))
        world.source.names(world.node.peer_id)
        with pytest.raises(NoHostFoundError) as caught:
            await discovery.find_host()
        assert caught.value.seen == 0
        assert discovery.stats().fetches == {}, "nor does it ask itself"


async def test_without_a_node_there_is_no_search(autojump_clock: MockClock) -> None:
    world = World()
    async with world.client() as discovery:
        await discovery.stop()
        with pytest.raises(NodeNotRunningError):
            await discovery.find_host()


async def test_what_is_announced_to_us_is_found_without_asking(autojump_clock: MockClock) -> None:
    """A record pushed by its host is in the table at once; the probe follows."""
    world = World()
    peer = world.network.add_host("host", make_description("m"))
    async with world.client() as discovery:
        record = peer.record()
        assert record is not None
        context = _Context(peer.peer_id)
        await world.factory.server.announce(pb.AnnounceRequest(record=record), context)
        choice = await discovery.find_host()
        assert (choice.peer_id, choice.sources) == (peer.peer_id, ("announce",))
        assert peer.asked == 0


class _Context:
    def __init__(self, peer_id: Any) -> None:
        self.peer_id = peer_id
