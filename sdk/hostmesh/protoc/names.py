"""The Python names of what stands in .proto files. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hostmesh.rpc.method import handler_name


def constant_name(name: str) -> str:
    """Return the name of a constant for a service or method.

    >>> constant_name("StatusService")
    'STATUS_SERVICE'
    """
    return handler_name(name).rstrip("_").upper()


def module_name(file: str, suffix: str) -> str:
    """Return the module that is generated for a file, as protoc names its own.

    >>> module_name("chat/v1/chat-room.proto", "_pb2")
    'chat.v1.chat_room_pb2'
    """
    return file.removesuffix(".proto").replace("-", "_").replace("/", ".") + suffix


def module_aliases(modules: Sequence[str]) -> dict[str, str]:
    """Return under which name each module is imported: the last part of its own, or all of it where two end alike.

    >>> module_aliases(["chat.v1.chat_pb2", "google.protobuf.empty_pb2"])
    {'chat.v1.chat_pb2': 'chat_pb2', 'google.protobuf.empty_pb2': 'empty_pb2'}
    """
    last = {module: module.rpartition(".")[2] for module in modules}
    count = Counter(last.values())
    return {module: name if count[name] == 1 else module.replace(".", "_") for module, name in last.items()}
