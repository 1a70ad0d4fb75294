"""Asks peers what they serve."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from hostmesh.net.peer_id import PeerId
from hostmesh.reflection.limits import MAX_FILES, MAX_FILES_BYTES, MAX_SERVICES
from hostmesh.reflection.peer_schema import PeerSchema, malformed, read_schema_of
from hostmesh.rpc.shapes import RpcCaller
from hostmesh.v1 import reflection_pb2
from hostmesh.v1.reflection_hostmesh import ReflectionServiceClient

MAX_NAMES = 64
"""Most services that one request names; the bound of ``GetFilesRequest.services``."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_FULL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedService:
    """A service, as a peer lists it."""

    full_name: str
    protocol: str
    versions: tuple[str, ...]
    """Every one that it speaks, the highest first."""
    methods: tuple[str, ...]
    other_methods: int
    """How many there are besides these."""


class ReflectionClient:
    """Asks one peer for its services. Nothing that it answers is trusted; see :mod:`hostmesh.reflection.peer_schema`.

    Args:
        rpc: makes the calls: ``sdk.get_rpc_client()``.
        peer_id: whom to ask.
    """

    def __init__(self, rpc: RpcCaller, peer_id: PeerId) -> None:
        self._calls = ReflectionServiceClient(rpc, peer_id)

    async def list_services(self, *, timeout_s: float) -> tuple[ServedService, ...]:
        """Return the services that the peer serves now, by their names.

        Raises:
            MalformedMessageError: names that are none, one twice, or more than :data:`MAX_SERVICES`.
            As :meth:`hostmesh.RpcClient.server_stream`.

        Cost: one call; a response for each service.
        """
        found: dict[str, ServedService] = {}
        async with self._calls.list_services(reflection_pb2.ListServicesRequest(), timeout_s=timeout_s) as summaries:
            async for summary in summaries:
                service = _served(summary)
                if found.setdefault(service.full_name, service) is not service:
                    raise malformed(f"{service.full_name} is listed twice", field="full_name")
                if len(found) > MAX_SERVICES:
                    raise malformed(f"more than {MAX_SERVICES} services", field="full_name")
        return tuple(found[name] for name in sorted(found))

    async def describe(self, names: Collection[str], *, timeout_s: float) -> PeerSchema:
        """Return services with all that is needed to call them, in a descriptor pool of their own.

        Args:
            names: full names, as :meth:`list_services` returns them.
            timeout_s: for everything.

        Raises:
            MalformedMessageError: what the peer sent describes no services, or others.
            RpcError: NOT_FOUND ``UNKNOWN_SERVICE``: the peer serves one no longer.
            As :meth:`hostmesh.RpcClient.server_stream`.

        Cost: one call; a response for each file, 4 MiB at most, and time linear in what these define.
        """
        # More than a request can name: all, of which those that are wanted are taken.
        request = reflection_pb2.GetFilesRequest(services=names if len(names) <= MAX_NAMES else ())
        sent: list[bytes] = []
        size_bytes = 0
        async with self._calls.get_files(request, timeout_s=timeout_s) as files:
            async for file in files:
                sent.append(file.file_descriptor_proto)
                size_bytes += len(file.file_descriptor_proto)
                if size_bytes > MAX_FILES_BYTES or len(sent) > MAX_FILES:
                    break  # leaving cancels the call; reading refuses them
        return read_schema_of(sent, names)


def _served(summary: reflection_pb2.ServiceSummary) -> ServedService:
    if not _FULL_NAME.fullmatch(summary.full_name):
        raise malformed(f"{summary.full_name!r} names no service", field="full_name")
    for method in summary.methods:
        if not _NAME.fullmatch(method.name):
            raise malformed(f"{method.name!r} names no method", field="methods")
    return ServedService(
        full_name=summary.full_name,
        protocol=summary.protocol,
        versions=tuple(summary.versions),
        methods=tuple(each.name for each in summary.methods),
        other_methods=summary.other_methods,
    )
