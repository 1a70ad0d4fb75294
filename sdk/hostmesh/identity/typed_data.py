"""EIP-712: the digests of what wallets sign, and who signed. Pure.

The structures are in :mod:`hostmesh.identity.structs`.

Domain: ``EIP712Domain(string name,string version,bytes32 salt)`` with name ``hostmesh``, version ``1`` and salt
keccak256(network name); no chainId, since no chain takes part. A signature made for one network therefore verifies on
no other. One digest function serves signer and verifier.

A signature has 65 bytes: r, s, v. Only its canonical form is accepted (s in the lower half of the order, v 27 or 28),
so that nobody can turn one valid signature into a second one.

Source: EIP-712; EIP-2, "Homestead hard-fork changes", for the low s.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar, Protocol

from hostmesh.errors import BadSignatureError, UsageError
from hostmesh.identity.address import ADDRESS_BYTES, keccak256

DOMAIN_NAME = "hostmesh"
DOMAIN_VERSION = "1"
SIGNATURE_BYTES = 65
MAX_BYTES = 64
"""Of a dynamic ``bytes`` value: a peer id has about 38."""
MAX_ITEMS = 32
"""Of an array."""
WORD_BYTES = 32
NONCE_BYTES = 32
SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_DOMAIN_TYPE = "EIP712Domain(string name,string version,bytes32 salt)"

FieldTable = tuple[tuple[str, str, str], ...]
"""Solidity type, name in the signed structure, attribute here; in the order that is signed."""


class TypedStruct(Protocol):
    """A structure that a wallet can sign."""

    TYPE_NAME: ClassVar[str]
    FIELDS: ClassVar[FieldTable]
    MEMBERS: ClassVar[tuple[type[TypedStruct], ...]]
    """The structures that its fields hold, by their TYPE_NAME in ``FIELDS``."""


def check_fields(struct: TypedStruct) -> None:
    """Check that every field is what its type says.

    Raises:
        UsageError: a field out of its bounds.
    """
    for kind, _, attribute in struct.FIELDS:
        value = getattr(struct, attribute)
        if kind.endswith("[]"):
            good = (
                isinstance(value, tuple)
                and 1 <= len(value) <= MAX_ITEMS
                and all(_is_value(struct, kind[:-2], item) for item in value)
            )
        else:
            good = _is_value(struct, kind, value)
        if not good:
            raise UsageError(f"{struct.TYPE_NAME}.{attribute} is no {kind} within its bounds")


def _is_value(struct: TypedStruct, kind: str, value: object) -> bool:
    match kind:
        case "address":
            return isinstance(value, bytes) and len(value) == ADDRESS_BYTES
        case "bytes32":
            return isinstance(value, bytes) and len(value) == WORD_BYTES
        case "bytes":
            return isinstance(value, bytes) and 1 <= len(value) <= MAX_BYTES
        case "string":
            return isinstance(value, str) and value != "" and _has_bytes(value)
        case "uint8" | "uint64":
            return type(value) is int and 0 <= value < 2 ** int(kind[4:])
        case _:
            return any(kind == member.TYPE_NAME and isinstance(value, member) for member in struct.MEMBERS)


def _has_bytes(text: str) -> bool:
    """Whether text has a UTF-8 form, which half of a surrogate pair has not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def type_string(struct: TypedStruct | type[TypedStruct]) -> str:
    """Return EIP-712's encodeType: the structure, then those that it holds, by name.

    >>> from hostmesh.identity.structs import PeerBinding
    >>> type_string(PeerBinding)
    'PeerBinding(address operator,bytes peerId,uint64 issuedAt,uint64 expiresAt,uint64 revocationEpoch)'
    """
    parts = (struct, *sorted(struct.MEMBERS, key=lambda member: member.TYPE_NAME))
    return "".join(f"{part.TYPE_NAME}({','.join(f'{kind} {name}' for kind, name, _ in part.FIELDS)})" for part in parts)


def struct_hash(struct: TypedStruct) -> bytes:
    """Return EIP-712's hashStruct, 32 bytes."""
    words = [_type_hash(type_string(struct))]
    for kind, _, attribute in struct.FIELDS:
        value = getattr(struct, attribute)
        if kind.endswith("[]"):
            words.append(keccak256(b"".join(_word(kind[:-2], item) for item in value)))
        else:
            words.append(_word(kind, value))
    return keccak256(b"".join(words))


def _word(kind: str, value: Any) -> bytes:
    """Return EIP-712's encodeData of one value, 32 bytes."""
    match kind:
        case "address":
            return bytes(value).rjust(WORD_BYTES, b"\0")
        case "bytes32":
            return bytes(value)
        case "bytes":
            return keccak256(value)
        case "string":
            return keccak256(value.encode())
        case "uint8" | "uint64":
            return int(value).to_bytes(WORD_BYTES, "big")
        case _:
            return struct_hash(value)


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
