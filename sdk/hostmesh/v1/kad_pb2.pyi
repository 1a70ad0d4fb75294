from hostmesh.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class KadType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KAD_TYPE_PUT_VALUE: _ClassVar[KadType]
    KAD_TYPE_GET_VALUE: _ClassVar[KadType]
    KAD_TYPE_ADD_PROVIDER: _ClassVar[KadType]
    KAD_TYPE_GET_PROVIDERS: _ClassVar[KadType]
    KAD_TYPE_FIND_NODE: _ClassVar[KadType]
    KAD_TYPE_PING: _ClassVar[KadType]
KAD_TYPE_PUT_VALUE: KadType
KAD_TYPE_GET_VALUE: KadType
KAD_TYPE_ADD_PROVIDER: KadType
KAD_TYPE_GET_PROVIDERS: KadType
KAD_TYPE_FIND_NODE: KadType
KAD_TYPE_PING: KadType

class KadPeer(_message.Message):
    __slots__ = ("id", "addrs")
    ID_FIELD_NUMBER: _ClassVar[int]
    ADDRS_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    addrs: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, id: _Optional[bytes] = ..., addrs: _Optional[_Iterable[bytes]] = ...) -> None: ...

class KadMessage(_message.Message):
    __slots__ = ("type", "key", "closer_peers", "provider_peers")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    CLOSER_PEERS_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_PEERS_FIELD_NUMBER: _ClassVar[int]
    type: KadType
    key: bytes
    closer_peers: _containers.RepeatedCompositeFieldContainer[KadPeer]
    provider_peers: _containers.RepeatedCompositeFieldContainer[KadPeer]
    def __init__(self, type: _Optional[_Union[KadType, str]] = ..., key: _Optional[bytes] = ..., closer_peers: _Optional[_Iterable[_Union[KadPeer, _Mapping]]] = ..., provider_peers: _Optional[_Iterable[_Union[KadPeer, _Mapping]]] = ...) -> None: ...
