"""The host table: newest wins, nothing comes back, junk cannot push out what is useful."""

from __future__ import annotations

import pytest
from discovery_world import EPOCH, make_description, make_info, make_key

from hostmesh.discovery import table as table_module
from hostmesh.discovery.bans import MAX_STRANGERS_PER_INTRODUCER, Familiarity
from hostmesh.discovery.description import HostState
from hostmesh.discovery.record import GRACE_S
from hostmesh.discovery.table import LEAST_PER_SUBNET, MAX_PAST_BYTES, MAX_PER_INTRODUCER, HostTable, Merge

HOST = make_key("host").peer_id
LAST_MOMENT = EPOCH + 120 + GRACE_S


def test_one_entry_a_host_however_often_it_is_named() -> None:
    """D7."""
    table = HostTable()
    info = make_info()
    assert table.merge(info, now=EPOCH) is Merge.ADDED
    assert table.merge(info, now=EPOCH, introducer=make_key("gossip").peer_id) is Merge.KNOWN
    assert [known.info for known in table.live(EPOCH)] == [info]


def test_the_newest_sequence_wins_in_either_order() -> None:
    old, new = make_info(sequence=1), make_info(sequence=2, issued=EPOCH + 1)
    for first, second, outcome in ((old, new, Merge.REPLACED), (new, old, Merge.OLDER)):
        table = HostTable()
        table.merge(first, now=EPOCH + 1)
        assert table.merge(second, now=EPOCH + 1) is outcome
        known = table.known(HOST, EPOCH + 1)
        assert known is not None
        assert known.info.sequence == 2


def test_a_host_is_gone_when_its_record_is_over() -> None:
    """D9: 150 s after its last record at the latest, nothing else having happened."""
    table = HostTable()
    table.merge(make_info(), now=EPOCH)
    assert len(table.live(LAST_MOMENT)) == 1
    assert table.live(LAST_MOMENT + 1) == []
    assert table.known(HOST, LAST_MOMENT + 1) is None


def test_an_expired_record_is_not_taken() -> None:
    assert HostTable().merge(make_info(), now=LAST_MOMENT + 1) is Merge.EXPIRED


def test_a_tombstone_keeps_the_record_it_replaced_away() -> None:
    table = HostTable()
    alive = make_info(sequence=5)
    gone = make_info(sequence=6, state=HostState.WITHDRAWN, life_s=1)
    table.merge(alive, now=EPOCH)
    assert table.merge(gone, now=EPOCH) is Merge.REPLACED
    assert table.live(EPOCH) == []
    # The tombstone itself is over long before the record could not be replayed any more.
    for now in (EPOCH + 1, EPOCH + 40, LAST_MOMENT):
        table.purge(now)
        assert table.merge(alive, now=now) is Merge.OLDER
        assert table.live(now) == []
    table.purge(LAST_MOMENT + 1)
    assert len(table) == 0
    assert table.merge(alive, now=LAST_MOMENT + 1) is Merge.EXPIRED


def test_a_tombstone_that_comes_first_counts_too() -> None:
    table = HostTable()
    table.merge(make_info(sequence=6, state=HostState.WITHDRAWN), now=EPOCH)
    assert table.merge(make_info(sequence=5), now=EPOCH) is Merge.OLDER
    assert table.live(EPOCH) == []


def test_a_short_lived_tombstone_that_comes_first_outlasts_what_it_replaced() -> None:
    """The record that it replaced was never seen here; it could still be replayed for most of two minutes."""
    table = HostTable()
    table.merge(make_info(sequence=6, state=HostState.WITHDRAWN, life_s=1), now=EPOCH)
    table.purge(EPOCH + 100)
    assert table.merge(make_info(sequence=5), now=EPOCH + 100) is Merge.OLDER
    assert table.live(EPOCH + 100) == []


def test_a_short_record_does_not_bring_a_longer_old_one_back() -> None:
    table = HostTable()
    long_lived, short = make_info(sequence=1, life_s=120), make_info(sequence=2, life_s=5)
    table.merge(long_lived, now=EPOCH)
    table.merge(short, now=EPOCH)
    now = EPOCH + 5 + GRACE_S + 1
    table.purge(now)
    assert table.merge(long_lived, now=now) is Merge.OLDER
    assert table.live(now) == []


def test_equivocation_bans_the_key() -> None:
    table = HostTable()
    one = make_info(sequence=3)
    other = make_info("host", make_description("another-model"), sequence=3)
    table.merge(one, now=EPOCH)
    assert table.merge(other, now=EPOCH) is Merge.EQUIVOCATION
    assert table.live(EPOCH) == []
    assert table.banned == (HOST,)
    assert table.merge(make_info(sequence=9), now=EPOCH) is Merge.BANNED
    assert table.merge(make_info(sequence=10, operator="another wallet"), now=EPOCH) is Merge.BANNED


