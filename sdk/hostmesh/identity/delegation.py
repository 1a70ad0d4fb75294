"""Delegations: an owner's wallet lets a session key open sessions in its name, for a day at most; and their revocation.

The owner signs once and its wallet may then stay offline. What it can lose is the sum of the caps. Whom a delegation
binds and how a host checks it: docs/protocols/session.md. Everything but :func:`save_delegation` and
:func:`load_delegation` is pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hostmesh.errors import (
    MalformedMessageError,
    UsageError,
)
from hostmesh.identity.address import address_to_text, parse_address
from hostmesh.identity.signed_file import load_signed, save_signed, signature_from_text, signature_to_text
from hostmesh.identity.structs import Delegation, DelegationRevocation, HostCap
from hostmesh.identity.typed_data import typed_digest
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_id import PeerId, parse_peer_id, peer_id_from_bytes, peer_id_to_bytes
from hostmesh.v1 import session_pb2 as pb
from hostmesh.wire.bounds import check_bounds

MAX_LIFETIME_S = 86_400
SKEW_TOLERANCE_S = 30


def sign_delegation(
    owner: Wallet,
    delegate: bytes,
    *,
    model_ids: Sequence[str],
    host_caps: Mapping[PeerId, int],
    currency: str,
    network: str,
    now: float,
    nonce: bytes,
    lifetime_s: int = MAX_LIFETIME_S,
) -> pb.Delegation:
    """Let a session key open sessions in the owner's name.

    Args:
        owner: the wallet that pays.
        delegate: the session key's address, 20 bytes.
        model_ids: 1 to 32 exact ids.
        host_caps: 1 to 32 hosts; what may be spent on each, in all its sessions together, integer micro-units.
        currency: of the caps.
        network: the network's name; the delegation is worth nothing on another.
        now: unix seconds.
        nonce: 32 random bytes.
        lifetime_s: 1 s to one day.

    Raises:
        UsageError: a value out of its bounds; nothing was signed.

    Example::

        key = create_wallet_file(Path("session.key"), password=None)
        signed = sign_delegation(owner, key.address_bytes, model_ids=["smollm2-135m-instruct"], currency="USD",
            host_caps={host: 1_000_000}, network="hostmesh", now=time.time(), nonce=os.urandom(32))
    """
    if type(lifetime_s) is not int or not 1 <= lifetime_s <= MAX_LIFETIME_S:
        raise UsageError("a delegation lives between 1 s and one day, in whole seconds")
    issued = int(now)
    struct = Delegation(
        owner=owner.address_bytes,
        delegate=delegate,
        model_ids=tuple(model_ids),
        host_caps=tuple(
            HostCap(host_peer_id=peer_id_to_bytes(peer_id), cap_micros=cap) for peer_id, cap in host_caps.items()
        ),
        currency=currency,
        issued_at_unix_s=issued,
        expires_at_unix_s=issued + lifetime_s,
        nonce=nonce,
    )
    message = message_of_delegation(struct, owner.sign(struct, network))
    try:
        check_bounds(message)
    except MalformedMessageError as error:
        raise UsageError(f"no host could take this delegation: {error.message}") from error
    return message


def message_of_delegation(struct: Delegation, signature: bytes) -> pb.Delegation:
    """Return the message that carries a signed delegation."""
    return pb.Delegation(
        owner=struct.owner,
        delegate=struct.delegate,
        model_ids=struct.model_ids,
        host_caps=[pb.HostCap(host_peer_id=cap.host_peer_id, cap_micros=cap.cap_micros) for cap in struct.host_caps],
        currency=struct.currency,
        issued_at_unix_s=struct.issued_at_unix_s,
        expires_at_unix_s=struct.expires_at_unix_s,
        nonce=struct.nonce,
        signature=signature,
    )


def delegation_of_message(message: pb.Delegation) -> Delegation:
    """Return what the owner signed, without the signature, which is not checked here.

    Raises:
        MalformedMessageError: a field outside its bounds, no model, no host, or a host with two caps.
    """
    check_bounds(message)
    try:
        struct = Delegation(
            owner=message.owner,
            delegate=message.delegate,
            model_ids=tuple(message.model_ids),
            host_caps=tuple(
                HostCap(host_peer_id=cap.host_peer_id, cap_micros=cap.cap_micros) for cap in message.host_caps
            ),
            currency=message.currency,
            issued_at_unix_s=message.issued_at_unix_s,
            expires_at_unix_s=message.expires_at_unix_s,
            nonce=message.nonce,
        )
    except UsageError as error:
        raise MalformedMessageError("the delegation is malformed", field="delegation") from error
    # Two caps of one host: which holds would be anybody's guess.
    if len({cap.host_peer_id for cap in struct.host_caps}) != len(struct.host_caps):
        raise MalformedMessageError("the delegation caps a host twice", field="delegation.host_caps")
    return struct


def digest_of_delegation(message: pb.Delegation, network: str) -> bytes:
    """Return the 32 bytes by which a delegation is known: its EIP-712 digest.

    Raises:
        MalformedMessageError: a field outside its bounds.
    """
    return typed_digest(delegation_of_message(message), network)


def sign_delegation_revocation(
    owner: Wallet, delegation_digest: bytes, *, network: str, now: float
) -> pb.DelegationRevocation:
    """Take a delegation back.

    Args:
        owner: the wallet that signed it.
        delegation_digest: see :func:`digest_of_delegation`.
        network: the network's name.
        now: unix seconds.

    Raises:
        UsageError: the digest has not 32 bytes.
    """
    struct = DelegationRevocation(
        owner=owner.address_bytes, delegation_digest=delegation_digest, issued_at_unix_s=int(now)
    )
    return pb.DelegationRevocation(
        owner=struct.owner,
        delegation_digest=struct.delegation_digest,
        issued_at_unix_s=struct.issued_at_unix_s,
        signature=owner.sign(struct, network),
    )


def revocation_of_message(message: pb.DelegationRevocation) -> DelegationRevocation:
    """Return what the owner signed, without the signature, which is not checked here.

    Raises:
        MalformedMessageError: a field outside its bounds.
    """
    check_bounds(message)
    try:
        return DelegationRevocation(
            owner=message.owner,
            delegation_digest=message.delegation_digest,
            issued_at_unix_s=message.issued_at_unix_s,
        )
    except UsageError as error:
        raise MalformedMessageError("the revocation is malformed", field="revocation") from error


def save_delegation(path: Path, message: pb.Delegation) -> None:
    """Write a delegation as JSON, atomically in place of an older one. Nothing in it is secret: the key is elsewhere.

    Raises:
        KeyFileError: the file cannot be written. An older one is untouched.
    """
    document = {
        "owner": address_to_text(message.owner),
        "delegate": address_to_text(message.delegate),
        "model_ids": list(message.model_ids),
        "host_caps_micros": {peer_id_from_bytes(cap.host_peer_id): cap.cap_micros for cap in message.host_caps},
        "currency": message.currency,
        "issued_at_unix_s": message.issued_at_unix_s,
        "expires_at_unix_s": message.expires_at_unix_s,
        "nonce": message.nonce.hex(),
        "signature": signature_to_text(message.signature),
    }
    save_signed(path, document)


def load_delegation(path: Path) -> pb.Delegation:
    """Return the delegation in a file. It is decoded, not verified: hosts do that.

    Raises:
        KeyFileError: missing, unsafe, or no delegation of a version that this program knows.
    """
    return load_signed(
        path, _decode, what="no delegation", remedy="sign a new one with the owner's wallet: hostmesh wallet delegate"
    )


def _decode(document: Any) -> pb.Delegation:
    if not isinstance(document["model_ids"], list):
        raise TypeError("one text is no list of models")  # its letters would be
    message = pb.Delegation(
        owner=parse_address(document["owner"]),
        delegate=parse_address(document["delegate"]),
        model_ids=document["model_ids"],
        host_caps=[
            pb.HostCap(host_peer_id=peer_id_to_bytes(parse_peer_id(host)), cap_micros=cap)
            for host, cap in document["host_caps_micros"].items()
        ],
        currency=document["currency"],
        issued_at_unix_s=document["issued_at_unix_s"],
        expires_at_unix_s=document["expires_at_unix_s"],
        nonce=bytes.fromhex(document["nonce"]),
        signature=signature_from_text(document["signature"]),
    )
    delegation_of_message(message)
    return message
