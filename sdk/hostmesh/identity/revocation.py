"""The revocation: a wallet takes back what it said of a peer key.

It names one wallet, one peer key and the lowest epoch that still holds. Bindings of that key by that wallet with a
lower epoch are void from then on; other keys of the wallet are not touched, so that of ten machines the one that was
stolen is revoked and nine need nothing. It matters until the last binding that it could concern has expired, and is
forgotten then. Spec: docs/protocols/binding.md.

Signing and verifying are pure; :func:`save_revocation` and :func:`load_revocation` touch the disk.

Example::

    revocation = sign_revocation(wallet, stolen_peer_id, network="hostmesh", now=time.time())
    await discovery.spread_revocation(revocation)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hostmesh.errors import (
    BadSignatureError,
    InvalidAddressError,
    MalformedMessageError,
    RecordExpiredError,
    RecordInvalidError,
    UsageError,
)
from hostmesh.identity.address import address_to_text, parse_address
from hostmesh.identity.binding import MAX_LIFETIME_S, SKEW_TOLERANCE_S
from hostmesh.identity.signed_file import load_signed, save_signed, signature_from_text, signature_to_text
from hostmesh.identity.structs import BindingRevocation
from hostmesh.identity.typed_data import recover_signer
from hostmesh.identity.wallet import Wallet
from hostmesh.net.peer_id import PeerId, parse_peer_id, peer_id_from_bytes, peer_id_to_bytes
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.wire.bounds import check_bounds

REVOCATION_LIFE_S = MAX_LIFETIME_S + 2 * SKEW_TOLERANCE_S
"""After so long no binding that it concerns is accepted anywhere: one may be issued 30 s ahead of the revocation, and
is taken for 30 s more than it lives."""


def sign_revocation(
    wallet: Wallet, peer_id: PeerId, *, network: str, now: float, least_epoch: int | None = None
) -> pb.BindingRevocation:
    """Take back a wallet's bindings of a peer key.

    Args:
        wallet: the operator's.
        peer_id: of the host whose bindings are void.
        network: the network's name; the revocation is worth nothing on another.
        now: unix seconds.
        least_epoch: the lowest epoch that holds from now on, >= 1; None = the time in seconds, which is above the epoch
            of every binding whose epochs were counted up by one, and above that of every revocation before.

    Raises:
        UsageError: an epoch out of range.
    """
    struct = BindingRevocation(
        operator=wallet.address_bytes,
        peer_id=peer_id_to_bytes(peer_id),
        least_epoch=int(now) if least_epoch is None else least_epoch,
        issued_at_unix_s=int(now),
    )
    if struct.least_epoch == 0:
        raise UsageError("no binding has an epoch below 0", remedy="give the epoch of the bindings to revoke, plus one")
    return pb.BindingRevocation(
        operator=struct.operator,
        peer_id=struct.peer_id,
        least_epoch=struct.least_epoch,
        issued_at_unix_s=struct.issued_at_unix_s,
        signature=wallet.sign(struct, network),
    )


def verify_revocation(revocation: pb.BindingRevocation, *, network: str, now: float) -> PeerId:
    """Check a revocation that a stranger handed over.

    Args:
        revocation: as it came from the wire.
        network: our network's name.
        now: unix seconds.

    Returns:
        The peer whose bindings by ``revocation.operator`` it voids.

    Raises:
        RecordInvalidError: issued in the future, of epoch 0, of no peer, or a field out of bounds; ``field`` names it.
        RecordExpiredError: nothing that it concerns is accepted any more.
        BadSignatureError: not signed by the operator it names, or for another network.

    Cost: 0.3 ms; everything cheap is checked first.
    """
    try:
        check_bounds(revocation)
        peer_id = peer_id_from_bytes(revocation.peer_id)
    except MalformedMessageError as error:
        raise RecordInvalidError("the revocation is malformed", field=f"revocation.{error.field}") from error
    except InvalidAddressError as error:
        raise RecordInvalidError("the revocation names no peer", field="revocation.peer_id") from error
    if revocation.least_epoch == 0:
        raise RecordInvalidError("the revocation voids nothing", field="revocation.least_epoch")
    if revocation.issued_at_unix_s > now + SKEW_TOLERANCE_S:
        raise RecordInvalidError(
            "the revocation is issued in the future",
            field="revocation.issued_at_unix_s",
            remedy="check this machine's clock, then that of the machine where it was signed",
        )
    if revocation.issued_at_unix_s + REVOCATION_LIFE_S < now:
        raise RecordExpiredError(
            "every binding that the revocation concerns has expired", field="revocation.issued_at_unix_s"
        )
    struct = BindingRevocation(
        operator=revocation.operator,
        peer_id=revocation.peer_id,
        least_epoch=revocation.least_epoch,
        issued_at_unix_s=revocation.issued_at_unix_s,
    )
    if recover_signer(struct, revocation.signature, network) != struct.operator:
        raise BadSignatureError("the revocation is not signed by its operator for this network")
    return peer_id


def save_revocation(path: Path, revocation: pb.BindingRevocation) -> None:
    """Write a revocation as JSON, atomically in place of an older one.

    Nothing in it is secret; it can be signed on one machine and carried to another.

    Raises:
        KeyFileError: the file cannot be written. An older one is untouched.
    """
    document = {
        "revokes": {
            "operator": address_to_text(revocation.operator),
            "peer_id": peer_id_from_bytes(revocation.peer_id),
            "least_epoch": revocation.least_epoch,
        },
        "issued_at_unix_s": revocation.issued_at_unix_s,
        "signature": signature_to_text(revocation.signature),
    }
    save_signed(path, document)


def load_revocation(path: Path) -> pb.BindingRevocation:
    """Return the revocation in a file. It is decoded, not verified: call :func:`verify_revocation`.

    Raises:
        KeyFileError: missing, unsafe, or no revocation of a version that this program knows.
    """
    return load_signed(
        path, _decode, what="no revocation", remedy="sign a new one with the operator's wallet: hostmesh-host revoke"
    )


def _decode(document: Any) -> pb.BindingRevocation:
    revokes = document["revokes"]
    revocation = pb.BindingRevocation(
        operator=parse_address(revokes["operator"]),
        peer_id=peer_id_to_bytes(parse_peer_id(revokes["peer_id"])),
        least_epoch=revokes["least_epoch"],
        issued_at_unix_s=document["issued_at_unix_s"],
        signature=signature_from_text(document["signature"]),
    )
    check_bounds(revocation)
    return revocation
