"""The structures that wallets and session keys sign. Pure. How they are hashed: :mod:`hostmesh.identity.typed_data`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hostmesh.identity.typed_data import FieldTable, TypedStruct, check_fields

NO_DIGEST = bytes(32)
"""Signed where a digest is not known or does not apply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerBinding:
    """An operator says: this peer key acts for my wallet.

    Raises:
        UsageError: a field out of its bounds.
    """

    TYPE_NAME: ClassVar[str] = "PeerBinding"
    MEMBERS: ClassVar[tuple[type[TypedStruct], ...]] = ()
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
    """Bindings of this peer key by this wallet with a lower epoch are revoked."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class BindingRevocation:
    """An operator says: of my bindings of this peer key, those below an epoch are void.

    Raises:
        UsageError: a field out of its bounds.
    """

    TYPE_NAME: ClassVar[str] = "BindingRevocation"
    MEMBERS: ClassVar[tuple[type[TypedStruct], ...]] = ()
    FIELDS: ClassVar[FieldTable] = (
        ("address", "operator", "operator"),
        ("bytes", "peerId", "peer_id"),
        ("uint64", "leastEpoch", "least_epoch"),
        ("uint64", "issuedAt", "issued_at_unix_s"),
    )

    operator: bytes
    """The wallet, 20 bytes."""
    peer_id: bytes
    """Raw multihash, 1 to 64 bytes."""
    least_epoch: int
    """The lowest epoch that still holds."""
    issued_at_unix_s: int

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionAuthorization:
    """A client says: I open a session on this host under these terms.

    Raises:
        UsageError: a field out of its bounds.
    """

    TYPE_NAME: ClassVar[str] = "SessionAuthorization"
    MEMBERS: ClassVar[tuple[type[TypedStruct], ...]] = ()
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
        ("uint64", "sliceMicros", "slice_micros"),
        ("bytes32", "delegationDigest", "delegation_digest"),
    )

    client: bytes
    """The wallet that pays, 20 bytes."""
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
    slice_micros: int
    """Most that is owed without a countersigned receipt: all that either side can lose."""
    delegation_digest: bytes = NO_DIGEST
    """Of the delegation under which a session key signs in the client's name; zeros = the client's wallet signs."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCap:
    """What a delegation lets be spent on one host.

    Raises:
        UsageError: a field out of its bounds.
    """

    TYPE_NAME: ClassVar[str] = "HostCap"
    MEMBERS: ClassVar[tuple[type[TypedStruct], ...]] = ()
    FIELDS: ClassVar[FieldTable] = (
        ("bytes", "hostPeerId", "host_peer_id"),
        ("uint64", "capMicros", "cap_micros"),
    )

    host_peer_id: bytes
    """Raw multihash, 1 to 64 bytes."""
    cap_micros: int
    """Of all its sessions together."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegation:
    """An owner says: this session key may open sessions in my name, on these hosts, up to these amounts.

    Raises:
        UsageError: a field out of its bounds.
    """

    TYPE_NAME: ClassVar[str] = "Delegation"
    MEMBERS: ClassVar[tuple[type[TypedStruct], ...]] = (HostCap,)
    FIELDS: ClassVar[FieldTable] = (
        ("address", "owner", "owner"),
        ("address", "delegate", "delegate"),
        ("string[]", "modelIds", "model_ids"),
        ("HostCap[]", "hostCaps", "host_caps"),
        ("string", "currency", "currency"),
        ("uint64", "issuedAt", "issued_at_unix_s"),
        ("uint64", "expiresAt", "expires_at_unix_s"),
        ("bytes32", "nonce", "nonce"),
    )

    owner: bytes
    """The wallet that pays, 20 bytes."""
    delegate: bytes
    """The session key's address, 20 bytes."""
    model_ids: tuple[str, ...]
    """1 to 32, exact ids."""
    host_caps: tuple[HostCap, ...]
    """1 to 32; their sum bounds what the owner can lose."""
    currency: str
    issued_at_unix_s: int
    expires_at_unix_s: int
    nonce: bytes
    """32 random bytes."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegationRevocation:
    """An owner says: this delegation holds no more.

    Raises:
        UsageError: a field out of its bounds.
    """

    TYPE_NAME: ClassVar[str] = "DelegationRevocation"
    MEMBERS: ClassVar[tuple[type[TypedStruct], ...]] = ()
    FIELDS: ClassVar[FieldTable] = (
        ("address", "owner", "owner"),
        ("bytes32", "delegationDigest", "delegation_digest"),
        ("uint64", "issuedAt", "issued_at_unix_s"),
    )

    owner: bytes
    """20 bytes."""
    delegation_digest: bytes
    """32 bytes."""
    issued_at_unix_s: int

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A client says: this is what the host did and what I owe for it, up to here.

    Every number of tokens, pieces and money is what the job came to since its start, never what was added.

    Raises:
        UsageError: a field out of its bounds.
    """

    TYPE_NAME: ClassVar[str] = "Receipt"
    MEMBERS: ClassVar[tuple[type[TypedStruct], ...]] = ()
    FIELDS: ClassVar[FieldTable] = (
        ("bytes32", "authorizationDigest", "authorization_digest"),
        ("bytes", "sessionId", "session_id"),
        ("bytes", "jobId", "job_id"),
        ("uint64", "sequence", "sequence"),
        ("address", "client", "client"),
        ("address", "operator", "operator"),
        ("bytes", "clientPeerId", "client_peer_id"),
        ("bytes", "hostPeerId", "host_peer_id"),
        ("string", "modelId", "model_id"),
        ("bytes32", "weightsSha256", "weights_sha256"),
        ("bytes32", "tokenizerSha256", "tokenizer_sha256"),
        ("bytes32", "chatTemplateSha256", "chat_template_sha256"),
        ("uint64", "priceMicrosPerMtok", "price_micros_per_mtok"),
        ("string", "currency", "currency"),
        ("uint64", "promptTokens", "prompt_tokens"),
        ("uint64", "completionTokens", "completion_tokens"),
        ("uint64", "costMicros", "cost_micros"),
        ("bytes32", "outputHash", "output_hash"),
        ("uint64", "outputPieces", "output_pieces"),
        ("uint64", "timeToFirstTokenMs", "time_to_first_token_ms"),
        ("uint8", "state", "state"),
        ("uint64", "issuedAt", "issued_at_unix_s"),
    )

    authorization_digest: bytes
    """EIP-712 digest of the session's authorisation, 32 bytes."""
    session_id: bytes
    """16 bytes."""
    job_id: bytes
    """16 bytes."""
    sequence: int
    """1, 2, 3, ... within the job."""
    client: bytes
    """The wallet that pays, 20 bytes."""
    operator: bytes
    """The host's operator, 20 bytes."""
    client_peer_id: bytes
    host_peer_id: bytes
    model_id: str
    weights_sha256: bytes
    """As quoted; zeros = not said, as in the next two."""
    tokenizer_sha256: bytes
    chat_template_sha256: bytes
    price_micros_per_mtok: int
    currency: str
    prompt_tokens: int
    completion_tokens: int
    cost_micros: int
    """``ceil((prompt_tokens + completion_tokens) * price_micros_per_mtok / 1,000,000)``."""
    output_hash: bytes
    """Head of the hash chain over the input and every piece of the answer up to here."""
    output_pieces: int
    time_to_first_token_ms: int
    """By the host's clock; 0 = no piece yet."""
    state: int
    """A value of the enum ``JobState`` in receipt.proto."""
    issued_at_unix_s: int

    def __post_init__(self) -> None:
        check_fields(self)
