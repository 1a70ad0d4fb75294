from hostmesh.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AutonatDialStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUTONAT_DIAL_STATUS_UNUSED: _ClassVar[AutonatDialStatus]
    AUTONAT_DIAL_STATUS_DIAL_ERROR: _ClassVar[AutonatDialStatus]
    AUTONAT_DIAL_STATUS_DIAL_BACK_ERROR: _ClassVar[AutonatDialStatus]
    AUTONAT_DIAL_STATUS_OK: _ClassVar[AutonatDialStatus]

class AutonatResponseStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUTONAT_RESPONSE_STATUS_INTERNAL_ERROR: _ClassVar[AutonatResponseStatus]
    AUTONAT_RESPONSE_STATUS_REQUEST_REJECTED: _ClassVar[AutonatResponseStatus]
    AUTONAT_RESPONSE_STATUS_DIAL_REFUSED: _ClassVar[AutonatResponseStatus]
    AUTONAT_RESPONSE_STATUS_OK: _ClassVar[AutonatResponseStatus]

class AutonatDialBackStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUTONAT_DIAL_BACK_STATUS_OK: _ClassVar[AutonatDialBackStatus]
AUTONAT_DIAL_STATUS_UNUSED: AutonatDialStatus
AUTONAT_DIAL_STATUS_DIAL_ERROR: AutonatDialStatus
AUTONAT_DIAL_STATUS_DIAL_BACK_ERROR: AutonatDialStatus
AUTONAT_DIAL_STATUS_OK: AutonatDialStatus
AUTONAT_RESPONSE_STATUS_INTERNAL_ERROR: AutonatResponseStatus
AUTONAT_RESPONSE_STATUS_REQUEST_REJECTED: AutonatResponseStatus
AUTONAT_RESPONSE_STATUS_DIAL_REFUSED: AutonatResponseStatus
AUTONAT_RESPONSE_STATUS_OK: AutonatResponseStatus
AUTONAT_DIAL_BACK_STATUS_OK: AutonatDialBackStatus

class AutonatMessage(_message.Message):
    __slots__ = ("dial_request", "dial_response", "dial_data_request", "dial_data_response")
    DIAL_REQUEST_FIELD_NUMBER: _ClassVar[int]
    DIAL_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    DIAL_DATA_REQUEST_FIELD_NUMBER: _ClassVar[int]
    DIAL_DATA_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    dial_request: AutonatDialRequest
    dial_response: AutonatDialResponse
    dial_data_request: AutonatDialDataRequest
    dial_data_response: AutonatDialDataResponse
    def __init__(self, dial_request: _Optional[_Union[AutonatDialRequest, _Mapping]] = ..., dial_response: _Optional[_Union[AutonatDialResponse, _Mapping]] = ..., dial_data_request: _Optional[_Union[AutonatDialDataRequest, _Mapping]] = ..., dial_data_response: _Optional[_Union[AutonatDialDataResponse, _Mapping]] = ...) -> None: ...

class AutonatDialRequest(_message.Message):
    __slots__ = ("addrs", "nonce")
    ADDRS_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    addrs: _containers.RepeatedScalarFieldContainer[bytes]
    nonce: int
    def __init__(self, addrs: _Optional[_Iterable[bytes]] = ..., nonce: _Optional[int] = ...) -> None: ...

class AutonatDialDataRequest(_message.Message):
    __slots__ = ("addr_idx", "num_bytes")
    ADDR_IDX_FIELD_NUMBER: _ClassVar[int]
    NUM_BYTES_FIELD_NUMBER: _ClassVar[int]
    addr_idx: int
    num_bytes: int
    def __init__(self, addr_idx: _Optional[int] = ..., num_bytes: _Optional[int] = ...) -> None: ...

class AutonatDialResponse(_message.Message):
    __slots__ = ("status", "addr_idx", "dial_status")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ADDR_IDX_FIELD_NUMBER: _ClassVar[int]
    DIAL_STATUS_FIELD_NUMBER: _ClassVar[int]
    status: AutonatResponseStatus
    addr_idx: int
    dial_status: AutonatDialStatus
    def __init__(self, status: _Optional[_Union[AutonatResponseStatus, str]] = ..., addr_idx: _Optional[int] = ..., dial_status: _Optional[_Union[AutonatDialStatus, str]] = ...) -> None: ...

class AutonatDialDataResponse(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class AutonatDialBack(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    def __init__(self, nonce: _Optional[int] = ...) -> None: ...

class AutonatDialBackResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: AutonatDialBackStatus
    def __init__(self, status: _Optional[_Union[AutonatDialBackStatus, str]] = ...) -> None: ...
