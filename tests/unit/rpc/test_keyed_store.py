"""What is kept of calls with keys: on disk at every moment, bounded, and read back after the process died."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hostmesh.errors import StatusCode, StoreError, StoreTooNewError
from hostmesh.rpc.key_store import SCHEMA_VERSION, KeyStore
from hostmesh.rpc.keys import (
    BUSY,
    FULL,
    KEPT_S,
    KEY_REUSED,
    MAX_STATUS_BYTES,
    OUTCOME_UNKNOWN,
    ROW_BYTES,
    CallName,
    KeptCall,
    KeyLimits,
    KeyState,
)
from hostmesh.rpc.outcome import Outcome

NOW = 1_700_000_000.0
DIGEST, OTHER_DIGEST = bytes(32), bytes([1]) * 32


def name(key: bytes = b"key", caller: str = "12D3KooWa", method: str = "sums/SumsService.Add") -> CallName:
    return CallName(caller, method, key)


class Disk:
    """Opens the same file as often as a test wants: the process that had it before died without a word."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: list[KeyStore] = []

    def open(self, *, now: float = NOW, server: str = "12D3KooWserver", limits: KeyLimits | None = None) -> KeyStore:
        store = KeyStore(self.path, server=server, now=now, limits=limits)
        self._opened.append(store)
        return store

    def close(self) -> None:
        for store in self._opened:
            store.close()

    def rows(self) -> list[tuple[int, bytes | None]]:
        with closing(sqlite3.connect(self.path)) as db:
            return db.execute("SELECT state, response FROM calls ORDER BY id").fetchall()

    def run(self, statement: str) -> None:
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute(statement)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "calls.sqlite3")
    yield disk
    disk.close()


def begin(
    store: KeyStore,
    call: CallName | None = None,
    digest: bytes = DIGEST,
    *,
    is_idempotent: bool = False,
    max_response_bytes: int = 100,
    now: float = NOW,
) -> KeptCall | Outcome | None:
    return store.begin(
        call or name(), digest, is_idempotent=is_idempotent, max_response_bytes=max_response_bytes, now=now
    )


def finish(store: KeyStore, call: CallName, response: bytes = b"", *, now: float = NOW) -> None:
    assert begin(store, call, now=now) is None
    store.done(call, b"", response, now=now)


def test_every_step_is_on_disk_when_it_returns(disk: Disk) -> None:
    store = disk.open()
    assert begin(store) is None
    assert disk.rows() == [(KeyState.RUNNING, None)]
    store.done(name(), b"status", b"response", now=NOW)
    assert disk.rows() == [(KeyState.DONE, b"response")]
    assert begin(store) == KeptCall(DIGEST, KeyState.DONE, b"status", b"response")
    assert begin(store, name(b"b")) is None
    store.free(name(b"b"))
    assert begin(store, name(b"c")) is None
    store.cut_off(name(b"c"), now=NOW)
    assert disk.rows() == [(KeyState.DONE, b"response"), (KeyState.CUT_OFF, None)]


def test_an_answer_outlives_the_process(disk: Disk) -> None:
    finish(disk.open(), name(), b"response")
    assert begin(disk.open()) == KeptCall(DIGEST, KeyState.DONE, b"", b"response")


@pytest.mark.parametrize("is_idempotent", [False, True])
def test_what_ran_when_the_process_died_was_cut_off(disk: Disk, is_idempotent: bool) -> None:
    assert begin(disk.open()) is None
    store = disk.open()
    assert disk.rows() == [(KeyState.CUT_OFF, None)]
    assert begin(store, digest=OTHER_DIGEST, is_idempotent=is_idempotent) is KEY_REUSED
    assert begin(store, is_idempotent=is_idempotent) is (None if is_idempotent else OUTCOME_UNKNOWN)
    assert disk.rows() == [(KeyState.RUNNING if is_idempotent else KeyState.CUT_OFF, None)]


def test_a_node_with_another_key_shares_the_file_and_nothing_in_it(disk: Disk) -> None:
    ours = disk.open(server="ours")
    assert begin(ours) is None
    theirs = disk.open(server="theirs")
    assert (theirs.keys, disk.rows()) == (0, [(KeyState.RUNNING, None)])
    finish(theirs, name(), b"theirs")
    ours.done(name(), b"", b"ours", now=NOW)
    assert disk.rows() == [(KeyState.DONE, b"ours"), (KeyState.DONE, b"theirs")]


def test_the_callers_and_the_methods_have_keys_of_their_own(disk: Disk) -> None:
    store = disk.open()
    finish(store, name(), b"first")
    for other in (name(caller="12D3KooWb"), name(method="sums/SumsService.Take"), name(method="sum/SumsService.Add")):
        assert begin(store, other) is None


