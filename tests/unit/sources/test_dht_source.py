"""The DHT source over a DHT of lists, on a mock clock."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import trio
import trio.testing

from hostmesh.discovery.source import Advert, SourceQuery
from hostmesh.discovery.sources.dht import MAX_PEERS_SOUGHT, DhtSource
from hostmesh.discovery.sources.model_keys import EPOCH_S, MAX_LEAD_S, MIN_LEAD_S, epoch_of, model_key, next_turn_s
from hostmesh.errors import NodeNotRunningError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.peer_id import peer_id_from_public_key
from hostmesh.system import System

PEERS = [peer_id_from_public_key(bytes([number]) * 32) for number in range(40)]
SERVER = peer_id_from_public_key(b"S" * 32)
START_S = 1_700_000_900.0
"""Wall clock of the tests when they begin; no model of theirs turns its epoch within two hours."""
ADVERT = Advert(model_ids=("llama", "mini/lm"), country_code="DE", addresses=())


class ListDht:
    """What was provided, when; and what is to be found."""

    def __init__(self):
        self.told = 5
        self.provided: list[tuple[float, bytes]] = []
        self.records: dict[bytes, list] = {}
        self.asked: list[bytes] = []
        self.sought: list = []
        self.addresses: dict = {}
        self.delay_s: dict[bytes, float] = {}
        self.linger_s = 0.0
        """How long a lookup goes on after it has named its providers."""
        self.server = trio.Event()
        self.server.set()
        self.error: Exception | None = None

    async def provide(self, key):
        await trio.lowlevel.checkpoint()
        self.provided.append((trio.current_time(), key))
        if self.error is not None:
            raise self.error
        return self.told if self.server.is_set() else 0

    async def find_providers(self, key, *, limit, timeout_s, share=None, found=None):
        self.asked.append(key)
        await trio.sleep(self.delay_s.get(key, 0))
        providers = [(peer_id, ("/ip4/192.0.2.1/tcp/1",)) for peer_id in self.records.get(key, [])][:limit]
        for provider in providers:
            found(*provider, SERVER)
        await trio.sleep(self.linger_s)
        return providers

    async def find_peer(self, peer_id, *, timeout_s, found):
        self.sought.append(peer_id)
        for address in self.addresses.get(peer_id, ()):
            found((address,), SERVER)

    def servers(self):
        return (PEERS[0],) if self.server.is_set() else ()

    async def wait_server(self):
        await self.server.wait()


def source_of(dht, shard=2, network="testnet"):
    return DhtSource(
        dht,
        network=network,
        system=System(
            unix_s=lambda: START_S + trio.current_time(),
            monotonic_s=trio.current_time,
            random_bytes=lambda size: bytes([shard]) * size,
        ),
    )


def key_of(model_id, shard, country_code=None, *, epoch=None):
    wanted = epoch_of(model_id, START_S) if epoch is None else epoch
    return model_key("testnet", model_id, shard, epoch=wanted, country_code=country_code)


def expected_key(text):
    return bytes.fromhex("1220") + hashlib.sha256(text.encode()).digest()


def query(*model_ids, limit=10, country_code=None):
    return SourceQuery(model_ids=model_ids, country_code=country_code, limit=limit)


def test_key_is_the_multihash_of_a_readable_text():
    text = "hostmesh/net/model/Qwen/Qwen2-0.5B/78703/3"
    assert model_key("net", "Qwen/Qwen2-0.5B", 3, epoch=78703) == expected_key(text)
    text = "hostmesh/net/model-country/DE/m/7/0"
    assert model_key("net", "m", 0, epoch=7, country_code="DE") == expected_key(text)


async def test_a_host_provides_each_model_anywhere_and_in_its_country_under_its_shard(autojump_clock, nursery):
    dht = ListDht()
    source = source_of(dht)
    await nursery.start(source.run)
    await source.advertise(ADVERT)
    await trio.sleep(1)
    assert {key for _, key in dht.provided} == {
        expected_key(f"hostmesh/testnet/{place}/{model}/{epoch_of(model, START_S)}/2")
        for place in ("model", "model-country/DE")
        for model in ("llama", "mini/lm", "*")
    }
    assert source.statistics.provided_keys == 6
    assert source.statistics.told == 30


async def test_records_are_renewed_every_ten_minutes(autojump_clock, nursery):
    dht = ListDht()
    source = source_of(dht)
    await nursery.start(source.run)
    began = trio.current_time()
    await source.advertise(Advert(model_ids=(), country_code=None, addresses=()))
    await trio.sleep(1900)
    assert [round(at - began) for at, _ in dht.provided] == [0, 600, 1200, 1800]
    await source.advertise(None)
    await trio.sleep(3000)
    assert len(dht.provided) == 4


async def test_provides_at_once_when_the_first_server_comes(autojump_clock, nursery):
    dht = ListDht()
    dht.server = trio.Event()
    source = source_of(dht)
    await nursery.start(source.run)
    began = trio.current_time()
    await source.advertise(Advert(model_ids=(), country_code=None, addresses=()))
    await trio.sleep(100.25)
    # At 0, 1, 3, 7, 15, 31, 63; the next would be due at 123.
    assert [round(at - began) for at, _ in dht.provided] == [0, 1, 3, 7, 15, 31, 63]
    dht.server.set()
    await trio.sleep(0.01)
    assert dht.provided[-1][0] - began == 100.25
    assert source.statistics.failed_provides == 7
    await trio.sleep(500)
    assert len(dht.provided) == 8


async def test_servers_that_refuse_are_asked_again_with_backoff_and_not_in_a_loop(autojump_clock, nursery):
    dht = ListDht()
    dht.told = 0
    source = source_of(dht)
    await nursery.start(source.run)
    await source.advertise(Advert(model_ids=(), country_code=None, addresses=()))
    await trio.sleep(60)
    assert len(dht.provided) == 6


async def test_a_new_advert_does_not_wait_for_the_backoff_of_the_old_one(autojump_clock, nursery):
    dht = ListDht()
    dht.error = NodeNotRunningError("not yet")
    source = source_of(dht)
    await nursery.start(source.run)
    await source.advertise(Advert(model_ids=("a",), country_code=None, addresses=()))
    await trio.sleep(40)
    dht.error = None
    before = len(dht.provided)
    await source.advertise(Advert(model_ids=("b",), country_code=None, addresses=()))
    await trio.sleep(0.01)
    assert [key for _, key in dht.provided[before:]] == [key_of("b", 2)]


async def test_find_asks_all_shards_of_one_model_and_says_so(autojump_clock):
    dht = ListDht()
    for shard in range(4):
        dht.records[key_of("llama", shard)] = PEERS[3 * shard : 3 * shard + 3]
    source = source_of(dht)
    found = []
    await source.find(query("llama", "mini/lm", limit=50), found.append)
    assert sorted(dht.asked) == sorted(key_of("llama", shard) for shard in range(4))
    assert {candidate.peer_id for candidate in found} == set(PEERS[:12])
    assert {(candidate.source, candidate.origin) for candidate in found} == {("dht", AddressOrigin.REMOTE)}
    last = source.statistics.last_find
    assert (last.shards_sampled, last.shards, last.candidates) == (4, 4, 12)


async def test_find_stops_at_the_limit_and_says_how_much_it_saw(autojump_clock):
    dht = ListDht()
    keys = [key_of("*", shard) for shard in range(4)]
    dht.records[keys[1]] = PEERS[:9]
    dht.delay_s = {keys[0]: 50, keys[2]: 50, keys[3]: 50}
    source = source_of(dht)
    found = []
    began = trio.current_time()
    await source.find(query(limit=5), found.append)
    assert trio.current_time() == began
    assert [candidate.peer_id for candidate in found] == PEERS[:5]
    assert source.statistics.last_find.shards_sampled == 1


async def test_find_reports_a_host_once_though_two_shards_name_it(autojump_clock):
    dht = ListDht()
    for shard in (0, 3):
        dht.records[key_of("*", shard)] = [PEERS[7]]
    found = []
    await source_of(dht).find(query(), found.append)
    assert [candidate.peer_id for candidate in found] == [PEERS[7]]


async def test_find_in_a_country_asks_for_that_country_alone(autojump_clock):
    dht = ListDht()
    await source_of(dht).find(query("llama", country_code="DE"), lambda _: None)
    assert set(dht.asked) == {key_of("llama", shard, "DE") for shard in range(4)}


async def test_find_waits_three_seconds_for_a_first_server(autojump_clock, nursery):
    dht = ListDht()
    dht.server = trio.Event()
    dht.records[key_of("*", 1)] = [PEERS[1]]
    source = source_of(dht)
    found = []
    began = trio.current_time()
    await source.find(query(), found.append)
    assert trio.current_time() - began == 3
    assert (found, dht.asked, source.statistics.last_find.shards_sampled) == ([], [], 0)

    async def come():
        await trio.sleep(2)
        dht.server.set()

    nursery.start_soon(come)
    await source.find(query(), found.append)
    assert trio.current_time() - began == 5
    assert [candidate.peer_id for candidate in found] == [PEERS[1]]


async def test_a_cancelled_find_has_reported_what_it_found(autojump_clock):
    dht = ListDht()
    keys = [key_of("*", shard) for shard in range(4)]
    dht.records[keys[2]] = [PEERS[1]]
    dht.delay_s = {keys[0]: 50}
    source = source_of(dht)
    found = []
    with trio.move_on_after(3):
        await source.find(query(), found.append)
    assert [candidate.peer_id for candidate in found] == [PEERS[1]]
    assert source.statistics.last_find.shards_sampled == 3


async def test_a_host_is_reported_when_it_is_named_and_not_when_the_lookup_is_over(autojump_clock):
    dht = ListDht()
    dht.records[key_of("*", 2)] = [PEERS[1]]
    dht.linger_s = 50
    found = []
    with trio.move_on_after(3):
        await source_of(dht).find(query(), found.append)
    assert [candidate.peer_id for candidate in found] == [PEERS[1]]


async def test_hosts_draw_different_shards(autojump_clock):
    keys = set()
    for byte in range(256):
        dht = ListDht()
        async with trio.open_nursery() as nursery:
            source = source_of(dht, byte)
            await nursery.start(source.run)
            await source.advertise(Advert(model_ids=(), country_code=None, addresses=()))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        keys.update(key for _, key in dht.provided)
    assert keys == {key_of("*", shard) for shard in range(4)}


# --- epochs ---


def test_models_turn_at_different_times_and_every_six_hours():
    models = [f"model-{number}" for number in range(100)]
    turns = [next_turn_s(model, START_S) for model in models]
    assert all(0 < turn <= EPOCH_S for turn in turns)
    assert len({turn // 3600 for turn in turns}) == 6, "each hour some"
    for model, turn in zip(models, turns, strict=True):
        assert epoch_of(model, START_S + turn - 1) == epoch_of(model, START_S)
        assert epoch_of(model, START_S + turn + 1) == epoch_of(model, START_S) + 1
        assert next_turn_s(model, START_S + turn) == EPOCH_S


async def test_before_its_turn_a_host_is_found_under_the_next_epoch_and_after_it_no_longer_renews_the_old(
    autojump_clock, nursery
):
    dht = ListDht()
    source = source_of(dht)
    await nursery.start(source.run)
    await source.advertise(Advert(model_ids=(), country_code=None, addresses=()))
    turn_s, epoch = next_turn_s("*", START_S), epoch_of("*", START_S)
    await trio.sleep(turn_s + 3600)
    told = {
        number: [at - turn_s for at, key in dht.provided if key == key_of("*", 2, epoch=number)]
        for number in (epoch, epoch + 1)
    }
    assert -600 <= max(told[epoch]) < 0
    assert -MAX_LEAD_S <= min(told[epoch + 1]) <= -MIN_LEAD_S
    assert max(told[epoch + 1]) > 2400
    assert len(dht.provided) == len(told[epoch]) + len(told[epoch + 1])


@pytest.mark.parametrize(("after_turn_s", "epochs"), [(-61, [0]), (-59, [0, 1]), (59, [0, 1]), (61, [1])])
async def test_near_a_turn_both_epochs_are_asked(autojump_clock, after_turn_s, epochs):
    dht = ListDht()
    source = source_of(dht)
    await trio.sleep(next_turn_s("llama", START_S) + after_turn_s)
    await source.find(query("llama"), lambda _: None)
    first = epoch_of("llama", START_S)
    assert sorted(dht.asked) == sorted(
        key_of("llama", shard, epoch=first + each) for shard in range(4) for each in epochs
    )
    assert source.statistics.last_find.shards == 4 * len(epochs)


async def test_hosts_that_a_query_names_are_looked_for_by_their_ids(autojump_clock):
    dht = ListDht()
    named = PEERS[: MAX_PEERS_SOUGHT + 2]
    dht.addresses = {named[1]: ("/ip4/192.0.2.7/tcp/1", "/ip4/192.0.2.8/tcp/1")}
    found = []
    await source_of(dht).find(replace(query("m"), peer_ids=tuple(named)), found.append)
    assert sorted(dht.sought) == sorted(named[:MAX_PEERS_SOUGHT])
    assert [(each.peer_id, each.addresses, each.named_by) for each in found] == [
        (named[1], ("/ip4/192.0.2.7/tcp/1",), SERVER),
        (named[1], ("/ip4/192.0.2.8/tcp/1",), SERVER),
    ]
    assert {each.origin for each in found} == {AddressOrigin.REMOTE}
    dht.sought.clear()
    await source_of(dht).find(query("m"), found.append)
    assert dht.sought == []
