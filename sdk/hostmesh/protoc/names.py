"""The Python names of what stands in .proto files. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hostmesh.rpc.method import handler_name


def method_constant(name: str) -> str:
    """Return the name of a method's constant.

    >>> method_constant("GetRecord"), method_constant("Import")
    ('GET_RECORD', 'IMPORT')
    """
    return handler_name(name).rstrip("_").upper()


def service_constant(name: str) -> str:
    """Return the name of a service's constant, which is not that of a method of the same name.

    >>> service_constant("StatusService"), service_constant("Echo")
    ('STATUS_SERVICE', 'ECHO_SERVICE')
    """
    return f"{method_constant(name).removesuffix('_SERVICE')}_SERVICE"


def module_name(file: str, suffix: str) -> str:
    """Return the module that is generated for a file, as protoc names its own.

    >>> module_name("chat/v1/chat-room.proto", "_pb2")
    'chat.v1.chat_room_pb2'
    """
    return file.removesuffix(".proto").replace("-", "_").replace("/", ".") + suffix


def module_aliases(modules: Sequence[str]) -> dict[str, str]:
    """Return under which name each module is imported: the last part of its own, or all of it where two end alike.

    All of it is written as protoc does, so that no two are the same.

    >>> module_aliases(["chat.v1.chat_pb2", "google.protobuf.empty_pb2"])
    {'chat.v1.chat_pb2': 'chat_pb2', 'google.protobuf.empty_pb2': 'empty_pb2'}
    """
    last = {module: module.rpartition(".")[2] for module in modules}
    count = Counter(last.values())
    return {
        module: name if count[name] == 1 else module.replace("_", "__").replace(".", "_dot_")
        for module, name in last.items()
    }
