"""Listings: the last value of each range, and what a wrong one is refused with, word for word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hostmesh.errors import ConfigError, StoreError, UsageError
from hostmesh.net.peer_id import PeerId, peer_id_from_public_key
from hostmesh.reputation.standing import Cooldown, Listing, StandingList, listed_name, make_listing
from hostmesh.reputation.standing_book import StandingBook
from hostmesh.reputation.standing_store import StandingStore
from hostmesh.system import System

NOW = 1_700_000_000.0
A, B, C = (peer_id_from_public_key(bytes([number]) * 32) for number in (1, 2, 3))
WALLET = "0x" + "ab" * 20


def listing(name: str = A, **fields: Any) -> Listing:
    return make_listing(name, **{"priority": None, "ttl_s": None, "now": NOW, **fields})


REFUSALS: list[tuple[dict[str, Any], str, str, str]] = [
    ({"name": "0xab"}, "peer_or_wallet", "'0xab' is no wallet address", "0x and 40 hex digits"),
    ({"name": WALLET + "0"}, "peer_or_wallet", f"'{WALLET}0' is no wallet address", "0x and 40 hex digits"),
    ({"priority": 0}, "priority", "priority is 0", "give an integer from 1 to 1000"),
    ({"priority": 1001}, "priority", "priority is 1001", "give an integer from 1 to 1000"),
    ({"priority": True}, "priority", "priority is True", "give an integer from 1 to 1000"),
    ({"priority": 1.0}, "priority", "priority is 1.0", "give an integer from 1 to 1000"),
    ({"ttl_s": 0}, "ttl_s", "ttl_s is 0", "give seconds, or None for ever"),
    ({"ttl_s": "1"}, "ttl_s", "ttl_s is '1'", "give seconds, or None for ever"),
    ({"reason": "é" * 100 + "x"}, "reason", "the reason is too long", "at most 200 bytes"),
]


@pytest.mark.parametrize(("fields", "name", "says", "remedy"), REFUSALS)
def test_a_wrong_listing_is_refused_with_what_to_do(fields: dict[str, Any], name: str, says: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        listing(**fields)
    error = caught.value
    assert (error.message, error.name, error.source, error.remedy) == (says, name, "argument", remedy)


def test_the_last_value_of_each_range_is_taken() -> None:
    assert [listing(priority=number).priority for number in (1, 1000)] == [1, 1000]
    assert listing(reason="é" * 100).reason == "é" * 100
    assert listing(reason="a\ud800b").reason == "a?b"
    assert listing(ttl_s=0.5).until_unix_s == NOW + 0.5
    assert listed_name("0X" + "AB" * 20) == WALLET
    assert listed_name(A) == A


def test_a_list_holds_at_least_one_of_each() -> None:
    for sizes in ({"max_listings": 0}, {"max_cooldowns": 0}):
        with pytest.raises(ValueError, match=r"^at least one listing and one cooldown$"):
            StandingList(**sizes)
    smallest = StandingList(max_listings=1, max_cooldowns=1)
    smallest.put(listing(A))
    assert smallest.of(A, WALLET, NOW).barred == "blacklisted"
    with pytest.raises(UsageError, match=r"^1 hosts are listed already$") as caught:
        smallest.check_room(listing(B), NOW)
    assert caught.value.remedy == "remove some, or list wallets"
    smallest.check_room(listing(A), NOW)
    smallest.check_room(listing(B, priority=1), NOW)


def test_a_listing_ends_at_its_time_and_not_before() -> None:
    kept = StandingList()
    kept.put(listing(A, priority=7, ttl_s=10))
    assert [kept.of(A, WALLET, NOW + after_s).priority for after_s in (9.9, 10)] == [7, 0]
    assert kept.listings(NOW + 10) == ()


def test_trials_outlast_another_process_writing_and_end_with_their_cooldown() -> None:
    kept = StandingList()
    cooldowns = [Cooldown(peer_id=each, failures=1, failed_at_unix_s=NOW) for each in (A, B)]
    kept.reload([], cooldowns)
    assert all(kept.begin_trial(each, NOW + 15) for each in (A, B))
    kept.reload([], cooldowns[:1])
    assert not kept.begin_trial(A, NOW + 16)
    assert kept.of(A, WALLET, NOW + 16).barred == "on trial after a failure"
    kept.reload([], cooldowns)
    assert kept.begin_trial(B, NOW + 16), "its trial went with its cooldown"


def test_the_host_that_failed_longest_ago_makes_room() -> None:
    kept = StandingList(max_cooldowns=2)
    for place, peer_id in enumerate((A, B, A, C)):
        kept.put_cooldown(kept.after_failure(peer_id, NOW + 15 * place))
    assert [kept.cooldown(each) is not None for each in (A, B, C)] == [True, False, True]
    again = kept.cooldown(A)
    assert again is not None
    assert (again.failures, again.failed_at_unix_s) == (2, NOW + 30)


@pytest.mark.parametrize(
    ("failures", "says"),
    [(1, "paused after a failure, for 15 s more"), (2, "paused after 2 failures, for 30 s more")],
)
def test_a_pause_says_how_long(failures: int, says: str) -> None:
    kept = StandingList()
    kept.put_cooldown(Cooldown(peer_id=PeerId(A), failures=failures, failed_at_unix_s=NOW))
    assert kept.of(A, WALLET, NOW).barred == says
    assert kept.of(A, WALLET, NOW + 0.5).barred == says, "rounded up"


def test_a_pause_lasts_to_its_end_and_a_success_before_any_failure_is_none() -> None:
    kept = StandingList()
    assert not kept.clear_cooldown(A)
    kept.put_cooldown(kept.after_failure(A, NOW))
    assert not kept.begin_trial(A, NOW + 14.5)
    assert kept.of(A, WALLET, NOW + 14.5).barred == "paused after a failure, for 1 s more"
    assert kept.begin_trial(A, NOW + 15)
    assert kept.clear_cooldown(A)
    assert kept.begin_trial(A, NOW + 15.5)


def test_listings_are_told_in_the_order_in_which_they_came() -> None:
    kept = StandingList()
    for peer_id, priority in ((A, None), (B, None), (C, 2), (A, None)):
        kept.put(listing(peer_id, priority=priority))
    assert [each.name for each in kept.listings(NOW)] == [B, A, C]


def test_a_blacklisting_says_whose_and_why() -> None:
    kept = StandingList()
    kept.put(listing(WALLET, reason="bills twice"))
    assert kept.of(A, WALLET, NOW).barred == "its operator is blacklisted: bills twice"
    kept.put(listing(A))
    assert kept.of(A, WALLET, NOW).barred == "blacklisted"


def test_the_store_gives_back_what_was_put_in_and_names_itself(tmp_path: Path) -> None:
    put = [listing(A, reason="bills twice", ttl_s=60), listing(B, priority=3, now=NOW + 1)]
    store = StandingStore(tmp_path / "standings.sqlite3")
    for each in put:
        store.put(each)
    assert store.listings() == put
    store.close()
    broken = tmp_path / "broken.sqlite3"
    broken.write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="the store of standings"):
        StandingStore(broken)


def test_a_success_is_on_disk_too_and_a_snapshot_knows_whose_and_when(tmp_path: Path) -> None:
    path, now = tmp_path / "standings.sqlite3", [NOW]
    system = System(unix_s=lambda: now[0])
    book = StandingBook(path, system=system)
    book.record_outcome(A, good=False)
    book.record_outcome(B, good=False)
    book.record_outcome(A, good=True)
    book.prefer(A, ttl_s=10)
    other = StandingBook(path, system=system)
    snapshot = other.snapshot()
    assert [snapshot.of(each, WALLET).barred for each in (A, B)] == ["", "paused after a failure, for 15 s more"]
    assert [snapshot.of(each, WALLET).priority for each in (A, B)] == [1, 0]
    now[0] += 10
    assert snapshot.of(A, WALLET).priority == 0
    assert snapshot.of(B, WALLET).barred == "paused after a failure, for 5 s more"
    for each in (book, other):
        each.close()
