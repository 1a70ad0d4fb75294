"""The host record: what a host signs about itself, and how anyone checks it. Pure.

A record is a libp2p signed envelope by the host's peer key around a ``HostRecord``, beside the operator wallet's
binding of that key. The order of checks is the protocol: size, envelope signature over the exact bytes carried, only
then decoding and bounds, then what the record says, and the wallet's signature (the dear one) last. Nothing is
serialised again; fields that this version does not know are covered by the signature and mean nothing.

Limits: 10 KiB of record, 64 models, 16 addresses, 120 s of life, 30 s of grace and of clock skew.

Source: docs/architecture.md, decision 4; libp2p specs, RFC 0002 (signed envelopes).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

from hostmesh.discovery import record_wire as wire
from hostmesh.discovery.description import Hardware, HostDescription, HostState, ModelOffer, Reachability
from hostmesh.discovery.terms import Place
from hostmesh.errors import (
    BadSignatureError,
    ConfigError,
    FrameTooLargeError,
    MalformedMessageError,
    RecordExpiredError,
    RecordInvalidError,
)
from hostmesh.net.address import MAX_ADDRESSES_PER_PEER
from hostmesh.net.envelope import open_envelope, payload_of, seal_envelope
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.wire.bounds import check_bounds, parse

MAX_RECORD_BYTES = 10_240
MAX_ENVELOPE_BYTES = 10_752
MAX_LIFE_S = 120
"""A record's longest life; renewed every 60 s, so that one lost renewal is survived."""
GRACE_S = 30
"""A record is accepted this long past its expiry: two clocks may differ by so much."""
MAX_SKEW_S = 30
"""A record may be issued this far in the reader's future."""
PAYLOAD_TYPE = b"/hostmesh/host-record"


class VerifyBinding(Protocol):
    """Checks an operator's binding of a peer key; :func:`hostmesh.identity.binding.verify_binding` is one."""

    def __call__(self, binding: pb.PeerBinding, *, peer_id: PeerId, network: str, now: float) -> bytes:
        """Return the 20 bytes of the wallet that signed.

        Raises:
            RemoteProtocolError: the binding does not hold.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HostInfo:
    """A verified record, as a value. That it is verified says who signed it, not that it is true."""

    network: str
    peer_id: PeerId
    operator: bytes
    """The wallet, 20 bytes."""
    binding_epoch: int
    """Revocation epoch of the wallet's binding of the key."""
    sequence: int
    issued_at_unix_s: int
    expires_at_unix_s: int
    state: HostState
    addresses: tuple[str, ...]
    """Multiaddrs without ``/p2p``, as the host claims them."""
    dropped_addresses: int
    """How many addresses of the record could not be read."""
    models: tuple[ModelOffer, ...]
    place: Place | None
    capabilities: tuple[str, ...]
    started_at_unix_s: int | None
    """None: not said."""
    max_concurrent_jobs: int
    max_queued_jobs: int
    software: str
    protocols: tuple[str, ...]
    hardware: Hardware | None = None
    """None: not said."""
    reachability: Reachability | None = None
    digest: bytes
    """SHA-256 of the signed bytes: two records of one sequence and different digests are equivocation."""
    signed: bytes
    """The SignedHostRecord as it came, to hand on."""

    @property
    def operator_address(self) -> str:
        """The wallet as ``0x`` and 40 lower-case hexadecimal digits."""
        return "0x" + self.operator.hex()

    def is_of_another_epoch(self, operator: bytes, binding_epoch: int) -> bool:
        """Tell whether a record of this key by this wallet is of another binding than this one: two books, not one."""
        return operator == self.operator and binding_epoch != self.binding_epoch

    def offer(self, model_id: str) -> ModelOffer | None:
        """Return the offer of exactly this model, or None."""
        return next((offer for offer in self.models if offer.model_id == model_id), None)

    def is_acceptable(self, now: float) -> bool:
        """Tell whether the record may still be used at ``now`` (unix seconds)."""
        return now <= self.expires_at_unix_s + GRACE_S


def record_domain(network: str) -> str:
    """Return the domain string under which records of a network are signed."""
    return f"hostmesh:{network}:host-record"


