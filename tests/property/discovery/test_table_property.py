"""The table: the order of arrival does not matter, a second arrival changes nothing, bounds hold."""

from __future__ import annotations

from collections.abc import Sequence

from discovery_world import EPOCH, make_description, make_info
from hypothesis import given, settings
from hypothesis import strategies as st

from hostmesh.discovery.bans import LEAST_PER_SUBNET, SUBNET_SHARE
from hostmesh.discovery.description import HostState
from hostmesh.discovery.record import HostInfo
from hostmesh.discovery.table import MAX_PER_INTRODUCER, HostTable, Merge
from hostmesh.net.peer_id import PeerId

NOW = EPOCH + 60
# Few of everything, so that they collide: contradictions of one sequence, tombstones, expired records, two wallets.
POOL = [
    make_info(
        name,
        make_description(model),
        sequence=sequence,
        issued=EPOCH + 10 * sequence,
        life_s=life_s,
        state=state,
        operator=f"{name} {wallet}",
        started=EPOCH - start,
    )
    for name in ("a", "b", "c")
    for wallet in ("one", "two")
    for sequence in (1, 2, 3)
    for model, life_s, state, start in (
        ("m", 120, HostState.AVAILABLE, 50),
        ("m", 5, HostState.AVAILABLE, 70),
        ("n", 120, HostState.WITHDRAWN, 10),
    )
]
# Equivocation is rare among honest hosts: many runs have none. They are bound to another wallet now and then.
WALLETS = {make_info(name, operator=f"{name} two").operator for name in ("a", "b", "c")}
honest = st.lists(
    st.sampled_from(
        [
            info
            for info in POOL
            if info.models and info.expires_at_unix_s - info.issued_at_unix_s == 120
            if (info.operator in WALLETS) == (info.sequence > 1)
        ]
    ),
    max_size=8,
)
records = honest | st.lists(st.sampled_from(POOL), max_size=10)


def end_of(infos: Sequence[HostInfo], now: float = NOW) -> tuple[object, ...]:
    table = HostTable()
    for info in infos:
        table.merge(info, now=now)
    return state_of(table, now)


def state_of(table: HostTable, now: float = NOW) -> tuple[object, ...]:
    live = {known.info.peer_id: (known.info.digest, known.started_at_unix_s) for known in table.live(now)}
    return live, frozenset(table.banned), len(table)


@given(infos=records, data=st.data())
def test_merging_is_commutative(infos: list[HostInfo], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(infos))
    assert end_of(infos) == end_of(shuffled)


@given(records)
def test_merging_is_idempotent(infos: list[HostInfo]) -> None:
    assert end_of(infos) == end_of(infos + infos)
    assert end_of(infos) == end_of([info for info in infos for _ in range(2)])


@given(left=records, middle=records, right=records)
def test_merging_is_associative(left: list[HostInfo], middle: list[HostInfo], right: list[HostInfo]) -> None:
    """Batches may be put together in any way."""
    assert end_of(left + (middle + right)) == end_of((right + left) + middle)


@given(infos=records, later=st.floats(0, 400))
def test_reading_needs_no_purge(infos: list[HostInfo], later: float) -> None:
    """D2: what is over is over when it is read, whether or not anybody cleaned up."""
    table, purged = HostTable(), HostTable()
    for info in infos:
        table.merge(info, now=NOW)
        purged.merge(info, now=NOW)
    purged.purge(NOW + later)
    assert state_of(table, NOW + later)[0] == state_of(purged, NOW + later)[0]
    for known in table.live(NOW + later):
        assert known.info.expires_at_unix_s + 30 >= NOW + later


@given(infos=records, later=st.floats(0, 400), replayed=st.data())
def test_an_older_sequence_never_comes_back(infos: list[HostInfo], later: float, replayed: st.DataObject) -> None:
    """With purges in between, any record seen before may be replayed: what is live never gets older."""
    table = HostTable()
    for info in infos:
        table.merge(info, now=NOW)
    best = {
        info.peer_id: max(
            other.sequence for other in infos if other.peer_id == info.peer_id and other.is_acceptable(NOW)
        )
        for info in infos
        if info.is_acceptable(NOW)
    }
    table.purge(NOW + later)
    if infos:
        table.merge(replayed.draw(st.sampled_from(infos)), now=NOW + later)
    for known in table.live(NOW + later):
        assert known.info.sequence >= best[known.info.peer_id]


@settings(max_examples=20)
@given(
    names=st.lists(st.integers(0, 60), max_size=80),
    hearsay=st.lists(st.booleans(), min_size=80, max_size=80),
    room=st.integers(4, 20),
)
def test_the_table_is_bounded(names: list[int], hearsay: list[bool], room: int) -> None:
    table = HostTable(max_hosts=room, max_banned=2)
    gossip = POOL[0].peer_id
    for name, is_hearsay in zip(names, hearsay, strict=False):
        table.merge(make_info(f"host{name}"), now=EPOCH, introducer=gossip if is_hearsay else None)
        assert len(table) <= room
        assert len(table.banned) <= 2
        assert len(table.live(EPOCH)) <= room


