from __future__ import annotations

import hashlib
import random

import pytest

from hostmesh.net.dht_lookup import Harvest, Lookup
from hostmesh.net.dht_table import ProviderTable, RoutingTable
from hostmesh.net.peer_id import peer_id_from_public_key, peer_id_to_bytes

PEERS = [peer_id_from_public_key(number.to_bytes(32, "big")) for number in range(600)]
OWN, *OTHERS = PEERS


def distance(peer_id, key):
    place = hashlib.sha256(peer_id_to_bytes(peer_id)).digest()
    return bytes(a ^ b for a, b in zip(place, hashlib.sha256(key).digest(), strict=True))


def test_closest_agrees_with_a_full_sort():
    table = RoutingTable(OWN)
    for peer_id in OTHERS:
        table.add(peer_id, 0.0)
    for key in (b"a", b"b", b"c"):
        everyone = sorted(table.peers(), key=lambda peer_id: distance(peer_id, key))
        assert table.closest(key) == everyone[:20]


def test_buckets_hold_twenty_and_so_few_far_peers_and_all_near_ones():
    table = RoutingTable(OWN)
    for peer_id in OTHERS:
        table.add(peer_id, 0.0)
    own_place = hashlib.sha256(peer_id_to_bytes(OWN)).digest()
    by_prefix = {}
    for peer_id in OTHERS:
        place = hashlib.sha256(peer_id_to_bytes(peer_id)).digest()
        bits = 256 - int.from_bytes(bytes(a ^ b for a, b in zip(place, own_place, strict=True)), "big").bit_length()
        by_prefix.setdefault(bits, set()).add(peer_id)
    for peers in by_prefix.values():
        assert len(peers & set(table.peers())) == min(20, len(peers))


def test_own_id_is_never_held():
    table = RoutingTable(OWN)
    assert not table.add(OWN, 0.0)
    assert len(table) == 0


def test_full_bucket_keeps_its_old_peers_until_they_are_silent():
    table = RoutingTable(OWN, bucket_size=1)
    first, second = [
        peer_id
        for peer_id in OTHERS
        if hashlib.sha256(peer_id_to_bytes(peer_id)).digest()[0] >> 7
        != hashlib.sha256(peer_id_to_bytes(OWN)).digest()[0] >> 7
    ][:2]
    assert table.add(first, 0.0)
    assert not table.add(second, 899.0)
    assert table.add(first, 899.0)
    assert not table.has_room_for(second, 1798.0)
    assert not table.add(second, 1798.0)
    assert table.has_room_for(second, 1799.0)
    assert table.add(second, 1799.0)
    assert table.peers() == (second,)
    table.remove(second)
    table.remove(second)
    assert len(table) == 0


def test_provider_ends_after_thirty_minutes_unless_given_again():
    table = ProviderTable()
    table.add(b"k", OTHERS[0], ("a",), 0.0)
    table.add(b"k", OTHERS[1], ("b",), 0.0)
    table.add(b"k", OTHERS[0], ("c",), 1000.0)
    assert table.get(b"k", 1799.9, limit=9) == [(OTHERS[1], ("b",)), (OTHERS[0], ("c",))]
    assert table.get(b"k", 1800.0, limit=9) == [(OTHERS[0], ("c",))]
    assert table.get(b"k", 2800.0, limit=9) == []
    assert len(table) == 0


def test_provider_bounds():
    table = ProviderTable(max_records=5, max_per_key=2, max_per_peer=3)
    for key in (b"1", b"2", b"3"):
        assert table.add(key, OTHERS[0], (), 0.0)
    assert not table.add(b"4", OTHERS[0], (), 0.0)
    assert table.add(b"3", OTHERS[0], (), 0.5)  # renewing is no fourth
    for number in (1, 2):
        assert table.add(b"3", OTHERS[number], (), float(number))
    # The third of a key turns out the one given longest ago.
    assert [peer_id for peer_id, _ in table.get(b"3", 3.0, limit=9)] == [OTHERS[1], OTHERS[2]]
    for number in (3, 4):
        table.add(b"5", OTHERS[number], (), 4.0)
    assert len(table) == 5
    assert table.get(b"1", 5.0, limit=9) == []
    # The peer whose records went may give others.
    assert table.add(b"9", OTHERS[0], (), 6.0)


def test_a_random_start_gives_each_provider_its_turn():
    table = ProviderTable()
    for peer_id in OTHERS[:10]:
        table.add(b"k", peer_id, (), 0.0)
    named = [table.get(b"k", 1.0, limit=3, start=start)[0][0] for start in range(20)]
    assert named == OTHERS[:10] * 2
    assert len(table.get(b"k", 1.0, limit=99, start=7)) == 10


def test_lookup_ends_with_the_nearest_of_a_network_of_300():
    """Each peer knows 20 random ones and its 20 nearest; the truth is a full sort."""
    network = PEERS[:300]
    place = {peer_id: int.from_bytes(hashlib.sha256(peer_id_to_bytes(peer_id)).digest(), "big") for peer_id in network}
    target = int.from_bytes(hashlib.sha256(b"somewhere").digest(), "big")
    draw = random.Random(7)

    def nearest(peers, goal):
        return sorted(peers, key=lambda peer_id: place[peer_id] ^ goal)

    knows = {peer_id: [*draw.sample(network, 20), *nearest(network, place[peer_id])[1:21]] for peer_id in network}
    lookup = Lookup(b"somewhere", own=OWN, seeds=[OTHERS[5]])
    queries = 0
    while (peer_id := lookup.next_query()) is not None:
        queries += 1
        lookup.on_answer(peer_id, nearest(knows[peer_id], target)[:20])
    assert lookup.closest() == nearest(network[1:], target)[:20]
    assert queries <= 60


