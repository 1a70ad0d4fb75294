"""Revoked epochs: the highest wins, junk pushes out its own like, and a restart forgets none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.discovery.revocation_store import RevocationStore
from hostmesh.discovery.revocations import LIFE_S, MAX_REVOCATIONS, RENEWAL_S, RevocationBook, RevokedEpoch
from hostmesh.discovery.room import STRANGERS_SHARE, SUBNET_SHARE, Familiarity
from hostmesh.errors import StoreError
from hostmesh.identity.revocation import REVOCATION_LIFE_S
from hostmesh.net.peer_id import PeerId

NOW = 1_700_000_000.0
WALLET, OTHER_WALLET = b"w" * 20, b"o" * 20
HOST = PeerId("host")
MAX_EPOCH = 2**64 - 1


def entry(
    name: str = "host",
    least_epoch: int = 3,
    *,
    operator: bytes = WALLET,
    told_at: float = NOW,
    until: float = NOW + LIFE_S,
    familiarity: Familiarity = Familiarity.SEEN,
    subnet: str = "192.0.2.0/24",
    signed: bytes | None = b"signed",
) -> RevokedEpoch:
    return RevokedEpoch(
        operator=operator,
        peer_id=PeerId(name),
        least_epoch=least_epoch,
        told_at_unix_s=told_at,
        expires_at_unix_s=until,
        familiarity=familiarity,
        subnet=subnet,
        signed=signed,
    )


def test_an_entry_lives_as_long_as_a_revocation() -> None:
    assert LIFE_S == REVOCATION_LIFE_S


def test_the_highest_epoch_wins_in_any_order() -> None:
    for epochs in ((3, 7, 5), (7, 5, 3)):
        book = RevocationBook()
        for epoch in epochs:
            book.put(entry(least_epoch=epoch))
        assert book.least_epoch(WALLET, HOST, NOW) == 7


def test_it_is_of_one_wallet_and_one_key() -> None:
    book = RevocationBook()
    book.put(entry())
    assert book.least_epoch(OTHER_WALLET, HOST, NOW) == 0
    assert book.least_epoch(WALLET, PeerId("another"), NOW) == 0


def test_it_ends_when_nothing_that_it_concerns_is_accepted() -> None:
    book = RevocationBook()
    book.put(entry())
    assert book.least_epoch(WALLET, HOST, NOW + LIFE_S) == 3
    assert book.least_epoch(WALLET, HOST, NOW + LIFE_S + 1) == 0
    book.purge(NOW + LIFE_S)
    assert len(book) == 1
    book.purge(NOW + LIFE_S + 1)
    assert len(book) == 0


def test_what_says_nothing_new_changes_nothing() -> None:
    book = RevocationBook()
    first = book.put(entry())
    assert first is not None
    assert book.put(entry()) is None
    assert book.put(entry(least_epoch=2, until=NOW + LIFE_S + RENEWAL_S - 1)) is None
    assert book.get(WALLET, HOST) is first
    longer = book.put(entry(until=NOW + LIFE_S + RENEWAL_S))
    assert longer is not None
    assert longer.expires_at_unix_s == NOW + LIFE_S + RENEWAL_S


def test_a_bindings_epoch_leaves_the_wallets_word_in_its_place() -> None:
    book = RevocationBook()
    book.put(entry(signed=b"word"))
    known = book.put(entry(least_epoch=9, signed=None))
    assert known is not None
    assert (known.least_epoch, known.signed) == (9, b"word")
    later = book.put(entry(least_epoch=10, signed=b"later word"))
    assert later is not None
    assert later.signed == b"later word"


def test_when_the_highest_epoch_was_told_is_kept() -> None:
    book, store = RevocationBook(), RevocationStore(None)
    for epoch, told_at in ((3, NOW), (3, NOW + 5), (5, NOW + 10), (4, NOW + 20), (5, NOW + 2 * RENEWAL_S)):
        each = entry(least_epoch=epoch, told_at=told_at, until=told_at + LIFE_S)
        book.put(each)
        store.put("net", each, now=NOW)
    known, (kept,) = book.get(WALLET, HOST), store.load("net")
    assert known is not None
    assert (known.told_at_unix_s, kept.told_at_unix_s) == (NOW + 10, NOW + 10)


def test_a_flood_from_one_network_pushes_out_its_own_like() -> None:
    book = RevocationBook()
    for number in range(64):
        book.put(entry(f"honest{number}", familiarity=Familiarity.STRANGER, subnet=f"10.0.{number % 8}.0/24"))
    for number in range(2000):
        book.put(entry(f"junk{number}", familiarity=Familiarity.STRANGER, subnet="203.0.113.0/24"))
    names = {each.peer_id for each in book}
    assert {PeerId(f"honest{number}") for number in range(64)} <= names
    assert len(names) == 64 + MAX_REVOCATIONS // STRANGERS_SHARE // SUBNET_SHARE


@given(
    coming=st.lists(
        st.tuples(st.integers(0, 60), st.sampled_from(Familiarity), st.integers(0, 4), st.integers(1, 5)), max_size=80
    ),
    room=st.integers(1, 24),
)
def test_nothing_goes_for_what_was_known_less(coming: list[tuple[int, Familiarity, int, int]], room: int) -> None:
    book = RevocationBook(room)
    for name, familiarity, subnet, epoch in coming:
        before = {each.peer_id: each.familiarity for each in book}
        book.put(entry(f"{name}", epoch, familiarity=familiarity, subnet=f"10.0.{subnet}.0/24"))
        gone = before.keys() - {each.peer_id for each in book}
        assert all(before[peer_id] <= familiarity for peer_id in gone)
        assert len(book) <= room


def test_a_wallets_word_outlives_the_binding_epochs_of_others_here_and_on_disk() -> None:
    """Every host with a binding of a later epoch has an entry: honest growth would push signed revocations out."""
    book, store = RevocationBook(), RevocationStore(None)
    of_bindings = [
        entry(f"host {number}", subnet=f"10.0.{number % 9}.0/24", signed=None) for number in range(MAX_REVOCATIONS + 76)
    ]
    for each in [entry("stolen", signed=b"the wallet's word"), *of_bindings]:
        book.put(each)
        store.put("net", each, now=0.0)
    for kept in (list(book), store.load("net")):
        assert len(kept) == MAX_REVOCATIONS
        assert [each.peer_id for each in kept if each.signed is not None] == ["stolen"]
        assert kept[-1].peer_id == of_bindings[-1].peer_id, "of those that follow from bindings the oldest went"
    store.close()


def test_only_the_word_of_wallets_whose_hosts_were_known_is_told() -> None:
    book = RevocationBook()
    book.put(entry("seen", signed=b"seen"))
    book.put(entry("used", signed=b"used", familiarity=Familiarity.USED))
    book.put(entry("stranger", signed=b"stranger", familiarity=Familiarity.STRANGER))
    book.put(entry("bound anew", signed=None))
    book.put(entry("over", signed=b"over", until=NOW - 1))
    assert sorted(book.to_tell(16, now=NOW, lot=b"")) == [b"seen", b"used"]
    assert book.to_tell(0, now=NOW, lot=b"") == []


def test_which_are_told_is_drawn_anew_for_each_asker() -> None:
    book = RevocationBook()
    for number in range(100):
        book.put(entry(f"host{number}", signed=b"%d" % number, subnet=f"10.0.{number % 8}.0/24"))
    told = [book.to_tell(4, now=NOW, lot=b"asker %d" % asker) for asker in range(400)]
    assert {len(each) for each in told} == {4}
    assert len({signed for each in told for signed in each}) == 100


def test_a_book_has_some_room() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RevocationBook(0)


# --- on disk ---


def test_entries_are_kept_without_closing(tmp_path: Path) -> None:
    """As after kill -9: the first store is never closed."""
    path = tmp_path / "revocations.sqlite3"
    first = RevocationStore(path)
    kept = [entry("a"), entry("b", MAX_EPOCH, familiarity=Familiarity.USED), entry("c", signed=None)]
    for each in kept:
        first.put("net", each, now=NOW)
    first.put("other", entry("elsewhere"), now=NOW)
    second = RevocationStore(path)
    assert second.load("net") == kept
    assert second.load("other") == [entry("elsewhere")]
    assert second.load("third") == []


@given(st.lists(st.integers(1, MAX_EPOCH), min_size=1, max_size=6))
def test_two_processes_lower_no_epoch(epochs: list[int]) -> None:
    store = RevocationStore(None)
    for epoch in epochs:
        store.put("net", entry(least_epoch=epoch), now=NOW)
    (kept,) = store.load("net")
    assert kept.least_epoch == max(epochs)
    store.close()


def test_the_file_is_bounded_and_drops_what_is_over() -> None:
    store = RevocationStore(None)
    store.put("net", entry("over", until=NOW - 1), now=NOW - 10)
    for number in range(MAX_REVOCATIONS // STRANGERS_SHARE + 40):
        subnet = f"10.0.{number % 16}.0/24"
        store.put("net", entry(f"{number}", familiarity=Familiarity.STRANGER, subnet=subnet), now=NOW)
    kept = store.load("net")
    assert len(kept) == MAX_REVOCATIONS // STRANGERS_SHARE
    assert kept[-1].peer_id == f"{MAX_REVOCATIONS // STRANGERS_SHARE + 39}"


def test_what_cannot_be_kept_says_so() -> None:
    store = RevocationStore(None)
    store.close()
    with pytest.raises(StoreError):
        store.put("net", entry(), now=NOW)
