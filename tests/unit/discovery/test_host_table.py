"""The host table: newest wins, nothing comes back, junk cannot push out what is useful."""

from __future__ import annotations

import pytest
from discovery_world import EPOCH, make_description, make_info, make_key

from hostmesh.discovery.description import HostState
from hostmesh.discovery.record import GRACE_S
from hostmesh.discovery.table import MAX_PER_INTRODUCER, HostTable, Merge

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


def test_the_same_sequence_under_two_wallets_is_no_equivocation() -> None:
    table = HostTable()
    table.merge(make_info(sequence=3, operator="a"), now=EPOCH)
    assert table.merge(make_info(sequence=3, operator="b", issued=EPOCH + 1), now=EPOCH + 1) is Merge.ADDED
    known = table.live(EPOCH + 1)
    assert len(known) == 1, "one entry a peer"
    assert known[0].info.issued_at_unix_s == EPOCH + 1


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


@pytest.mark.parametrize("bounds", [{"max_hosts": 3}, {"max_banned": 0}])
def test_a_table_has_some_room(bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        HostTable(**bounds)
