"""Services whose .proto states options: those of ``hostmesh.testing.make_service``, and what a test adds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from hostmesh.v1 import options_pb2


def stating(
    service: ServiceDescriptor,
    *,
    per_peer: Mapping[str, float] | None = None,
    of_all: Mapping[str, float] | None = None,
    timeouts_ms: Mapping[str, int] | None = None,
) -> ServiceDescriptor:
    """Return the service as it is when its .proto states these limits of calls, and these deadlines of its methods."""
    file = FileDescriptorProto()
    service.file.CopyToProto(file)
    options: Any = file.service[0].options.Extensions
    for option, limits in ((options_pb2.calls_per_peer, per_peer), (options_pb2.calls_of_all, of_all)):
        if limits is not None:
            options[option].CopyFrom(options_pb2.CallLimits(**limits))  # type: ignore[arg-type]
    for method in file.service[0].method:
        if timeouts_ms and method.name in timeouts_ms:
            of_method: Any = method.options.Extensions
            of_method[options_pb2.default_timeout_ms] = timeouts_ms[method.name]
    # The pool is the process's: another service is another file there.
    digest = hashlib.sha256(file.SerializeToString(deterministic=True)).hexdigest()[:16]
    file.name, file.package = f"stating/{digest}.proto", f"stating.p{digest}"
    pool = descriptor_pool.Default()
    try:
        pool.FindFileByName(file.name)
    except KeyError:
        pool.AddSerializedFile(file.SerializeToString())
    return pool.FindFileByName(file.name).services_by_name[service.name]
