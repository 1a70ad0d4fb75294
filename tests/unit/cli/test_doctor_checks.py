"""What the doctor sees of a machine before a node runs: real files and sockets."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hostmesh.cli import doctor_checks
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
    assert doctor_checks.check_binding(path, now=NOW).code == code


def test_no_binding(tmp_path: Path) -> None:
    path = tmp_path / "binding.json"
    assert doctor_checks.check_binding(path, now=NOW).code == "BINDING_UNUSABLE"
    path.write_text("{}")
    assert doctor_checks.check_binding(path, now=NOW).code == "BINDING_UNUSABLE"
