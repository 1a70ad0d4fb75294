"""The source of what is gossiped, beside a gossip that is made up."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from hostmesh import ConfigError, SourceQuery, load_settings, open_sdk
from hostmesh.discovery.description import HostState
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.source import Broadcaster
from hostmesh.discovery.sources.gossip import FIRST_HEARD_S, GossipSource, HeardHosts, records_topic
from hostmesh.identity.binding import verify_binding
from hostmesh.net.gossip import GossipMessage, GossipStatistics, Verdict
from hostmesh.system import System
from hostmesh.testing import make_description, make_host_info, make_host_record, make_peer_key, make_wallet
from hostmesh.testing.records import EPOCH_UNIX_S
from hostmesh.testing.wallets import TEST_NETWORK

TOPIC = records_topic("/hostmesh", TEST_NETWORK)
NEIGHBOUR = make_peer_key("neighbour").peer_id


def record(name, *models, **fields):
    return make_host_record(name, make_description(models or "llama"), **fields)


def id_of(name):
    return make_peer_key(name).peer_id


class World:
    """A source, its gossip, and what was said there."""

    statistics = GossipStatistics()

    def __init__(self):
        self.now = EPOCH_UNIX_S
        self.published = []
        self.gate = trio.Event()
        self.gate.set()
        system = System(unix_s=lambda: self.now)
        self.records = RecordBook(network=TEST_NETWORK, verify_binding=verify_binding, system=system)
        self.source = GossipSource(self.open, self.records, topic=TOPIC, system=system)

    @asynccontextmanager
    async def open(self):
        yield self

    async def join(self, topic, check, limits):
        assert topic == TOPIC
        self.check = check

    async def leave(self, topic):
        raise AssertionError

    async def publish(self, topic, data):
        assert topic == TOPIC
        await self.gate.wait()
        self.published.append(data)

    def members(self, topic):
        return (NEIGHBOUR,)

    def hear(self, signed, *, author="host", forwarder=NEIGHBOUR):
        data = signed if isinstance(signed, bytes) else signed.SerializeToString()
        return self.check(GossipMessage(topic=TOPIC, data=data, author=id_of(author), forwarder=forwarder))

    async def find(self, *models, limit=64, country_code=None):
        found = []
        await self.source.find(SourceQuery(model_ids=models, country_code=country_code, limit=limit), found.append)
        return [candidate.peer_id for candidate in found]


@pytest.fixture
async def world(autojump_clock, nursery):
    world = World()
    await nursery.start(world.source.run)
    await trio.sleep(FIRST_HEARD_S)
    return world


async def test_only_what_is_news_goes_on(autojump_clock, world):
    assert world.hear(record("host", sequence=2)) is Verdict.ACCEPT
    assert world.hear(record("host", sequence=2)) is Verdict.IGNORE
    assert world.hear(record("host", sequence=1)) is Verdict.IGNORE
    assert world.hear(record("host", sequence=3)) is Verdict.ACCEPT
    assert world.source.statistics.records == 2
    assert world.source.statistics.refused == 0


async def test_what_was_known_by_other_ways_goes_on_once(autojump_clock, world):
    known = record("host")
    world.records.accept(known)
    assert world.hear(known) is Verdict.ACCEPT
    assert world.hear(known) is Verdict.IGNORE


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(lambda: (b"junk", "host"), id="junk"),
        pytest.param(lambda: (b"", "host"), id="empty"),
        pytest.param(lambda: (record("host"), "somebody"), id="published by another"),
        pytest.param(lambda: (record("host", network="test-another"), "host"), id="of another network"),
        pytest.param(lambda: (record("host").SerializeToString()[:-3], "host"), id="cut off"),
    ],
)
async def test_what_does_not_hold_is_its_forwarder_s_fault(autojump_clock, world, bad):
    signed, author = bad()
    assert world.hear(signed, author=author) is Verdict.REJECT
    assert world.source.statistics.refused == 1
    assert world.records.live() == []
    assert await world.find("llama") == []


async def test_what_is_late_is_nobody_s_fault(autojump_clock, world):
    assert world.hear(record("host", issued_at_unix_s=EPOCH_UNIX_S - 600)) is Verdict.IGNORE
    assert world.hear(record("host", issued_at_unix_s=EPOCH_UNIX_S + 600)) is Verdict.IGNORE
    assert world.source.statistics.refused == 0


async def test_who_equivocates_is_banned_and_goes_no_further(autojump_clock, world):
    assert world.hear(record("host", "llama")) is Verdict.ACCEPT
    assert world.hear(record("host", "gpt")) is Verdict.IGNORE
    assert world.hear(record("host", "llama", sequence=2)) is Verdict.IGNORE
    assert [ban.peer_id for ban in world.records.bans] == [id_of("host")]


async def test_a_tombstone_takes_the_host_out_and_is_handed_on(autojump_clock, world):
    world.hear(record("host"))
    assert await world.find("llama") == [id_of("host")]
    assert world.hear(record("host", sequence=2, state=HostState.WITHDRAWN)) is Verdict.ACCEPT
    assert world.records.live() == []
    assert await world.find() == []
    assert world.hear(record("host", sequence=1)) is Verdict.IGNORE
    assert world.source.statistics.tombstones == 1


async def test_a_host_for_which_there_is_no_room_goes_on_and_is_found(autojump_clock, world):
    """Sixteen hosts of one neighbour are kept as hearsay."""
    names = [f"host {number}" for number in range(20)]
    for name in names:
        assert world.hear(record(name), author=name) is Verdict.ACCEPT
    assert len(world.records.live()) == 16
    assert set(await world.find("llama")) == {id_of(name) for name in names}


async def test_finds_are_of_hosts_that_fit_up_to_the_limit_and_until_they_expire(autojump_clock, world):
    for name, models in (("one", ["llama"]), ("two", ["llama", "gpt"]), ("three", ["gpt"])):
        world.hear(record(name, *models), author=name)
    assert set(await world.find("gpt")) == {id_of("two"), id_of("three")}
    assert await world.find("gpt", "llama") == [id_of("two")]
    assert len(await world.find(limit=2)) == 2
    assert await world.find("llama", country_code="CH") == []
    world.now += 600
    assert await world.find() == []
    assert world.source.statistics.hosts == 0


async def test_a_find_right_after_the_start_hears_who_comes(autojump_clock, nursery):
    world = World()
    await nursery.start(world.source.run)
    found = []

    async def find():
        found.extend(await world.find("llama"))

    async with trio.open_nursery() as finding:
        finding.start_soon(find)
        await trio.sleep(0.5)
        world.hear(record("host"))
        world.hear(record("another", "gpt"), author="another")
    assert found == [id_of("host")]
    assert trio.current_time() == FIRST_HEARD_S
    started = trio.current_time()
    await world.find("llama")
    assert trio.current_time() == started


async def test_a_find_that_has_enough_ends(autojump_clock, nursery):
    world = World()
    await nursery.start(world.source.run)
    world.hear(record("host"))
    assert await world.find("llama", limit=1) == [id_of("host")]
    assert trio.current_time() == 0


async def test_records_are_published_the_newest_of_those_that_wait(autojump_clock, world):
    assert isinstance(world.source, Broadcaster)
    world.gate = trio.Event()
    records = [record("me", sequence=number) for number in range(1, 5)]
    for each in records:
        world.source.broadcast(each)
        await trio.testing.wait_all_tasks_blocked()
    world.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert world.published == [records[0].SerializeToString(), records[3].SerializeToString()]
    assert world.source.statistics.published == 2


async def test_the_end_of_an_advert_waits_for_the_tombstone_but_not_for_long(autojump_clock, world):
    world.gate = trio.Event()
    world.source.broadcast(record("me", state=HostState.WITHDRAWN))
    await world.source.advertise(None)
    assert trio.current_time() == FIRST_HEARD_S + 1
    world.gate.set()
    await world.source.advertise(None)
    assert len(world.published) == 1
    await world.source.advertise(None)
    assert trio.current_time() == FIRST_HEARD_S + 1


async def test_what_is_published_is_said_again_where_gossip_begins_anew(autojump_clock):
    world = World()
    own = record("me")
    world.source.broadcast(own)
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            await nursery.start(world.source.run)
            await world.source.advertise(None)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert world.published == [own.SerializeToString()] * 2


def test_a_neighbour_s_hosts_take_the_place_of_its_own_hosts_first():
    heard = HeardHosts(most=6, per_neighbour=4)
    heard.put(make_host_info("honest"), NEIGHBOUR)
    for number in range(10):
        heard.put(make_host_info(f"made up {number}"), id_of("hostile"))
    usable = heard.usable(EPOCH_UNIX_S)
    assert {info.peer_id for info, neighbour in usable if neighbour == id_of("hostile")} == {
        id_of(f"made up {number}") for number in range(6, 10)
    }
    for number in range(10):
        heard.put(make_host_info(f"made up too {number}"), id_of(f"hostile {number % 2}"))
    assert len(heard) == 6
    assert id_of("honest") in {info.peer_id for info, _ in heard.usable(EPOCH_UNIX_S)}


def test_a_neighbour_cannot_take_over_another_s_host():
    heard = HeardHosts(most=6, per_neighbour=1)
    heard.put(make_host_info("honest"), NEIGHBOUR)
    heard.put(make_host_info("honest", sequence=2), id_of("hostile"))
    heard.put(make_host_info("made up"), id_of("hostile"))
    (honest, neighbour), _ = sorted(heard.usable(EPOCH_UNIX_S), key=lambda each: each[0].peer_id != id_of("honest"))
    assert (honest.sequence, neighbour) == (2, NEIGHBOUR)


async def test_without_the_extra_the_setting_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "hostmesh.net.libp2p_gossip", None)
    settings = load_settings({"enable_gossip": True, "enable_mdns": False}, env={"HOSTMESH_HOME": str(tmp_path)})
    async with open_sdk(settings, ephemeral_key=True) as sdk:
        await sdk.authenticate(wallet=make_wallet("client", networks=["hostmesh"]))
        with pytest.raises(ConfigError) as caught:
            await sdk.get_discovery_manager().create_node()
    assert caught.value.name == "enable_gossip"
    assert "hostmesh[libp2p]" in caught.value.remedy


async def test_the_setting_makes_the_source_and_nothing_else_does(tmp_path):
    for wanted in (False, True):
        settings = load_settings(
            {"enable_mdns": False}, env={"HOSTMESH_HOME": str(tmp_path), "HOSTMESH_ENABLE_GOSSIP": str(wanted)}
        )
        async with open_sdk(settings, ephemeral_key=True) as sdk:
            await sdk.authenticate(wallet=make_wallet("client", networks=["hostmesh"]))
            manager = sdk.get_discovery_manager()
            await manager.create_node()
            assert ("gossip" in [source.name for source in sdk._running().sources]) is wanted
