"""The comments that descriptors carry, which those of Python's generated code do not. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.descriptor_pb2 import FileDescriptorProto, ServiceDescriptorProto

MAX_COMMENT_CHARS = 2000
_SERVICES = FileDescriptorProto.SERVICE_FIELD_NUMBER
_METHODS = ServiceDescriptorProto.METHOD_FIELD_NUMBER


def comments_of(files: Iterable[FileDescriptorProto]) -> dict[str, str]:
    """Return the comments before services and methods, by full name: ``acme.v1.EchoService.Say``.

    Args:
        files: of a peer; what they say of places that are none is left out.
    """
    found: dict[str, str] = {}
    for file in files:
        prefix = f"{file.package}." if file.package else ""
        for location in file.source_code_info.location:
            path, text = tuple(location.path[:5]), location.leading_comments
            if not text or isinstance(text, bytes):  # what is no UTF-8
                continue
            match path:
                case (kind, index) if kind == _SERVICES and 0 <= index < len(file.service):
                    name = file.service[index].name
                case (kind, index, inner, number) if (
                    (kind, inner) == (_SERVICES, _METHODS)
                    and 0 <= index < len(file.service)
                    and 0 <= number < len(file.service[index].method)
                ):
                    name = f"{file.service[index].name}.{file.service[index].method[number].name}"
                case _:
                    continue
            found[f"{prefix}{name}"] = "\n".join(line.strip() for line in text[:MAX_COMMENT_CHARS].strip().splitlines())
    return found
