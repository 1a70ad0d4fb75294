"""Bans: what was known better stays, one peer and one network tell of few, and a restart forgets nothing."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostmesh.discovery import room as room_module
from hostmesh.discovery import store as store_module
from hostmesh.discovery.bans import (
    INTRODUCER_WINDOW_S,
    LEAST_PER_SUBNET,
    MAX_BANS,
    MAX_STRANGERS_PER_INTRODUCER,
    STRANGERS_SHARE,
    SUBNET_SHARE,
    Ban,
    BanList,
    Familiarity,
)
from hostmesh.discovery.store import BanStore
from hostmesh.discovery.subnet import NOWHERE
from hostmesh.errors import StoreError, StoreTooNewError
from hostmesh.net.peer_id import PeerId

NOW = 1_900_000_000.0
GOSSIP = PeerId("gossip")
MAX_STRANGERS = MAX_BANS // STRANGERS_SHARE


def ban(
    name: str,
    familiarity: Familiarity = Familiarity.STRANGER,
    *,
    at: float = NOW,
    by: PeerId | None = None,
    subnet: str = NOWHERE,
    proof: bytes | None = None,
) -> Ban:
    return Ban(
        peer_id=PeerId(name),
        banned_at_unix_s=at,
        familiarity=familiarity,
        introducer=by,
        subnet=subnet,
        proof=proof,
    )


def test_strangers_have_a_quarter_and_push_out_their_own_like() -> None:
    bans = BanList(16)
    bans.add(ban("used", Familiarity.USED, at=NOW - 1e6))
    bans.add(ban("seen", Familiarity.SEEN, at=NOW - 1e6))
    for index in range(100):
        assert bans.add(ban(f"junk{index}", at=NOW + index))
    assert bans.peer_ids == ("used", "seen", "junk96", "junk97", "junk98", "junk99")


def test_who_was_known_less_goes_first() -> None:
    bans = BanList(4)
    for name, familiarity in (("stranger", 0), ("used", 2), ("seen", 1), ("used too", 2)):
        bans.add(ban(name, Familiarity(familiarity)))
    assert bans.add(ban("late", Familiarity.SEEN, at=NOW + 1))
    assert "stranger" not in bans
    assert bans.add(ban("later", Familiarity.SEEN, at=NOW + 2))
    assert bans.peer_ids == ("used", "used too", "late", "later")
    for name in ("third", "fourth"):
        assert bans.add(ban(name, Familiarity.USED, at=NOW + 3))
    assert not bans.add(ban("seen now", Familiarity.SEEN, at=NOW + 4)), "all others were used"
    assert bans.peer_ids == ("used", "used too", "third", "fourth")


def test_one_peer_tells_of_few_strangers_an_hour() -> None:
    bans = BanList()
    for index in range(MAX_STRANGERS_PER_INTRODUCER):
        assert bans.add(ban(f"junk{index}", by=GOSSIP))
    assert not bans.may_tell(GOSSIP, NOW)
    assert not bans.add(ban("more", by=GOSSIP))
    assert "more" not in bans
    assert bans.add(ban("of another", by=PeerId("another")))
    assert bans.add(ban("known here", Familiarity.SEEN, by=GOSSIP))
    assert bans.add(ban("later", at=NOW + INTRODUCER_WINDOW_S, by=GOSSIP))


@pytest.mark.parametrize("step_s", [-600.0, -3599.0, 3599.0])
def test_a_clock_that_steps_gives_nobody_another_hour(step_s: float) -> None:
    bans = BanList()
    for index in range(MAX_STRANGERS_PER_INTRODUCER):
        assert bans.add(ban(f"before{index}", by=GOSSIP))
    assert not bans.may_tell(GOSSIP, NOW + step_s)
    assert not bans.add(ban("after", at=NOW + step_s, by=GOSSIP))


def test_a_clock_that_stepped_back_makes_no_ban_older() -> None:
    """The newest stays, also where the clock says that it is the oldest."""
    bans = BanList(8)
    for index in range(4):
        assert bans.add(ban(f"junk{index}", at=NOW - 1000 * index))
    assert bans.peer_ids == ("junk2", "junk3")


def test_one_network_takes_an_eighth_of_the_strangers_room() -> None:
    bans = BanList()
    share = MAX_STRANGERS // SUBNET_SHARE
    assert share == 32
    for index in range(MAX_STRANGERS - share):
        bans.add(ban(f"of others{index}", by=PeerId(f"peer{index}"), subnet=f"10.0.{index // 16}.0/24"))
    for index in range(1000):
        assert bans.add(ban(f"junk{index}", by=PeerId(f"by{index}"), subnet="192.0.2.0/24"))
    kept = [each.peer_id for each in bans if each.subnet == "192.0.2.0/24"]
    assert kept == [f"junk{index}" for index in range(1000 - share, 1000)]
    assert len(bans) == MAX_STRANGERS, "and nobody else's had to go"


def test_one_network_takes_an_eighth_of_the_room_with_keys_that_spoke_to_us() -> None:
    """A peer may connect with a fresh key each time and contradict itself to our face."""
    bans = BanList()
    assert bans.add(ban("used", Familiarity.USED, subnet="192.0.2.0/24"))
    for index in range(MAX_BANS):
        bans.add(ban(f"junk{index}", Familiarity.SEEN, subnet="192.0.2.0/24"))
    assert len(bans) == MAX_BANS // SUBNET_SHARE
    assert "used" in bans
    assert bans.add(ban("elsewhere", subnet="198.51.100.0/24"))


def test_a_small_list_leaves_a_network_some_room() -> None:
    bans = BanList(32)
    for index in range(32):
        bans.add(ban(f"seen{index}", Familiarity.SEEN, subnet="192.0.2.0/24"))
    assert len(bans) == LEAST_PER_SUBNET


def test_what_was_told_before_is_put_in_whoever_told_it() -> None:
    earlier = [ban(f"earlier{index}", at=NOW + 60 * index, by=GOSSIP) for index in range(30)]
    bans = BanList()
    bans.add(ban("now", Familiarity.SEEN))
    bans.restore(earlier)
    assert bans.peer_ids == (*(each.peer_id for each in earlier), "now")
    assert not bans.may_tell(GOSSIP, NOW), "and it counts"


def test_a_second_ban_only_brings_a_proof() -> None:
    bans = BanList()
    assert bans.add(ban("host", Familiarity.SEEN, by=GOSSIP))
    assert not bans.add(ban("host", Familiarity.USED, at=NOW + 1))
    assert bans.add(ban("host", Familiarity.USED, at=NOW + 1, proof=b"proof"))
    assert bans.get(PeerId("host")) == ban("host", Familiarity.SEEN, by=GOSSIP, proof=b"proof")
    assert not bans.add(ban("host", proof=b"another"))
    assert len(bans) == 1


def test_a_list_has_some_room() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        BanList(0)
    only = BanList(1)
    assert only.add(ban("a"))
    assert only.add(ban("b", Familiarity.USED))
    assert not only.add(ban("c"))
    assert only.peer_ids == ("b",)


@given(
    room=st.integers(1, 12),
    coming=st.lists(st.tuples(st.integers(0, 40), st.sampled_from(Familiarity), st.integers(0, 3)), max_size=60),
)
def test_no_ban_goes_for_one_that_was_known_less(room: int, coming: list[tuple[int, Familiarity, int]]) -> None:
    bans = BanList(room)
    for at, (name, familiarity, introducer) in enumerate(coming):
        before = {each.peer_id: each.familiarity for each in bans}
        bans.add(ban(str(name), familiarity, at=NOW + at, by=PeerId(f"by {introducer}")))
        gone = set(before) - set(bans.peer_ids)
        assert all(before[peer_id] <= familiarity for peer_id in gone)
        assert len(bans) <= room
        assert sum(each.familiarity is Familiarity.STRANGER for each in bans) <= max(1, room // 4)


# --- on disk ---


def test_bans_and_their_proofs_are_kept_without_closing(tmp_path: Path) -> None:
    """As after kill -9: the first store is never closed."""
    path = tmp_path / "bans.sqlite3"
    first = BanStore(path)
    kept = [
        ban("stranger", by=GOSSIP, subnet="192.0.2.0/24", proof=b"a"),
        ban("seen", Familiarity.SEEN),
        ban("used", Familiarity.USED, proof=bytes(21_520)),
    ]
    for each in kept:
        first.put("net", each)
    first.put("other", ban("elsewhere"))
    second = BanStore(path)
    assert second.load("net") == kept
    assert second.load("other") == [ban("elsewhere")]
    assert second.load("third") == []
    first.close()
    second.close()
    second.close()


def test_a_key_that_is_kept_only_gains_a_proof() -> None:
    store = BanStore(None)
    store.put("net", ban("host", Familiarity.SEEN))
    store.put("net", ban("host", Familiarity.USED, at=NOW + 1, proof=b"first"))
    store.put("net", ban("host", proof=b"second"))
    assert store.load("net") == [ban("host", Familiarity.SEEN, proof=b"first")]


def test_the_file_is_bounded_as_the_list_is() -> None:
    store = BanStore(None)
    store.put("net", ban("used", Familiarity.USED, at=0))
    store.put("other", ban("elsewhere", at=0))
    for index in range(MAX_STRANGERS + 3):
        store.put("net", ban(f"junk{index}", at=NOW + index, subnet=f"10.0.{index % 16}.0/24"))
    kept = store.load("net")
    assert len(kept) == MAX_STRANGERS + 1
    assert [kept[0].peer_id, kept[1].peer_id] == ["used", "junk3"]
    for index in range(MAX_BANS):
        store.put("net", ban(f"seen{index}", Familiarity.SEEN, at=NOW + index, subnet=f"10.0.{index % 16}.0/24"))
    kept = store.load("net")
    assert [kept[0].peer_id, kept[1].peer_id, len(kept)] == ["used", "seen1", MAX_BANS]
    for index in range(MAX_BANS // SUBNET_SHARE + 9):
        store.put("net", ban(f"late{index}", Familiarity.SEEN, subnet="192.0.2.0/24"))
    assert sum(each.subnet == "192.0.2.0/24" for each in store.load("net")) == MAX_BANS // SUBNET_SHARE
    assert len(store.load("other")) == 1


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 30),
            st.sampled_from(Familiarity),
            st.integers(0, 2),
            st.integers(0, 3),
            st.sampled_from([0, 0, 1, -600, 5000]),
        ),
        min_size=10,
        max_size=60,
    )
)
def test_the_file_holds_what_the_list_holds(coming: list[tuple[int, Familiarity, int, int, int]]) -> None:
    """Whatever the clock does, and also what a new process reads from it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "MAX_BANS", 12)
        patch.setattr(room_module, "LEAST_PER_SUBNET", 2)
        bans, store, now = BanList(12), BanStore(None), NOW
        for name, familiarity, introducer, subnet, step_s in coming:
            now += step_s
            new = ban(str(name), familiarity, at=now, by=PeerId(f"by {introducer}"), subnet=f"10.0.{subnet}.0/24")
            if bans.add(new):
                store.put("net", new)
        assert store.load("net") == list(bans)
        again = BanList(12)
        again.restore(store.load("net"))
        assert list(again) == list(bans)
        store.close()


def test_bans_of_a_file_without_networks_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bans.sqlite3"
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_BAN_MIGRATIONS", store_module._BAN_MIGRATIONS[:1])
        BanStore(path).close()
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO bans VALUES ('net', 'host', ?, 1, 'gossip', x'70')", (NOW,))
    database.close()
    store = BanStore(path)
    assert store.load("net") == [ban("host", Familiarity.SEEN, by=GOSSIP, proof=b"p")]
    store.close()


def test_a_file_that_is_no_store_or_a_newer_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bans.sqlite3"
    path.write_bytes(b"no database at all, but long enough to be looked at" * 20)
    with pytest.raises(StoreError):
        BanStore(path)
    newer = tmp_path / "newer.sqlite3"
    with sqlite3.connect(newer) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreTooNewError):
        BanStore(newer)