def test_equivocation_is_seen_after_a_newer_record_came() -> None:
    table = HostTable()
    table.merge(make_info(sequence=3), now=EPOCH)
    table.merge(make_info(sequence=4), now=EPOCH)
    late = make_info("host", make_description("another-model"), sequence=3)
    assert table.merge(late, now=EPOCH) is Merge.EQUIVOCATION


def test_one_sequence_under_two_wallets_is_an_equivocation() -> None:
    table = HostTable()
    table.merge(make_info(sequence=3, operator="a"), now=EPOCH)
    assert table.merge(make_info(sequence=3, operator="b"), now=EPOCH) is Merge.EQUIVOCATION
    assert (table.live(EPOCH), table.banned, len(table)) == ([], (HOST,), 0)


def test_a_key_that_is_bound_to_another_wallet_replaces_its_row() -> None:
    old, new = make_info(sequence=3, operator="a"), make_info(sequence=4, operator="b")
    for first, second, outcome in ((old, new, Merge.REPLACED), (new, old, Merge.OLDER)):
        table = HostTable()
        table.merge(first, now=EPOCH)
        assert table.merge(second, now=EPOCH) is outcome
        assert [known.info.operator for known in table.live(EPOCH)] == [new.operator]
        assert len(table) == 1


def test_one_key_has_one_row_whatever_wallets_and_networks_it_names() -> None:
    """Otherwise one key that was useful once would fill the table with rows that nobody pushes out."""
    table = HostTable(max_hosts=64)
    for number in range(200):
        info = make_info("liar", operator=f"wallet{number}", sequence=number + 1, addresses=at(number))
        assert table.merge(info, now=EPOCH) in (Merge.ADDED, Merge.REPLACED)
        table.mark_useful(info.peer_id)
    assert (len(table), table.evicted) == (1, 0)
    for number in range(63):
        assert table.merge(make_info(f"honest{number}", addresses=at(number)), now=EPOCH) is Merge.ADDED
    assert (len(table), table.evicted) == (64, 0)


def test_a_guilty_key_without_room_for_its_ban_is_neither_taken_nor_told() -> None:
    """Nor may whoever brought it bring another one in its place."""
    table = HostTable(max_hosts=400)
    gossip = make_key("gossip").peer_id
    outcomes = []
    for index in range(MAX_STRANGERS_PER_INTRODUCER + MAX_PER_INTRODUCER + 2):
        table.merge(make_info(f"junk{index}"), now=EPOCH, introducer=gossip)
        outcomes.append(table.merge(make_info(f"junk{index}", make_description("n")), now=EPOCH, introducer=gossip))
    room = MAX_STRANGERS_PER_INTRODUCER + MAX_PER_INTRODUCER
    assert outcomes == [Merge.EQUIVOCATION] * room + [Merge.REFUSED] * 2
    assert len(table.banned) == MAX_STRANGERS_PER_INTRODUCER
    assert (table.live(EPOCH), len(table)) == ([], MAX_PER_INTRODUCER)
    last = f"junk{room - 1}"
    newer = make_info(last, sequence=9, issued=EPOCH + 100)
    assert table.merge(newer, now=EPOCH + 100) is Merge.BANNED, "from the host itself, too"
    table.purge(EPOCH + 120 + GRACE_S + 1)
    assert len(table) == 1, "as long as it is heard of"
    assert table.live(EPOCH + 120) == []
    proof = table.ban(newer.peer_id, now=EPOCH + 120, introducer=make_key("another").peer_id, proof=b"proof")
    assert proof is not None
    assert (newer.peer_id in table.bans, len(table)) == (True, 0)


def test_an_earlier_start_does_not_lengthen_the_uptime() -> None:
    table = HostTable()
    table.merge(make_info(sequence=1, started=EPOCH - 100), now=EPOCH)
    table.merge(make_info(sequence=2, started=EPOCH - 1_000_000), now=EPOCH)
    known = table.known(HOST, EPOCH)
    assert known is not None
    assert known.started_at_unix_s == EPOCH - 100


def test_a_full_table_drops_hearsay_first_then_what_never_answered() -> None:
    table = HostTable(max_hosts=4)
    gossip = make_key("gossip").peer_id
    table.merge(make_info("useful"), now=EPOCH)
    table.mark_useful(make_key("useful").peer_id)
    table.merge(make_info("hearsay"), now=EPOCH + 1, introducer=gossip)
    table.merge(make_info("first"), now=EPOCH + 2)
    table.merge(make_info("second"), now=EPOCH + 3)
    table.merge(make_info("third"), now=EPOCH + 4)
    assert table.known(make_key("hearsay").peer_id, EPOCH + 4) is None
    table.merge(make_info("fourth"), now=EPOCH + 5)
    assert table.known(make_key("first").peer_id, EPOCH + 5) is None
    assert table.known(make_key("useful").peer_id, EPOCH + 5) is not None
    assert (len(table), table.evicted) == (4, 2)