def build_record(
    description: HostDescription,
    *,
    key: PeerKey,
    operator: bytes,
    binding: pb.PeerBinding,
    network: str,
    sequence: int,
    issued_at_unix_s: int,
    started_at_unix_s: int,
    addresses: tuple[str, ...],
    state: HostState = HostState.AVAILABLE,
    life_s: int = MAX_LIFE_S,
) -> pb.SignedHostRecord:
    """Sign a record.

    Args:
        description: what the operator states.
        key: the host's peer key, which signs.
        operator: the wallet's 20 bytes, as in ``binding``.
        binding: the wallet's signature over the peer key; travels with the record.
        network: the network's name.
        sequence: greater than that of every record signed before, and on disk already.
        issued_at_unix_s: now.
        started_at_unix_s: when the host started.
        addresses: multiaddrs without ``/p2p``, at most 16.
        state: a WITHDRAWN record is a tombstone; it carries no models and no addresses.
        life_s: seconds until it expires, 1 to 120.

    Returns:
        The message to serve and push; its envelope's bytes are never to be serialised again.

    Raises:
        ConfigError: an address is malformed, or the whole is over 10 KiB.
    """
    if state is HostState.UNKNOWN or not 1 <= life_s <= MAX_LIFE_S or len(addresses) > MAX_ADDRESSES_PER_PEER:
        raise ConfigError("a record needs a state, a life of 1 to 120 s and at most 16 addresses", name="record")
    gone = state is HostState.WITHDRAWN
    record = pb.HostRecord(
        network=network,
        peer_id=peer_id_to_bytes(key.peer_id),
        operator=operator,
        sequence=sequence,
        issued_at_unix_s=issued_at_unix_s,
        expires_at_unix_s=issued_at_unix_s + life_s,
        state=wire.STATES[state],
        addresses=[] if gone else wire.addresses_to_wire(addresses),
        models=[] if gone else [wire.offer_to_wire(offer) for offer in description.models],
        capabilities=description.capabilities,
        started_at_unix_s=started_at_unix_s,
        max_concurrent_jobs=description.max_concurrent_jobs,
        max_queued_jobs=description.max_queued_jobs,
        software=description.software or "",
        protocols=description.protocols,
        location=wire.place_to_wire(description.place),
        hardware=wire.hardware_to_wire(description.hardware),
        binding_epoch=binding.revocation_epoch,
        reachability=wire.REACHABILITIES[description.reachability],
    )
    check_bounds(record)
    payload = record.SerializeToString()
    if len(payload) > MAX_RECORD_BYTES:
        raise ConfigError(
            f"the host record has {len(payload)} bytes, more than {MAX_RECORD_BYTES}",
            name="models",
            source="argument",
            remedy="offer fewer models, or shorten names and lists",
        )
    envelope = seal_envelope(key, domain=record_domain(network), payload_type=PAYLOAD_TYPE, payload=payload)
    return pb.SignedHostRecord(envelope=envelope, binding=binding)


def verify_record(
    signed: pb.SignedHostRecord,
    *,
    expected_peer_id: PeerId | None,
    network: str,
    now: float,
    verify_binding: VerifyBinding,
) -> HostInfo:
    """Check a record that a stranger handed over, and return what it says.

    Args:
        signed: as parsed from the wire; its envelope's bytes are verified as they are.
        expected_peer_id: the peer that must have signed (the one that was asked); None = whoever did.
        network: our network's name.
        now: unix seconds.
        verify_binding: checks the wallet's half.

    Raises:
        BadSignatureError: the envelope or the binding is not signed by whom it names.
        RecordExpiredError: past its expiry and grace.
        RecordInvalidError: any other rule; ``field`` names it. The record must not be used; others are unaffected.

    Cost: one Ed25519 verification and one secp256k1 recovery. Pure.
    """
    try:
        check_bounds(signed)
    except MalformedMessageError as error:
        raise _malformed(error, "envelope") from error
    body = open_body(signed.envelope, network=network)
    record = body.record
    if expected_peer_id is not None and body.peer_id != expected_peer_id:
        raise RecordInvalidError("the record is signed by another peer", field="peer_id")
    body.check_names(network)
    if record.sequence == 0:
        raise RecordInvalidError("the record has no sequence", field="sequence")
    _check_times(record, now)
    info = _to_info(body, signed)
    _check_binding(signed, info, network=network, now=now, verify_binding=verify_binding)
    return info


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordBody:
    """What a verified envelope says, before it is known to make sense."""

    record: pb.HostRecord
    peer_id: PeerId
    """Whose key signed."""
    digest: bytes
    """SHA-256 of the signed bytes."""

    def check_names(self, network: str) -> None:
        """Check the network and the peer that the record names.

        Raises:
            RecordInvalidError: another network, or another peer than the one that signed.
        """
        if self.record.network != network:
            raise RecordInvalidError("the record is of another network", field="network")
        if self.record.peer_id != peer_id_to_bytes(self.peer_id):
            raise RecordInvalidError("the record names another peer than the one that signed it", field="peer_id")


