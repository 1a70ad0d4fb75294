"""The peer cache: who is kept, for how long, and in what order they are tried; and its place on disk."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from discovery_world import EPOCH, make_key
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.discovery.peer_cache import (
    MAX_ADDRESSES,
    MAX_AGE_S,
    MAX_PEERS,
    MAX_PER_SUBNET,
    CachedPeer,
    PeerCache,
    PeerUse,
)
from hostmesh.discovery.peer_cache_store import MAX_ROWS, PeerCacheStore
from hostmesh.errors import StoreError, StoreTooNewError
from hostmesh.net.peer_id import PeerId

DAY_S = 86_400.0


def id_of(name: object) -> PeerId:
    return make_key(f"cached {name}").peer_id


def where(number: int) -> tuple[str, ...]:
    """Return addresses in a network of their own."""
    return (f"/ip4/11.{number >> 8}.{number & 255}.1/tcp/4001",)


def filled(count: int, use: PeerUse, *, now: float = EPOCH, prefix: str = "p", first: int = 0) -> PeerCache:
    cache = PeerCache(now=now)
    fill(cache, count, use, now=now, prefix=prefix, first=first)
    return cache


def fill(cache: PeerCache, count: int, use: PeerUse, *, now: float, prefix: str, first: int = 0) -> None:
    for number in range(count):
        cache.note(id_of(f"{prefix}{number}"), where(first + number), use, now=now)
    cache.purge(now)


def test_what_was_seen_is_remembered_for_a_month() -> None:
    cache = filled(3, PeerUse.HOST)
    assert cache.purge(EPOCH + MAX_AGE_S) == ()
    assert set(cache.purge(EPOCH + MAX_AGE_S + 1)) == {id_of(f"p{number}") for number in range(3)}
    assert len(cache) == 0


def test_a_peer_keeps_its_best_use_and_its_newest_addresses() -> None:
    cache = PeerCache(now=EPOCH)
    cache.note(id_of("a"), where(1), PeerUse.JOBS, now=EPOCH)
    many = tuple(address for number in range(2, 12) for address in where(number))
    peer = cache.note(id_of("a"), many, PeerUse.SERVER, now=EPOCH + 5)
    assert (peer.use, peer.addresses) == (PeerUse.JOBS, many[:MAX_ADDRESSES])
    assert (peer.first_seen_unix_s, peer.last_seen_unix_s) == (EPOCH, EPOCH + 5)


def test_a_flood_of_newcomers_pushes_out_its_own_like() -> None:
    cache = filled(50, PeerUse.HOST, prefix="old")
    cache_later = EPOCH + 10 * DAY_S
    for number in range(50):
        cache.note(id_of(f"old{number}"), where(number), PeerUse.HOST, now=cache_later)
    later = cache_later + DAY_S
    fill(cache, 2 * MAX_PEERS, PeerUse.HOST, now=later, prefix="new", first=100)
    assert all(cache.get(id_of(f"old{number}")) is not None for number in range(50))
    assert len(cache) == MAX_PEERS // 2, "half of it is for peers of other uses"


def test_who_has_been_gone_for_longer_than_it_was_known_gives_way_to_newcomers() -> None:
    cache = filled(MAX_PEERS // 2, PeerUse.HOST, prefix="old")
    fill(cache, MAX_PEERS // 2, PeerUse.HOST, now=EPOCH + DAY_S, prefix="new", first=1000)
    assert all(cache.get(id_of(f"new{number}")) is not None for number in range(MAX_PEERS // 2))


def test_hosts_do_not_push_out_the_servers_that_a_restart_needs() -> None:
    cache = filled(100, PeerUse.SERVER, prefix="server")
    fill(cache, MAX_PEERS, PeerUse.HOST, now=EPOCH + 1, prefix="host", first=1000)
    assert sum(peer.use is PeerUse.SERVER for peer in cache) == 100


def test_one_network_holds_no_more_than_its_share() -> None:
    cache = PeerCache(now=EPOCH)
    for number in range(100):
        cache.note(id_of(number), (f"/ip4/11.0.0.{number}/tcp/1",), PeerUse.HOST, now=EPOCH)
        cache.note(id_of(-number - 1), (f"/ip6/2001:db8:1:{number}::1/tcp/1",), PeerUse.HOST, now=EPOCH)
    cache.purge(EPOCH)
    assert len(cache) == 2 * MAX_PER_SUBNET


@given(
    st.lists(
        st.tuples(st.integers(0, 700), st.sampled_from(PeerUse), st.integers(0, 40), st.integers(0, 40 * 86_400)),
        max_size=60,
    )
)
def test_bounds_hold_whatever_is_noted(notes: list[tuple[int, PeerUse, int, int]]) -> None:
    cache = PeerCache(now=EPOCH)
    now = float(EPOCH)
    for name, use, network, passed_s in notes:
        now += passed_s
        cache.note(id_of(name), (f"/ip4/11.0.{network}.{name % 250}/tcp/1",), use, now=now)
        cache.purge(now)
    networks: dict[str, int] = {}
    for peer in cache:
        assert now - peer.last_seen_unix_s <= MAX_AGE_S
        network_of = peer.addresses[0].rpartition(".")[0]
        networks[network_of] = networks.get(network_of, 0) + 1
    assert max(networks.values(), default=0) <= MAX_PER_SUBNET
    assert len(cache) <= MAX_PEERS


def test_each_round_of_dials_tries_others_until_all_were_tried() -> None:
    cache = filled(150, PeerUse.SERVER)
    rounds = [cache.next_to_dial(64) for _ in range(3)]
    assert [len(each) for each in rounds] == [64, 64, 64]
    first_two_and_a_bit = {address for each in rounds for address in each}
    assert len(first_two_and_a_bit) == 150
    cache.note(id_of("p0"), where(0), PeerUse.SERVER, now=EPOCH)
    assert cache.next_to_dial(1) == [f"{where(0)[0]}/p2p/{id_of('p0')}"], "it was seen since it was tried"


def test_hosts_are_named_the_best_known_first() -> None:
    cache = filled(3, PeerUse.HOST)
    cache.note(id_of("p1"), where(1), PeerUse.HOST, now=EPOCH + 9)
    cache.note(id_of("server"), where(9), PeerUse.SERVER, now=EPOCH + 9)
    names = [peer.peer_id for peer in cache.hosts(now=EPOCH + 10, seen_within_s=DAY_S, limit=2)]
    assert len(names) == 2
    assert names[0] == id_of("p1")
    recent = cache.hosts(now=EPOCH + 10, seen_within_s=5, limit=9)
    assert [peer.peer_id for peer in recent] == [id_of("p1")]


# --- on disk ---


def cached(name: object, *, last_seen: float = EPOCH) -> CachedPeer:
    return CachedPeer(
        peer_id=id_of(name),
        addresses=("/ip4/11.0.0.1/tcp/1", "/dns4/host.example/tcp/443/ws"),
        use=PeerUse.JOBS,
        first_seen_unix_s=EPOCH - 5,
        last_seen_unix_s=last_seen,
    )


def test_what_was_written_is_there_without_closing(tmp_path: Path) -> None:
    """As after kill -9: the first store is never closed."""
    path = tmp_path / "peers.sqlite3"
    first = PeerCacheStore(path)
    first.write("net", [cached("a"), cached("b")])
    first.write("net", [cached("a", last_seen=EPOCH + 7)], [id_of("b")])
    first.write("other", [cached("c")])
    second = PeerCacheStore(path)
    assert second.load("net") == [cached("a", last_seen=EPOCH + 7)]
    first.close()
    second.close()


def test_the_file_is_bounded_whoever_writes_to_it() -> None:
    store = PeerCacheStore(None)
    store.write("net", [cached(number, last_seen=EPOCH + number) for number in range(MAX_ROWS + 10)])
    kept = store.load("net")
    assert len(kept) == MAX_ROWS
    assert kept[-1] == cached(10, last_seen=EPOCH + 10)
    store.close()


def test_rows_that_make_no_sense_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "peers.sqlite3"
    PeerCacheStore(path).write("net", [cached("a")])
    with sqlite3.connect(path) as database:
        for peer_id, addresses in (("no peer", "/ip4/11.0.0.1/tcp/1"), (id_of("x"), "nonsense"), (id_of("y"), "")):
            database.execute("INSERT INTO peers VALUES ('net', ?, ?, 2, 1.0, 2.0)", (peer_id, addresses))
    database.close()
    assert PeerCacheStore(path).load("net") == [cached("a")]


def test_times_of_a_clock_that_ran_ahead_are_not_believed() -> None:
    """Else such a peer would never age."""
    assert len(PeerCache([cached("a", last_seen=EPOCH + 100)], now=EPOCH)) == 0


def test_a_newer_or_broken_file_is_refused(tmp_path: Path) -> None:
    newer, broken = tmp_path / "newer.sqlite3", tmp_path / "broken.sqlite3"
    with sqlite3.connect(newer) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    broken.write_bytes(b"no database" * 100)
    with pytest.raises(StoreTooNewError):
        PeerCacheStore(newer)
    with pytest.raises(StoreError):
        PeerCacheStore(broken)
