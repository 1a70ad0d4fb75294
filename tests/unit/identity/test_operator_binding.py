"""The binding that a host runs under: from its file, or signed anew by the wallet at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hostmesh.errors import BadSignatureError, HostmeshError, KeyFileError, NotAuthenticatedError, RecordExpiredError
from hostmesh.identity.binding import load_binding, save_binding, sign_binding, verify_binding
from hostmesh.identity.operator import OperatorBinding
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_key import PeerKey
from hostmesh.system import System

NOW = 1_700_000_000.0
DAY = 86_400
NETWORK = "hostmesh-test"
WALLET = Wallet.from_private_key("4c" * 32)
OTHER_WALLET = Wallet.from_private_key("5d" * 32)
PEER = PeerKey(bytes(range(32))).peer_id
OTHER_PEER = PeerKey(bytes(range(1, 33))).peer_id


def operator(path: Path | None, *, wallet: Wallet | None = WALLET, now: float = NOW) -> OperatorBinding:
    return OperatorBinding(network=NETWORK, system=System(unix_s=lambda: now), wallet=wallet, path=path)


def holds(binding: Any, *, now: float = NOW) -> bool:
    return verify_binding(binding, peer_id=PEER, network=NETWORK, now=now) == WALLET.address_bytes


def test_a_wallet_signs_and_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "binding.json"
    first = operator(path).current(PEER)
    assert holds(first)
    assert load_binding(path) == first
    assert operator(path).current(PEER) == first


def test_without_a_file_it_is_kept_in_memory() -> None:
    binding = operator(None)
    assert binding.current(PEER) is binding.current(PEER)
    assert binding.current(OTHER_PEER) != binding.current(PEER)


@pytest.mark.parametrize(("left_s", "is_renewed"), [(DAY + 1, False), (DAY, True), (1, True), (-DAY, True)])
def test_a_wallet_renews_before_the_end(tmp_path: Path, left_s: int, is_renewed: bool) -> None:
    path = tmp_path / "binding.json"
    old = sign_binding(WALLET, PEER, network=NETWORK, now=NOW + left_s - 7 * DAY, revocation_epoch=3)
    save_binding(path, old)
    current = operator(path).current(PEER)
    assert (current != old) is is_renewed
    assert holds(current)
    assert current.revocation_epoch == 3
    assert load_binding(path) == current


def changed(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("fault", ["network", "peer", "wallet", "signature", "future", "too long"])
def test_a_wallet_replaces_what_nobody_would_believe(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "binding.json"
    save_binding(
        path,
        sign_binding(
            OTHER_WALLET if fault == "wallet" else WALLET,
            OTHER_PEER if fault == "peer" else PEER,
            network="another" if fault == "network" else NETWORK,
            now=NOW + DAY if fault == "future" else NOW,
        ),
    )
    if fault == "signature":
        changed(path, signature="0x" + "11" * 64 + "1b")
    if fault == "too long":
        changed(path, expires_at_unix_s=int(NOW) + 30 * DAY)
    current = operator(path).current(PEER)
    assert holds(current)
    assert load_binding(path) == current


def test_without_a_wallet_the_file_must_hold(tmp_path: Path) -> None:
    path = tmp_path / "binding.json"
    with pytest.raises(NotAuthenticatedError):
        operator(path, wallet=None).current(PEER)
    good = sign_binding(WALLET, PEER, network=NETWORK, now=NOW)
    save_binding(path, good)
    assert operator(path, wallet=None).current(PEER) == good
    with pytest.raises(RecordExpiredError):
        operator(path, wallet=None, now=NOW + 8 * DAY).current(PEER)
    with pytest.raises(HostmeshError):
        operator(path, wallet=None).current(OTHER_PEER)
    changed(path, signature="0x" + "11" * 64 + "1b")
    with pytest.raises(BadSignatureError):
        operator(path, wallet=None).current(PEER)


def test_a_file_that_is_no_binding_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "binding.json"
    path.write_text("{}")
    path.chmod(0o600)
    with pytest.raises(KeyFileError):
        operator(path).current(PEER)
    assert path.read_text() == "{}"
