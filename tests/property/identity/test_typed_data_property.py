"""Any structure hashes as eth-account hashes it; any bytes are a signature of somebody or a BadSignatureError."""

import dataclasses
from typing import Any

import pytest
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak
from hypothesis import assume, example, given
from hypothesis import strategies as st

from hostmesh.errors import BadSignatureError
from hostmesh.identity.structs import PeerBinding, SessionAuthorization
from hostmesh.identity.typed_data import SECP256K1_ORDER, recover_signer, typed_digest
from hostmesh.identity.wallet import Wallet

WALLET = Wallet.from_private_key("4c" * 32)

addresses = st.binary(min_size=20, max_size=20)
uint64s = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**32, 2**63, 2**64 - 1])
peer_ids = st.binary(min_size=1, max_size=64)
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
bindings = st.builds(
    PeerBinding,
    operator=addresses,
    peer_id=peer_ids,
    issued_at_unix_s=uint64s,
    expires_at_unix_s=uint64s,
    revocation_epoch=uint64s,
)
authorizations = st.builds(
    SessionAuthorization,
    client=addresses,
    operator=addresses,
    client_peer_id=peer_ids,
    host_peer_id=peer_ids,
    nonce=st.binary(min_size=32, max_size=32),
    model_id=texts,
    max_price_micros_per_mtok=uint64s,
    currency=texts,
    spending_limit_micros=uint64s,
    issued_at_unix_s=uint64s,
    expires_at_unix_s=uint64s,
    slice_micros=uint64s,
    delegation_digest=st.binary(min_size=32, max_size=32),
)
TYPES = {
    "PeerBinding": "address operator,bytes peerId,uint64 issuedAt,uint64 expiresAt,uint64 revocationEpoch",
    "SessionAuthorization": "address client,address operator,bytes clientPeerId,bytes hostPeerId,bytes32 nonce,"
    "string modelId,uint64 maxPriceMicrosPerMtok,string currency,uint64 spendingLimitMicros,uint64 issuedAt,"
    "uint64 expiresAt,uint64 sliceMicros,bytes32 delegationDigest",
    "EIP712Domain": "string name,string version,bytes32 salt",
}


def members(name: str) -> list[dict[str, str]]:
    return [dict(zip(("type", "name"), part.split(), strict=True)) for part in TYPES[name].split(",")]


@given(struct=bindings | authorizations, network=texts)
def test_the_digest_is_eth_accounts_for_any_value(struct: PeerBinding | SessionAuthorization, network: str) -> None:
    name = type(struct).__name__
    values = [getattr(struct, field.name) for field in dataclasses.fields(struct)]
    signable = encode_typed_data(
        full_message={
            "types": {"EIP712Domain": members("EIP712Domain"), name: members(name)},
            "primaryType": name,
            "domain": {"name": "hostmesh", "version": "1", "salt": keccak(text=network)},
            "message": {
                member["name"]: "0x" + value.hex() if member["type"] == "address" else value
                for member, value in zip(members(name), values, strict=True)
            },
        }
    )
    assert typed_digest(struct, network) == keccak(b"\x19" + signable.version + signable.header + signable.body)


@given(struct=bindings | authorizations, network=texts, other=texts)
def test_a_signature_is_for_one_network(struct: PeerBinding | SessionAuthorization, network: str, other: str) -> None:
    assume(network != other)
    signature = WALLET.sign(struct, network)
    assert recover_signer(struct, signature, network) == WALLET.address_bytes
    assert recover_signer(struct, signature, other) != WALLET.address_bytes


def different(value: Any, draw: Any) -> Any:
    kinds: dict[type, st.SearchStrategy[Any]] = {int: uint64s, str: texts}
    strategy = kinds[type(value)] if type(value) in kinds else st.binary(min_size=len(value), max_size=len(value))
    return draw(strategy.filter(lambda other: other != value))


@given(struct=bindings | authorizations, data=st.data())
def test_a_change_of_any_field_changes_the_signer(
    struct: PeerBinding | SessionAuthorization, data: st.DataObject
) -> None:
    field = data.draw(st.sampled_from([field.name for field in dataclasses.fields(struct)]))
    other = dataclasses.replace(struct, **{field: different(getattr(struct, field), data.draw)})
    try:
        signer = recover_signer(other, WALLET.sign(struct, "net"), "net")
    except BadSignatureError:
        return
    assert signer != WALLET.address_bytes


@given(struct=bindings, signature=st.binary(max_size=130) | st.binary(min_size=65, max_size=65))
@example(
    struct=PeerBinding(operator=bytes(20), peer_id=b"x", issued_at_unix_s=0, expires_at_unix_s=0, revocation_epoch=0),
    signature=bytes(64) + b"\x1b",
)
def test_any_bytes_are_somebodys_signature_or_refused(struct: PeerBinding, signature: bytes) -> None:
    try:
        signer = recover_signer(struct, signature, "net")
    except BadSignatureError:
        return
    assert len(signer) == 20
    assert signer != WALLET.address_bytes
    assert signature[64] in (27, 28)
    assert int.from_bytes(signature[32:64], "big") <= SECP256K1_ORDER // 2


@given(struct=bindings, bit=st.integers(0, 65 * 8 - 1))
def test_a_flipped_bit_of_the_signature_is_another_signer_or_none(struct: PeerBinding, bit: int) -> None:
    signature = bytearray(WALLET.sign(struct, "net"))
    signature[bit // 8] ^= 1 << bit % 8
    try:
        signer = recover_signer(struct, bytes(signature), "net")
    except BadSignatureError:
        return
    assert signer != WALLET.address_bytes


@given(struct=bindings, key=st.integers(1, SECP256K1_ORDER - 1))
def test_every_key_signs_canonically(struct: PeerBinding, key: int) -> None:
    wallet = Wallet.from_private_key(key.to_bytes(32, "big"))
    signature = wallet.sign(struct, "net")
    assert signature == wallet.sign(struct, "net")
    assert recover_signer(struct, signature, "net") == wallet.address_bytes
    s = int.from_bytes(signature[32:64], "big")
    assert s <= SECP256K1_ORDER // 2
    twin = signature[:32] + (SECP256K1_ORDER - s).to_bytes(32, "big") + bytes([55 - signature[64]])
    with pytest.raises(BadSignatureError):
        recover_signer(struct, twin, "net")