def open_body(envelope: bytes, *, network: str) -> RecordBody:
    """Verify an envelope of a record, then decode it within its bounds. Neither times nor binding are looked at.

    Raises:
        BadSignatureError: it was not signed by the key inside as a record of this network.
        RecordInvalidError: it is malformed or out of bounds; ``field`` names where.
    """
    try:
        opened = open_envelope(
            envelope, domain=record_domain(network), payload_type=PAYLOAD_TYPE, max_bytes=MAX_ENVELOPE_BYTES
        )
    except (MalformedMessageError, FrameTooLargeError) as error:
        raise _malformed(error, "envelope") from error
    try:
        record = parse(pb.HostRecord, opened.payload, MAX_RECORD_BYTES)
    except (MalformedMessageError, FrameTooLargeError) as error:
        raise _malformed(error, "payload") from error
    return RecordBody(record=record, peer_id=opened.peer_id, digest=hashlib.sha256(opened.payload).digest())


def named_network(envelope: bytes) -> str | None:
    """Return the network that an envelope says its record is of, whoever signed it; None: it is no record.

    What it returns proves nothing: the signature was not looked at.
    """
    if len(envelope) > MAX_ENVELOPE_BYTES:
        return None
    try:
        return parse(pb.HostRecord, payload_of(envelope), MAX_RECORD_BYTES).network
    except (MalformedMessageError, FrameTooLargeError):
        return None


def _malformed(error: MalformedMessageError | FrameTooLargeError, part: str) -> RecordInvalidError:
    field = (error.field if isinstance(error, MalformedMessageError) else "") or part
    return RecordInvalidError(f"the record is malformed: {error}", field=field)


def _check_times(record: pb.HostRecord, now: float) -> None:
    issued, expires = record.issued_at_unix_s, record.expires_at_unix_s
    if issued > now + MAX_SKEW_S:
        raise RecordInvalidError(
            "the record is issued in the future",
            field="issued_at_unix_s",
            remedy="one of the two clocks is wrong; compare both with a time server",
        )
    if not 0 < expires - issued <= MAX_LIFE_S:
        raise RecordInvalidError(f"the record does not live 1 to {MAX_LIFE_S} s", field="expires_at_unix_s")
    if now > expires + GRACE_S:
        raise RecordExpiredError("the record has expired", field="expires_at_unix_s")
    if record.started_at_unix_s > now + MAX_SKEW_S:
        raise RecordInvalidError("the host says it starts in the future", field="started_at_unix_s")


def _check_binding(
    signed: pb.SignedHostRecord, info: HostInfo, *, network: str, now: float, verify_binding: VerifyBinding
) -> None:
    if not signed.HasField("binding"):
        raise RecordInvalidError("the record has no binding", field="binding")
    if signed.binding.peer_id != peer_id_to_bytes(info.peer_id):
        raise RecordInvalidError("the binding is of another peer", field="binding.peer_id")
    if signed.binding.operator != info.operator:
        raise RecordInvalidError("the binding is of another operator", field="binding.operator")
    if signed.binding.revocation_epoch != info.binding_epoch:
        # The record's own bytes must say which binding a contradiction of it falls on.
        raise RecordInvalidError("the record was signed under another binding", field="binding_epoch")
    if verify_binding(signed.binding, peer_id=info.peer_id, network=network, now=now) != info.operator:
        raise BadSignatureError("the operator's wallet did not sign the binding")


def _to_info(body: RecordBody, signed: pb.SignedHostRecord) -> HostInfo:
    record = body.record
    state = wire.STATE_OF.get(record.state, HostState.UNKNOWN)
    if not record.models and state is not HostState.WITHDRAWN:
        raise RecordInvalidError("the record offers no model", field="models")
    models = tuple(wire.offer_from_wire(offer, index) for index, offer in enumerate(record.models))
    if len({offer.model_id for offer in models}) != len(models):
        raise RecordInvalidError("the record offers one model twice", field="models")
    addresses, dropped = wire.addresses_from_wire(record.addresses)
    return HostInfo(
        network=record.network,
        peer_id=body.peer_id,
        operator=record.operator,
        binding_epoch=record.binding_epoch,
        sequence=record.sequence,
        issued_at_unix_s=record.issued_at_unix_s,
        expires_at_unix_s=record.expires_at_unix_s,
        state=state,
        addresses=addresses,
        dropped_addresses=dropped,
        models=models,
        place=wire.place_from_wire(record),
        capabilities=tuple(dict.fromkeys(record.capabilities)),
        started_at_unix_s=record.started_at_unix_s or None,
        max_concurrent_jobs=record.max_concurrent_jobs,
        max_queued_jobs=record.max_queued_jobs,
        software=record.software,
        protocols=tuple(dict.fromkeys(record.protocols)),
        hardware=wire.hardware_from_wire(record),
        reachability=wire.REACHABILITY_OF.get(record.reachability),
        digest=body.digest,
        signed=signed.SerializeToString(),
    )
