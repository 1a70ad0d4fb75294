"""Hosts whose records look best and who do not fit hide nobody who does."""

from __future__ import annotations

import pytest
import trio
from discovery_world import make_info, make_key
from find_world import FakeQuotes, World
from trio.testing import MockClock

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.doubts import DOUBT_S, MAX_DOUBTED, Doubts
from hostmesh.discovery.finder import DiscoveryConfig
from hostmesh.discovery.probe import ProbeConfig
from hostmesh.discovery.probe_order import Negated, ProbeOrder
from hostmesh.errors import NoHostFoundError
from hostmesh.net.peer_id import PeerId
from hostmesh.v1 import discovery_pb2 as pb

SMALL = ProbeConfig(max_probes=8, max_attempts=24)
M = HostCriteria(required_models=["m"])


def world_of(liars: int, how: str, config: ProbeConfig = SMALL, *, operator: str | None = None) -> World:
    """Five honest hosts, and liars who know that the cheapest are asked first."""
    world = World(DiscoveryConfig(probe=config))
    lying = set()
    for number in range(liars):
        peer = world.host(f"liar {number}", "m", price=1, operator=operator)
        peer.state = pb.HOST_STATE_DRAINING if how == "draining" else peer.state
        peer.ready_models = () if how == "not loaded" else peer.ready_models
        lying.add(peer.peer_id)
    for number in range(5):
        world.host(f"good {number}", "m", price=100)
    answers: dict[str, int | str] = {"overquote": 900, "broken": "BROKEN", "busy": "BUSY"}
    world.quotes = FakeQuotes(lambda peer_id: answers.get(how, 1) if peer_id in lying else 100)
    return world


GOOD = {make_key(f"good {number}").peer_id for number in range(5)}


@pytest.mark.parametrize("how", ["overquote", "broken", "busy", "draining", "not loaded"])
async def test_more_liars_than_a_search_measures_hide_nobody(autojump_clock: MockClock, how: str) -> None:
    async with world_of(SMALL.max_probes + 1, how).client() as discovery:
        assert (await discovery.find_host(M)).peer_id in GOOD


async def test_so_it_is_with_the_bounds_that_hold(autojump_clock: MockClock) -> None:
    async with world_of(ProbeConfig().max_probes + 1, "overquote", ProbeConfig()).client() as discovery:
        assert (await discovery.find_host(M)).peer_id in GOOD


@pytest.mark.parametrize("how", ["overquote", "broken", "busy", "draining", "not loaded"])
async def test_more_liars_than_a_search_asks_hide_the_others_once(autojump_clock: MockClock, how: str) -> None:
    async with world_of(SMALL.max_attempts + 1, how).client() as discovery:
        with pytest.raises(NoHostFoundError):
            await discovery.find_host(M)
        # Their word was broken: from now on they are asked last.
        for _ in range(3):
            await trio.sleep(20)
            assert (await discovery.find_host(M)).peer_id in GOOD


async def test_the_machines_of_one_owner_do_not_use_up_the_attempts(autojump_clock: MockClock) -> None:
    async with world_of(2 * SMALL.max_attempts, "overquote", operator="one").client() as discovery:
        assert (await discovery.find_host(M)).peer_id in GOOD


async def test_cheap_hosts_that_are_too_far_away_hide_no_near_ones(autojump_clock: MockClock) -> None:
    for far in (40, ProbeConfig().max_attempts + 1):
        world = World()
        for number in range(far):
            world.host(f"far {number}", "m", price=90, rtt_s=0.15)
        near = {world.host(f"near {number}", "m", price=100, rtt_s=0.01).peer_id for number in range(5)}
        criteria = HostCriteria(required_models=["m"], max_latency_ms=50)
        async with world.client() as discovery:
            if far > ProbeConfig().max_attempts:
                with pytest.raises(NoHostFoundError):
                    await discovery.find_host(criteria)
                await trio.sleep(20)
            assert (await discovery.find_host(criteria)).peer_id in near


async def test_those_who_fit_bound_what_a_search_measures(autojump_clock: MockClock) -> None:
    world = World(DiscoveryConfig(probe=SMALL))
    hosts = [world.host(f"host {number}", "m", price=100) for number in range(20)]
    async with world.client() as discovery:
        assert len((await discovery.explain(M)).choices) == SMALL.max_probes
    assert sum(host.pinged > 0 for host in hosts) == SMALL.max_probes


# --- the order by itself ---


def drained(order: ProbeOrder) -> list[PeerId]:
    taken: list[PeerId] = []
    while (peer_id := order.next(is_done=taken.__contains__, is_hopeless=lambda promise: False)) is not None:
        taken.append(peer_id)
    return taken