# What a liar may say of itself: few networks, so that they fill up, and several at once.
_NETWORKS = [(f"/ip4/10.0.{n}.1/tcp/1",) for n in range(3)] + [("/ip4/10.0.0.1/tcp/1", "/ip6/2001:db8::1/tcp/1"), ()]
JUNK = [make_info(f"junk{i}", addresses=_NETWORKS[i % len(_NETWORKS)]) for i in range(48)]
GOOD = [make_info(f"good{i}", addresses=_NETWORKS[i % 3]) for i in range(6)]
GOSSIPS = [info.peer_id for info in JUNK[:3]]


@settings(max_examples=50)
@given(
    room=st.integers(8, 24),
    coming=st.lists(st.tuples(st.sampled_from(JUNK), st.sampled_from([None, *GOSSIPS])), max_size=80),
    answered=st.lists(st.sampled_from(GOOD), max_size=6),
)
def test_junk_never_evicts_a_host_that_answered(
    room: int, coming: list[tuple[HostInfo, PeerId | None]], answered: list[HostInfo]
) -> None:
    table = HostTable(max_hosts=room)
    for info in GOOD:
        table.merge(info, now=EPOCH)
    for info in answered:
        table.mark_useful(info.peer_id)
    for moment, (info, introducer) in enumerate(coming):
        table.merge(info, now=EPOCH + moment / 100, introducer=introducer)
        assert len(table) <= room
        hearsay = [host for host in table.live(EPOCH + 1) if host.introducer is not None]
        assert len(hearsay) <= max(1, room // 4)
        assert all(sum(host.introducer == who for host in hearsay) <= MAX_PER_INTRODUCER for who in GOSSIPS)
        for good in answered:
            assert table.known(good.peer_id, EPOCH + 1) is not None


@given(infos=st.lists(st.sampled_from(GOOD + JUNK[:8]), max_size=20), data=st.data())
def test_networks_do_not_matter_while_there_is_room(infos: list[HostInfo], data: st.DataObject) -> None:
    assert end_of(infos) == end_of(data.draw(st.permutations(infos)))


# What one liar makes up at no cost: networks for each record, and wallets for its one key or keys that it throws away.
_RENAMED = [
    make_info(
        "liar",
        operator=f"wallet {number}",
        sequence=number // (2 if contradicts else 1) + 1,
        addresses=(f"/ip4/11.{contradicts:d}.{number}.1/tcp/1",),
    )
    for contradicts in (False, True)
    for number in range(40)
]
_THROWN_AWAY = [
    make_info(f"thrown away {number}", make_description(model), addresses=(f"/ip4/12.0.{number}.1/tcp/1",))
    for number in range(80)
    for model in ("m", "n")
]
HONEST = [make_info(f"honest{i}", addresses=(f"/ip4/13.0.{i}.1/tcp/1",)) for i in range(8)]
GUILTY = [make_info(f"guilty{i}").peer_id for i in range(8)]


@settings(max_examples=50)
@given(
    is_thrown_away=st.booleans(),
    order=st.permutations(range(40)) | st.lists(st.integers(0, 79), min_size=20, max_size=60),
    introducers=st.lists(st.sampled_from([None, *GOSSIPS]), min_size=1, max_size=4),
    useful_at=st.sets(st.integers(0, 59)),
)
def test_what_one_liar_makes_up_takes_nothing_from_others(
    is_thrown_away: bool, order: list[int], introducers: list[PeerId | None], useful_at: set[int]
) -> None:
    """It comes from one network. It may have answered now and then, so that a row of it would be kept."""
    table = HostTable(max_hosts=16, max_banned=160)
    for info in HONEST:
        table.merge(info, now=EPOCH)
        table.mark_useful(info.peer_id)
    for peer_id in GUILTY:
        table.ban(peer_id, now=EPOCH, introducer=HONEST[0].peer_id, subnet="13.0.0.0/24")
    flood = [info for index in order for info in _THROWN_AWAY[2 * index : 2 * index + 2]]
    for moment, info in enumerate(flood if is_thrown_away else [_RENAMED[index] for index in order]):
        introducer = introducers[moment % len(introducers)]
        table.merge(info, now=EPOCH + 1, introducer=introducer, subnet="192.0.2.0/24")
        if moment in useful_at and not is_thrown_away:
            table.mark_useful(info.peer_id)
        assert len(table) <= 16
    assert all(table.known(info.peer_id, EPOCH + 1) for info in HONEST)
    assert set(table.banned) >= set(GUILTY)
    assert len(table.banned) <= len(GUILTY) + LEAST_PER_SUBNET + 160 // SUBNET_SHARE
    for number in range(6):
        newcomer = make_info(f"newcomer{number}", addresses=(f"/ip4/14.0.{number}.1/tcp/1",))
        assert table.merge(newcomer, now=EPOCH + 2) is Merge.ADDED
        assert table.known(newcomer.peer_id, EPOCH + 2) is not None
    assert all(table.known(info.peer_id, EPOCH + 2) for info in HONEST)
