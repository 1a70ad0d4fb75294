from hostmesh.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HostState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HOST_STATE_UNSPECIFIED: _ClassVar[HostState]
    HOST_STATE_AVAILABLE: _ClassVar[HostState]
    HOST_STATE_DRAINING: _ClassVar[HostState]
    HOST_STATE_WITHDRAWN: _ClassVar[HostState]

class ModelKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_KIND_UNSPECIFIED: _ClassVar[ModelKind]
    MODEL_KIND_CHAT: _ClassVar[ModelKind]
    MODEL_KIND_EMBEDDING: _ClassVar[ModelKind]

class Reachability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REACHABILITY_UNSPECIFIED: _ClassVar[Reachability]
    REACHABILITY_PUBLIC: _ClassVar[Reachability]
    REACHABILITY_MAPPED: _ClassVar[Reachability]
    REACHABILITY_RELAYED: _ClassVar[Reachability]
    REACHABILITY_UNREACHABLE: _ClassVar[Reachability]
HOST_STATE_UNSPECIFIED: HostState
HOST_STATE_AVAILABLE: HostState
HOST_STATE_DRAINING: HostState
HOST_STATE_WITHDRAWN: HostState
MODEL_KIND_UNSPECIFIED: ModelKind
MODEL_KIND_CHAT: ModelKind
MODEL_KIND_EMBEDDING: ModelKind
REACHABILITY_UNSPECIFIED: Reachability
REACHABILITY_PUBLIC: Reachability
REACHABILITY_MAPPED: Reachability
REACHABILITY_RELAYED: Reachability
REACHABILITY_UNREACHABLE: Reachability

class Price(_message.Message):
    __slots__ = ("price_micros_per_mtok", "currency")
    PRICE_MICROS_PER_MTOK_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    price_micros_per_mtok: int
    currency: str
    def __init__(self, price_micros_per_mtok: _Optional[int] = ..., currency: _Optional[str] = ...) -> None: ...

class ModelOffer(_message.Message):
    __slots__ = ("model_id", "kind", "price", "context_tokens", "max_output_tokens", "quantisation", "weights_sha256", "engine", "parameters", "tokenizer_sha256", "chat_template_sha256", "engine_version", "output_millitokens_per_s")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    QUANTISATION_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_SHA256_FIELD_NUMBER: _ClassVar[int]
    CHAT_TEMPLATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    ENGINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_MILLITOKENS_PER_S_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    kind: ModelKind
    price: Price
    context_tokens: int
    max_output_tokens: int
    quantisation: str
    weights_sha256: bytes
    engine: str
    parameters: _containers.RepeatedScalarFieldContainer[str]
    tokenizer_sha256: bytes
    chat_template_sha256: bytes
    engine_version: str
    output_millitokens_per_s: int
    def __init__(self, model_id: _Optional[str] = ..., kind: _Optional[_Union[ModelKind, str]] = ..., price: _Optional[_Union[Price, _Mapping]] = ..., context_tokens: _Optional[int] = ..., max_output_tokens: _Optional[int] = ..., quantisation: _Optional[str] = ..., weights_sha256: _Optional[bytes] = ..., engine: _Optional[str] = ..., parameters: _Optional[_Iterable[str]] = ..., tokenizer_sha256: _Optional[bytes] = ..., chat_template_sha256: _Optional[bytes] = ..., engine_version: _Optional[str] = ..., output_millitokens_per_s: _Optional[int] = ...) -> None: ...

