"""EIP-712 digests and signatures, against eth-account's own encoder and against committed constants."""

import dataclasses
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from hostmesh.errors import BadSignatureError, UsageError
from hostmesh.identity.address import parse_address
from hostmesh.identity.structs import PeerBinding, SessionAuthorization
from hostmesh.identity.typed_data import SECP256K1_ORDER, domain_separator, recover_signer, type_string, typed_digest
from hostmesh.identity.wallet import Wallet

KEY = "0x" + "4c" * 32
NETWORK = "hostmesh-test"

BINDING = PeerBinding(
    operator=bytes.fromhex("5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"),
    peer_id=bytes.fromhex("002408011220") + bytes(range(32)),
    issued_at_unix_s=1_700_000_000,
    expires_at_unix_s=1_700_604_800,
    revocation_epoch=3,
)
AUTHORIZATION = SessionAuthorization(
    client=bytes.fromhex("fb6916095ca1df60bb79ce92ce3ea74c37c5d359"),
    operator=BINDING.operator,
    client_peer_id=bytes.fromhex("002408011220") + bytes(range(32, 64)),
    host_peer_id=BINDING.peer_id,
    nonce=bytes(range(100, 132)),
    model_id="smollm2-135m-instruct",
    max_price_micros_per_mtok=150_000,
    currency="USD",
    spending_limit_micros=10_000,
    slice_micros=1_000,
    issued_at_unix_s=1_700_000_000,
    expires_at_unix_s=1_700_003_600,
)

# Written out by hand from the specification, not taken from the code.
TYPES = {
    "EIP712Domain": [
        {"name": "name", "type": "string"},
        {"name": "version", "type": "string"},
        {"name": "salt", "type": "bytes32"},
    ],
    "PeerBinding": [
        {"name": "operator", "type": "address"},
        {"name": "peerId", "type": "bytes"},
        {"name": "issuedAt", "type": "uint64"},
        {"name": "expiresAt", "type": "uint64"},
        {"name": "revocationEpoch", "type": "uint64"},
    ],
    "SessionAuthorization": [
        {"name": "client", "type": "address"},
        {"name": "operator", "type": "address"},
        {"name": "clientPeerId", "type": "bytes"},
        {"name": "hostPeerId", "type": "bytes"},
        {"name": "nonce", "type": "bytes32"},
        {"name": "modelId", "type": "string"},
        {"name": "maxPriceMicrosPerMtok", "type": "uint64"},
        {"name": "currency", "type": "string"},
        {"name": "spendingLimitMicros", "type": "uint64"},
        {"name": "issuedAt", "type": "uint64"},
        {"name": "expiresAt", "type": "uint64"},
        {"name": "sliceMicros", "type": "uint64"},
        {"name": "delegationDigest", "type": "bytes32"},
    ],
}


def as_eth_account(struct: PeerBinding | SessionAuthorization, network: str) -> Any:
    from eth_utils.crypto import keccak

    name = type(struct).__name__
    values = [getattr(struct, field.name) for field in dataclasses.fields(struct)]
    message = {
        entry["name"]: "0x" + value.hex() if entry["type"] == "address" else value
        for entry, value in zip(TYPES[name], values, strict=True)
    }
    return encode_typed_data(
        full_message={
            "types": {"EIP712Domain": TYPES["EIP712Domain"], name: TYPES[name]},
            "primaryType": name,
            "domain": {"name": "hostmesh", "version": "1", "salt": keccak(text=network)},
            "message": message,
        }
    )


def eth_account_digest(struct: PeerBinding | SessionAuthorization, network: str) -> bytes:
    from eth_utils.crypto import keccak

    signable = as_eth_account(struct, network)
    return keccak(b"\x19" + signable.version + signable.header + signable.body)


@pytest.mark.parametrize("struct", [BINDING, AUTHORIZATION])
@pytest.mark.parametrize("network", ["hostmesh", NETWORK, "réseau"])
def test_the_digest_is_eth_accounts(struct: PeerBinding | SessionAuthorization, network: str) -> None:
    assert typed_digest(struct, network) == eth_account_digest(struct, network)
    assert domain_separator(network) == as_eth_account(struct, network).header


def test_the_digests_are_the_published_ones() -> None:
    # As in docs/protocols: another implementation can check itself against these.
    assert domain_separator(NETWORK).hex() == "c17f81f2cdbd08c1ca02843ff6c085c41015fe96153b42e7edbedb2d9dead508"
    assert typed_digest(BINDING, NETWORK).hex() == "046128a831611c91b0cae0c74a97b2b74606c1e23fcc7e7f8346a5238631f311"
    assert (
        typed_digest(AUTHORIZATION, NETWORK).hex() == "26fdd10b41ad192392f64312fff4a4264c8e35796a9716a6a3d10155959b355a"
    )
    wallet = Wallet.from_private_key(KEY)
    assert wallet.address == "0xdB00079cad3e665853Bf766eFe26F4C38cdbdCDA"
    assert wallet.sign(BINDING, NETWORK).hex() == (
        "a3dea7ed23dd377778f138e3fa5d5eb07d2b852a91780ab898de187a04bfe1366ab4e86bf68e6d29d56a85ab80e82b59aa6b"
        "d761b156ac4d24742bdc35e612e51c"
    )
    assert wallet.sign(AUTHORIZATION, NETWORK).hex() == (
        "c2e98d753101b82047532149dc77c663e29d7d01600c5f343449109c21120a1e4db1f0fb5429c4c6a30fbda75b05a9f720a8"
        "c0658abeb663cb7a6bc684c8c6b51b"
    )


