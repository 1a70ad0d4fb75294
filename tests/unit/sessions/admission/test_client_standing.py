"""What a host saw of its clients: the formula, its fading, its bound, and what a kill leaves."""

from __future__ import annotations

import sqlite3
import stat
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.errors import ConfigError, StoreTooNewError, UsageError
from hostmesh.sessions.admission.client_standing import HALF_LIFE_S, ClientStanding, ClientStandings
from hostmesh.sessions.admission.client_standing_book import ClientStandingBook
from hostmesh.sessions.admission.client_standing_store import ClientStandingStore
from hostmesh.system import System

NOW = 1_700_000_000.0


def wallet(number: int) -> bytes:
    return number.to_bytes(20, "big")


@given(st.integers(0, 500), st.integers(0, 500))
def test_the_reputation_is_the_formula(paid: int, overdue: int) -> None:
    standings = ClientStandings()
    for _ in range(paid):
        standings.paid(wallet(1), NOW, cost_micros=1)
    for _ in range(overdue):
        standings.overdue(wallet(1), NOW)
    exact = Fraction(1000 * (1 + paid), 10 + paid + overdue)
    assert standings.get(wallet(1), NOW).reputation == exact.numerator // exact.denominator


def test_the_scale() -> None:
    known = {(0, 0): 100, (10, 0): 550, (90, 0): 910, (0, 10): 50, (10, 10): 366}
    for (paid, overdue), reputation in known.items():
        assert ClientStanding(wallet=wallet(1), paid=paid, overdue=overdue).reputation == reputation


def test_free_jobs_say_nothing_and_take_no_room() -> None:
    standings = ClientStandings()
    for number in range(100):
        assert standings.paid(wallet(number), NOW, cost_micros=0).reputation == 100
    assert len(standings) == 0


def test_what_was_seen_fades_towards_a_newcomer() -> None:
    standings = ClientStandings()
    for _ in range(30):
        standings.overdue(wallet(1), NOW)
        standings.paid(wallet(2), NOW, cost_micros=5)
    for months, bad, good in ((0, 25, 775), (1, 40, 640), (6, 95, 140), (24, 99, 100)):
        later = NOW + months * HALF_LIFE_S
        assert standings.get(wallet(1), later).reputation == bad
        assert standings.get(wallet(2), later).reputation == good
    # A clock that went back changes nothing.
    assert standings.get(wallet(1), NOW - 1e6).reputation == 25


def test_the_table_is_bounded_and_keeps_whom_it_knows_best() -> None:
    standings = ClientStandings(max_wallets=16)
    for _ in range(5):
        standings.overdue(wallet(0), NOW)
    for _ in range(3):
        standings.paid(wallet(1), NOW, cost_micros=1)
    for number in range(2, 500):
        standings.overdue(wallet(number), NOW + number)
        dropped = standings.make_room(NOW + number)
        assert len(standings) <= 16
        assert wallet(0) not in dropped
        assert wallet(1) not in dropped
    assert standings.get(wallet(0), NOW).overdue == 5
    assert standings.get(wallet(499), NOW + 499).overdue == 1


@pytest.mark.parametrize("address", [b"", bytes(19), bytes(21)])
def test_a_wallet_has_20_bytes(address: bytes) -> None:
    with pytest.raises(UsageError):
        ClientStandings().overdue(address, NOW)
    with pytest.raises(ConfigError):
        ClientStandings(max_wallets=0)


class Clock:
    now = NOW

    @property
    def system(self) -> System:
        return System(unix_s=lambda: self.now)


def test_a_book_is_the_same_after_a_restart(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "clients.sqlite3"
    book = ClientStandingBook(path, system=clock.system)
    for _ in range(10):
        book.paid(wallet(1), cost_micros=7)
        book.overdue(wallet(2))
    book.paid(wallet(3), cost_micros=0)
    clock.now += HALF_LIFE_S
    book.overdue(wallet(2))
    # Not closed: what a killed process leaves.
    again = ClientStandingBook(path, system=clock.system)
    assert [again.reputation(wallet(number)) for number in (1, 2, 3)] == [400, 62, 100]
    assert len(again) == 2
    rows = sqlite3.connect(path).execute("SELECT wallet, paid, overdue FROM client_standing ORDER BY wallet").fetchall()
    assert rows == [(wallet(1), 10.0, 0.0), (wallet(2), 0.0, 6.0)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again.close()
    book.close()


def test_what_is_dropped_is_dropped_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    store = ClientStandingStore(tmp_path / "clients.sqlite3")
    for number in range(20):
        store.write(ClientStanding(wallet=wallet(number), overdue=1.0, at_unix_s=NOW + number))
    store.write(ClientStanding(wallet=wallet(99), paid=1.0, at_unix_s=NOW + 99), dropped=[wallet(n) for n in range(5)])
    assert {standing.wallet for standing in store.load()} == {wallet(n) for n in (*range(5, 20), 99)}
    # Of more than there is room for, those seen last.
    monkeypatch.setattr("hostmesh.sessions.admission.client_standing_store.MAX_WALLETS", 2)
    assert {standing.wallet for standing in store.load()} == {wallet(99), wallet(19)}
    store.close()
    book = ClientStandingBook(tmp_path / "clients.sqlite3", system=clock.system)
    assert book.get(wallet(99)).paid == 1.0
    book.close()


def test_a_book_is_bounded_on_disk_and_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClientStandings.__init__, "__kwdefaults__", {"max_wallets": 16})
    path = tmp_path / "clients.sqlite3"
    book = ClientStandingBook(path, system=Clock().system)
    for number in range(200):
        book.overdue(wallet(number))
    assert 8 <= len(book) <= 16
    (rows,) = sqlite3.connect(path).execute("SELECT count(*) FROM client_standing").fetchone()
    assert rows == len(book)
    book.close()


def test_a_disk_that_fails_loses_no_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    book = ClientStandingBook(tmp_path / "clients.sqlite3", system=Clock().system)
    book.overdue(wallet(1))
    book.close()
    book.overdue(wallet(1))
    assert book.get(wallet(1)).overdue == 2
    assert "is not kept" in caplog.text
    again = ClientStandingBook(tmp_path / "clients.sqlite3", system=Clock().system)
    assert again.get(wallet(1)).overdue == 1
    again.close()


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "clients.sqlite3"
    ClientStandingStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 9")
    with pytest.raises(StoreTooNewError):
        ClientStandingBook(path)
