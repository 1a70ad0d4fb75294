from hostmesh.v1 import options_pb2 as _options_pb2
from hostmesh.v1 import discovery_pb2 as _discovery_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetChallengeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Challenge(_message.Message):
    __slots__ = ("nonce", "expires_at_unix_s", "operator", "binding", "work_bits", "min_slice_tokens", "max_slice_tokens")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    BINDING_FIELD_NUMBER: _ClassVar[int]
    WORK_BITS_FIELD_NUMBER: _ClassVar[int]
    MIN_SLICE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_SLICE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    expires_at_unix_s: int
    operator: bytes
    binding: _discovery_pb2.PeerBinding
    work_bits: int
    min_slice_tokens: int
    max_slice_tokens: int
    def __init__(self, nonce: _Optional[bytes] = ..., expires_at_unix_s: _Optional[int] = ..., operator: _Optional[bytes] = ..., binding: _Optional[_Union[_discovery_pb2.PeerBinding, _Mapping]] = ..., work_bits: _Optional[int] = ..., min_slice_tokens: _Optional[int] = ..., max_slice_tokens: _Optional[int] = ...) -> None: ...

class HostCap(_message.Message):
    __slots__ = ("host_peer_id", "cap_micros")
    HOST_PEER_ID_FIELD_NUMBER: _ClassVar[int]
    CAP_MICROS_FIELD_NUMBER: _ClassVar[int]
    host_peer_id: bytes
    cap_micros: int
    def __init__(self, host_peer_id: _Optional[bytes] = ..., cap_micros: _Optional[int] = ...) -> None: ...

class Delegation(_message.Message):
    __slots__ = ("owner", "delegate", "model_ids", "host_caps", "currency", "issued_at_unix_s", "expires_at_unix_s", "nonce", "signature")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    DELEGATE_FIELD_NUMBER: _ClassVar[int]
    MODEL_IDS_FIELD_NUMBER: _ClassVar[int]
    HOST_CAPS_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    owner: bytes
    delegate: bytes
    model_ids: _containers.RepeatedScalarFieldContainer[str]
    host_caps: _containers.RepeatedCompositeFieldContainer[HostCap]
    currency: str
    issued_at_unix_s: int
    expires_at_unix_s: int
    nonce: bytes
    signature: bytes
    def __init__(self, owner: _Optional[bytes] = ..., delegate: _Optional[bytes] = ..., model_ids: _Optional[_Iterable[str]] = ..., host_caps: _Optional[_Iterable[_Union[HostCap, _Mapping]]] = ..., currency: _Optional[str] = ..., issued_at_unix_s: _Optional[int] = ..., expires_at_unix_s: _Optional[int] = ..., nonce: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class DelegationRevocation(_message.Message):
    __slots__ = ("owner", "delegation_digest", "issued_at_unix_s", "signature")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    DELEGATION_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    owner: bytes
    delegation_digest: bytes
    issued_at_unix_s: int
    signature: bytes
    def __init__(self, owner: _Optional[bytes] = ..., delegation_digest: _Optional[bytes] = ..., issued_at_unix_s: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class SessionAuthorization(_message.Message):
    __slots__ = ("client", "operator", "client_peer_id", "host_peer_id", "nonce", "model_id", "max_price_micros_per_mtok", "currency", "spending_limit_micros", "issued_at_unix_s", "expires_at_unix_s", "signature", "slice_micros", "delegation_digest")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    CLIENT_PEER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_PEER_ID_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_PRICE_MICROS_PER_MTOK_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    SPENDING_LIMIT_MICROS_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    SLICE_MICROS_FIELD_NUMBER: _ClassVar[int]
    DELEGATION_DIGEST_FIELD_NUMBER: _ClassVar[int]
    client: bytes
    operator: bytes
    client_peer_id: bytes
    host_peer_id: bytes
    nonce: bytes
    model_id: str
    max_price_micros_per_mtok: int
    currency: str
    spending_limit_micros: int
    issued_at_unix_s: int
    expires_at_unix_s: int
    signature: bytes
    slice_micros: int
    delegation_digest: bytes
    def __init__(self, client: _Optional[bytes] = ..., operator: _Optional[bytes] = ..., client_peer_id: _Optional[bytes] = ..., host_peer_id: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., model_id: _Optional[str] = ..., max_price_micros_per_mtok: _Optional[int] = ..., currency: _Optional[str] = ..., spending_limit_micros: _Optional[int] = ..., issued_at_unix_s: _Optional[int] = ..., expires_at_unix_s: _Optional[int] = ..., signature: _Optional[bytes] = ..., slice_micros: _Optional[int] = ..., delegation_digest: _Optional[bytes] = ...) -> None: ...

class AuthorizeRequest(_message.Message):
    __slots__ = ("authorization", "delegation", "work", "deposit_proof")
    AUTHORIZATION_FIELD_NUMBER: _ClassVar[int]
    DELEGATION_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    DEPOSIT_PROOF_FIELD_NUMBER: _ClassVar[int]
    authorization: SessionAuthorization
    delegation: Delegation
    work: bytes
    deposit_proof: bytes
    def __init__(self, authorization: _Optional[_Union[SessionAuthorization, _Mapping]] = ..., delegation: _Optional[_Union[Delegation, _Mapping]] = ..., work: _Optional[bytes] = ..., deposit_proof: _Optional[bytes] = ...) -> None: ...

class SessionGrant(_message.Message):
    __slots__ = ("network", "session_id", "authorization_digest", "client_peer_id", "host_peer_id", "issued_at_unix_s", "expires_at_unix_s")
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    AUTHORIZATION_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CLIENT_PEER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_PEER_ID_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    network: str
    session_id: bytes
    authorization_digest: bytes
    client_peer_id: bytes
    host_peer_id: bytes
    issued_at_unix_s: int
    expires_at_unix_s: int
    def __init__(self, network: _Optional[str] = ..., session_id: _Optional[bytes] = ..., authorization_digest: _Optional[bytes] = ..., client_peer_id: _Optional[bytes] = ..., host_peer_id: _Optional[bytes] = ..., issued_at_unix_s: _Optional[int] = ..., expires_at_unix_s: _Optional[int] = ...) -> None: ...

class AuthorizeResponse(_message.Message):
    __slots__ = ("grant",)
    GRANT_FIELD_NUMBER: _ClassVar[int]
    grant: bytes
    def __init__(self, grant: _Optional[bytes] = ...) -> None: ...

class CloseSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    def __init__(self, session_id: _Optional[bytes] = ...) -> None: ...

class CloseSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RevokeDelegationRequest(_message.Message):
    __slots__ = ("revocation",)
    REVOCATION_FIELD_NUMBER: _ClassVar[int]
    revocation: DelegationRevocation
    def __init__(self, revocation: _Optional[_Union[DelegationRevocation, _Mapping]] = ...) -> None: ...

class RevokeDelegationResponse(_message.Message):
    __slots__ = ("ended_sessions",)
    ENDED_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    ended_sessions: int
    def __init__(self, ended_sessions: _Optional[int] = ...) -> None: ...
