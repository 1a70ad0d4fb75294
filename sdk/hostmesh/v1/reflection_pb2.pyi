from hostmesh.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListServicesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MethodSummary(_message.Message):
    __slots__ = ("name", "takes_stream", "gives_stream")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TAKES_STREAM_FIELD_NUMBER: _ClassVar[int]
    GIVES_STREAM_FIELD_NUMBER: _ClassVar[int]
    name: str
    takes_stream: bool
    gives_stream: bool
    def __init__(self, name: _Optional[str] = ..., takes_stream: _Optional[bool] = ..., gives_stream: _Optional[bool] = ...) -> None: ...

class ServiceSummary(_message.Message):
    __slots__ = ("full_name", "protocol", "versions", "methods", "other_methods")
    FULL_NAME_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    OTHER_METHODS_FIELD_NUMBER: _ClassVar[int]
    full_name: str
    protocol: str
    versions: _containers.RepeatedScalarFieldContainer[str]
    methods: _containers.RepeatedCompositeFieldContainer[MethodSummary]
    other_methods: int
    def __init__(self, full_name: _Optional[str] = ..., protocol: _Optional[str] = ..., versions: _Optional[_Iterable[str]] = ..., methods: _Optional[_Iterable[_Union[MethodSummary, _Mapping]]] = ..., other_methods: _Optional[int] = ...) -> None: ...

class GetFilesRequest(_message.Message):
    __slots__ = ("services",)
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    services: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, services: _Optional[_Iterable[str]] = ...) -> None: ...

class DescriptorFile(_message.Message):
    __slots__ = ("file_descriptor_proto",)
    FILE_DESCRIPTOR_PROTO_FIELD_NUMBER: _ClassVar[int]
    file_descriptor_proto: bytes
    def __init__(self, file_descriptor_proto: _Optional[bytes] = ...) -> None: ...