def test_a_flood_of_fresh_keys_does_not_touch_hosts_that_answered() -> None:
    table = HostTable(max_hosts=16)
    good = [f"good{i}" for i in range(8)]
    for name in good:
        table.merge(make_info(name), now=EPOCH)
        table.mark_useful(make_key(name).peer_id)
    for i in range(100):
        table.merge(make_info(f"junk{i}"), now=EPOCH + i / 10)
    assert len(table) == 16
    assert all(table.known(make_key(name).peer_id, EPOCH + 10) for name in good)


def test_one_introducer_brings_few() -> None:
    table = HostTable(max_hosts=400)
    gossip = make_key("gossip").peer_id
    outcomes = [table.merge(make_info(f"h{i}"), now=EPOCH, introducer=gossip) for i in range(MAX_PER_INTRODUCER + 2)]
    assert outcomes == [Merge.ADDED] * MAX_PER_INTRODUCER + [Merge.REFUSED] * 2
    # The host itself is believed about itself, and its entry is no hearsay any more.
    assert table.merge(make_info("h0"), now=EPOCH) is Merge.KNOWN
    assert table.merge(make_info("late"), now=EPOCH, introducer=gossip) is Merge.ADDED


def test_all_introducers_together_have_a_quarter() -> None:
    table = HostTable(max_hosts=8)
    outcomes = [table.merge(make_info(f"h{i}"), now=EPOCH, introducer=make_key(f"gossip{i}").peer_id) for i in range(4)]
    assert outcomes == [Merge.ADDED, Merge.ADDED, Merge.REFUSED, Merge.REFUSED]
    # What has run out makes room.
    assert (
        table.merge(make_info("new", issued=EPOCH + 200), now=EPOCH + 200, introducer=make_key("g").peer_id)
        is Merge.ADDED
    )


def test_bans_are_bounded_too() -> None:
    table = HostTable(max_banned=2)
    for i in range(3):
        table.merge(make_info(f"h{i}", sequence=1), now=EPOCH)
        table.merge(make_info(f"h{i}", make_description("other"), sequence=1), now=EPOCH)
    assert table.banned == (make_key("h1").peer_id, make_key("h2").peer_id)


def at(network: int, host: int = 1) -> tuple[str, ...]:
    return (f"/ip4/10.{network >> 8}.{network & 255}.{host}/tcp/4001",)


def test_a_crowded_network_gives_way_before_a_lonely_one() -> None:
    table = HostTable(max_hosts=8)
    for i in range(4):
        table.merge(make_info(f"lonely{i}", addresses=at(i)), now=EPOCH)
    for i in range(20):
        table.merge(make_info(f"crowd{i}", addresses=at(99, i)), now=EPOCH + 1 + i)
    assert all(table.known(make_key(f"lonely{i}").peer_id, EPOCH + 30) for i in range(4))
    assert [i for i in range(20) if table.known(make_key(f"crowd{i}").peer_id, EPOCH + 30)] == [16, 17, 18, 19]


def test_a_network_holds_its_share_even_of_an_empty_table() -> None:
    table = HostTable(max_hosts=4096)
    answered = make_key("answered").peer_id
    table.merge(make_info("answered", addresses=at(1)), now=EPOCH)
    table.mark_useful(answered)
    outcomes = {table.merge(make_info(f"junk{i}", addresses=at(1, i % 250)), now=EPOCH + i / 100) for i in range(600)}
    assert outcomes == {Merge.ADDED}
    assert len(table) == 512
    assert table.known(answered, EPOCH + 10) is not None
    assert table.merge(make_info("elsewhere", addresses=at(2)), now=EPOCH + 10) is Merge.ADDED


def test_hosts_that_answered_are_not_pushed_out_of_their_network() -> None:
    table = HostTable(max_hosts=100)
    names = [f"good{i}" for i in range(LEAST_PER_SUBNET)]
    for name in names:
        table.merge(make_info(name, addresses=at(1)), now=EPOCH)
        table.mark_useful(make_key(name).peer_id)
    assert table.merge(make_info("junk", addresses=at(1)), now=EPOCH + 1) is Merge.REFUSED
    # Nor by moving in from elsewhere, nor by naming many networks.
    assert table.merge(make_info("junk", addresses=at(2)), now=EPOCH + 1) is Merge.ADDED
    moved = make_info("junk", addresses=at(2) + at(1), sequence=2)
    assert table.merge(moved, now=EPOCH + 2) is Merge.REFUSED
    assert all(table.known(make_key(name).peer_id, EPOCH + 2) for name in names)


