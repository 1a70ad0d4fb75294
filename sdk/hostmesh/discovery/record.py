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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hostmesh.discovery.description import HostDescription, HostState, ModelOffer
from hostmesh.discovery.terms import ModelKind, Place, Price
from hostmesh.errors import (
    BadSignatureError,
    ConfigError,
    FrameTooLargeError,
    InvalidAddressError,
    MalformedMessageError,
    RecordExpiredError,
    RecordInvalidError,
)
from hostmesh.net.address import MAX_ADDRESSES_PER_PEER, address_from_bytes, address_to_bytes
from hostmesh.net.envelope import open_envelope, seal_envelope
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

_KINDS = {
    None: pb.MODEL_KIND_UNSPECIFIED,
    ModelKind.CHAT: pb.MODEL_KIND_CHAT,
    ModelKind.EMBEDDING: pb.MODEL_KIND_EMBEDDING,
}
_STATES = {
    HostState.AVAILABLE: pb.HOST_STATE_AVAILABLE,
    HostState.DRAINING: pb.HOST_STATE_DRAINING,
    HostState.WITHDRAWN: pb.HOST_STATE_WITHDRAWN,
}
_KIND_OF = {number: kind for kind, number in _KINDS.items()}
_STATE_OF = {number: state for state, number in _STATES.items()}


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
    digest: bytes
    """SHA-256 of the signed bytes: two records of one sequence and different digests are equivocation."""
    signed: bytes
    """The SignedHostRecord as it came, to hand on."""

    @property
    def operator_address(self) -> str:
        """The wallet as ``0x`` and 40 lower-case hexadecimal digits."""
        return "0x" + self.operator.hex()

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
        state=_STATES[state],
        addresses=[] if gone else _address_bytes(addresses),
        models=[] if gone else [_offer_to_wire(offer) for offer in description.models],
        capabilities=description.capabilities,
        started_at_unix_s=started_at_unix_s,
        max_concurrent_jobs=description.max_concurrent_jobs,
        max_queued_jobs=description.max_queued_jobs,
        software=description.software or "",
        protocols=description.protocols,
    )
    place = description.place
    if place is not None:
        record.location.CopyFrom(pb.Location(country_code=place.country_code, region=place.region or ""))
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
    record, peer_id, digest = _decode(signed, network)
    if expected_peer_id is not None and peer_id != expected_peer_id:
        raise RecordInvalidError("the record is signed by another peer", field="peer_id")
    if record.network != network:
        raise RecordInvalidError("the record is of another network", field="network")
    if record.peer_id != peer_id_to_bytes(peer_id):
        raise RecordInvalidError("the record names another peer than the one that signed it", field="peer_id")
    if record.sequence == 0:
        raise RecordInvalidError("the record has no sequence", field="sequence")
    _check_times(record, now)
    info = _to_info(record, peer_id, signed, digest)
    _check_binding(signed, info, network=network, now=now, verify_binding=verify_binding)
    return info


def _decode(signed: pb.SignedHostRecord, network: str) -> tuple[pb.HostRecord, PeerId, bytes]:
    try:
        check_bounds(signed)
        opened = open_envelope(
            signed.envelope, domain=record_domain(network), payload_type=PAYLOAD_TYPE, max_bytes=MAX_ENVELOPE_BYTES
        )
    except (MalformedMessageError, FrameTooLargeError) as error:
        raise RecordInvalidError(f"the record is malformed: {error}", field=_field_of(error, "envelope")) from error
    try:
        record = parse(pb.HostRecord, opened.payload, MAX_RECORD_BYTES)
    except (MalformedMessageError, FrameTooLargeError) as error:
        raise RecordInvalidError(f"the record is malformed: {error}", field=_field_of(error, "payload")) from error
    return record, opened.peer_id, hashlib.sha256(opened.payload).digest()


def _field_of(error: MalformedMessageError | FrameTooLargeError, otherwise: str) -> str:
    return (error.field if isinstance(error, MalformedMessageError) else "") or otherwise


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
    if verify_binding(signed.binding, peer_id=info.peer_id, network=network, now=now) != info.operator:
        raise BadSignatureError("the operator's wallet did not sign the binding")


