"""``hostmesh wallet delegate`` and what ``wallet revoke`` and ``run --delegation`` make of its file, offline."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from hostmesh.cli.delegation import exit_code_of, hosts_of, key_file_of, parse_caps
from hostmesh.cli.groups import CriteriaOptions
from hostmesh.cli.main import main
from hostmesh.cli.run import delegated
from hostmesh.errors import HostmeshError
from hostmesh.identity.delegation import (
    delegation_of_message,
    digest_of_delegation,
    load_delegation,
    save_delegation,
    sign_delegation,
)
from hostmesh.identity.keystore import create_wallet_file, read_wallet_file
from hostmesh.identity.typed_data import recover_signer
from hostmesh.identity.wallet import Wallet
from hostmesh.sessions.client_revocations import RevocationOutcome
from hostmesh.testing import make_peer_key

A, B = (make_peer_key(name).peer_id for name in ("a", "b"))
SOMEBODY = Wallet.from_private_key(bytes(range(2, 34)))
OWNER = Wallet.from_private_key(bytes(range(1, 33)))
NETWORK = "delegated-net"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the owner's wallet; the working directory, where the files go."""
    for name in [name for name in os.environ if name.startswith(("HOSTMESH_", "P2P_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOSTMESH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOSTMESH_NETWORK", NETWORK)
    create_wallet_file(tmp_path / "owner.key", password=None, wallet=OWNER)
    monkeypatch.setenv("HOSTMESH_WALLET_FILE", str(tmp_path / "owner.key"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def delegate(*more: str, out: str = "agent.json") -> int:
    return main(("wallet", "delegate", "--model", "m1", "--cap", f"{A}=500", "--out", out, *more))


def test_the_owner_signs_for_a_fresh_key_with_the_limits_that_were_given(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = int(time.time())
    assert delegate("--model", "m2", "--cap", f"{B}=70", "--currency", "EUR", "--lifetime-s", "60", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    message = load_delegation(folder / "agent.json")
    struct = delegation_of_message(message)
    assert recover_signer(struct, message.signature, NETWORK) == OWNER.address_bytes == struct.owner
    key = read_wallet_file(folder / "agent.key")
    assert struct.delegate == key.address_bytes != OWNER.address_bytes
    assert (struct.model_ids, struct.currency) == (("m1", "m2"), "EUR")
    assert dict(zip(hosts_of(message), (cap.cap_micros for cap in struct.host_caps), strict=True)) == {A: 500, B: 70}
    assert began <= struct.issued_at_unix_s <= time.time()
    assert struct.expires_at_unix_s == struct.issued_at_unix_s + 60
    assert told == {
        "owner": OWNER.address,
        "delegate": key.address,
        "digest": digest_of_delegation(message, NETWORK).hex(),
        "model_ids": ["m1", "m2"],
        "caps_micros": {A: 500, B: 70},
        "most_micros": 570,
        "currency": "EUR",
        "expires_at_unix_s": struct.expires_at_unix_s,
        "delegation_file": "agent.json",
        "key_file": "agent.key",
    }


def test_what_is_said_and_written_shows_no_key(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert delegate("-vv") == 0
    out, err = capsys.readouterr()
    assert "may spend 500 micro-USD in all on 1 hosts, for 86400 s" in out
    for path in (folder / "agent.key", folder / "agent.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = (folder / "agent.key").read_text().strip()
    assert len(secret) == 64
    assert secret not in out + err + (folder / "agent.json").read_text()


def test_two_delegations_have_two_keys_and_two_nonces(folder: Path) -> None:
    assert delegate() == delegate(out="other.json") == 0
    one, other = (load_delegation(folder / name) for name in ("agent.json", "other.json"))
    assert one.delegate != other.delegate
    assert one.nonce != other.nonce


@pytest.mark.parametrize("taken", ["agent.json", "agent.key", "dangling"])
def test_nothing_is_overwritten(folder: Path, taken: str, capsys: pytest.CaptureFixture[str]) -> None:
    if taken == "dangling":
        (folder / "agent.key").symlink_to(folder / "nowhere")
    else:
        (folder / taken).write_text("mine")
    before = sorted(folder.iterdir())
    assert delegate() == 3
    assert "exists already" in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before
    if taken != "dangling":
        assert (folder / taken).read_text() == "mine"


def test_a_delegation_that_cannot_be_written_leaves_no_key(folder: Path) -> None:
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)  # where anybody may put files, none of the owner's is written
    assert delegate("--session-key", "agent.key", out="open/agent.json") == 3
    assert [*folder.rglob("agent*")] == []


@pytest.mark.parametrize(
    "wrong",
    [
        ("--cap", "nobody"),
        ("--cap", f"{B}="),
        ("--cap", f"{B}=-1"),
        ("--cap", f"{B}=1.5"),
        ("--cap", f"{B}=\u0663"),
        ("--cap", f"{B}={2**64}"),
        ("--cap", f"{B}={'9' * 5000}"),
        ("--cap", "=7"),
        ("--cap", f"{A}=7"),
        ("--cap", "/ip4/127.0.0.1/tcp/1=7"),
        ("--lifetime-s", "0"),
        ("--lifetime-s", "86401"),
        ("--currency", ""),
        ("--model", ""),
        ("--session-key", "agent.json"),
        tuple(part for number in range(32) for part in ("--cap", f"{make_peer_key(str(number)).peer_id}=1")),
        tuple(part for number in range(32) for part in ("--model", f"more-{number}")),
    ],
)
def test_what_no_host_could_take_is_not_signed(
    folder: Path, wrong: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert delegate(*wrong, "--json") == 2
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 2
    assert [*folder.iterdir()] == []


def test_a_host_may_be_named_by_its_address() -> None:
    other = make_peer_key("c").peer_id
    texts = [f"/ip4/192.0.2.1/tcp/4001/p2p/{A}=5", f"{B}=0", f"{other}={2**64 - 1}"]
    assert parse_caps(texts) == {A: 5, B: 0, other: 2**64 - 1}


# --- what is made of the file ---


def saved(folder: Path, *, owner: Wallet = OWNER, now: float | None = None, lifetime_s: int = 3600) -> Path:
    key = create_wallet_file(folder / "agent.key", password=None)
    signed = sign_delegation(
        owner,
        key.address_bytes,
        model_ids=["m1", "m2"],
        host_caps={A: 5, B: 6},
        currency="USD",
        network=NETWORK,
        now=time.time() if now is None else now,
        nonce=bytes(32),
        lifetime_s=lifetime_s,
    )
    save_delegation(folder / "agent.json", signed)
    return folder / "agent.json"


def test_under_a_delegation_its_hosts_and_models_are_looked_for(folder: Path) -> None:
    path = saved(folder)
    wallet, criteria = delegated(path, None, CriteriaOptions())
    assert wallet == folder / "agent.key" == key_file_of(path)
    assert (criteria.include, criteria.model, criteria.any_model) == ([A, B], None, ["m1", "m2"])


def test_what_the_command_line_says_stays(folder: Path) -> None:
    other = folder / "moved.key"
    asked = CriteriaOptions(include=[B], model=["m2"], max_price_micros=7)
    assert delegated(saved(folder), other, asked) == (other, asked)
    assert delegated(folder / "agent.json", other, CriteriaOptions(any_model=["m1"], include=[A])) == (
        other,
        CriteriaOptions(any_model=["m1"], include=[A]),
    )


@pytest.mark.parametrize(
    "command", [("run", "hello", "--delegation", "agent.json"), ("wallet", "revoke", "agent.json")], ids=lambda c: c[0]
)
def test_a_file_that_holds_no_delegation(
    folder: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 3
    (folder / "agent.json").write_text("{}")
    (folder / "agent.json").chmod(0o600)
    assert main(command) == 3
    assert "hostmesh wallet delegate" in capsys.readouterr().err


def test_a_run_without_the_session_key_is_not_signed_by_another(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(folder)
    (folder / "agent.key").unlink()
    assert main(("run", "hello", "--delegation", "agent.json", "--no-mdns", "--no-dht")) == 3
    assert "agent.key" in capsys.readouterr().err


def test_only_the_owner_takes_a_delegation_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(folder, owner=SOMEBODY)
    assert main(("wallet", "revoke", "agent.json")) == 2
    err = capsys.readouterr().err
    assert SOMEBODY.address in err
    assert OWNER.address in err


def test_what_has_ended_by_itself_is_not_taken_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(folder, now=time.time() - 7200)
    assert main(("wallet", "revoke", "agent.json")) == 2
    assert "ended by itself" in capsys.readouterr().err


def outcome(**fields: Any) -> RevocationOutcome:
    return RevocationOutcome(**({"peer_id": A, "is_delivered": False, "is_pending": False} | fields))


def test_the_exit_code_says_whether_somebody_is_still_to_be_told() -> None:
    told, later, never = outcome(is_delivered=True), outcome(is_pending=True), outcome()
    assert exit_code_of([told, told]) == 0
    assert exit_code_of([told, later, never]) == 5
    assert exit_code_of([told, never]) == 7


@pytest.mark.parametrize("text", ["", "=", "a", f"{A}", f"{A}=", f"{A} = 5"])
def test_a_cap_that_is_none_is_named(text: str) -> None:
    with pytest.raises(HostmeshError):
        parse_caps([text])
