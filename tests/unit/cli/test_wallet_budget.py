"""``hostmesh wallet budget``: what is set is on the disk that sessions read, and what they used is shown."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hostmesh.cli.main import main
from hostmesh.sessions.client_store import ClientStore

NETWORK = "budget-net"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store of sessions in an empty home."""
    monkeypatch.setenv("HOSTMESH_HOME", str(tmp_path))
    monkeypatch.setenv("HOSTMESH_NETWORK", NETWORK)
    return tmp_path / "sessions.sqlite3"


def shown(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main(("wallet", "budget", *argv, "--json")) == 0
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert isinstance(told, dict)
    return told


def rows(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT network, currency, limit_micros, spent_micros FROM budgets ORDER BY id").fetchall()


def spend(path: Path, micros: int) -> None:
    """What sessions acknowledged before."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE budgets SET spent_micros = ?", (str(micros),))


def test_at_first_there_is_none(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys) == {
        "currency": "USD",
        "limit_micros": None,
        "spent_micros": 0,
        "open_micros": 0,
        "left_micros": None,
    }
    assert rows(path) == []


def test_a_budget_is_set_shown_raised_and_cleared(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown(capsys, "--set", "1000")
    assert rows(path) == [(NETWORK, "USD", "1000", "0")]
    spend(path, 300)
    assert shown(capsys)["left_micros"] == 700
    assert main(("wallet", "budget", "--set", "2000")) == 0
    assert capsys.readouterr().out == "limit 2000, spent 300, open 0, left 1700 micro-USD\n"
    assert rows(path) == [(NETWORK, "USD", "2000", "300")]
    assert shown(capsys, "--clear")["limit_micros"] is None
    assert rows(path) == [(NETWORK, "USD", None, "300")]


def test_a_new_month_begins_anew(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown(capsys, "--set", "1000")
    spend(path, 999)
    assert shown(capsys, "--set", "1000", "--begin-anew")["left_micros"] == 1000
    assert rows(path) == [(NETWORK, "USD", "1000", "0")]


def test_each_currency_and_network_has_its_own(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown(capsys, "--set", "1")
    shown(capsys, "--set", "2", "--currency", "EUR")
    shown(capsys, "--set", str(2**64 - 1), "--network", "another")
    assert rows(path) == [
        (NETWORK, "USD", "1", "0"),
        (NETWORK, "EUR", "2", "0"),
        ("another", "USD", str(2**64 - 1), "0"),
    ]
    assert shown(capsys, "--network", "another")["left_micros"] == 2**64 - 1
    with closing(ClientStore(path, network=NETWORK)) as store:
        assert store.budget("EUR", 0).limit_micros == 2


@pytest.mark.parametrize(
    "wrong",
    [
        ("--set", "1", "--clear"),
        ("--begin-anew",),
        ("--clear", "--begin-anew"),
        ("--set", "-1"),
        ("--set", str(2**64)),
        ("--set", "1.5"),
        ("--set", "1", "--currency", ""),
    ],
)
def test_what_is_no_budget_changes_nothing(
    path: Path, wrong: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    shown(capsys, "--set", "7")
    assert main(("wallet", "budget", *wrong)) == 2
    assert rows(path) == [(NETWORK, "USD", "7", "0")]


def test_the_name_of_a_currency_cannot_act_on_the_terminal(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("wallet", "budget", "--currency", "\x1b[2J")) == 0
    assert capsys.readouterr().out == "no limit, spent 0, open 0 micro-\\x1b[2J\n"
