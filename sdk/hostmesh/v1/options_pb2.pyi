from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor
MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
max_bytes: _descriptor.FieldDescriptor
MIN_BYTES_FIELD_NUMBER: _ClassVar[int]
min_bytes: _descriptor.FieldDescriptor
MAX_ITEMS_FIELD_NUMBER: _ClassVar[int]
max_items: _descriptor.FieldDescriptor
MAX_REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
max_request_bytes: _descriptor.FieldDescriptor
MAX_RESPONSE_BYTES_FIELD_NUMBER: _ClassVar[int]
max_response_bytes: _descriptor.FieldDescriptor
DEFAULT_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
default_timeout_ms: _descriptor.FieldDescriptor
PROTOCOL_FIELD_NUMBER: _ClassVar[int]
protocol: _descriptor.FieldDescriptor
VERSION_FIELD_NUMBER: _ClassVar[int]
version: _descriptor.FieldDescriptor
MIN_VERSION_FIELD_NUMBER: _ClassVar[int]
min_version: _descriptor.FieldDescriptor
CALLS_PER_PEER_FIELD_NUMBER: _ClassVar[int]
calls_per_peer: _descriptor.FieldDescriptor
CALLS_OF_ALL_FIELD_NUMBER: _ClassVar[int]
calls_of_all: _descriptor.FieldDescriptor

class CallLimits(_message.Message):
    __slots__ = ("max_concurrent", "calls_per_s", "burst")
    MAX_CONCURRENT_FIELD_NUMBER: _ClassVar[int]
    CALLS_PER_S_FIELD_NUMBER: _ClassVar[int]
    BURST_FIELD_NUMBER: _ClassVar[int]
    max_concurrent: int
    calls_per_s: float
    burst: int
    def __init__(self, max_concurrent: _Optional[int] = ..., calls_per_s: _Optional[float] = ..., burst: _Optional[int] = ...) -> None: ...
