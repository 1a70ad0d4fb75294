"""The structures that wallets sign, as EIP-712 typed data. Pure.

Domain: ``EIP712Domain(string name,string version,bytes32 salt)`` with name ``hostmesh``, version ``1`` and salt
keccak256(network name); no chainId, since no chain takes part. A signature made for one network therefore verifies on
no other. One digest function serves signer and verifier.

A signature has 65 bytes: r, s, v. Only its canonical form is accepted (s in the lower half of the order, v 27 or 28),
so that nobody can turn one valid signature into a second one.

Source: EIP-712; EIP-2, "Homestead hard-fork changes", for the low s.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Protocol

from hostmesh.errors import BadSignatureError, UsageError
from hostmesh.identity.address import ADDRESS_BYTES, keccak256

DOMAIN_NAME = "hostmesh"
DOMAIN_VERSION = "1"
SIGNATURE_BYTES = 65
MAX_UINT64 = 2**64 - 1
MAX_PEER_ID_BYTES = 64
NONCE_BYTES = 32
SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_DOMAIN_TYPE = "EIP712Domain(string name,string version,bytes32 salt)"

FieldTable = tuple[tuple[str, str, str], ...]
"""Solidity type, name in the signed structure, attribute here; in the order that is signed."""


class TypedStruct(Protocol):
    """A structure that a wallet can sign."""

    TYPE_NAME: ClassVar[str]
    FIELDS: ClassVar[FieldTable]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerBinding:
    """An operator says: this peer key acts for my wallet.

    Raises:
        UsageError: a field out of its bounds.
    """

    TYPE_NAME: ClassVar[str] = "PeerBinding"
    FIELDS: ClassVar[FieldTable] = (
        ("address", "operator", "operator"),
        ("bytes", "peerId", "peer_id"),
        ("uint64", "issuedAt", "issued_at_unix_s"),
        ("uint64", "expiresAt", "expires_at_unix_s"),
        ("uint64", "revocationEpoch", "revocation_epoch"),
    )

    operator: bytes
    """The wallet, 20 bytes."""
    peer_id: bytes
    """Raw multihash, 1 to 64 bytes."""
    issued_at_unix_s: int
    expires_at_unix_s: int
    revocation_epoch: int
    """Bindings below the wallet's current epoch are revoked."""

    def __post_init__(self) -> None:
        _check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionAuthorization:
    """A client says: I open a session on this host under these terms.

    Raises:
        UsageError: a field out of its bounds.
    """

    TYPE_NAME: ClassVar[str] = "SessionAuthorization"
    FIELDS: ClassVar[FieldTable] = (
        ("address", "client", "client"),
        ("address", "operator", "operator"),
        ("bytes", "clientPeerId", "client_peer_id"),
        ("bytes", "hostPeerId", "host_peer_id"),
        ("bytes32", "nonce", "nonce"),
        ("string", "modelId", "model_id"),
        ("uint64", "maxPriceMicrosPerMtok", "max_price_micros_per_mtok"),
        ("string", "currency", "currency"),
        ("uint64", "spendingLimitMicros", "spending_limit_micros"),
        ("uint64", "issuedAt", "issued_at_unix_s"),
        ("uint64", "expiresAt", "expires_at_unix_s"),
    )

    client: bytes
    """The client's wallet, 20 bytes."""
    operator: bytes
    """The host's operator, 20 bytes."""
    client_peer_id: bytes
    host_peer_id: bytes
    nonce: bytes
    """The host's challenge, 32 bytes."""
    model_id: str
    max_price_micros_per_mtok: int
    currency: str
    spending_limit_micros: int
    issued_at_unix_s: int
    expires_at_unix_s: int

    def __post_init__(self) -> None:
        _check_fields(self)


