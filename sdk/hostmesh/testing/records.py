"""Host records for tests: signed by real keys and wallets, with every field settable, and broken ones of every kind.

Keys and wallets are those of :mod:`hostmesh.testing.wallets`: the host called ``name`` has the peer key and the wallet
of that name. What breaks a record is in :mod:`hostmesh.testing.broken_records`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypedDict, Unpack

from hostmesh.discovery.description import HostDescription, HostState, ModelOffer
from hostmesh.discovery.record import (
    MAX_ENVELOPE_BYTES,
    MAX_LIFE_S,
    PAYLOAD_TYPE,
    HostInfo,
    build_record,
    record_domain,
    verify_record,
)
from hostmesh.discovery.terms import Price
from hostmesh.identity.binding import sign_binding, verify_binding
from hostmesh.identity.wallet import Wallet
from hostmesh.model_kind import ModelKind
from hostmesh.net.envelope import open_envelope, seal_envelope
from hostmesh.net.peer_key import PeerKey
from hostmesh.testing.wallets import TEST_NETWORK, make_peer_key, make_wallet
from hostmesh.v1 import discovery_pb2 as pb

EPOCH_UNIX_S = 1_900_000_000
"""When records are issued that name no other time: 17 March 2030, 17:46:40 UTC."""
DEFAULT_ADDRESSES = ("/ip4/192.0.2.1/tcp/4001",)
"""Of the block for documentation, so that nobody is dialled by accident."""


class RecordFields(TypedDict, total=False):
    """What :func:`make_host_record` takes beside name and description; said there."""

    key: PeerKey | None
    wallet: Wallet | None
    binding: pb.PeerBinding | None
    network: str
    sequence: int
    issued_at_unix_s: int
    life_s: int
    started_at_unix_s: int | None
    addresses: tuple[str, ...]
    state: HostState
    edit: Callable[[pb.HostRecord], None] | None


def make_description(
    model_ids: str | Iterable[str] = "fake-chat",
    *,
    price_micros_per_mtok: int | None = 100,
    currency: str = "USD",
    kind: ModelKind = ModelKind.CHAT,
    location: str | None = None,
    capabilities: Iterable[str] = (),
    max_concurrent_jobs: int = 2,
    max_queued_jobs: int = 4,
) -> HostDescription:
    """Return a description of a host whose models are alike; for others build a :class:`hostmesh.HostDescription`.

    Args:
        model_ids: one id, or 1 to 64.
        price_micros_per_mtok: of each model; 0 = free, None = unpriced.
        currency: of the price.
        kind: of each model.
        location: ``US`` or ``US/california``.
        capabilities: at most 32 names.
        max_concurrent_jobs: >= 1.
        max_queued_jobs: >= 0.

    Raises:
        ConfigError: a value out of its bounds.

    >>> make_description(["a", "b"], price_micros_per_mtok=0).models[1].price
    Price(micros_per_mtok=0, currency='USD')
    """
    unpriced = price_micros_per_mtok is None
    price = None if unpriced else Price(micros_per_mtok=price_micros_per_mtok or 0, currency=currency)
    ids = (model_ids,) if isinstance(model_ids, str) else tuple(model_ids)
    return HostDescription(
        models=[ModelOffer(model_id=model_id, kind=kind, price=price) for model_id in ids],
        location=location,
        capabilities=tuple(capabilities),
        max_concurrent_jobs=max_concurrent_jobs,
        max_queued_jobs=max_queued_jobs,
    )


def make_host_record(
    name: str = "host",
    description: HostDescription | None = None,
    *,
    key: PeerKey | None = None,
    wallet: Wallet | None = None,
    binding: pb.PeerBinding | None = None,
    network: str = TEST_NETWORK,
    sequence: int = 1,
    issued_at_unix_s: int = EPOCH_UNIX_S,
    life_s: int = MAX_LIFE_S,
    started_at_unix_s: int | None = None,
    addresses: tuple[str, ...] = DEFAULT_ADDRESSES,
    state: HostState = HostState.AVAILABLE,
    edit: Callable[[pb.HostRecord], None] | None = None,
) -> pb.SignedHostRecord:
    """Return a signed record that every node of the network accepts in its time.

    Args:
        name: gives key and wallet where these are not given.
        description: what the host offers; None = :func:`make_description`.
        key: the host's peer key, which signs.
        wallet: the operator's, which signs the binding. For a network that is none for tests give one of your own.
        binding: the wallet's word for the key; None = a new one, made 10 s before the record, good for a day.
        network: the network's name.
        sequence: >= 1; a later record of the host has a higher one.
        issued_at_unix_s: when it is signed.
        life_s: seconds until it expires, 1 to 120.
        started_at_unix_s: when the host started; None = an hour before it is issued.
        addresses: multiaddrs without ``/p2p``, at most 16.
        state: WITHDRAWN makes a tombstone, without models and addresses.
        edit: changes the record's body before it is signed, in any way: also to what no honest host says.

    Returns:
        The record as it goes over the wire; :func:`read_host_record` verifies it.

    Raises:
        ConfigError: a value out of its bounds, unless ``edit`` put it there.
        UsageError: the wallet is a test wallet, and the network none for tests.

    >>> record = make_host_record("alice", make_description("m"), sequence=7)
    >>> info = read_host_record(record)
    >>> info.sequence, info.peer_id == make_peer_key("alice").peer_id, info.models[0].model_id
    (7, True, 'm')
    """
    key = key or make_peer_key(name)
    wallet = wallet or make_wallet(name)
    signed = build_record(
        description or make_description(),
        key=key,
        operator=wallet.address_bytes,
        binding=binding or make_binding(key, wallet, network=network, issued_at_unix_s=max(issued_at_unix_s - 10, 0)),
        network=network,
        sequence=sequence,
        issued_at_unix_s=issued_at_unix_s,
        started_at_unix_s=max(issued_at_unix_s - 3600, 1) if started_at_unix_s is None else started_at_unix_s,
        addresses=addresses,
        state=state,
        life_s=life_s,
    )
    return signed if edit is None else reseal(signed, edit, key=key, network=network)


def make_binding(
    key: PeerKey,
    wallet: Wallet,
    *,
    network: str = TEST_NETWORK,
    issued_at_unix_s: int = EPOCH_UNIX_S,
    lifetime_s: int = 86_400,
    revocation_epoch: int = 0,
) -> pb.PeerBinding:
    """Return the wallet's signed word that the peer key acts for it.

    Args:
        key: the host's.
        wallet: the operator's.
        network: the network's name.
        issued_at_unix_s: when it is signed.
        lifetime_s: 1 s to 7 days.
        revocation_epoch: a verifier that knows a higher one refuses it.
    """
    return sign_binding(
        wallet,
        key.peer_id,
        network=network,
        now=issued_at_unix_s,
        lifetime_s=lifetime_s,
        revocation_epoch=revocation_epoch,
    )


def read_host_record(
    signed: pb.SignedHostRecord, *, now_unix_s: float = EPOCH_UNIX_S, network: str = TEST_NETWORK
) -> HostInfo:
    """Verify a record, its wallet's signature included, and return what it says.

    Raises:
        BadSignatureError, RecordExpiredError, RecordInvalidError: as
            :func:`hostmesh.discovery.record.verify_record`.
    """
    return verify_record(signed, expected_peer_id=None, network=network, now=now_unix_s, verify_binding=verify_binding)


def make_host_info(
    name: str = "host", description: HostDescription | None = None, **fields: Unpack[RecordFields]
) -> HostInfo:
    """Return what a verified record of :func:`make_host_record` says, read at the second in which it was issued.

    >>> make_host_info("alice").operator == make_wallet("alice").address_bytes
    True
    """
    signed = make_host_record(name, description, **fields)
    now_unix_s = fields.get("issued_at_unix_s", EPOCH_UNIX_S)
    return read_host_record(signed, now_unix_s=now_unix_s, network=fields.get("network", TEST_NETWORK))


def reseal(
    signed: pb.SignedHostRecord,
    edit: Callable[[pb.HostRecord], None],
    *,
    key: PeerKey,
    network: str = TEST_NETWORK,
    domain: str | None = None,
) -> pb.SignedHostRecord:
    """Return the record with another body, signed anew; the binding stays.

    Args:
        signed: a record signed for the network.
        edit: changes the body.
        key: signs.
        network: of the record.
        domain: what the new signature is made for; None = records of this network.
    """
    ours = record_domain(network)
    opened = open_envelope(signed.envelope, domain=ours, payload_type=PAYLOAD_TYPE, max_bytes=MAX_ENVELOPE_BYTES)
    body = pb.HostRecord.FromString(opened.payload)
    edit(body)
    envelope = seal_envelope(
        key, domain=domain or ours, payload_type=PAYLOAD_TYPE, payload=body.SerializeToString(deterministic=True)
    )
    return pb.SignedHostRecord(envelope=envelope, binding=signed.binding if signed.HasField("binding") else None)