def test_the_type_strings_are_the_published_ones() -> None:
    assert type_string(SessionAuthorization) == (
        "SessionAuthorization(address client,address operator,bytes clientPeerId,bytes hostPeerId,bytes32 nonce,"
        "string modelId,uint64 maxPriceMicrosPerMtok,string currency,uint64 spendingLimitMicros,uint64 issuedAt,"
        "uint64 expiresAt,uint64 sliceMicros,bytes32 delegationDigest)"
    )


@pytest.mark.parametrize("struct", [BINDING, AUTHORIZATION])
def test_signatures_are_eth_accounts_both_ways(struct: PeerBinding | SessionAuthorization) -> None:
    wallet = Wallet.from_private_key(KEY)
    signable = as_eth_account(struct, NETWORK)
    theirs = bytes(Account.sign_message(signable, KEY).signature)
    ours = wallet.sign(struct, NETWORK)
    # Both are deterministic after RFC 6979.
    assert ours == theirs
    assert Account.recover_message(signable, signature=ours) == wallet.address
    assert recover_signer(struct, theirs, NETWORK) == parse_address(wallet.address)


def test_another_network_has_another_signer() -> None:
    wallet = Wallet.from_private_key(KEY)
    signature = wallet.sign(AUTHORIZATION, NETWORK)
    assert recover_signer(AUTHORIZATION, signature, NETWORK) == wallet.address_bytes
    assert recover_signer(AUTHORIZATION, signature, "hostmesh-tesu") != wallet.address_bytes


def changed(value: Any) -> Any:
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    return value[:-1] + bytes([value[-1] ^ 1])


@pytest.mark.parametrize(
    ("struct", "field"),
    [(struct, field.name) for struct in (BINDING, AUTHORIZATION) for field in dataclasses.fields(struct)],
)
def test_every_field_is_signed(struct: PeerBinding | SessionAuthorization, field: str) -> None:
    wallet = Wallet.from_private_key(KEY)
    signature = wallet.sign(struct, NETWORK)
    other = dataclasses.replace(struct, **{field: changed(getattr(struct, field))})
    assert recover_signer(other, signature, NETWORK) != wallet.address_bytes


def test_the_malleable_twin_of_a_signature_is_refused() -> None:
    signature = Wallet.from_private_key(KEY).sign(BINDING, NETWORK)
    s = int.from_bytes(signature[32:64], "big")
    twin = signature[:32] + (SECP256K1_ORDER - s).to_bytes(32, "big") + bytes([55 - signature[64]])
    # It is a valid signature by the curve: eth-account takes it.
    signable = as_eth_account(BINDING, NETWORK)
    assert Account.recover_message(signable, signature=twin) == Wallet.from_private_key(KEY).address
    with pytest.raises(BadSignatureError, match="malleable"):
        recover_signer(BINDING, twin, NETWORK)


@pytest.mark.parametrize("v", [0, 1, 2, 26, 29, 37, 255])
def test_v_is_27_or_28(v: int) -> None:
    signature = Wallet.from_private_key(KEY).sign(BINDING, NETWORK)
    with pytest.raises(BadSignatureError, match="27 or 28"):
        recover_signer(BINDING, signature[:64] + bytes([v]), NETWORK)


@pytest.mark.parametrize("size", [0, 1, 64, 66, 130])
def test_a_signature_has_65_bytes(size: int) -> None:
    with pytest.raises(BadSignatureError, match="65"):
        recover_signer(BINDING, (b"\x1b" * 130)[:size], NETWORK)


ONE = (1).to_bytes(32, "big")


@pytest.mark.parametrize(
    "rs",
    [
        bytes(64),
        bytes(32) + ONE,
        ONE + bytes(32),
        SECP256K1_ORDER.to_bytes(32, "big") + ONE,
        b"\xff" * 32 + ONE,
        # x = 5 is on no point of secp256k1.
        (5).to_bytes(32, "big") + ONE,
    ],
    ids=["zero", "r-zero", "s-zero", "r-order", "r-max", "r-no-point"],
)
def test_numbers_that_are_no_signature_are_refused(rs: bytes) -> None:
    with pytest.raises(BadSignatureError):
        recover_signer(BINDING, rs + b"\x1b", NETWORK)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("operator", bytes(19)),
        ("operator", "0x" + "1" * 40),
        ("peer_id", b""),
        ("peer_id", bytes(65)),
        ("issued_at_unix_s", -1),
        ("issued_at_unix_s", 2**64),
        ("issued_at_unix_s", 1.5),
        ("revocation_epoch", True),
    ],
)
def test_a_value_out_of_its_type_is_refused(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=field):
        dataclasses.replace(BINDING, **{field: value})


@pytest.mark.parametrize(
    ("field", "value"), [("nonce", bytes(31)), ("model_id", ""), ("model_id", "a\ud83e"), ("currency", b"USD")]
)
def test_an_authorisation_value_out_of_its_type_is_refused(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=field):
        dataclasses.replace(AUTHORIZATION, **{field: value})


def test_a_network_needs_a_name() -> None:
    with pytest.raises(UsageError):
        typed_digest(BINDING, "")