def test_the_best_promise_comes_first_and_the_doubted_last() -> None:
    order = ProbeOrder(share=2)
    infos = {name: make_info(name) for name in ("a", "b", "c")}
    order.add(infos["a"], (-1,), is_last=False)
    order.add(infos["b"], (-9,), is_last=True)
    order.add(infos["c"], (-2,), is_last=False)
    assert drained(order) == [infos[name].peer_id for name in "cab"]


def test_a_hopeless_host_keeps_no_doubted_one_with_a_better_promise_waiting() -> None:
    order = ProbeOrder(share=2)
    order.add(make_info("plain"), (-1,), is_last=False)
    order.add(make_info("doubted"), (-9,), is_last=True)

    def is_hopeless(promise: Negated) -> bool:
        return promise > (-5,)

    assert order.next(is_done=lambda _: False, is_hopeless=is_hopeless) == make_info("doubted").peer_id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"operator": "owner"}, {"operator": "owner"}),
        ({"addresses": ("/ip4/198.51.100.1/tcp/1",)}, {"addresses": ("/ip4/198.51.100.9/tcp/1",)}),
    ],
)
def test_where_enough_was_asked_in_vain_the_rest_comes_last(
    one: dict[str, str | tuple[str, ...]], other: dict[str, str | tuple[str, ...]]
) -> None:
    order = ProbeOrder(share=2)
    rest, stranger = make_info("rest", **other), make_info("stranger", addresses=("/ip4/203.0.113.1/tcp/1",))
    order.add(rest, (-9,), is_last=False)
    order.add(stranger, (-1,), is_last=False)
    for name in ("x", "y"):
        assert order.next(is_done=lambda _: False, is_hopeless=lambda _: False) == rest.peer_id
        asked = make_info(name, **one)
        order.note_in_vain(asked, asked.addresses[0])
    assert drained(order) == [stranger.peer_id, rest.peer_id]


def test_what_a_host_claims_that_was_not_reached_counts_against_nobody_there() -> None:
    order = ProbeOrder(share=1)
    honest, other = make_info("honest"), make_info("other", addresses=("/ip4/203.0.113.1/tcp/1",))
    order.add(honest, (-9,), is_last=False)
    order.add(other, (-1,), is_last=False)
    order.note_in_vain(make_info("claims the same address"), "")
    order.note_in_vain(make_info("claims it, and lives elsewhere"), "/ip4/198.51.100.1/tcp/1")
    assert drained(order) == [honest.peer_id, other.peer_id]


def test_a_doubt_ends_with_time_or_a_kept_word_and_is_bounded() -> None:
    doubts, peer_id = Doubts(), make_key("host").peer_id
    doubts.note(peer_id, has_failed=True, now_s=10.0)
    assert doubts.holds(peer_id, now_s=9.0 + DOUBT_S)
    assert not doubts.holds(peer_id, now_s=10.0 + DOUBT_S)
    doubts.note(peer_id, has_failed=False, now_s=11.0)
    assert not doubts.holds(peer_id, now_s=12.0)
    for number in range(MAX_DOUBTED + 5):
        doubts.note(PeerId(f"peer {number}"), has_failed=True, now_s=20.0)
    assert len(doubts) == MAX_DOUBTED
    assert not doubts.holds(PeerId("peer 0"), now_s=20.0)
    assert doubts.holds(PeerId(f"peer {MAX_DOUBTED + 4}"), now_s=20.0)


@pytest.mark.parametrize("after_s", [0.0, 1.0])
async def test_a_crowd_of_one_owner_that_is_named_first_hides_nobody_from_a_first_search(
    autojump_clock: MockClock, after_s: float
) -> None:
    """More than a search attempts, all of them known and asked before anybody else is named."""
    world = World(DiscoveryConfig(probe=SMALL))
    for number in range(2 * SMALL.max_attempts):
        world.host(f"crowd {number}", "m", price=1, operator="one", state=pb.HOST_STATE_DRAINING)
    for number in range(5):
        world.host(f"good {number}", "m", price=100, after_s=after_s)
    async with world.client() as discovery:
        assert {choice.peer_id for choice in await discovery.find_all_hosts(M, 10)} == GOOD


async def test_who_comes_last_is_given_the_other_half_of_the_attempts_once_all_are_named(
    autojump_clock: MockClock,
) -> None:
    world = World(DiscoveryConfig(probe=SMALL))
    for number in range(SMALL.max_attempts - 1):
        world.host(f"crowd {number}", "m", price=number, operator="one", state=pb.HOST_STATE_DRAINING)
    last = world.host("last", "m", price=1000, operator="one")
    world.source.lasts_s = 2.0
    async with world.client() as discovery:
        async with trio.open_nursery() as nursery:
            found = []

            async def find() -> None:
                found.append((await discovery.find_host(M)).peer_id)

            nursery.start_soon(find)
            await trio.sleep(1.9)
            assert not found, "its turn comes after anybody's who may yet be named"
        assert found == [last.peer_id]
