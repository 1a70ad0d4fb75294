"""``hostmesh reputation``: every part of a score is shown, and text of hosts cannot act on a terminal."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from hostmesh.cli.main import main
from hostmesh.cli.reputation import explanation_lines, listing_line
from hostmesh.net.peer_id import PeerId, peer_id_from_public_key
from hostmesh.reputation.book import ReputationBook
from hostmesh.reputation.evidence import Evidence, EvidenceKind
from hostmesh.reputation.foreign import Review
from hostmesh.reputation.history import HostHistory
from hostmesh.reputation.probation import Suspension
from hostmesh.reputation.standing import Listing
from hostmesh.reputation.standing_book import StandingBook
from hostmesh.system import System

A, B, C = (peer_id_from_public_key(bytes([number]) * 32) for number in (1, 2, 3))
WALLET, OTHER = "0x" + "ee" * 20, "0x" + "cd" * 20
NOW = 1_800_000_000.0
DAY_S = 86_400
HOSTILE = "\x1b[2J\r\u202e"
LIE = Evidence(kind=EvidenceKind.FALSE_RECEIPT, detail=f"job 7 {HOSTILE}")


def review(number: int, host: PeerId) -> Review:
    return Review(
        reviewer=f"0x{number:040x}",
        host=host,
        operator=WALLET,
        network=f"10.0.{number}.0/24",
        good=4,
        bad=0,
        at_unix_s=NOW,
    )


@pytest.fixture
def clock() -> list[float]:
    return [NOW]


@pytest.fixture
def book(clock: list[float]) -> ReputationBook:
    return ReputationBook(system=System(unix_s=lambda: clock[0]))


def text_of(book: ReputationBook, host: PeerId, **said: Any) -> list[str]:
    return list(explanation_lines(book.explain(host, WALLET), **{"barred": "", "suspension": None, "now": NOW, **said}))


def test_each_part_of_a_score_has_its_line(book: ReputationBook, clock: list[float]) -> None:
    for _ in range(8):
        book.record_outcome(A, WALLET, good=True)
    clock[0] += 32 * DAY_S
    failed = Evidence(kind=EvidenceKind.CANARY_FAILED, detail="p = 0.004", false_positive_ppm=10_000, answers=60)
    book.record(A, WALLET, failed)
    assert text_of(book, A, barred="blacklisted for 600 s more: canaries failed") == [
        f"{A} of {WALLET}: 15 of 1000 points (a host that you never used has 100)",
        "your own evidence: 9; its weight, in jobs, halves every 32 days",
        "  for      jobs finished                          8 x  weight 4",
        "  against  canaries failed                        1 x  weight 300",
        "others' receipts: 0 reviewers, 0 jobs finished, 0 failed; none counts beside your own evidence",
        "points = 1000 * (1 + 4) / (10 + 4 + 300), rounded down; 15 without others' word",
        "last against it, newest first",
        "  2027-02-16 08:00:00 UTC  canaries failed, weight 300, accuses an honest host in 1 %: p = 0.004",
        "standing: blacklisted for 600 s more: canaries failed",
    ]


def test_the_word_of_others_is_shown_with_its_bound(book: ReputationBook) -> None:
    for _ in range(3):
        book.record_outcome(A, WALLET, good=True)
    for number in (1, 2):
        book.record_review(review(number, A))
        book.record_review(review(number, B))
    book.record_review(review(3, B))
    assert text_of(book, B)[2:4] == [
        (
            "others' receipts: 3 reviewers, 12 jobs finished, 0 failed; "
            "2 networks trusted; for 0.0818, against 0, together at most 0.9"
        ),
        "points = 1000 * (1 + 0.0818) / (10 + 0.0818 + 0), rounded down; 100 without others' word",
    ]


def test_a_blacklisting_says_its_end_and_probation_how_far_it_is(book: ReputationBook) -> None:
    suspension = Suspension(times=2, since_unix_s=NOW, reason="lied")
    assert text_of(book, A, barred="x", suspension=suspension)[-1] == (
        "  blacklisted by what it did, the 2. time in a row, until 2027-01-15 08:20:00 UTC; then on probation"
    )
    later = Suspension(times=1, since_unix_s=NOW - 600, reason="lied", passed=2)
    assert text_of(book, A, suspension=later)[-2:] == [
        "standing: may be used",
        "  on probation since 2027-01-15 08:00:00 UTC, the 1. time in a row: 2 of 3 trials went well",
    ]


def test_hostile_text_cannot_act(book: ReputationBook) -> None:
    book.record(A, WALLET, LIE)
    listed = Listing(name=A, priority=None, reason=HOSTILE, since_unix_s=NOW, until_unix_s=None)
    for line in (*text_of(book, A, barred=HOSTILE), listing_line(listed)):
        assert line.isprintable()
    assert any("job 7 \\x1b[2J\\r\\u202e" in line for line in text_of(book, A))


def test_listings_say_until_when() -> None:
    listed = Listing(name=A, priority=None, reason="slow", since_unix_s=NOW, until_unix_s=NOW + 60)
    preferred = Listing(name=B, priority=3, since_unix_s=NOW, until_unix_s=None)
    assert listing_line(listed) == f"{A}  blacklisted until 2027-01-15 08:01:00 UTC: slow"
    assert listing_line(preferred) == f"{B}  preferred (3) until it is removed"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder in which A is honest, and B lied a moment ago."""
    monkeypatch.setenv("HOSTMESH_HOME", str(tmp_path))
    reputations = ReputationBook(tmp_path / "reputation.sqlite3")
    standings = StandingBook(tmp_path / "standings.sqlite3")
    history = HostHistory(reputations, standings)
    for _ in range(5):
        history.record(A, WALLET, Evidence(kind=EvidenceKind.JOB_FINISHED))
    history.record(B, WALLET, LIE)
    standings.prefer(A, 2)
    for each in (reputations, standings):
        each.close()
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(argv) == 0
    return capsys.readouterr().out