def test_a_tombstone_stays_where_its_host_was() -> None:
    table = HostTable(max_hosts=100)
    for i in range(LEAST_PER_SUBNET):
        table.merge(make_info(f"h{i}", addresses=at(1)), now=EPOCH)
        table.merge(make_info(f"h{i}", sequence=2, state=HostState.WITHDRAWN), now=EPOCH)
    assert len(table) == LEAST_PER_SUBNET
    assert table.merge(make_info("new", addresses=at(1)), now=EPOCH) is Merge.ADDED
    assert len(table) == LEAST_PER_SUBNET, "one tombstone had to go for it"


def test_a_guilty_key_gives_way_first() -> None:
    table = HostTable(max_hosts=LEAST_PER_SUBNET)
    gossip = make_key("gossip").peer_id
    table.merge(make_info("heard", addresses=at(1)), now=EPOCH, introducer=make_key("another").peer_id)
    table.merge(make_info("guilty", addresses=at(2)), now=EPOCH + 1, introducer=gossip)
    for index in range(MAX_STRANGERS_PER_INTRODUCER):
        table.ban(make_key(f"junk{index}").peer_id, now=EPOCH + 1, introducer=gossip)
    other = make_info("guilty", make_description("n"), addresses=at(2))
    assert table.merge(other, now=EPOCH + 1, introducer=gossip) is Merge.EQUIVOCATION
    assert other.peer_id not in table.bans
    for index in range(LEAST_PER_SUBNET - 1):
        table.merge(make_info(f"h{index}", addresses=at(3 + index)), now=EPOCH + 2)
    assert table.known(make_key("heard").peer_id, EPOCH + 2) is not None
    assert len(table) == LEAST_PER_SUBNET


def test_a_table_that_empties_counts_nobody() -> None:
    table = HostTable(max_hosts=100)
    for round_ in range(3):
        now = EPOCH + 1000 * round_
        for i in range(LEAST_PER_SUBNET):
            info = make_info(f"h{i}", addresses=at(1), issued=now, sequence=round_ + 1)
            assert table.merge(info, now=now) in (Merge.ADDED, Merge.REPLACED)
        table.purge(now + 500)
        assert len(table) == 0


def test_what_a_contradiction_contradicts_is_kept() -> None:
    table = HostTable()
    old, new = make_info(sequence=3), make_info(sequence=4)
    late = make_info("host", make_description("another-model"), sequence=3)
    assert table.seen(late) is None
    table.merge(old, now=EPOCH)
    assert table.seen(late) == old.signed
    table.merge(new, now=EPOCH)
    assert table.seen(late) == old.signed
    assert table.seen(make_info(sequence=4, operator="another wallet")) == new.signed
    assert table.seen(make_info(sequence=5)) is None


def test_what_came_too_late_is_kept_too() -> None:
    table = HostTable()
    table.merge(make_info(sequence=4), now=EPOCH)
    old = make_info(sequence=3)
    table.merge(old, now=EPOCH)
    assert table.seen(make_info("host", make_description("another-model"), sequence=3)) == old.signed


def test_superseded_records_have_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_PAST_BYTES == 8 * 1024 * 1024
    infos = [make_info(sequence=sequence) for sequence in range(1, 6)]
    monkeypatch.setattr(table_module, "MAX_PAST_BYTES", 2 * len(infos[0].signed) + 10)
    table = HostTable()
    for info in infos:
        table.merge(info, now=EPOCH)
    assert [table.seen(info) is not None for info in infos] == [False, False, True, True, True]


def test_how_well_a_banned_key_was_known() -> None:
    gossip = make_key("gossip").peer_id
    table = HostTable()
    table.merge(make_info("used"), now=EPOCH)
    table.mark_useful(make_key("used").peer_id)
    table.merge(make_info("seen"), now=EPOCH)
    table.merge(make_info("heard"), now=EPOCH, introducer=gossip)
    for name in ("used", "seen", "heard"):
        other = make_info(name, make_description("other"))
        assert table.merge(other, now=EPOCH, introducer=gossip) is Merge.EQUIVOCATION
    ban = table.ban(make_key("never met").peer_id, now=EPOCH, introducer=gossip, proof=b"proof")
    assert ban is not None
    assert (ban.familiarity, ban.introducer, ban.proof) == (Familiarity.STRANGER, gossip, b"proof")
    known = {each.peer_id: each.familiarity for each in table.bans}
    assert known == {
        make_key("used").peer_id: Familiarity.USED,
        make_key("seen").peer_id: Familiarity.SEEN,
        make_key("heard").peer_id: Familiarity.STRANGER,
        make_key("never met").peer_id: Familiarity.STRANGER,
    }
    assert len(table) == 0


@pytest.mark.parametrize("bounds", [{"max_hosts": 3}, {"max_banned": 0}])
def test_a_table_has_some_room(bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        HostTable(**bounds)