def test_another_request_under_the_key_is_refused(disk: Disk) -> None:
    store = disk.open()
    finish(store, name())
    assert begin(store, digest=OTHER_DIGEST) is KEY_REUSED


def test_a_day_after_its_end_a_call_is_forgotten_and_not_before(disk: Disk) -> None:
    store = disk.open()
    assert begin(store) is None
    later = NOW + 10 * KEPT_S
    # However long it runs, it is alive.
    assert begin(store, name(b"other"), now=later) is None
    assert store.keys == 2
    store.done(name(), b"", b"response", now=later)
    store.free(name(b"other"))
    assert begin(store, now=later + KEPT_S - 1) is not None
    assert begin(store, digest=OTHER_DIGEST, now=later + KEPT_S) is None
    assert (store.keys, disk.rows()) == (1, [(KeyState.RUNNING, None)])


def test_what_is_over_goes_while_calls_come_and_at_the_start(disk: Disk) -> None:
    store = disk.open()
    for number in range(200):
        finish(store, name(b"%d" % number), b"x" * 100)
    before = store.kept_bytes
    sizes = []
    for number in range(5):
        finish(store, name(b"new%d" % number), now=NOW + KEPT_S)
        sizes.append(store.keys)
    assert sizes == [137, 74, 11, 4, 5]
    assert before == 200 * (ROW_BYTES + 100)
    assert store.kept_bytes == 5 * ROW_BYTES
    assert len(disk.rows()) == 5
    assert disk.open(now=NOW + 3 * KEPT_S).keys == 0
    assert disk.rows() == []


def test_what_is_over_and_still_there_is_as_good_as_none(disk: Disk) -> None:
    store = disk.open()
    for number in range(200):
        finish(store, name(b"%d" % number))
    assert begin(store, name(b"199"), OTHER_DIGEST, now=NOW + KEPT_S) is None
    store.done(name(b"199"), b"", b"anew", now=NOW + KEPT_S)
    assert store.keys == 200 - 64
    assert begin(store, name(b"199"), OTHER_DIGEST, now=NOW + KEPT_S) is not None


def test_the_keys_of_a_peer_and_of_all_are_bounded_and_none_is_forgotten(disk: Disk) -> None:
    limits = KeyLimits(max_keys_per_peer=3, max_keys=5)
    store = disk.open(limits=limits)
    for number in range(3):
        finish(store, name(b"%d" % number), b"%d" % number)
    assert begin(store, name(b"one more")) is FULL
    for number in range(2):
        finish(store, name(b"%d" % number, "12D3KooWb"))
    assert begin(store, name(b"of a third", "12D3KooWc")) is FULL
    # The bounds hold over a start too.
    for each in (store, disk.open(limits=limits)):
        assert each.keys == 5
        assert begin(each, name(b"one more")) is FULL
        for number in range(3):
            kept = begin(each, name(b"%d" % number))
            assert isinstance(kept, KeptCall)
            assert kept.response == b"%d" % number
    assert begin(store, name(b"one more"), now=NOW + KEPT_S) is None


def test_bytes_are_reserved_before_the_handler_starts_and_given_back(disk: Disk) -> None:
    room = 3 * (ROW_BYTES + 1_000_000)
    store = disk.open(limits=KeyLimits(max_bytes_per_peer=room, max_bytes=2 * room))
    for number in range(3):
        assert begin(store, name(b"%d" % number), max_response_bytes=1_000_000) is None
    assert begin(store, name(b"4"), max_response_bytes=1_000_000) is BUSY
    assert begin(store, name(b"4", "12D3KooWb"), max_response_bytes=1_000_000) is None
    store.done(name(b"0"), b"", b"x" * 1000, now=NOW)
    store.cut_off(name(b"1"), now=NOW)
    store.free(name(b"2"))
    store.free(name(b"4", "12D3KooWb"))
    assert store.kept_bytes == 2 * ROW_BYTES + 1000
    assert begin(store, name(b"4"), max_response_bytes=1_000_000) is None


def test_large_answers_fill_the_bytes_of_a_peer_and_no_more(disk: Disk) -> None:
    limits = KeyLimits(max_bytes_per_peer=10_000_000)
    store = disk.open(limits=limits)
    kept = 0
    while begin(store, name(b"%d" % kept), max_response_bytes=1 << 20) is None:
        store.done(name(b"%d" % kept), b"s" * MAX_STATUS_BYTES, b"x" * ((1 << 20) - MAX_STATUS_BYTES), now=NOW)
        kept += 1
    assert begin(store, name(b"%d" % kept), max_response_bytes=1 << 20) is FULL
    # Another's call that runs makes no room for this peer.
    assert begin(store, name(caller="12D3KooWb")) is None
    assert begin(store, name(b"%d" % kept), max_response_bytes=1 << 20) is FULL
    store.free(name(caller="12D3KooWb"))
    assert kept == 9
    assert store.kept_bytes <= limits.max_bytes_per_peer
    assert disk.open(limits=limits).kept_bytes == store.kept_bytes