def test_lookup_asks_in_parallel_up_to_its_bound_and_never_itself():
    lookup = Lookup(b"k", own=OWN, seeds=PEERS, parallel=3)
    asked = {lookup.next_query() for _ in range(3)}
    assert len(asked) == 3
    assert lookup.next_query() is None
    assert lookup.in_flight == 3
    lookup.on_failure(asked.pop())
    assert lookup.next_query() is not None
    assert OWN not in lookup._distance


def test_lookup_is_bounded_in_queries_and_memory():
    lookup = Lookup(b"k", own=OWN, seeds=OTHERS[:1], max_queries=10, max_peers=50)
    invented = (peer_id_from_public_key(number.to_bytes(32, "big")) for number in range(10_000, 90_000))
    queries = 0
    while (peer_id := lookup.next_query()) is not None:
        queries += 1
        lookup.on_answer(peer_id, [next(invented) for _ in range(100)])
        assert len(lookup._distance) <= 50
    assert queries == 10


def drive(lookup, answers):
    """Play a lookup round by round: peers without an answer fail at once. Returns who was asked, in order."""
    asked = []
    while True:
        flight = []
        while (peer_id := lookup.next_query()) is not None:
            flight.append(peer_id)
        if not flight:
            return asked
        asked += flight
        for peer_id in flight:
            if peer_id in answers:
                lookup.on_answer(peer_id, answers[peer_id])
            else:
                lookup.on_failure(peer_id)


@pytest.mark.parametrize("names", [21, 64])
def test_known_peers_are_asked_however_many_nearer_ones_are_made_up(names):
    """Twelve of thirteen name peers that nobody has, each others: more than a lookup may ask."""
    near = sorted(OTHERS, key=lambda peer_id: distance(peer_id, b"k"))
    made_up, (*liars, honest) = near[:120], near[120:133]
    answers = {liar: made_up[9 * number :][:names] for number, liar in enumerate(liars)}
    asked = drive(Lookup(b"k", own=OWN, seeds=[*liars, honest]), answers | {honest: []})
    assert honest in asked
    assert len(asked) == len(set(asked)) <= 80


def test_known_peers_do_not_wait_for_silent_ones_that_were_named():
    near = sorted(OTHERS, key=lambda peer_id: distance(peer_id, b"k"))
    silent, liar, honest = near[:30], near[40], near[50:58]
    lookup = Lookup(b"k", own=OWN, seeds=[liar, *honest])
    asked = [lookup.next_query() for _ in range(6)]
    lookup.on_answer(liar, silent)
    # Of the named ones none ever answers; the known ones answer at once.
    while (peer_id := next((each for each in asked if each in honest), None)) is not None:
        asked.remove(peer_id)
        lookup.on_answer(peer_id, [])
        while (more := lookup.next_query()) is not None:
            asked.append(more)
    assert lookup.answered == 9
    assert lookup.in_flight == 6


def test_known_peers_that_are_far_are_let_be_once_nearer_ones_answered():
    near = sorted(OTHERS, key=lambda peer_id: distance(peer_id, b"k"))
    answers = dict.fromkeys(near, near[:20])
    asked = drive(Lookup(b"k", own=OWN, seeds=near[-20:]), answers)
    assert set(near[:20]) <= set(asked)
    assert len(asked) < 40


def named(peers):
    return [(peer_id, (f"/ip4/192.0.2.{number % 250 + 1}/tcp/1",)) for number, peer_id in enumerate(peers)]


def test_who_names_many_providers_keeps_no_place_from_those_whom_others_name():
    found = []
    harvest = Harvest(OWN, limit=40, share=2, found=lambda peer_id, addresses, named_by: found.append(peer_id))
    for start in range(0, 190, 10):
        harvest.take(named(OTHERS[100 + start : 110 + start]), named_by=OTHERS[300])
    harvest.take(named([OTHERS[0]]), named_by=OTHERS[301])
    assert OTHERS[0] in harvest.kept
    assert found == list(harvest.kept)
    assert len(found) == 39
    harvest.deal_rest()
    assert harvest.is_full
    assert len(harvest.kept) == 40


def test_what_is_left_is_dealt_out_in_turn():
    found = []
    harvest = Harvest(OWN, limit=7, share=1, found=lambda *provider: found.append((provider[0], provider[2])))
    harvest.take(named(OTHERS[100:110]), named_by=OTHERS[300])
    harvest.take(named(OTHERS[200:202]), named_by=OTHERS[301])
    harvest.take(named([OWN]), named_by=OTHERS[302])
    harvest.deal_rest()
    assert list(harvest.kept) == [OTHERS[number] for number in (100, 200, 101, 201, 102, 103, 104)]
    # It is told whose answer each is from, in the end too.
    assert found == [(peer_id, OTHERS[301 if peer_id in OTHERS[200:202] else 300]) for peer_id in harvest.kept]


def test_further_addresses_of_a_provider_are_told_again_and_take_no_place():
    found = []
    harvest = Harvest(OWN, limit=1, share=1, found=lambda *provider: found.append(provider))
    one, other = ("/ip4/192.0.2.1/tcp/1",), ("/ip4/192.0.2.2/tcp/1",)
    harvest.take([(OTHERS[0], one)], named_by=OTHERS[300])
    harvest.take([(OTHERS[0], one)], named_by=OTHERS[300])
    harvest.take([(OTHERS[0], other)], named_by=OTHERS[301])
    assert found == [(OTHERS[0], one, OTHERS[300]), (OTHERS[0], one + other, OTHERS[301])]