def test_show_reads_the_files_of_the_settings(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(printed(capsys, "reputation", "show", f"/ip4/192.0.2.1/tcp/4001/p2p/{B}", "--json"))
    (told,) = shown["names"]
    assert (shown["peer_id"], told["operator"], told["points"], told["n"], told["bad"]) == (B, WALLET, 50, 1, 1)
    assert told["barred"].startswith("blacklisted for ")
    assert told["reasons"][0]["detail"] == LIE.detail, "raw, as JSON"
    assert (shown["suspension"]["times"], shown["suspension"]["passed_trials"]) == (1, 0)
    assert 0 < shown["suspension"]["left_s"] <= 600
    assert time.time() < shown["suspension"]["until_unix_s"] < time.time() + 601
    assert [(each["name"], each["priority"]) for each in shown["listings"]] == [(B, None)]
    text = printed(capsys, "reputation", "show", A)
    assert text.startswith(f"{A} of {WALLET}: 400 of 1000 points")
    assert "standing: may be used" in text


def test_show_of_a_host_never_used(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(printed(capsys, "reputation", "show", C, "--json"))
    (told,) = shown["names"]
    assert (told["operator"], told["points"], told["n"], told["parts"]) == ("", 100, 0, [])
    assert shown["suspension"] is None
    assert "of any wallet that you do not know it by: 100 of" in printed(capsys, "reputation", "show", C)


def test_list_has_the_best_first(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(printed(capsys, "reputation", "list", "--json"))
    assert [(each["peer_id"], each["points"]) for each in listed["hosts"]] == [(A, 400), (B, 50)]
    assert listed["known"] == 2
    assert {(each["name"], each["priority"]) for each in listed["listings"]} == {(A, 2), (B, None)}
    lines = printed(capsys, "reputation", "list", "--limit", "1").splitlines()
    assert lines[0].split() == ["HOST", "OPERATOR", "POINTS", "GOOD", "BAD", "STANDING"]
    assert lines[1].split() == [A, WALLET, "400", "5", "0", "-"]
    assert lines[2] == "1 of 2 hosts; one that you never used has 100 points"


def test_what_names_no_host_is_wrong_use(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reputation", "show", "nobody"]) == 2


def test_a_file_that_cannot_be_read_has_its_exit_code(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "reputation.sqlite3").write_bytes(b"something else entirely" * 100)
    assert main(["reputation", "show", A, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "STORE_UNUSABLE"
