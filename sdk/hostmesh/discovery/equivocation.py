"""Proof that a host signed two different records of one sequence. Pure.

Anybody can check a proof, at any time: it needs neither a clock nor a wallet's signature, since it speaks of what the
peer key signed. Both envelopes must verify as records of one network by one key, name one sequence, and differ in the
bytes that were signed. Bodies are compared, not envelopes: nobody but the holder of the key can make a proof.

It convicts the key under its bindings up to the epoch that the two records name. Two wallets are no excuse: a key
numbers its records, not those of each wallet. Two epochs of one wallet are: the operator bound the key anew because
what it had signed before was lost, or was somebody else's.

No wallet's word is in a proof, so that who holds a copy of the key may name any epoch. But no binding is of an epoch
above the time when it was issued: a proof that names a later one than there can be is for no use, and the operator's
next binding, of the time in seconds, is above every proof of before.
"""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.discovery.record import RecordBody, open_body
from hostmesh.errors import FrameTooLargeError, MalformedMessageError, RecordInvalidError
from hostmesh.net.peer_id import PeerId
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.wire.bounds import parse

SKEW_TOLERANCE_S = 30
MAX_PROOF_BYTES = 21_520
"""Two envelopes of the longest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EquivocationProof:
    """Two envelopes that convict a key; one contradiction has one proof, whichever record came first."""

    peer_id: PeerId
    sequence: int
    first: bytes
    """The envelope whose signed bytes have the lower SHA-256."""
    second: bytes
    epoch: int
    """The key is convicted under its bindings up to this one: that of both records; of two wallets' the higher."""
    operators: tuple[str, ...]
    """The wallets that the records name, ``0x`` and lower case; none has signed here that the key is its own."""

    def can_be(self, now: float) -> bool:
        """Tell whether there can be a binding of the epoch that it names, at ``now`` in unix seconds."""
        return self.epoch <= now + SKEW_TOLERANCE_S

    def to_wire(self) -> pb.EquivocationProof:
        """Return the message to hand on."""
        return pb.EquivocationProof(first_envelope=self.first, second_envelope=self.second)

    def to_bytes(self) -> bytes:
        """Return the message, serialised: what :func:`verify_proof` takes."""
        return self.to_wire().SerializeToString()


def make_proof(first: pb.SignedHostRecord, second: pb.SignedHostRecord, *, network: str) -> EquivocationProof:
    """Return the proof that two records make.

    Args:
        first: a record as its host signed it; its binding does not matter.
        second: another one.
        network: the network's name.

    Raises:
        BadSignatureError, RecordInvalidError: they prove nothing; ``field`` says why.

    Cost: two Ed25519 verifications.
    """
    return _prove(first.envelope, second.envelope, network)


def read_proof(proof: bytes, *, network: str) -> EquivocationProof:
    """Check a proof that a stranger handed over.

    Args:
        proof: a serialised ``EquivocationProof``.
        network: our network's name.

    Raises:
        BadSignatureError: an envelope was not signed as a record of this network by the key inside.
        RecordInvalidError: malformed, or the two do not contradict each other; ``field`` says where.

    Cost: two Ed25519 verifications; at most 21.5 KB are looked at.
    """
    try:
        message = parse(pb.EquivocationProof, proof, MAX_PROOF_BYTES)
    except (MalformedMessageError, FrameTooLargeError) as error:
        raise RecordInvalidError(f"the proof is malformed: {error}", field="proof") from error
    return _prove(message.first_envelope, message.second_envelope, network)


def verify_proof(proof: bytes, *, network: str) -> PeerId:
    """Return the peer that a proof convicts. Arguments and errors are those of :func:`read_proof`."""
    return read_proof(proof, network=network).peer_id


def _prove(first: bytes, second: bytes, network: str) -> EquivocationProof:
    one, other = (_open(envelope, network) for envelope in (first, second))
    if one.peer_id != other.peer_id:
        raise RecordInvalidError("two peers signed the two records", field="peer_id")
    if one.record.sequence != other.record.sequence:
        raise RecordInvalidError("the two records have two sequences", field="sequence")
    if one.digest == other.digest:
        raise RecordInvalidError("the two records say the same", field="payload")
    epochs = [each.record.binding_epoch for each in (one, other)]
    if one.record.operator == other.record.operator and epochs[0] != epochs[1]:
        raise RecordInvalidError("the two records are of two epochs of one wallet", field="binding_epoch")
    if one.digest > other.digest:
        first, second = second, first
    return EquivocationProof(
        peer_id=one.peer_id,
        sequence=one.record.sequence,
        first=first,
        second=second,
        epoch=max(epochs),
        operators=tuple(sorted({"0x" + each.record.operator.hex() for each in (one, other)})),
    )


def _open(envelope: bytes, network: str) -> RecordBody:
    body = open_body(envelope, network=network)
    body.check_names(network)
    if body.record.sequence == 0:
        raise RecordInvalidError("the record has no sequence", field="sequence")
    return body
