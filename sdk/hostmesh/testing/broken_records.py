"""Host records that must not be believed, each by the one rule that it breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from hostmesh.discovery.description import HostDescription, HostState
from hostmesh.discovery.record import GRACE_S, MAX_LIFE_S, MAX_SKEW_S, record_domain
from hostmesh.discovery.table import Merge
from hostmesh.errors import BadSignatureError, RecordExpiredError, RecordInvalidError, RemoteProtocolError
from hostmesh.identity.binding import SKEW_TOLERANCE_S
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey
from hostmesh.testing.records import (
    DEFAULT_ADDRESSES,
    EPOCH_UNIX_S,
    make_binding,
    make_host_record,
    reseal,
)
from hostmesh.testing.wallets import TEST_NETWORK, make_peer_key, make_wallet
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.v1.envelope_pb2 import SignedEnvelope

_OTHER = "somebody else"


class RecordFault(Enum):
    """What is wrong with a record by itself."""

    WRONG_SIGNATURE = "wrong signature"
    """One bit of the signature is another."""
    CHANGED_AFTER_SIGNING = "changed after signing"
    """One bit of the signed bytes is another."""
    SIGNED_FOR_ANOTHER_NETWORK = "signed for another network"
    NAMES_ANOTHER_NETWORK = "names another network"
    """The signature is for this one."""
    NAMES_ANOTHER_PEER = "names another peer"
    """Than the one that signed."""
    NO_BINDING = "no binding"
    BINDING_OF_ANOTHER_PEER = "binding of another peer"
    BINDING_OF_ANOTHER_OPERATOR = "binding of another operator"
    BINDING_FORGED = "binding forged"
    """Another wallet signed it than the one that it names."""
    BINDING_EXPIRED = "binding expired"
    EXPIRED = "expired"
    FROM_THE_FUTURE = "from the future"
    LIVES_TOO_LONG = "lives too long"
    NO_SEQUENCE = "no sequence"
    NO_MODEL = "no model"
    MODEL_TWICE = "model twice"
    DIGEST_TOO_SHORT = "digest too short"
    """Of a tokenizer: 31 bytes."""
    GPU_WITHOUT_NAME = "GPU without name"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenRecord:
    """A record that :func:`hostmesh.discovery.record.verify_record` must refuse, and how."""

    fault: RecordFault
    signed: pb.SignedHostRecord
    error: type[RemoteProtocolError]
    """Exactly this class."""
    field: str
    """``field`` of the error; empty where it has none."""


class HistoryFault(Enum):
    """What is wrong with a record after another one of the same host; each verifies by itself."""

    REPLAYED = "replayed"
    """The second is older."""
    REPLAYED_AFTER_WITHDRAWAL = "replayed after withdrawal"
    """The first is the host's tombstone, the second an older record."""
    EQUIVOCATION = "equivocation"
    """Both have one sequence, and say different things."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenHistory:
    """Two records of a host in the order in which they come, and what the table must make of the second."""

    fault: HistoryFault
    first: pb.SignedHostRecord
    second: pb.SignedHostRecord
    merge: Merge


def make_broken_record(
    fault: RecordFault,
    name: str = "host",
    description: HostDescription | None = None,
    *,
    now_unix_s: int = EPOCH_UNIX_S,
    network: str = TEST_NETWORK,
    sequence: int = 1,
) -> BrokenRecord:
    """Return a record with one fault; without it, it would be good at ``now_unix_s``.

    Args:
        fault: what is wrong.
        name: the host, whose key and wallet are those of the name.
        description: what it offers; None = one chat model.
        now_unix_s: when it will be read.
        network: a test network.
        sequence: >= 1.

    >>> broken = make_broken_record(RecordFault.EXPIRED)
    >>> broken.error.__name__, broken.field
    ('RecordExpiredError', 'expires_at_unix_s')
    """
    key, wallet = make_peer_key(name), make_wallet(name)
    good = make_host_record(name, description, network=network, sequence=sequence, issued_at_unix_s=now_unix_s)

    def edited(edit: Callable[[pb.HostRecord], None]) -> pb.SignedHostRecord:
        return reseal(good, edit, key=key, network=network)

    def bound(binding: pb.PeerBinding | None) -> pb.SignedHostRecord:
        return pb.SignedHostRecord(envelope=good.envelope, binding=binding)

    def issued(at_unix_s: int) -> pb.SignedHostRecord:
        return make_host_record(name, description, network=network, sequence=sequence, issued_at_unix_s=at_unix_s)

    error: type[RemoteProtocolError]
    match fault:
        case RecordFault.WRONG_SIGNATURE:
            signed, error, field = _flipped(good, "signature"), BadSignatureError, ""
        case RecordFault.CHANGED_AFTER_SIGNING:
            signed, error, field = _flipped(good, "payload"), BadSignatureError, ""
        case RecordFault.SIGNED_FOR_ANOTHER_NETWORK:
            domain = record_domain(f"{network}-other")
            signed = reseal(good, lambda body: None, key=key, network=network, domain=domain)
            error, field = BadSignatureError, ""
        case RecordFault.NAMES_ANOTHER_NETWORK:
            signed, error, field = edited(_set(network=f"{network}-other")), RecordInvalidError, "network"
        case RecordFault.NAMES_ANOTHER_PEER:
            signed, error, field = edited(_set(peer_id=_raw(make_peer_key(_OTHER)))), RecordInvalidError, "peer_id"
        case RecordFault.NO_BINDING:
            signed, error, field = bound(None), RecordInvalidError, "binding"
        case RecordFault.BINDING_OF_ANOTHER_PEER:
            other = make_binding(make_peer_key(_OTHER), wallet, network=network, issued_at_unix_s=now_unix_s)
            signed, error, field = bound(other), RecordInvalidError, "binding.peer_id"
        case RecordFault.BINDING_OF_ANOTHER_OPERATOR:
            other = make_binding(key, make_wallet(_OTHER), network=network, issued_at_unix_s=now_unix_s)
            signed, error, field = bound(other), RecordInvalidError, "binding.operator"
        case RecordFault.BINDING_FORGED:
            other = make_binding(key, make_wallet(_OTHER), network=network, issued_at_unix_s=now_unix_s)
            other.operator = wallet.address_bytes
            signed, error, field = bound(other), BadSignatureError, ""
        case RecordFault.BINDING_EXPIRED:
            began = now_unix_s - SKEW_TOLERANCE_S - 61
            other = make_binding(key, wallet, network=network, issued_at_unix_s=began, lifetime_s=60)
            signed, error, field = bound(other), RecordExpiredError, "binding.expires_at_unix_s"
        case RecordFault.EXPIRED:
            signed = issued(now_unix_s - MAX_LIFE_S - GRACE_S - 1)
            error, field = RecordExpiredError, "expires_at_unix_s"
        case RecordFault.FROM_THE_FUTURE:
            signed, error, field = issued(now_unix_s + MAX_SKEW_S + 1), RecordInvalidError, "issued_at_unix_s"
        case RecordFault.LIVES_TOO_LONG:
            signed = edited(_set(expires_at_unix_s=now_unix_s + MAX_LIFE_S + 1))
            error, field = RecordInvalidError, "expires_at_unix_s"
        case RecordFault.NO_SEQUENCE:
            signed, error, field = edited(_set(sequence=0)), RecordInvalidError, "sequence"
        case RecordFault.NO_MODEL:
            signed, error, field = edited(lambda body: body.ClearField("models")), RecordInvalidError, "models"
        case RecordFault.MODEL_TWICE:
            signed = edited(lambda body: body.models.append(body.models[0]))
            error, field = RecordInvalidError, "models"
        case RecordFault.DIGEST_TOO_SHORT:
            signed = edited(lambda body: setattr(body.models[0], "tokenizer_sha256", bytes(31)))
            error, field = RecordInvalidError, "models[0].tokenizer_sha256"
        case RecordFault.GPU_WITHOUT_NAME:
            signed = edited(lambda body: body.hardware.CopyFrom(pb.Hardware(gpus=[pb.Gpu(count=1)])))
            error, field = RecordInvalidError, "hardware.gpus[0].model"
    return BrokenRecord(fault=fault, signed=signed, error=error, field=field)


def make_broken_history(
    fault: HistoryFault,
    name: str = "host",
    description: HostDescription | None = None,
    *,
    now_unix_s: int = EPOCH_UNIX_S,
    network: str = TEST_NETWORK,
    sequence: int = 2,
) -> BrokenHistory:
    """Return two records of a host, good by themselves at ``now_unix_s``, the second of which must not be used.

    Args:
        fault: what is wrong with the second, after the first.
        name: the host, whose key and wallet are those of the name.
        description: what it offers; None = one chat model.
        now_unix_s: when they will be read.
        network: a test network.
        sequence: of the first record, >= 2.

    >>> make_broken_history(HistoryFault.REPLAYED).merge
    <Merge.OLDER: 'older'>
    """

    def record(
        number: int, *, state: HostState = HostState.AVAILABLE, addresses: tuple[str, ...] = DEFAULT_ADDRESSES
    ) -> pb.SignedHostRecord:
        return make_host_record(
            name,
            description,
            network=network,
            sequence=number,
            issued_at_unix_s=now_unix_s,
            state=state,
            addresses=addresses,
        )

    match fault:
        case HistoryFault.REPLAYED:
            first, second, merge = record(sequence), record(sequence - 1), Merge.OLDER
        case HistoryFault.REPLAYED_AFTER_WITHDRAWAL:
            first, second = record(sequence, state=HostState.WITHDRAWN), record(sequence - 1)
            merge = Merge.OLDER
        case HistoryFault.EQUIVOCATION:
            first, second = record(sequence), record(sequence, addresses=("/ip4/192.0.2.2/tcp/4001",))
            merge = Merge.EQUIVOCATION
    return BrokenHistory(fault=fault, first=first, second=second, merge=merge)


def _flipped(signed: pb.SignedHostRecord, part: str) -> pb.SignedHostRecord:
    """Flip the lowest bit of the last byte of a part of the envelope."""
    envelope = SignedEnvelope.FromString(signed.envelope)
    value: bytes = getattr(envelope, part)
    setattr(envelope, part, value[:-1] + bytes([value[-1] ^ 1]))
    return pb.SignedHostRecord(envelope=envelope.SerializeToString(), binding=signed.binding)


def _set(**values: object) -> Callable[[pb.HostRecord], None]:
    def edit(body: pb.HostRecord) -> None:
        for name, value in values.items():
            setattr(body, name, value)

    return edit


def _raw(key: PeerKey) -> bytes:
    return peer_id_to_bytes(key.peer_id)