def _to_info(record: pb.HostRecord, peer_id: PeerId, signed: pb.SignedHostRecord, digest: bytes) -> HostInfo:
    state = _STATE_OF.get(record.state, HostState.UNKNOWN)
    if not record.models and state is not HostState.WITHDRAWN:
        raise RecordInvalidError("the record offers no model", field="models")
    models = tuple(_offer_from_wire(offer, index) for index, offer in enumerate(record.models))
    if len({offer.model_id for offer in models}) != len(models):
        raise RecordInvalidError("the record offers one model twice", field="models")
    addresses, dropped = _addresses_from_wire(record.addresses)
    return HostInfo(
        network=record.network,
        peer_id=peer_id,
        operator=record.operator,
        sequence=record.sequence,
        issued_at_unix_s=record.issued_at_unix_s,
        expires_at_unix_s=record.expires_at_unix_s,
        state=state,
        addresses=addresses,
        dropped_addresses=dropped,
        models=models,
        place=_place_from_wire(record),
        capabilities=tuple(dict.fromkeys(record.capabilities)),
        started_at_unix_s=record.started_at_unix_s or None,
        max_concurrent_jobs=record.max_concurrent_jobs,
        max_queued_jobs=record.max_queued_jobs,
        software=record.software,
        protocols=tuple(dict.fromkeys(record.protocols)),
        digest=digest,
        signed=signed.SerializeToString(),
    )


def _offer_to_wire(offer: ModelOffer) -> pb.ModelOffer:
    message = pb.ModelOffer(
        model_id=offer.model_id,
        kind=_KINDS[offer.kind],
        context_tokens=offer.context_tokens or 0,
        max_output_tokens=offer.max_output_tokens or 0,
        quantisation=offer.quantisation or "",
        weights_sha256=offer.weights_sha256 or b"",
        engine=offer.engine or "",
        parameters=offer.parameters,
    )
    if offer.price is not None:
        message.price.price_micros_per_mtok = offer.price.micros_per_mtok
        message.price.currency = offer.price.currency
    return message


def _offer_from_wire(message: pb.ModelOffer, index: int) -> ModelOffer:
    try:
        return ModelOffer(
            model_id=message.model_id,
            kind=_KIND_OF.get(message.kind),
            price=(
                Price(micros_per_mtok=message.price.price_micros_per_mtok, currency=message.price.currency)
                if message.HasField("price")
                else None
            ),
            context_tokens=message.context_tokens or None,
            max_output_tokens=message.max_output_tokens or None,
            quantisation=message.quantisation or None,
            weights_sha256=message.weights_sha256 or None,
            engine=message.engine or None,
            parameters=tuple(name for name in message.parameters if name),
        )
    except ConfigError as error:
        field = f"models[{index}].{error.name}"
        raise RecordInvalidError(f"the record's offer is wrong: {error}", field=field) from error


def _place_from_wire(record: pb.HostRecord) -> Place | None:
    if not record.HasField("location"):
        return None
    try:
        return Place(country_code=record.location.country_code, region=record.location.region or None)
    except ConfigError as error:
        raise RecordInvalidError("the record's location is wrong", field="location") from error


def _address_bytes(addresses: Sequence[str]) -> list[bytes]:
    try:
        return [address_to_bytes(address) for address in addresses]
    except InvalidAddressError as error:
        raise ConfigError(str(error), name="announce_addresses", source="argument", remedy=error.remedy) from error


def _addresses_from_wire(raw: Iterable[bytes]) -> tuple[tuple[str, ...], int]:
    good: dict[str, None] = {}
    dropped = 0
    for item in raw:
        try:
            address = address_from_bytes(item)
        except InvalidAddressError:
            dropped += 1
            continue
        if "/p2p/" in address:
            dropped += 1  # a record names one peer, and it is not for an address to name another
        else:
            good[address] = None
    return tuple(good), dropped