class Gpu(_message.Message):
    __slots__ = ("model", "memory_mib", "count")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    model: str
    memory_mib: int
    count: int
    def __init__(self, model: _Optional[str] = ..., memory_mib: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class Hardware(_message.Message):
    __slots__ = ("cpu_model", "cpu_cores", "memory_mib", "gpus")
    CPU_MODEL_FIELD_NUMBER: _ClassVar[int]
    CPU_CORES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    cpu_model: str
    cpu_cores: int
    memory_mib: int
    gpus: _containers.RepeatedCompositeFieldContainer[Gpu]
    def __init__(self, cpu_model: _Optional[str] = ..., cpu_cores: _Optional[int] = ..., memory_mib: _Optional[int] = ..., gpus: _Optional[_Iterable[_Union[Gpu, _Mapping]]] = ...) -> None: ...

class Location(_message.Message):
    __slots__ = ("country_code", "region")
    COUNTRY_CODE_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    country_code: str
    region: str
    def __init__(self, country_code: _Optional[str] = ..., region: _Optional[str] = ...) -> None: ...

class HostRecord(_message.Message):
    __slots__ = ("network", "peer_id", "operator", "sequence", "issued_at_unix_s", "expires_at_unix_s", "state", "addresses", "models", "location", "capabilities", "started_at_unix_s", "max_concurrent_jobs", "max_queued_jobs", "software", "protocols", "hardware", "reachability", "binding_epoch")
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENT_JOBS_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUED_JOBS_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    PROTOCOLS_FIELD_NUMBER: _ClassVar[int]
    HARDWARE_FIELD_NUMBER: _ClassVar[int]
    REACHABILITY_FIELD_NUMBER: _ClassVar[int]
    BINDING_EPOCH_FIELD_NUMBER: _ClassVar[int]
    network: str
    peer_id: bytes
    operator: bytes
    sequence: int
    issued_at_unix_s: int
    expires_at_unix_s: int
    state: HostState
    addresses: _containers.RepeatedScalarFieldContainer[bytes]
    models: _containers.RepeatedCompositeFieldContainer[ModelOffer]
    location: Location
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    started_at_unix_s: int
    max_concurrent_jobs: int
    max_queued_jobs: int
    software: str
    protocols: _containers.RepeatedScalarFieldContainer[str]
    hardware: Hardware
    reachability: Reachability
    binding_epoch: int
    def __init__(self, network: _Optional[str] = ..., peer_id: _Optional[bytes] = ..., operator: _Optional[bytes] = ..., sequence: _Optional[int] = ..., issued_at_unix_s: _Optional[int] = ..., expires_at_unix_s: _Optional[int] = ..., state: _Optional[_Union[HostState, str]] = ..., addresses: _Optional[_Iterable[bytes]] = ..., models: _Optional[_Iterable[_Union[ModelOffer, _Mapping]]] = ..., location: _Optional[_Union[Location, _Mapping]] = ..., capabilities: _Optional[_Iterable[str]] = ..., started_at_unix_s: _Optional[int] = ..., max_concurrent_jobs: _Optional[int] = ..., max_queued_jobs: _Optional[int] = ..., software: _Optional[str] = ..., protocols: _Optional[_Iterable[str]] = ..., hardware: _Optional[_Union[Hardware, _Mapping]] = ..., reachability: _Optional[_Union[Reachability, str]] = ..., binding_epoch: _Optional[int] = ...) -> None: ...

class PeerBinding(_message.Message):
    __slots__ = ("operator", "peer_id", "issued_at_unix_s", "expires_at_unix_s", "revocation_epoch", "signature")
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    REVOCATION_EPOCH_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    operator: bytes
    peer_id: bytes
    issued_at_unix_s: int
    expires_at_unix_s: int
    revocation_epoch: int
    signature: bytes
    def __init__(self, operator: _Optional[bytes] = ..., peer_id: _Optional[bytes] = ..., issued_at_unix_s: _Optional[int] = ..., expires_at_unix_s: _Optional[int] = ..., revocation_epoch: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class BindingRevocation(_message.Message):
    __slots__ = ("operator", "peer_id", "least_epoch", "issued_at_unix_s", "signature")
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    LEAST_EPOCH_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    operator: bytes
    peer_id: bytes
    least_epoch: int
    issued_at_unix_s: int
    signature: bytes
    def __init__(self, operator: _Optional[bytes] = ..., peer_id: _Optional[bytes] = ..., least_epoch: _Optional[int] = ..., issued_at_unix_s: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class SignedHostRecord(_message.Message):
    __slots__ = ("envelope", "binding")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    BINDING_FIELD_NUMBER: _ClassVar[int]
    envelope: bytes
    binding: PeerBinding
    def __init__(self, envelope: _Optional[bytes] = ..., binding: _Optional[_Union[PeerBinding, _Mapping]] = ...) -> None: ...

class GetRecordRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetRecordResponse(_message.Message):
    __slots__ = ("record", "revocations")
    RECORD_FIELD_NUMBER: _ClassVar[int]
    REVOCATIONS_FIELD_NUMBER: _ClassVar[int]
    record: SignedHostRecord
    revocations: _containers.RepeatedCompositeFieldContainer[BindingRevocation]
    def __init__(self, record: _Optional[_Union[SignedHostRecord, _Mapping]] = ..., revocations: _Optional[_Iterable[_Union[BindingRevocation, _Mapping]]] = ...) -> None: ...

class EquivocationProof(_message.Message):
    __slots__ = ("first_envelope", "second_envelope")
    FIRST_ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    SECOND_ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    first_envelope: bytes
    second_envelope: bytes
    def __init__(self, first_envelope: _Optional[bytes] = ..., second_envelope: _Optional[bytes] = ...) -> None: ...

class AnnounceRequest(_message.Message):
    __slots__ = ("record", "proof", "revocation")
    RECORD_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    REVOCATION_FIELD_NUMBER: _ClassVar[int]
    record: SignedHostRecord
    proof: EquivocationProof
    revocation: BindingRevocation
    def __init__(self, record: _Optional[_Union[SignedHostRecord, _Mapping]] = ..., proof: _Optional[_Union[EquivocationProof, _Mapping]] = ..., revocation: _Optional[_Union[BindingRevocation, _Mapping]] = ...) -> None: ...

class AnnounceResponse(_message.Message):
    __slots__ = ("revocation",)
    REVOCATION_FIELD_NUMBER: _ClassVar[int]
    revocation: BindingRevocation
    def __init__(self, revocation: _Optional[_Union[BindingRevocation, _Mapping]] = ...) -> None: ...

class QueryRequest(_message.Message):
    __slots__ = ("model_ids", "country_code", "limit", "cursor")
    MODEL_IDS_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_CODE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    model_ids: _containers.RepeatedScalarFieldContainer[str]
    country_code: str
    limit: int
    cursor: bytes
    def __init__(self, model_ids: _Optional[_Iterable[str]] = ..., country_code: _Optional[str] = ..., limit: _Optional[int] = ..., cursor: _Optional[bytes] = ...) -> None: ...

class QueryResponse(_message.Message):
    __slots__ = ("records", "cursor", "revocations")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    REVOCATIONS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[SignedHostRecord]
    cursor: bytes
    revocations: _containers.RepeatedCompositeFieldContainer[BindingRevocation]
    def __init__(self, records: _Optional[_Iterable[_Union[SignedHostRecord, _Mapping]]] = ..., cursor: _Optional[bytes] = ..., revocations: _Optional[_Iterable[_Union[BindingRevocation, _Mapping]]] = ...) -> None: ...
