"""Test wallets sign as real ones do, the same everywhere, and for nothing but tests."""

from __future__ import annotations

import copy
import doctest
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from hostmesh import Wallet, create_wallet_file, sign_binding
from hostmesh.errors import UsageError
from hostmesh.identity.binding import verify_binding
from hostmesh.identity.secret import Secret
from hostmesh.identity.structs import PeerBinding
from hostmesh.identity.typed_data import recover_signer
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.settings import Settings
from hostmesh.testing import wallets
from hostmesh.testing.wallets import TEST_NETWORK, is_test_network, make_peer_key, make_wallet

NOW = 1_900_000_000


def test_docstring_examples() -> None:
    failed, attempted = doctest.testmod(wallets)
    assert attempted > 0
    assert failed == 0


def struct(operator: bytes) -> PeerBinding:
    return PeerBinding(
        operator=operator,
        peer_id=peer_id_to_bytes(make_peer_key("p").peer_id),
        issued_at_unix_s=1,
        expires_at_unix_s=2,
        revocation_epoch=0,
    )


def test_its_signatures_are_those_of_the_key_that_it_names() -> None:
    wallet = make_wallet("alice")
    signed = struct(wallet.address_bytes)
    signature = wallet.sign(signed, TEST_NETWORK)
    assert recover_signer(signed, signature, TEST_NETWORK) == wallet.address_bytes
    assert recover_signer(signed, signature, "testnet-2") != wallet.address_bytes


def test_an_independent_library_agrees_on_address_and_signature() -> None:
    from eth_account import Account
    from eth_hash.auto import keccak

    wallet = make_wallet("alice")
    key = Secret(wallets._digest(wallets._WALLET_PREFIX, "alice")).reveal()
    assert Account.from_key(key).address == wallet.address
    signed = struct(wallet.address_bytes)
    document = Account.sign_typed_data(
        key,
        domain_data={"name": "hostmesh", "version": "1", "salt": keccak(TEST_NETWORK.encode())},
        message_types={
            PeerBinding.TYPE_NAME: [{"name": name, "type": kind} for kind, name, _ in PeerBinding.FIELDS],
        },
        message_data={name: getattr(signed, attribute) for _, name, attribute in PeerBinding.FIELDS},
    )
    assert bytes(document.signature) == wallet.sign(signed, TEST_NETWORK)


def test_a_binding_of_its_own_verifies() -> None:
    wallet, peer_id = make_wallet("operator"), make_peer_key("host").peer_id
    binding = sign_binding(wallet, peer_id, network=TEST_NETWORK, now=NOW)
    assert verify_binding(binding, peer_id=peer_id, network=TEST_NETWORK, now=NOW) == wallet.address_bytes


def test_names_and_seeds_are_apart_and_the_same_in_every_process() -> None:
    names: tuple[str | int, ...] = ("a", "b", 0, "0", -1, 2**300, "", "\ud800")
    assert len({make_wallet(name) for name in names}) == len(names)
    assert len({make_peer_key(name).peer_id for name in names}) == len(names)
    code = "from hostmesh.testing.wallets import *; print(make_wallet('a').address, make_peer_key(7).peer_id)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.split() == [make_wallet("a").address, make_peer_key(7).peer_id]


@pytest.mark.parametrize("name", [None, True, 1.5, b"bytes"])
def test_other_names_are_refused(name: object) -> None:
    with pytest.raises(UsageError):
        make_wallet(name)  # type: ignore[arg-type]


# --- never by accident ---


@pytest.mark.parametrize("network", [Settings().network, "mainnet", "", "Testnet", "my-test"])
def test_it_signs_for_no_other_network(network: str) -> None:
    assert not is_test_network(network)
    wallet = make_wallet("alice")
    with pytest.raises(UsageError, match="its key is public") as refused:
        wallet.sign(struct(wallet.address_bytes), network)
    assert "networks=" in refused.value.remedy
    with pytest.raises(UsageError):
        sign_binding(wallet, make_peer_key("host").peer_id, network=network, now=NOW)


def test_a_network_can_be_allowed_by_name() -> None:
    wallet = make_wallet("alice", networks=["hostmesh"])
    signed = struct(wallet.address_bytes)
    assert recover_signer(signed, wallet.sign(signed, "hostmesh"), "hostmesh") == wallet.address_bytes
    with pytest.raises(UsageError):
        wallet.sign(signed, "mainnet")


def test_it_becomes_no_key_file(tmp_path: Path) -> None:
    wallet = make_wallet("alice")
    with pytest.raises(UsageError, match="does not give its key out"):
        wallet.secret_key()
    path = tmp_path / "wallet.json"
    for password in (None, "secret"):
        with pytest.raises(UsageError, match="does not give its key out"):
            create_wallet_file(path, password=password, wallet=wallet, scrypt_n=2)
        assert not path.exists()
    with pytest.raises(UsageError):
        pickle.dumps(wallet)


def test_it_is_a_wallet_and_says_which() -> None:
    wallet = make_wallet("alice")
    assert isinstance(wallet, Wallet)
    assert copy.deepcopy(wallet) is wallet
    assert repr(wallet) == f"PublicKeyWallet('alice', {wallet.address}, test networks only)"
