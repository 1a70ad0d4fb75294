"""From protoc's request to the plugin's answer. Pure."""

from __future__ import annotations

from google.protobuf.compiler import plugin_pb2
from google.protobuf.descriptor_pb2 import Edition

# Before a request is parsed: what it says of options is only kept of those that are known then.
from hostmesh.protoc.check import check
from hostmesh.protoc.schema import Schema
from hostmesh.protoc.write import write_module

FEATURES = (
    plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    | plugin_pb2.CodeGeneratorResponse.FEATURE_SUPPORTS_EDITIONS
)


def answer(request: bytes) -> bytes:
    """Return the serialised answer to a serialised request.

    Raises:
        DecodeError: it is no request.
    """
    return generate(plugin_pb2.CodeGeneratorRequest.FromString(request)).SerializeToString(deterministic=True)


def generate(request: plugin_pb2.CodeGeneratorRequest) -> plugin_pb2.CodeGeneratorResponse:
    """Return a module for each file that has services, or everything that is wrong with them."""
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=FEATURES,
        # Services and bounds are the same in all of them.
        minimum_edition=Edition.EDITION_PROTO2,
        maximum_edition=Edition.EDITION_2023,
    )
    if request.parameter:
        response.error = f"protoc-gen-hostmesh takes no options: remove {request.parameter!r} from --hostmesh_opt"
        return response
    schema = Schema(request.proto_file)
    files = [file for file in map(schema.service_file, request.file_to_generate) if file.services]
    problems = check(schema, files)
    if problems:
        response.error = "\n".join(map(str, problems))
        return response
    for file in files:
        response.file.add(name=file.output, content=write_module(file))
    return response
