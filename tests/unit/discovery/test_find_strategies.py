"""find_host with strategies, preferences and limits, over a fake network under trio's mock clock."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import trio
from discovery_world import FakePeer, make_description, make_key
from find_world import World
from trio.testing import MockClock

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.manager import DiscoveryConfig
from hostmesh.discovery.probe import ProbeConfig
from hostmesh.discovery.ranking import AUTO, CHEAPEST, FASTEST, SPECIFIC, Score, ScorePart
from hostmesh.discovery.selection import Diversity
from hostmesh.discovery.terms import Price
from hostmesh.discovery.view import HostView
from hostmesh.errors import ConfigError, DialError, HostUnfitError, NoHostFoundError
from hostmesh.net.peer_id import PeerId

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "discovery.md"


def cheap_and_fast() -> tuple[World, FakePeer, FakePeer]:
    world = World()
    cheap = world.host("cheap", "m", price=1, rtt_s=0.06)
    fast = world.host("fast", "m", price=5_000_000, rtt_s=0.002)
    return world, cheap, fast


async def test_each_strategy_finds_its_own(autojump_clock: MockClock) -> None:
    world, cheap, fast = cheap_and_fast()
    async with world.client() as discovery:
        assert (await discovery.find_host(strategy=CHEAPEST)).peer_id == cheap.peer_id
        assert (await discovery.find_host(strategy=FASTEST)).peer_id == fast.peer_id
        listed = await discovery.find_all_hosts(strategy=FASTEST)
        assert [choice.peer_id for choice in listed] == [fast.peer_id, cheap.peer_id]
        explained = await discovery.explain(strategy=FASTEST)
        assert [choice.peer_id for choice in explained.choices] == [fast.peer_id, cheap.peer_id]
        assert [part.weight for part in explained.choices[0].score.parts] == [100, 200, 100, 600]


async def test_the_guides_own_strategy_runs(autojump_clock: MockClock) -> None:
    code = re.search(r"```python\n(from hostmesh import HostCriteria, HostView.*?)```", GUIDE.read_text(), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1], names)
    world = World()
    world.host("busy", "m", price=0, active_jobs=2, rtt_s=0.001)
    far = world.host("far", "m", price=900, rtt_s=0.02)
    idle = world.host("idle", "m", price=900, rtt_s=0.01)
    async with world.client() as discovery:
        choice = await discovery.find_host(strategy=names["MostSlots"]())
        assert choice.peer_id == idle.peer_id
        assert choice.score.to_dict() == {
            "slots": 2,
            "nearness": 990,
            "total": 2990,
            "parts": [
                {"name": "slots", "points": 2, "weight": 1000},
                {"name": "nearness", "points": 990, "weight": 1},
            ],
        }
        found = await discovery.find_all_hosts(strategy=names["MostSlots"]())
        assert [each.peer_id for each in found][1] == far.peer_id


class ByName:
    """Ranks by the start of the peer id, and keeps whom it was asked about."""

    def __init__(self, bound: int = 10**9) -> None:
        self.bound = bound

    def score(self, view: HostView, criteria: HostCriteria) -> Score:
        return Score(parts=(ScorePart(name="name", points=sum(view.info.peer_id.encode()[-8:]), weight=1),))

    def best_possible(self, view: HostView, criteria: HostCriteria) -> int:
        return self.bound


async def test_a_loose_bound_costs_probes_and_never_the_best(autojump_clock: MockClock) -> None:
    world = World(DiscoveryConfig(probe=ProbeConfig(max_parallel=1)))
    peers = [world.host(f"h{index}", "m") for index in range(8)]
    best = max(peers, key=lambda peer: sum(peer.peer_id.encode()[-8:]))
    async with world.client() as discovery:
        assert (await discovery.find_host(strategy=ByName())).peer_id == best.peer_id
        assert all(peer.pinged for peer in peers)


async def test_hosts_below_the_bound_are_not_probed(autojump_clock: MockClock) -> None:
    world = World(DiscoveryConfig(probe=ProbeConfig(max_parallel=1)))
    peers = [world.host(f"h{index}", "m", rtt_s=0.0001, after_s=0.05 * index) for index in range(8)]
    async with world.client() as discovery:
        await discovery.find_host(strategy=ByName(bound=-1))
        assert all(peer.asked for peer in peers)
        assert sum(bool(peer.pinged) for peer in peers) == 1


async def test_an_error_of_the_callers_strategy_reaches_the_caller(autojump_clock: MockClock) -> None:
    class Broken(ByName):
        def score(self, view: HostView, criteria: HostCriteria) -> Score:
            raise ConfigError("no such thing", name="strategy", source="argument")

    world, _, _ = cheap_and_fast()
    async with world.client() as discovery:
        with pytest.raises(ConfigError, match="no such thing"):
            await discovery.find_host(strategy=Broken())
        assert (await discovery.find_host()).peer_id


# --- SPECIFIC ---


async def test_the_specific_host_is_returned_though_others_are_better(autojump_clock: MockClock) -> None:
    world, cheap, fast = cheap_and_fast()
    async with world.client() as discovery:
        for wanted in (cheap, fast):
            choice = await discovery.find_host(HostCriteria(include=[str(wanted.peer_id)]), strategy=SPECIFIC)
            assert choice.peer_id == wanted.peer_id
            assert choice.latency is not None
            assert choice.score.total == 0


async def test_the_specific_host_must_meet_every_criterion(autojump_clock: MockClock) -> None:
    world, cheap, fast = cheap_and_fast()
    limit = Price(micros_per_mtok=100, currency="USD")
    async with world.client() as discovery:
        with pytest.raises(HostUnfitError) as caught:
            await discovery.find_host(HostCriteria(include=[str(fast.peer_id)], max_price=limit), strategy=SPECIFIC)
        assert (caught.value.peer_id, caught.value.criterion) == (fast.peer_id, "price")
        assert caught.value.detail == "price 5000000 > 100 micro-USD/Mtok"
        assert caught.value.relaxation == "max_price 100 -> 5000000 micro-USD/Mtok"
        assert caught.value.remedy == f"a host would match with: {caught.value.relaxation}"
        assert caught.value.code == "HOST_UNFIT"
        assert isinstance(caught.value, NoHostFoundError)
        assert sum(caught.value.rejected.values()) == caught.value.seen == 2
        cheap.is_dead = True
        await discovery.disconnect_peer(cheap.peer_id)
        with pytest.raises(HostUnfitError) as gone:
            await discovery.find_host(HostCriteria(include=[str(cheap.peer_id)]), strategy=SPECIFIC)
        assert gone.value.criterion == "reachable"
        assert gone.value.remedy == "relax the criteria named"


async def test_a_specific_host_that_nobody_knows(autojump_clock: MockClock) -> None:
    world, _, _ = cheap_and_fast()
    stranger = str(make_key("stranger").peer_id)
    async with world.client() as discovery:
        with pytest.raises(HostUnfitError) as caught:
            await discovery.find_host(HostCriteria(include=[stranger]), strategy=SPECIFIC)
        assert (caught.value.criterion, caught.value.peer_id) == ("", stranger)
        assert "it was not reached at any address that is known" in caught.value.message
        assert "peer id" in caught.value.remedy
        assert await discovery.find_all_hosts(HostCriteria(include=[stranger]), strategy=SPECIFIC) == []


async def test_a_host_that_no_source_names_is_found_by_its_id(autojump_clock: MockClock) -> None:
    """It is dialled by what the node knows of it, and asked for its record like others."""
    world, cheap, _ = cheap_and_fast()
    hidden = world.network.add_host("hidden", make_description("m", price=7))
    named = HostCriteria(include=[str(hidden.peer_id)])
    async with world.client() as discovery:
        assert (await discovery.find_host()).peer_id == cheap.peer_id
        choice = await discovery.find_host(named, strategy=SPECIFIC)
        assert (choice.peer_id, choice.sources) == (hidden.peer_id, ("named",))
        assert choice.latency is not None
        # It is known now; no source is asked for it again, and it is no secret to other searches.
        queries = len(world.source.queries)
        assert (await discovery.find_host(named)).peer_id == hidden.peer_id
        assert len(world.source.queries) == queries


async def test_each_of_the_hosts_named_is_looked_for(autojump_clock: MockClock) -> None:
    """Also beside one that is known and fits, and names that are none or are wallets."""
    world, cheap, _ = cheap_and_fast()
    hidden = world.network.add_host("hidden", make_description("m", price=0))
    wallet = "0x" + "ab" * 20
    include = [str(cheap.peer_id), str(hidden.peer_id), wallet, "no id of a peer", str(make_key("gone").peer_id)]
    async with world.client() as discovery:
        assert (await discovery.find_host()).peer_id == cheap.peer_id
        found = await discovery.find_all_hosts(HostCriteria(include=include))
        assert {choice.peer_id for choice in found} == {cheap.peer_id, hidden.peer_id}
        (query, *_) = [query for query in world.source.queries if query.peer_ids]
        assert query.peer_ids == (cheap.peer_id, hidden.peer_id, make_key("gone").peer_id)


async def test_a_named_host_is_tried_again_at_an_address_that_a_source_knows(autojump_clock: MockClock) -> None:
    world, _, _ = cheap_and_fast()
    hidden = world.network.add_host("hidden", make_description("m"))
    address = "/ip4/192.0.2.44/tcp/4001"
    world.source.names(hidden, after_s=1.0, addresses=(address,))
    reach = world.network.reach

    def reach_where_known(peer_id: PeerId) -> FakePeer:
        if peer_id == hidden.peer_id and not world.node.addresses.get(peer_id):
            raise DialError("no address is known", stage="address")
        return reach(peer_id)

    world.network.reach = reach_where_known  # type: ignore[method-assign]
    async with world.client() as discovery:
        choice = await discovery.find_host(HostCriteria(include=[str(hidden.peer_id)]), strategy=SPECIFIC)
        assert (choice.peer_id, choice.sources) == (hidden.peer_id, ("dht", "named"))


async def test_specific_needs_one_host(autojump_clock: MockClock) -> None:
    world, cheap, _ = cheap_and_fast()
    async with world.client() as discovery:
        for call in (discovery.find_host, discovery.find_all_hosts, discovery.explain):
            with pytest.raises(ConfigError) as caught:
                await call(HostCriteria(), strategy=SPECIFIC)  # type: ignore[operator]
            assert caught.value.name == "include"
        assert cheap.asked == 0


# --- preferences, random choice, diversity ---


async def test_a_preferred_host_is_probed_and_chosen_however_poor(autojump_clock: MockClock) -> None:
    world = World(DiscoveryConfig(probe=ProbeConfig(max_parallel=1)))
    for index in range(6):
        world.host(f"h{index}", "m", price=1, rtt_s=0.001)
    poor = world.host("poor", "m", price=10**12, rtt_s=0.3)
    async with world.client() as discovery:
        wanted = HostCriteria(preferred=[str(poor.peer_id)])
        assert (await discovery.find_host(wanted)).peer_id == poor.peer_id
        poor.is_dead = True
        await discovery.disconnect_peer(poor.peer_id)
        assert (await discovery.find_host(wanted)).peer_id != poor.peer_id


async def test_one_of_the_best_is_drawn(autojump_clock: MockClock) -> None:
    world = World()
    good = [world.host(f"good{index}", "m", price=10, rtt_s=0.01) for index in range(3)]
    world.host("poor", "m", price=10**9, rtt_s=0.5)
    async with world.client() as discovery:
        drawn = {(await discovery.find_host(choose_among=3)).peer_id for _ in range(40)}
        assert drawn == {peer.peer_id for peer in good}
        assert len({(await discovery.find_host()).peer_id for _ in range(10)}) == 1
        with pytest.raises(ConfigError) as caught:
            await discovery.find_host(choose_among=0)
        assert caught.value.name == "choose_among"


async def test_as_many_are_probed_as_are_drawn_from(autojump_clock: MockClock) -> None:
    """Cold, one at a time: with the best known, the second best is looked for only if it may be drawn."""
    for among, most in ((1, 1), (2, 2)):
        world = World(DiscoveryConfig(probe=ProbeConfig(max_parallel=1)))
        peers = [
            world.host(f"h{index}", "m", price=10 ** (2 * index + 3), rtt_s=0.0001, after_s=0.05 * index)
            for index in range(5)
        ]
        async with world.client() as discovery:
            await discovery.find_host(choose_among=among)
            assert sum(bool(peer.pinged) for peer in peers) == most


async def test_diversity_thins_a_list_out_and_not_the_funnel(autojump_clock: MockClock) -> None:
    world = World()
    for index in range(3):
        world.host(f"a{index}", "m", operator="crowd", addresses=(f"/ip4/8.8.{index}.1/tcp/1",))
    other = world.host("other", "m", price=900_000, addresses=("/ip4/8.8.2.77/tcp/1",))
    async with world.client() as discovery:
        one_each = await discovery.find_all_hosts(diversity=Diversity(max_per_operator=1))
        assert len(one_each) == 2
        assert one_each[1].peer_id == other.peer_id
        assert len(await discovery.find_all_hosts(diversity=Diversity(max_per_subnet=1))) == 3
        explained = await discovery.explain(diversity=Diversity(max_per_operator=1))
        assert (len(explained.choices), explained.funnel.matched) == (2, 4)
        assert len(await discovery.find_all_hosts(limit=2)) == 2


# --- criteria that need a search ---


async def test_any_models_are_asked_for_one_by_one(autojump_clock: MockClock) -> None:
    world = World()
    world.host("a", "a")
    b = world.host("b", "b", price=1)
    async with world.client() as discovery:
        choice = await discovery.find_host(HostCriteria(any_models=["x", "b"]))
        assert (choice.peer_id, choice.model_id) == (b.peer_id, "b")
        assert sorted(query.model_ids for query in world.source.queries) == [("b",), ("x",)]
        await discovery.find_host(HostCriteria(any_models=["a", "b", "c", "d", "e"]))
        assert world.source.queries[-1].model_ids == ()
        asked = len(world.source.queries)
        await discovery.find_host(HostCriteria(any_models=["x", "b"]))
        assert len(world.source.queries) == asked, "still warm"


async def test_free_slots_are_asked_of_the_probe(autojump_clock: MockClock) -> None:
    world = World()
    world.host("busy", "m", price=0, active_jobs=1)
    idle = world.host("idle", "m", price=900)
    world.host("mute", "m", price=0, serves_status=False)
    async with world.client() as discovery:
        assert (await discovery.find_host(HostCriteria(min_free_slots=2))).peer_id == idle.peer_id
        with pytest.raises(NoHostFoundError) as caught:
            await discovery.find_host(HostCriteria(min_free_slots=3))
        assert caught.value.rejected == {"slots": 3}
        assert caught.value.relaxation == "min_free_slots 3 -> 2"
        last = await discovery.find_all_hosts(HostCriteria(min_free_slots=0, accept_unmeasured=True))
        assert last[-1].free_slots is None


async def test_only_time_that_was_observed_counts_when_strict(autojump_clock: MockClock) -> None:
    world = World()
    world.host("host", "m")
    wanted = HostCriteria(min_uptime_s=60, strict_uptime=True)
    async with world.client() as discovery:
        with pytest.raises(NoHostFoundError) as caught:
            await discovery.find_host(wanted)
        assert caught.value.rejected == {"uptime": 1}
        first = await discovery.find_host(HostCriteria(min_uptime_s=60))
        assert first.claimed_uptime is not None
        assert first.claimed_uptime.value > 60
        await trio.sleep(70)
        choice = await discovery.find_host(wanted)
        assert choice.uptime is not None
        assert 60 <= choice.uptime.value <= 80
        assert choice.uptime.origin.value == "measured"


async def test_a_host_that_was_seen_for_long_beats_its_equal(autojump_clock: MockClock) -> None:
    """Whatever both claim: the newcomer claims ten years."""
    world = World()
    old = world.host("old", "m", rtt_s=0.01)
    async with world.client() as discovery:
        await discovery.find_host()
        await trio.sleep(40_000)
        world.host("new", "m", rtt_s=0.01, started=1)
        choices = await discovery.find_all_hosts(strategy=AUTO)
        assert choices[0].peer_id == old.peer_id
        assert len(choices) == 2