def _check_fields(struct: TypedStruct) -> None:
    for kind, _, attribute in struct.FIELDS:
        value = getattr(struct, attribute)
        match kind:
            case "address":
                good = isinstance(value, bytes) and len(value) == ADDRESS_BYTES
            case "bytes32":
                good = isinstance(value, bytes) and len(value) == NONCE_BYTES
            case "bytes":
                good = isinstance(value, bytes) and 1 <= len(value) <= MAX_PEER_ID_BYTES
            case "string":
                good = isinstance(value, str) and value != ""
            case _:
                good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_UINT64
        if not good:
            raise UsageError(f"{struct.TYPE_NAME}.{attribute} is no {kind} within its bounds")


def type_string(struct: TypedStruct | type[TypedStruct]) -> str:
    """Return EIP-712's encodeType.

    >>> type_string(PeerBinding)
    'PeerBinding(address operator,bytes peerId,uint64 issuedAt,uint64 expiresAt,uint64 revocationEpoch)'
    """
    return f"{struct.TYPE_NAME}({','.join(f'{kind} {name}' for kind, name, _ in struct.FIELDS)})"


def struct_hash(struct: TypedStruct) -> bytes:
    """Return EIP-712's hashStruct, 32 bytes."""
    words = [_type_hash(type_string(struct))]
    for kind, _, attribute in struct.FIELDS:
        value = getattr(struct, attribute)
        match kind:
            case "address":
                words.append(value.rjust(32, b"\0"))
            case "bytes32":
                words.append(value)
            case "bytes":
                words.append(keccak256(value))
            case "string":
                words.append(keccak256(value.encode()))
            case _:
                words.append(value.to_bytes(32, "big"))
    return keccak256(b"".join(words))


@lru_cache(maxsize=16)
def _type_hash(text: str) -> bytes:
    return keccak256(text.encode())


@lru_cache(maxsize=16)
def domain_separator(network: str) -> bytes:
    """Return the hash of the domain of one network, 32 bytes.

    Raises:
        UsageError: the network has no name.
    """
    if not network:
        raise UsageError("a network needs a name")
    return keccak256(
        _type_hash(_DOMAIN_TYPE)
        + keccak256(DOMAIN_NAME.encode())
        + keccak256(DOMAIN_VERSION.encode())
        + keccak256(network.encode())
    )


def typed_digest(struct: TypedStruct, network: str) -> bytes:
    """Return the 32 bytes that a wallet signs.

    Cost: about ten hashes, 0.1 ms.
    """
    return keccak256(b"\x19\x01" + domain_separator(network) + struct_hash(struct))


def recover_signer(struct: TypedStruct, signature: bytes, network: str) -> bytes:
    """Return the address whose key signed the structure for this network.

    Any well-formed signature has some signer; the caller must compare it with the one it expects.

    Args:
        struct: what was signed.
        signature: r, s, v: 65 bytes.
        network: the network's name.

    Returns:
        20 bytes.

    Raises:
        BadSignatureError: not 65 bytes, v not 27 or 28, s in the upper half, or no point of the curve.

    Cost: about ten hashes and one recovery, 0.3 ms.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise BadSignatureError("a wallet signature has 65 bytes")
    v = signature[64]
    if v not in (27, 28):
        raise BadSignatureError("a wallet signature ends in 27 or 28")
    if int.from_bytes(signature[32:64], "big") > SECP256K1_ORDER // 2:
        raise BadSignatureError("the wallet signature is malleable: its s is not the lower one")
    # Late: it loads a native library that most commands never need.
    from coincurve import PublicKey

    try:
        key = PublicKey.from_signature_and_message(
            signature[:64] + bytes([v - 27]), typed_digest(struct, network), hasher=None
        )
    except ValueError as error:
        raise BadSignatureError("the wallet signature is not one of any key") from error
    return address_of_public_key(key.format(compressed=False))


def address_of_public_key(uncompressed: bytes) -> bytes:
    """Return the address of an uncompressed secp256k1 public key (65 bytes, the first one 4)."""
    return keccak256(uncompressed[1:])[-ADDRESS_BYTES:]
