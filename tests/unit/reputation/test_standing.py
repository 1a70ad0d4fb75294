"""Blacklist, preferences, cooldowns: what is said of a host, and until when."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hostmesh.errors import ConfigError, InvalidAddressError, StoreError, StoreTooNewError, UsageError
from hostmesh.net.peer_id import PeerId, peer_id_from_public_key
from hostmesh.reputation.standing import (
    FIRST_PAUSE_S,
    TRIAL_S,
    StandingList,
    make_listing,
)
from hostmesh.reputation.standing_book import StandingBook
from hostmesh.reputation.standing_store import SCHEMA_VERSION, StandingStore
from hostmesh.store import Store
from hostmesh.system import System

A, B = (peer_id_from_public_key(bytes([number]) * 32) for number in (1, 2))
WALLET, OTHER = "0x" + "ab" * 20, "0x" + "cd" * 20


@dataclass
class Clock:
    now: float = 1_700_000_000.0

    @property
    def system(self) -> System:
        return System(unix_s=lambda: self.now)


@pytest.fixture(autouse=True)
def closed_after_the_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made: list[Store] = []
    make = Store.__init__

    def remember(self: Store, *args: object, **options: object) -> None:
        make(self, *args, **options)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(Store, "__init__", remember)
    yield
    for store in made:
        store.close()


def book_at(clock: Clock, path: Path | None = None) -> StandingBook:
    return StandingBook(path, system=clock.system)


def test_of_a_host_of_whom_nothing_was_said_nothing_is_said() -> None:
    standing = book_at(Clock()).of(A, WALLET)
    assert (standing.barred, standing.priority) == ("", 0)


def test_an_expired_blacklisting_bars_nobody_without_any_check_call() -> None:
    """Regression D2: expiry is judged when it is read."""
    clock = Clock()
    book = book_at(clock)
    book.blacklist(A, "slow", ttl_s=60)
    clock.now += 59.9
    assert book.of(A, WALLET).barred == "blacklisted: slow"
    clock.now += 0.1
    assert book.of(A, WALLET).barred == ""
    assert book.listings() == ()


def test_a_blacklisting_without_an_end_holds_until_it_is_removed() -> None:
    clock = Clock()
    book = book_at(clock)
    book.blacklist(A)
    clock.now += 1e9
    assert book.of(A, WALLET).barred == "blacklisted"
    assert book.unblacklist(A)
    assert not book.unblacklist(A)
    assert book.of(A, WALLET).barred == ""


def test_a_wallet_covers_all_its_peers_in_either_case() -> None:
    book = book_at(Clock())
    book.blacklist(WALLET.upper().replace("0X", "0x"), "cheats")
    assert book.of(A, WALLET).barred == book.of(B, WALLET).barred == "its operator is blacklisted: cheats"
    assert book.of(A, OTHER).barred == ""
    assert book.unblacklist(WALLET)
    assert book.of(A, WALLET).barred == ""


def test_a_host_both_blacklisted_and_preferred_is_barred() -> None:
    book = book_at(Clock())
    book.prefer(A, 5)
    book.blacklist(WALLET)
    standing = book.of(A, WALLET)
    assert (standing.barred, standing.priority) == ("its operator is blacklisted", 5)


def test_a_peers_own_preference_beats_its_wallets_and_ends_by_itself() -> None:
    clock = Clock()
    book = book_at(clock)
    book.prefer(WALLET, 9)
    book.prefer(A, 3, ttl_s=10)
    assert (book.of(A, WALLET).priority, book.of(B, WALLET).priority) == (3, 9)
    clock.now += 10
    assert book.of(A, WALLET).priority == 9
    assert book.unprefer(WALLET)
    assert not book.unprefer(WALLET)
    assert book.of(A, WALLET).priority == 0


def test_failures_pause_for_twice_as_long_each_and_a_success_clears_them() -> None:
    clock = Clock()
    book = book_at(clock)
    paused_s = []
    for _ in range(13):
        book.record_outcome(A, good=False)
        began = clock.now
        while book.of(A, WALLET).barred:
            clock.now += 5
        paused_s.append(clock.now - began)
    assert paused_s == [15, 30, 60, 120, *(600 * 2**doubled for doubled in range(8)), 86_400]
    for _ in range(3):
        book.record_outcome(A, good=True)
    book.record_outcome(A, good=False)
    assert book.of(A, WALLET).barred == f"paused after a failure, for {FIRST_PAUSE_S:.0f} s more"
    assert book.of(B, WALLET).barred == ""  # a pause is of the peer, not of its operator


def test_after_the_pause_one_trial_at_a_time_goes_through() -> None:
    clock = Clock()
    book = book_at(clock)
    assert book.begin_trial(A)
    assert book.begin_trial(A)  # no trial: nothing is held against it
    book.record_outcome(A, good=False)
    assert not book.begin_trial(A)
    clock.now += FIRST_PAUSE_S
    assert book.of(A, WALLET).barred == ""
    assert book.begin_trial(A)
    assert not book.begin_trial(A)
    assert book.of(A, WALLET).barred == "on trial after a failure"
    clock.now += TRIAL_S  # nothing was heard of the trial
    assert book.begin_trial(A)
    book.record_outcome(A, good=False)
    assert book.of(A, WALLET).barred == "paused after 2 failures, for 30 s more"
    clock.now += 30
    assert book.begin_trial(A)
    book.record_outcome(A, good=True)
    assert book.begin_trial(A)
    assert book.begin_trial(A)


def test_taking_a_host_from_the_blacklist_ends_its_pause() -> None:
    book = book_at(Clock())
    book.record_outcome(A, good=False)
    assert book.unblacklist(A)
    assert book.of(A, WALLET).barred == ""


def test_a_clock_that_was_set_back_does_not_pause_a_host_for_ever() -> None:
    clock = Clock()
    book = book_at(clock)
    book.record_outcome(A, good=False)
    clock.now -= 86_400
    assert book.of(A, WALLET).barred == ""


def test_everything_survives_a_process_that_never_closed(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "data" / "standings.sqlite3"
    book = book_at(clock, path)
    book.blacklist(A, "slow", ttl_s=60)
    book.prefer(WALLET, 2)
    book.record_outcome(B, good=False)
    clock.now += FIRST_PAUSE_S
    book.record_outcome(B, good=False)
    again = book_at(clock, path)
    assert again.of(A, OTHER).barred == "blacklisted: slow"
    assert again.of(B, WALLET).priority == 2
    assert again.of(B, OTHER).barred == "paused after 2 failures, for 30 s more"
    assert [(listing.name, listing.priority, listing.reason) for listing in again.listings()] == [
        (A, None, "slow"),
        (WALLET, 2, ""),
    ]


def test_two_processes_see_what_the_other_wrote(tmp_path: Path) -> None:
    clock = Clock()
    one, two = book_at(clock, tmp_path / "s"), book_at(clock, tmp_path / "s")
    assert two.of(A, WALLET).barred == ""
    one.blacklist(A)
    assert two.of(A, WALLET).barred == "blacklisted"
    two.record_outcome(B, good=False)
    clock.now += FIRST_PAUSE_S
    one.record_outcome(B, good=False)
    assert two.of(B, WALLET).barred == "paused after 2 failures, for 30 s more"
    two.unblacklist(A)
    assert one.of(A, WALLET).barred == ""


def test_what_cannot_be_written_changes_nothing() -> None:
    book = book_at(Clock())
    book.close()
    for call in (lambda: book.blacklist(A), lambda: book.record_outcome(A, good=False), lambda: book.of(A, WALLET)):
        with pytest.raises(StoreError):
            call()


@pytest.mark.parametrize("name", ["", "nobody", "0x12", "0x" + "zz" * 20, "0x" + "ab" * 21])
def test_a_name_that_can_match_nobody_is_refused(name: str) -> None:
    with pytest.raises((ConfigError, InvalidAddressError)):
        book_at(Clock()).blacklist(name)


@pytest.mark.parametrize("ttl_s", [0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(ttl_s: float) -> None:
    with pytest.raises(ConfigError, match="ttl_s"):
        book_at(Clock()).blacklist(A, ttl_s=ttl_s)


@pytest.mark.parametrize("priority", [0, -1, 1001, True, 1.5])
def test_a_priority_out_of_range_is_refused(priority: int) -> None:
    with pytest.raises(ConfigError, match="priority"):
        book_at(Clock()).prefer(A, priority)


def test_a_reason_is_bounded() -> None:
    with pytest.raises(ConfigError, match="reason"):
        book_at(Clock()).blacklist(A, "x" * 201)


def test_no_listing_that_holds_gives_way_unasked() -> None:
    standings = StandingList(max_listings=2)
    for peer_id, ttl_s in ((A, 10.0), (B, None)):
        standings.put(make_listing(peer_id, priority=None, ttl_s=ttl_s, now=0.0))
    third = make_listing(WALLET, priority=None, ttl_s=None, now=5.0)
    with pytest.raises(UsageError, match="2 hosts"):
        standings.check_room(third, 5.0)
    standings.check_room(make_listing(A, priority=None, ttl_s=None, now=5.0), 5.0)  # takes its own place
    standings.check_room(make_listing(WALLET, priority=1, ttl_s=None, now=5.0), 5.0)  # of another kind
    standings.check_room(third, 10.0)


def test_failures_of_few_hosts_are_remembered_here_and_on_disk() -> None:
    standings, store = StandingList(max_cooldowns=2), StandingStore(None, max_cooldowns=2)
    peers = [PeerId(f"peer{number}") for number in range(5)]
    for number, peer_id in enumerate(peers):
        cooldown = standings.after_failure(peer_id, float(number))
        standings.put_cooldown(cooldown)
        store.put_failure(cooldown, None)
    assert [standings.cooldown(peer_id) is not None for peer_id in peers] == [False, False, False, True, True]
    assert [cooldown.peer_id for cooldown in store.cooldowns()] == peers[3:]


def test_listings_that_ended_leave_the_disk(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "s"
    book = book_at(clock, path)
    book.blacklist(A, ttl_s=1)
    clock.now += 2
    book.blacklist(B)
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT name FROM listings").fetchall() == [(B,)]
    database.close()


def test_a_newer_store_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    before = path.read_bytes()
    with pytest.raises(StoreTooNewError):
        StandingBook(path)
    assert path.read_bytes() == before
