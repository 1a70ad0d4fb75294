from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

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
PROTOCOL_FIELD_NUMBER: _ClassVar[int]
protocol: _descriptor.FieldDescriptor
VERSION_FIELD_NUMBER: _ClassVar[int]
version: _descriptor.FieldDescriptor
