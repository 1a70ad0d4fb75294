"""What wallets sign, and wallet files, with ethers.js: what one makes the other takes, and both hash alike."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.ethers import Ethers, running_ethers
from tests.interop.ethers_vectors import VECTORS, compute_vectors
from tests.interop.js_peer import prepare_ethers
from tests.support.typed_values import boundary_structs, drawn_struct, struct_types

from hostmesh.errors import KeyFileError
from hostmesh.identity.files import create_owner_file
from hostmesh.identity.keystore import create_wallet_file, read_wallet_file
from hostmesh.identity.secret import Secret
from hostmesh.identity.typed_data import (
    TypedStruct,
    domain_separator,
    recover_signer,
    struct_hash,
    type_string,
    typed_digest,
)
from hostmesh.identity.wallet import Wallet

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]  # the first installs ethers

DRAWS = 150
NETWORKS = ("hostmesh", "hostmesh-test", "réseau 网 🦙")
KEYS = ("4c" * 32, "00" * 31 + "01", "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d")
PHRASE = "test test test test test test test test test test test junk"
PASSWORD = "Käse 🧀 пароль"


@pytest.fixture(scope="module")
def ethers(toolchain_cache: Path) -> Iterator[Ethers]:
    with running_ethers(prepare_ethers(toolchain_cache / "ethers")) as process:
        yield process


def structs_of(kind: type[TypedStruct]) -> list[TypedStruct]:
    return [*boundary_structs(kind), *(drawn_struct(kind, seed) for seed in range(DRAWS))]


@pytest.mark.parametrize("kind", struct_types(), ids=lambda kind: kind.TYPE_NAME)
def test_both_hash_alike(ethers: Ethers, kind: type[TypedStruct]) -> None:
    for index, struct in enumerate(structs_of(kind)):
        network = NETWORKS[index % len(NETWORKS)]
        assert ethers.hash(struct, network) == {
            "encodeType": type_string(struct),
            "domainSeparator": "0x" + domain_separator(network).hex(),
            "structHash": "0x" + struct_hash(struct).hex(),
            "digest": "0x" + typed_digest(struct, network).hex(),
        }, struct


@pytest.mark.parametrize("kind", struct_types(), ids=lambda kind: kind.TYPE_NAME)
def test_each_verifies_what_the_other_signs(ethers: Ethers, kind: type[TypedStruct]) -> None:
    for index, struct in enumerate(structs_of(kind)):
        network = NETWORKS[index % len(NETWORKS)]
        wallet = Wallet.from_private_key(KEYS[index % len(KEYS)])
        theirs = ethers.sign(struct, network, wallet.secret_key().reveal())
        assert recover_signer(struct, theirs, network) == wallet.address_bytes, struct
        ours = wallet.sign(struct, network)
        assert ethers.recover(struct, network, ours) == wallet.address, struct
        # Both draw the signature's number from key and digest, after RFC 6979.
        assert theirs == ours, struct


@pytest.mark.parametrize("kind", struct_types(), ids=lambda kind: kind.TYPE_NAME)
def test_neither_finds_the_signer_of_something_else(ethers: Ethers, kind: type[TypedStruct]) -> None:
    struct, other = boundary_structs(kind)[0], boundary_structs(kind)[1]
    wallet = Wallet.from_private_key(KEYS[0])
    signature = wallet.sign(struct, "hostmesh")
    for _, _, attribute in kind.FIELDS:
        changed = dataclasses.replace(struct, **{attribute: getattr(other, attribute)})  # type: ignore[type-var]
        assert ethers.recover(changed, "hostmesh", signature) != wallet.address, attribute
        assert recover_signer(changed, signature, "hostmesh") != wallet.address_bytes, attribute
    assert ethers.recover(struct, "hostmesh-test", signature) != wallet.address
    assert recover_signer(struct, signature, "hostmesh-test") != wallet.address_bytes


def test_the_committed_vectors_are_those_that_ethers_computes(ethers: Ethers) -> None:
    computed, committed = compute_vectors(ethers), json.loads(VECTORS.read_text(encoding="utf-8"))
    # Its salt is drawn anew each time; that it opens is tested below, and in the unit tests.
    del computed["keystore"], committed["keystore"]
    assert committed == computed


@pytest.mark.parametrize("password", ["pw", PASSWORD])
def test_a_wallet_file_of_ethers_opens_here(ethers: Ethers, password: str, tmp_path: Path) -> None:
    wallet = Wallet.from_private_key(KEYS[0])
    answer = ethers.ask("encrypt", key="0x" + KEYS[0], password=password)
    create_owner_file(tmp_path / "wallet.json", Secret(answer["keystore"]))
    assert read_wallet_file(tmp_path / "wallet.json", lambda: password) == wallet


def test_ethers_composes_a_password_and_we_take_it_as_it_is(ethers: Ethers, tmp_path: Path) -> None:
    """As docs/protocols/binding.md says: ethers opens with the NFKC form of what was typed."""
    answer = ethers.ask("encrypt", key="0x" + KEYS[0], password="Ka\u0308se", scryptN=2)
    path = tmp_path / "wallet.json"
    create_owner_file(path, Secret(answer["keystore"]))
    assert read_wallet_file(path, lambda: "K\u00e4se") == Wallet.from_private_key(KEYS[0])
    with pytest.raises(KeyFileError, match="password"):
        read_wallet_file(path, lambda: "Ka\u0308se")


@pytest.mark.parametrize("password", ["pw", PASSWORD])
def test_a_wallet_file_of_ours_opens_in_ethers(ethers: Ethers, password: str, tmp_path: Path) -> None:
    wallet = create_wallet_file(tmp_path / "wallet.json", password=password)
    answer = ethers.ask("decrypt", keystore=(tmp_path / "wallet.json").read_text(), password=password)
    assert answer == {"address": wallet.address, "key": "0x" + wallet.secret_key().reveal().hex()}


def test_a_wallet_of_a_phrase_is_the_same_wallet(ethers: Ethers, tmp_path: Path) -> None:
    answer = ethers.ask("encryptPhrase", phrase=PHRASE, password="pw")
    wallet = Wallet.from_mnemonic(PHRASE)
    assert answer["key"] == "0x" + wallet.secret_key().reveal().hex()
    # Its file has the phrase, too, in a field that only ethers knows.
    assert "x-ethers" in json.loads(answer["keystore"])
    create_owner_file(tmp_path / "wallet.json", Secret(answer["keystore"]))
    assert read_wallet_file(tmp_path / "wallet.json", lambda: "pw") == wallet
