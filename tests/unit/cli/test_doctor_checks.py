"""What the doctor sees of a machine before a node runs: real files and sockets."""

from __future__ import annotations

import socket
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from hostmesh.cli import doctor_checks
from hostmesh.discovery.diagnostics import Finding, Severity
from hostmesh.discovery.revocation_store import RevocationStore
from hostmesh.discovery.revocations import LIFE_S, RevokedEpoch
from hostmesh.discovery.room import Familiarity
from hostmesh.identity.binding import save_binding, sign_binding
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_key import open_peer_key
from hostmesh.testing import make_peer_key

NOW = 1_800_000_000.0


def port_code(address: str) -> str:
    (found,) = doctor_checks.check_ports([address])
    assert found.subject == address
    return found.code


def test_ports() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port_code(f"/ip4/127.0.0.1/tcp/{port}") == "PORT_IN_USE"
    assert port_code(f"/ip4/127.0.0.1/tcp/{port}") == "PORT_FREE"
    assert port_code(f"/ip4/127.0.0.1/tcp/{port}") == "PORT_FREE"  # looking took nothing
    assert port_code("/ip4/0.0.0.0/tcp/0/ws") == "PORT_FREE"


@pytest.mark.parametrize("address", ["/ip4/192.0.2.1/tcp/0", "/dns4/a.example/tcp/1", "/ip4/1/tcp/1", "nonsense"])
def test_addresses_that_cannot_be_listened_on(address: str) -> None:
    assert port_code(address) == "LISTEN_ADDRESS_REFUSED"


def test_a_key(tmp_path: Path) -> None:
    path = tmp_path / "peer.key"
    assert doctor_checks.check_key(path).code == "KEY_NEW"
    assert not path.exists()
    with open_peer_key(path) as key:
        assert doctor_checks.check_key(path).code == "KEY_BUSY"
    found = doctor_checks.check_key(path)
    assert (found.code, found.seen) == ("KEY_GOOD", f"peer id {key.peer_id}")


@pytest.mark.parametrize("fault", ["exposed", "link", "garbage", "directory"])
def test_a_key_that_cannot_be_used(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "peer.key"
    with open_peer_key(path):
        pass
    if fault == "exposed":
        path.chmod(0o644)
    elif fault == "link":
        path.rename(tmp_path / "real")
        path.symlink_to(tmp_path / "real")
    elif fault == "garbage":
        path.write_bytes(b"x")
    else:
        tmp_path.chmod(0o777)
    found = doctor_checks.check_key(path)
    assert (found.code, found.subject) == ("KEY_UNUSABLE", str(path))
    assert found.remedy
    assert (found.remedy == f"chmod 600 {path}") == (fault == "exposed")


@pytest.mark.parametrize(
    ("left_s", "code"), [(-10, "BINDING_ENDED"), (3600, "BINDING_ENDS_SOON"), (100_000, "BINDING_GOOD")]
)
def test_a_binding(tmp_path: Path, left_s: int, code: str) -> None:
    path = tmp_path / "binding.json"
    signed_at = NOW - 200_000
    lifetime_s = 200_000 + left_s
    save_binding(
        path,
        sign_binding(Wallet.generate(), make_peer_key("a").peer_id, network="n", now=signed_at, lifetime_s=lifetime_s),
    )
    assert checked(path).code == code


def checked(path: Path, *, network: str = "n", now: float = NOW) -> Finding:
    revocations = path.parent / "revocations.sqlite3"
    return doctor_checks.check_binding(path, now=now, network=network, revocations=revocations)


def test_a_binding_that_its_wallet_took_back(tmp_path: Path) -> None:
    """The truth is the host's own store, as it hears of revocations."""
    path, wallet, peer_id = tmp_path / "binding.json", Wallet.generate(), make_peer_key("a").peer_id

    def bind(epoch: int) -> None:
        save_binding(path, sign_binding(wallet, peer_id, network="n", now=NOW, revocation_epoch=epoch))

    bind(2)
    assert checked(path).code == "BINDING_GOOD"
    assert not (tmp_path / "revocations.sqlite3").exists(), "looking makes nothing"
    with closing(RevocationStore(tmp_path / "revocations.sqlite3")) as store:
        entry = RevokedEpoch(
            operator=wallet.address_bytes,
            peer_id=peer_id,
            least_epoch=3,
            told_at_unix_s=NOW,
            expires_at_unix_s=NOW + LIFE_S,
            familiarity=Familiarity.USED,
        )
        store.put("n", entry, now=NOW)
        store.put("n", replace(entry, operator=b"o" * 20, least_epoch=9), now=NOW)
    found = checked(path)
    assert (found.code, found.severity, found.subject) == ("BINDING_REVOKED", Severity.FAIL, str(path))
    assert found.remedy.endswith("hostmesh-host bind --revocation-epoch 3")
    assert checked(path, network="other").code == "BINDING_GOOD"
    bind(3)
    assert checked(path).code == "BINDING_GOOD"
    (tmp_path / "revocations.sqlite3").write_bytes(b"no database" * 100)
    assert checked(path).code == "BINDING_UNUSABLE"


def test_no_binding(tmp_path: Path) -> None:
    path = tmp_path / "binding.json"
    assert checked(path).code == "BINDING_UNUSABLE"
    path.write_text("{}")
    assert checked(path).code == "BINDING_UNUSABLE"
