from hostmesh.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TextList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class Parameter(_message.Message):
    __slots__ = ("name", "number", "integer", "text", "flag", "texts")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    number: float
    integer: int
    text: str
    flag: bool
    texts: TextList
    def __init__(self, name: _Optional[str] = ..., number: _Optional[float] = ..., integer: _Optional[int] = ..., text: _Optional[str] = ..., flag: _Optional[bool] = ..., texts: _Optional[_Union[TextList, _Mapping]] = ...) -> None: ...

class QuoteRequest(_message.Message):
    __slots__ = ("model_id", "max_output_tokens", "prompt_tokens_estimate", "parameters")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    max_output_tokens: int
    prompt_tokens_estimate: int
    parameters: _containers.RepeatedCompositeFieldContainer[Parameter]
    def __init__(self, model_id: _Optional[str] = ..., max_output_tokens: _Optional[int] = ..., prompt_tokens_estimate: _Optional[int] = ..., parameters: _Optional[_Iterable[_Union[Parameter, _Mapping]]] = ...) -> None: ...

class Quote(_message.Message):
    __slots__ = ("network", "quote_id", "client_peer_id", "host_peer_id", "model_id", "price_micros_per_mtok", "currency", "max_output_tokens", "context_tokens", "issued_at_unix_s", "expires_at_unix_s", "queue_position", "weights_sha256", "tokenizer_sha256", "chat_template_sha256")
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    QUOTE_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_PEER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_PEER_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    PRICE_MICROS_PER_MTOK_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_SHA256_FIELD_NUMBER: _ClassVar[int]
    CHAT_TEMPLATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    network: str
    quote_id: bytes
    client_peer_id: bytes
    host_peer_id: bytes
    model_id: str
    price_micros_per_mtok: int
    currency: str
    max_output_tokens: int
    context_tokens: int
    issued_at_unix_s: int
    expires_at_unix_s: int
    queue_position: int
    weights_sha256: bytes
    tokenizer_sha256: bytes
    chat_template_sha256: bytes
    def __init__(self, network: _Optional[str] = ..., quote_id: _Optional[bytes] = ..., client_peer_id: _Optional[bytes] = ..., host_peer_id: _Optional[bytes] = ..., model_id: _Optional[str] = ..., price_micros_per_mtok: _Optional[int] = ..., currency: _Optional[str] = ..., max_output_tokens: _Optional[int] = ..., context_tokens: _Optional[int] = ..., issued_at_unix_s: _Optional[int] = ..., expires_at_unix_s: _Optional[int] = ..., queue_position: _Optional[int] = ..., weights_sha256: _Optional[bytes] = ..., tokenizer_sha256: _Optional[bytes] = ..., chat_template_sha256: _Optional[bytes] = ...) -> None: ...

class QuoteResponse(_message.Message):
    __slots__ = ("quote",)
    QUOTE_FIELD_NUMBER: _ClassVar[int]
    quote: bytes
    def __init__(self, quote: _Optional[bytes] = ...) -> None: ...

class ChatMessage(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class ChatInput(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[ChatMessage]
    def __init__(self, messages: _Optional[_Iterable[_Union[ChatMessage, _Mapping]]] = ...) -> None: ...

class EmbeddingInput(_message.Message):
    __slots__ = ("texts",)
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, texts: _Optional[_Iterable[str]] = ...) -> None: ...

class RunRequest(_message.Message):
    __slots__ = ("quote_id", "chat", "embedding", "parameters", "salt")
    QUOTE_ID_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    quote_id: bytes
    chat: ChatInput
    embedding: EmbeddingInput
    parameters: _containers.RepeatedCompositeFieldContainer[Parameter]
    salt: bytes
    def __init__(self, quote_id: _Optional[bytes] = ..., chat: _Optional[_Union[ChatInput, _Mapping]] = ..., embedding: _Optional[_Union[EmbeddingInput, _Mapping]] = ..., parameters: _Optional[_Iterable[_Union[Parameter, _Mapping]]] = ..., salt: _Optional[bytes] = ...) -> None: ...

class JobAccepted(_message.Message):
    __slots__ = ("job_id", "queue_position")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    job_id: bytes
    queue_position: int
    def __init__(self, job_id: _Optional[bytes] = ..., queue_position: _Optional[int] = ...) -> None: ...

class TextDelta(_message.Message):
    __slots__ = ("index", "text", "completion_tokens")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    index: int
    text: str
    completion_tokens: int
    def __init__(self, index: _Optional[int] = ..., text: _Optional[str] = ..., completion_tokens: _Optional[int] = ...) -> None: ...

class EmbeddingVector(_message.Message):
    __slots__ = ("index", "values")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    index: int
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, index: _Optional[int] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("prompt_tokens", "completion_tokens", "cost_micros")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COST_MICROS_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    completion_tokens: int
    cost_micros: int
    def __init__(self, prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., cost_micros: _Optional[int] = ...) -> None: ...

class JobCompleted(_message.Message):
    __slots__ = ("usage", "finish_reason")
    USAGE_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    usage: Usage
    finish_reason: str
    def __init__(self, usage: _Optional[_Union[Usage, _Mapping]] = ..., finish_reason: _Optional[str] = ...) -> None: ...

class RunResponse(_message.Message):
    __slots__ = ("accepted", "text", "vector", "completed", "receipt")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    accepted: JobAccepted
    text: TextDelta
    vector: EmbeddingVector
    completed: JobCompleted
    receipt: bytes
    def __init__(self, accepted: _Optional[_Union[JobAccepted, _Mapping]] = ..., text: _Optional[_Union[TextDelta, _Mapping]] = ..., vector: _Optional[_Union[EmbeddingVector, _Mapping]] = ..., completed: _Optional[_Union[JobCompleted, _Mapping]] = ..., receipt: _Optional[bytes] = ...) -> None: ...

class CountersignRequest(_message.Message):
    __slots__ = ("job_id", "sequence", "signature")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    job_id: bytes
    sequence: int
    signature: bytes
    def __init__(self, job_id: _Optional[bytes] = ..., sequence: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class CountersignResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetReceiptRequest(_message.Message):
    __slots__ = ("job_id", "delivered_pieces")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_PIECES_FIELD_NUMBER: _ClassVar[int]
    job_id: bytes
    delivered_pieces: int
    def __init__(self, job_id: _Optional[bytes] = ..., delivered_pieces: _Optional[int] = ...) -> None: ...

class GetReceiptResponse(_message.Message):
    __slots__ = ("receipt",)
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    receipt: bytes
    def __init__(self, receipt: _Optional[bytes] = ...) -> None: ...
