from hostmesh.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_SUCCEEDED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_EXPIRED: _ClassVar[JobState]
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_SUCCEEDED: JobState
JOB_STATE_CANCELLED: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_EXPIRED: JobState

class Receipt(_message.Message):
    __slots__ = ("network", "authorization_digest", "session_id", "job_id", "sequence", "client", "operator", "client_peer_id", "host_peer_id", "model_id", "weights_sha256", "tokenizer_sha256", "chat_template_sha256", "price_micros_per_mtok", "currency", "prompt_tokens", "completion_tokens", "cost_micros", "output_hash", "output_pieces", "time_to_first_token_ms", "state", "issued_at_unix_s")
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    AUTHORIZATION_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    CLIENT_PEER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_PEER_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_SHA256_FIELD_NUMBER: _ClassVar[int]
    CHAT_TEMPLATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    PRICE_MICROS_PER_MTOK_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COST_MICROS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_HASH_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_PIECES_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_FIRST_TOKEN_MS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    network: str
    authorization_digest: bytes
    session_id: bytes
    job_id: bytes
    sequence: int
    client: bytes
    operator: bytes
    client_peer_id: bytes
    host_peer_id: bytes
    model_id: str
    weights_sha256: bytes
    tokenizer_sha256: bytes
    chat_template_sha256: bytes
    price_micros_per_mtok: int
    currency: str
    prompt_tokens: int
    completion_tokens: int
    cost_micros: int
    output_hash: bytes
    output_pieces: int
    time_to_first_token_ms: int
    state: JobState
    issued_at_unix_s: int
    def __init__(self, network: _Optional[str] = ..., authorization_digest: _Optional[bytes] = ..., session_id: _Optional[bytes] = ..., job_id: _Optional[bytes] = ..., sequence: _Optional[int] = ..., client: _Optional[bytes] = ..., operator: _Optional[bytes] = ..., client_peer_id: _Optional[bytes] = ..., host_peer_id: _Optional[bytes] = ..., model_id: _Optional[str] = ..., weights_sha256: _Optional[bytes] = ..., tokenizer_sha256: _Optional[bytes] = ..., chat_template_sha256: _Optional[bytes] = ..., price_micros_per_mtok: _Optional[int] = ..., currency: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., cost_micros: _Optional[int] = ..., output_hash: _Optional[bytes] = ..., output_pieces: _Optional[int] = ..., time_to_first_token_ms: _Optional[int] = ..., state: _Optional[_Union[JobState, str]] = ..., issued_at_unix_s: _Optional[int] = ...) -> None: ...

class SharedJob(_message.Message):
    __slots__ = ("job_id", "quote", "receipt", "countersignature")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    QUOTE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    COUNTERSIGNATURE_FIELD_NUMBER: _ClassVar[int]
    job_id: bytes
    quote: bytes
    receipt: bytes
    countersignature: bytes
    def __init__(self, job_id: _Optional[bytes] = ..., quote: _Optional[bytes] = ..., receipt: _Optional[bytes] = ..., countersignature: _Optional[bytes] = ...) -> None: ...

class SharedSession(_message.Message):
    __slots__ = ("authorization", "delegation", "grant", "jobs")
    AUTHORIZATION_FIELD_NUMBER: _ClassVar[int]
    DELEGATION_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    authorization: bytes
    delegation: bytes
    grant: bytes
    jobs: _containers.RepeatedCompositeFieldContainer[SharedJob]
    def __init__(self, authorization: _Optional[bytes] = ..., delegation: _Optional[bytes] = ..., grant: _Optional[bytes] = ..., jobs: _Optional[_Iterable[_Union[SharedJob, _Mapping]]] = ...) -> None: ...

class ListSharedRequest(_message.Message):
    __slots__ = ("host_peer_ids", "page_token")
    HOST_PEER_IDS_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    host_peer_ids: _containers.RepeatedScalarFieldContainer[bytes]
    page_token: bytes
    def __init__(self, host_peer_ids: _Optional[_Iterable[bytes]] = ..., page_token: _Optional[bytes] = ...) -> None: ...

class ListSharedResponse(_message.Message):
    __slots__ = ("sessions", "next_page_token")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[SharedSession]
    next_page_token: bytes
    def __init__(self, sessions: _Optional[_Iterable[_Union[SharedSession, _Mapping]]] = ..., next_page_token: _Optional[bytes] = ...) -> None: ...