def test_calls_that_run_are_bounded_for_each_peer_and_all(disk: Disk) -> None:
    store = disk.open(limits=KeyLimits(max_running_per_peer=2, max_running=3))
    assert begin(store, name(b"0")) is None
    assert begin(store, name(b"1")) is None
    assert begin(store, name(b"2")) is BUSY
    assert begin(store, name(b"0", "12D3KooWb")) is None
    assert begin(store, name(b"0", "12D3KooWc")) is BUSY
    store.done(name(b"0"), b"", b"", now=NOW)
    assert begin(store, name(b"0", "12D3KooWc")) is None


def test_ten_thousand_keys_of_a_peer_that_forgets_nothing(disk: Disk) -> None:
    limits = KeyLimits(max_keys_per_peer=1000)
    store = disk.open(limits=limits)
    refused = 0
    for number in range(10_000):
        if (answer := begin(store, name(b"%d" % number))) is None:
            store.done(name(b"%d" % number), b"", b"x" * 50, now=NOW)
        else:
            assert answer is FULL
            refused += 1
    assert (store.keys, refused, len(disk.rows())) == (1000, 9000, 1000)
    assert sum(each.stat().st_size for each in disk.path.parent.iterdir()) < 10_000_000


# --- a disk that fails ---


FAIL = "CREATE TRIGGER full BEFORE {} ON calls BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"


def test_a_call_that_cannot_be_written_down_does_not_start(disk: Disk) -> None:
    store = disk.open()
    disk.run(FAIL.format("INSERT"))
    for _ in range(3):
        with pytest.raises(StoreError):
            begin(store)
    assert (store.keys, store.kept_bytes) == (0, 0)
    disk.run("DROP TRIGGER full")
    assert begin(store) is None


@pytest.mark.parametrize("end", ["done", "cut_off", "free"])
def test_an_end_that_cannot_be_written_down_is_taken_for_a_call_cut_off(disk: Disk, end: str) -> None:
    store = disk.open(limits=KeyLimits(max_running=1))
    assert begin(store) is None
    disk.run(FAIL.format("DELETE" if end == "free" else "UPDATE"))
    ends = {
        "done": lambda: store.done(name(), b"", b"response", now=NOW),
        "cut_off": lambda: store.cut_off(name(), now=NOW),
        "free": lambda: store.free(name()),
    }
    with pytest.raises(StoreError):
        ends[end]()
    assert (store.keys, store.kept_bytes) == (1, ROW_BYTES)
    disk.run("DROP TRIGGER full")
    for each in (store, disk.open()):
        assert begin(each) is OUTCOME_UNKNOWN
    assert begin(store, is_idempotent=True) is None
    store.done(name(), b"", b"response", now=NOW)
    assert (store.keys, store.kept_bytes) == (1, ROW_BYTES + len(b"response"))


def test_rows_that_cannot_be_deleted_stay_counted(disk: Disk) -> None:
    store = disk.open()
    finish(store, name())
    disk.run(FAIL.format("DELETE"))
    for _ in range(2):
        with pytest.raises(StoreError):
            begin(store, name(b"new"), now=NOW + KEPT_S)
    assert (store.keys, store.kept_bytes) == (1, ROW_BYTES)


def test_what_is_kept_is_told_although_nothing_can_be_written(disk: Disk) -> None:
    store = disk.open()
    finish(store, name(b"old"))
    finish(store, name(), b"response", now=NOW + 1)
    disk.run(FAIL.format("DELETE"))
    assert begin(store, now=NOW + KEPT_S) == KeptCall(DIGEST, KeyState.DONE, b"", b"response")


def test_a_closed_store_and_what_is_no_store_are_typed_errors(disk: Disk) -> None:
    store = disk.open()
    store.close()
    store.close()
    with pytest.raises(StoreError):
        begin(store)
    disk.path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(StoreError):
        disk.open()


def test_a_newer_store_is_refused_unchanged(disk: Disk) -> None:
    disk.run(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = disk.path.read_bytes()
    with pytest.raises(StoreTooNewError):
        disk.open()
    assert disk.path.read_bytes() == before


def test_the_refusals_say_when_to_come_again() -> None:
    for refusal in (BUSY, FULL):
        assert refusal.status is StatusCode.RESOURCE_EXHAUSTED
        assert refusal.retry_after_ms
        assert refusal.to_error().retry_safe
