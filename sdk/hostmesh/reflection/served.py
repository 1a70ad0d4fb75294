"""What a node says of the services that it serves: summaries, and the files that describe them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor

from hostmesh.errors import MalformedMessageError
from hostmesh.rpc.method import methods_of
from hostmesh.schema.descriptor_set import OPTIONS, WELL_KNOWN
from hostmesh.v1 import reflection_pb2
from hostmesh.wire.bounds import check_bounds

MAX_METHODS = 256
"""Most methods of a summary; the bound of ``ServiceSummary.methods``."""


def is_known(name: str) -> bool:
    """Tell whether everybody has a file: it is not sent, and not taken from a peer.

    >>> is_known("google/protobuf/empty.proto"), is_known("hostmesh/v1/job.proto")
    (True, False)
    """
    return name == OPTIONS or name.startswith(WELL_KNOWN)


def summary_of(service: ServiceDescriptor) -> reflection_pb2.ServiceSummary | None:
    """Return the summary of a service; None where its names are longer than one may be."""
    methods = methods_of(service)
    first = next(iter(methods.values()), None)
    if first is None:
        return None
    summary = reflection_pb2.ServiceSummary(
        full_name=service.full_name,
        protocol=first.protocol,
        versions=first.versions,
        methods=[
            reflection_pb2.MethodSummary(name=name, takes_stream=method.takes_stream, gives_stream=method.gives_stream)
            for name, method in [*methods.items()][:MAX_METHODS]
        ],
        other_methods=max(0, len(methods) - MAX_METHODS),
    )
    try:
        check_bounds(summary)
    except MalformedMessageError:
        return None
    return summary


def files_of(services: Iterable[ServiceDescriptor]) -> Iterator[FileDescriptor]:
    """Yield the files that services stand in and all that these import, each once and after its imports.

    Files that everybody has are left out; see :func:`is_known`.
    """
    seen: set[str] = set()
    for service in services:
        # A file on the stack is yielded when everything that it imports was.
        stack = [(service.file, iter(service.file.dependencies))]
        while stack:
            file, imports = stack[-1]
            if file.name in seen or is_known(file.name):
                stack.pop()
                continue
            wanted = next((each for each in imports if each.name not in seen and not is_known(each.name)), None)
            if wanted is not None:
                stack.append((wanted, iter(wanted.dependencies)))
                continue
            stack.pop()
            seen.add(file.name)
            yield file
