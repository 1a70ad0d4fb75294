"""``hostmesh receipts``: what is kept is listed and exported, a file is verified line by line, a statement adds up."""

from __future__ import annotations

import csv
import io
import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.receipts import (
    HOST,
    NETWORK,
    NOW,
    OPERATOR,
    WALLET,
    bundle,
    job_terms,
    papers,
    quote,
    seal,
    signed,
    write_receipts,
)

from hostmesh.cli.main import main
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.receipts.export import bundle_lines
from hostmesh.receipts.receipt import countersign, open_sealed
from hostmesh.receipts.store import ReceiptStore
from hostmesh.testing import make_peer_key

J, K, S, T, U = (letter * 16 for letter in (b"j", b"k", b"s", b"t", b"u"))
LINES = [*bundle_lines(bundle((J, K)))]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host's session, not paid to its end; a client's, paid and shared; a session without papers."""
    monkeypatch.setenv("HOSTMESH_HOME", str(tmp_path))
    store = ReceiptStore(tmp_path / "receipts.sqlite3")
    signer = WALLET.address_bytes
    for session_id, is_host in ((S, True), (T, False)):
        session, session_papers = papers(session_id=session_id, nonce=session_id * 2)
        store.papers.put_session(session, session_papers, is_host=is_host)
        store.papers.put_quote(session, J, quote(J), is_host=is_host)
        receipts = write_receipts(job_terms(J, session))
        for receipt in receipts:
            signature = countersign(WALLET, signed(receipt))
            if not is_host:
                store.put_countersigned(signed(receipt), signature, signer=signer)
                continue
            store.put_issued(receipt, seal(receipt), network=NETWORK, signer=signer)
            if receipt.sequence < 3:
                store.put_countersignature(session_id, J, receipt.sequence, signature)
    bare, _ = papers(session_id=U, nonce=b"u" * 32)
    alone = write_receipts(job_terms(J, bare))[0]
    store.put_issued(alone, seal(alone), network=NETWORK, signer=signer)
    store.papers.set_shared(peer_id_to_bytes(HOST.peer_id), T, True, network=NETWORK)
    store.close()
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *argv: str, exit_code: int = 0) -> str:
    assert main(["receipts", *argv]) == exit_code
    return capsys.readouterr().out


def listed(capsys: pytest.CaptureFixture[str], *argv: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(printed(capsys, "list", "--json", *argv))["sessions"]
    return found


def test_list_says_what_receipts_come_to(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = listed(capsys)
    assert first == {
        "side": "host",
        "network": NETWORK,
        "host_peer_id": HOST.peer_id,
        "session_id": S.hex(),
        "client": WALLET.address,
        "operator": OPERATOR.address,
        "model_id": "smollm2-135m-instruct",
        "currency": "USD",
        "jobs": 1,
        "receipts": 5,
        "issued_micros": 10,
        "countersigned_micros": 9,
        "first_unix_s": NOW,
        "last_unix_s": NOW + 4,
        "is_shared": False,
        "has_papers": True,
    }
    assert (second["side"], second["countersigned_micros"], second["is_shared"]) == ("client", 10, True)
    assert (third["has_papers"], third["countersigned_micros"], third["issued_micros"]) == (False, 0, 8)
    heading, row, *_ = printed(capsys, "list").splitlines()
    assert heading.split() == [
        *("AS", "HOST", "SESSION", "MODEL", "JOBS", "RECEIPTS", "OWED", "UNPAID", "CURRENCY", "LAST", "SHARED")
    ]
    assert row.split() == [
        *("host", HOST.peer_id, S.hex(), "smollm2-135m-instruct", "1", "5", "9", "1", "USD"),
        *("2023-11-14", "22:13", "no"),
    ]


def test_filters(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, count in (
        (["--side", "host"], 2),
        (["--side", "client"], 1),
        (["--host", HOST.peer_id], 3),
        (["--host", f"/ip4/192.0.2.1/tcp/4001/p2p/{HOST.peer_id}", "--session", T.hex()], 1),
        (["--since", "2023-11-14T22:13:24"], 2),
        (["--since", "2023-11-15"], 0),
        (["--since", "2023-11-15T00:00:00+03:00"], 3),
        (["--network", "another"], 0),
    ):
        assert len(listed(capsys, *options)) == count, options
    for wrong in (["--side", "both"], ["--session", "7"], ["--session", "zz"], ["--since", "soon"], ["--host", "me"]):
        assert main(["receipts", "list", *wrong]) == 2, wrong


def test_what_is_exported_verifies_elsewhere(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = home / "receipts.jsonl"
    made = json.loads(printed(capsys, "export", "--out", str(out), "--json"))
    assert made == {"sessions": 2, "left_out": 1, "path": str(out)}
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    # Somebody else's machine: nothing but the file.
    verified = json.loads(printed(capsys, "verify", str(out), "--json"))
    assert verified == {"valid": True, "sessions": 2, "receipts": 10, "wrong_lines": 0, "faults": []}
    assert printed(capsys, "export") == out.read_text()
    shared = printed(capsys, "export", "--shared").splitlines()
    assert [json.loads(line)["type"] for line in shared] == ["session", "job", *["receipt"] * 5]
    # Never over what is there, and no second thing on standard output.
    assert main(["receipts", "export", "--out", str(out)]) == 2
    assert main(["receipts", "export", "--json"]) == 2


def test_consent_is_given_and_withdrawn(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "unshare", T.hex()) == "receipts of 1 sessions may not be shown to others\n"
    assert printed(capsys, "export", "--shared") == ""
    for which in ([T.hex()], ["--host", HOST.peer_id], ["--all"]):
        shared = json.loads(printed(capsys, "share", *which, "--json"))
        assert shared == {"session_ids": [T.hex()], "is_shared": True}
        # A host's session is not this user's to show.
        assert [each["is_shared"] for each in listed(capsys)] == [False, True, False]
        printed(capsys, "unshare", *which)
        assert [each["is_shared"] for each in listed(capsys)] == [False, False, False]
    elsewhere = make_peer_key("elsewhere").peer_id
    for wrong in (
        [S.hex()], [(b"x" * 16).hex()], ["--host", elsewhere], [], ["--all", "--host", HOST.peer_id],
        [T.hex(), "--all"], [T.hex(), "--host", elsewhere], [T.hex(), "--network", "elsewhere"],
    ):  # fmt: skip
        for command in ("share", "unshare"):
            assert main(["receipts", command, *wrong]) == 2, wrong


def test_an_id_that_two_networks_have_is_not_shared_in_both(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ReceiptStore(home / "receipts.sqlite3")
    session, session_papers = papers(session_id=T, nonce=T * 2)
    store.papers.put_session(replace(session, network="company"), session_papers, is_host=False)
    envelope = seal(write_receipts(job_terms(J, session))[0], network="company")
    receipt = open_sealed(envelope, network="company")
    store.put_countersigned(receipt, b"s" * 65, signer=WALLET.address_bytes)
    store.close()

    def shared() -> dict[str, bool]:
        return {each["network"]: each["is_shared"] for each in listed(capsys) if each["side"] == "client"}

    assert shared() == {NETWORK: True, "company": False}
    assert main(["receipts", "share", T.hex()]) == 2
    assert "--network" in capsys.readouterr().err
    assert shared() == {NETWORK: True, "company": False}
    # To show nothing is never too much.
    assert len(json.loads(printed(capsys, "unshare", T.hex(), "--json"))["session_ids"]) == 2
    printed(capsys, "share", T.hex(), "--host", HOST.peer_id, "--network", "company")
    assert shared() == {NETWORK: False, "company": True}


def imported(capsys: pytest.CaptureFixture[str], file: Path) -> dict[str, int]:
    counts: dict[str, int] = json.loads(printed(capsys, "import", str(file), "--json"))
    return {name: count for name, count in counts.items() if count}


def foreign_part(capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    assert main(["reputation", "show", HOST.peer_id, "--json"]) == 0
    part: dict[str, int] = json.loads(capsys.readouterr().out)["names"][0]["foreign"]
    return part


def test_what_others_share_is_imported_and_what_is_ours_is_not(
    home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    file = home / "receipts.jsonl"
    printed(capsys, "export", "--shared", "--out", str(file))
    assert imported(capsys, file) == {"sessions": 1, "other_network": 1}
    monkeypatch.setenv("HOSTMESH_NETWORK", NETWORK)
    assert imported(capsys, file) == {"sessions": 1, "own": 1}
    assert foreign_part(capsys)["reviewers"] == 0
    # On somebody else's machine, twice the same.
    monkeypatch.setenv("HOSTMESH_HOME", str(tmp_path_factory.mktemp("other")))
    for _ in range(2):
        assert imported(capsys, file) == {"sessions": 1, "reviews": 1, "good": 1}
        part = foreign_part(capsys)
        assert (part["reviewers"], part["good"], part["bad"], part["voice_micros"]) == (1, 1, 0, 0)


def test_nothing_of_a_file_with_a_fault_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("HOSTMESH_HOME", str(tmp_path))
    monkeypatch.setenv("HOSTMESH_NETWORK", NETWORK)
    file = tmp_path / "receipts.jsonl"
    file.write_text("\n".join([*LINES, LINES[0]]))
    assert main(["receipts", "import", str(file)]) == 6
    assert foreign_part(capsys)["reviewers"] == 0


def test_a_wrong_line_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tampered = json.loads(LINES[4]) | {"countersignature": "00" * 65}
    file = tmp_path / "receipts.jsonl"
    file.write_text("\n".join([*LINES[:4], json.dumps(tampered), *LINES[5:], "\x1b[2J", "x" * 200_000, LINES[0]]))
    lines = printed(capsys, "verify", str(file), exit_code=9).splitlines()
    assert [line.split(": ")[:2] for line in lines[:-1]] == [
        ["line 5", "BAD_COUNTERSIGNATURE"],
        ["line 14", "BUNDLE_MALFORMED"],
        ["line 15", "BUNDLE_MALFORMED"],
        ["line 16", "REPLAYED"],
    ]
    assert lines[-1] == "1 sessions and 9 receipts verified, 4 lines wrong"
    told = json.loads(printed(capsys, "verify", str(file), "--json", exit_code=9))
    assert (told["valid"], told["wrong_lines"], told["faults"][0]["line"]) == (False, 4, 5)


def test_many_wrong_lines_are_counted_and_a_hundred_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("{}\n" * 250))
    lines = printed(capsys, "verify", exit_code=9).splitlines()
    assert len(lines) == 101
    assert lines[-1].endswith("250 lines wrong")


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(LINES)))
    assert printed(capsys, "verify", "-") == "1 sessions and 10 receipts verified, 0 lines wrong\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(LINES)))
    heading, row = csv.DictReader(io.StringIO(printed(capsys, "statement"))), None
    (row,) = heading
    assert (row["operator"], row["client"], row["amount_micros"]) == (OPERATOR.address, WALLET.address, "20")


def test_a_statement_of_a_file_with_a_fault_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "receipts.jsonl"
    file.write_text("\n".join([*LINES, "{}"]))
    told = json.loads(printed(capsys, "statement", str(file), "--json", exit_code=6))
    assert told["error"]["code"] == "RECEIPT_INVALID"
    assert told["error"]["reason"] == "BUNDLE_MALFORMED"
    file.write_text("\n".join(LINES))
    (line,) = json.loads(printed(capsys, "statement", str(file), "--json"))["statement"]
    assert (line["amount_micros"], line["jobs"]) == (20, 2)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert main(["receipts", "verify", str(tmp_path / "none")]) == 2
    assert main(["receipts", "export", "--out", str(tmp_path / "none" / "file")]) == 2


def test_a_store_that_cannot_be_read(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "receipts.sqlite3").write_bytes(b"something else entirely" * 100)
    told = json.loads(printed(capsys, "list", "--json", exit_code=3))
    assert told["error"]["code"] == "STORE_UNUSABLE"
