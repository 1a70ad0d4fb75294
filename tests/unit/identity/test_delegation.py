"""Delegations as their owner signs and files them; what hosts make of them is tested with the sessions."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from hostmesh.errors import KeyFileError, MalformedMessageError, UsageError
from hostmesh.identity.delegation import (
    delegation_of_message,
    digest_of_delegation,
    load_delegation,
    save_delegation,
    sign_delegation,
    sign_delegation_revocation,
)
from hostmesh.identity.typed_data import recover_signer, typed_digest
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_key import PeerKey
from hostmesh.v1 import session_pb2 as pb

NETWORK = "hostmesh-test"
OWNER, KEY = Wallet.from_private_key("11" * 32), Wallet.from_private_key("22" * 32)
HOSTS = [PeerKey(bytes([number]) * 32).peer_id for number in range(1, 34)]


def made(**changes: Any) -> pb.Delegation:
    fields: dict[str, Any] = {
        "model_ids": ["m-3", "m-30"],
        "host_caps": {HOSTS[0]: 1_000, HOSTS[1]: 2**64 - 1},
        "currency": "USD",
        "network": NETWORK,
        "now": 1_700_000_000.9,
        "nonce": bytes(32),
    }
    return sign_delegation(OWNER, KEY.address_bytes, **(fields | changes))


def test_the_owner_signs_what_it_says_for_one_network() -> None:
    message = made()
    struct = delegation_of_message(message)
    assert recover_signer(struct, message.signature, NETWORK) == OWNER.address_bytes == struct.owner
    assert recover_signer(struct, message.signature, "hostmesh") != OWNER.address_bytes
    assert (struct.issued_at_unix_s, struct.expires_at_unix_s) == (1_700_000_000, 1_700_086_400)
    assert digest_of_delegation(message, NETWORK) == typed_digest(struct, NETWORK)
    assert digest_of_delegation(message, NETWORK) != digest_of_delegation(made(nonce=bytes([1]) * 32), NETWORK)


@pytest.mark.parametrize(
    "changes",
    [
        {"lifetime_s": 0},
        {"lifetime_s": 86_401},
        {"lifetime_s": 60.0},
        {"model_ids": []},
        {"model_ids": ["m"] * 33},
        {"model_ids": ["m" * 129]},
        {"host_caps": {}},
        {"host_caps": dict.fromkeys(HOSTS, 1)},
        {"host_caps": {HOSTS[0]: -1}},
        {"host_caps": {HOSTS[0]: 2**64}},
        {"host_caps": {HOSTS[0]: 1.0}},
        {"currency": ""},
        {"nonce": bytes(31)},
    ],
)
def test_what_no_host_could_take_is_not_signed(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        made(**changes)


def test_a_revocation_names_the_delegation_and_is_its_owners() -> None:
    digest = digest_of_delegation(made(), NETWORK)
    revocation = sign_delegation_revocation(OWNER, digest, network=NETWORK, now=1_700_000_001.5)
    assert (revocation.owner, revocation.delegation_digest) == (OWNER.address_bytes, digest)
    assert revocation.issued_at_unix_s == 1_700_000_001
    with pytest.raises(UsageError):
        sign_delegation_revocation(OWNER, b"short", network=NETWORK, now=0)


def test_a_host_with_two_caps_is_malformed() -> None:
    message = made()
    message.host_caps[1].host_peer_id = message.host_caps[0].host_peer_id
    with pytest.raises(MalformedMessageError) as caught:
        delegation_of_message(message)
    assert caught.value.field == "delegation.host_caps"


def test_a_file_gives_back_what_was_signed(tmp_path: Path) -> None:
    path = tmp_path / "delegation.json"
    save_delegation(path, made())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_delegation(path) == made()
    assert json.loads(path.read_text())["host_caps_micros"][HOSTS[0]] == 1_000


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"owner": "0x00"},
        {"host_caps_micros": {}},
        {"host_caps_micros": {"nobody": 1}},
        {"model_ids": "m-3"},
        {"nonce": "00"},
        {"signature": "0xzz"},
        {"expires_at_unix_s": "soon"},
    ],
)
def test_a_file_that_holds_no_delegation_is_named(changes: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "delegation.json"
    save_delegation(path, made())
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(KeyFileError) as caught:
        load_delegation(path)
    assert caught.value.path == str(path)
