"""Tells peers what this node serves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from google.protobuf.descriptor import ServiceDescriptor

from hostmesh.errors import RpcError, StatusCode
from hostmesh.reflection.served import files_of, summary_of
from hostmesh.rpc.context import CallContext
from hostmesh.rpc.shapes import SendResponse
from hostmesh.v1 import reflection_pb2
from hostmesh.v1.reflection_hostmesh import ReflectionServiceBase

MAX_FILE_BYTES = 1_048_512
"""Most bytes of one file's descriptor; the bound of ``DescriptorFile.file_descriptor_proto``."""


class ReflectionServer(ReflectionServiceBase):
    """Answers from the services that are served when it is asked.

    Args:
        served: returns them.
    """

    def __init__(self, served: Callable[[], Sequence[ServiceDescriptor]]) -> None:
        self._served = served

    async def list_services(
        self,
        request: reflection_pb2.ListServicesRequest,
        context: CallContext,
        send: SendResponse[reflection_pb2.ServiceSummary],
    ) -> None:
        """Send the summary of each service, but for those whose names are too long for one."""
        for service in self._served():
            summary = summary_of(service)
            if summary is not None:
                await send(summary)

    async def get_files(
        self,
        request: reflection_pb2.GetFilesRequest,
        context: CallContext,
        send: SendResponse[reflection_pb2.DescriptorFile],
    ) -> None:
        """Send the files of the services that are named, or of all.

        Raises:
            RpcError: NOT_FOUND ``UNKNOWN_SERVICE``: one is not served. FAILED_PRECONDITION ``FILE_TOO_LARGE``: a file
                has more than :data:`MAX_FILE_BYTES`.
        """
        served = {service.full_name: service for service in self._served()}
        unknown = [name for name in request.services if name not in served]
        if unknown:
            raise RpcError(
                f"{unknown[0]} is not served here",
                status=StatusCode.NOT_FOUND,
                reason="UNKNOWN_SERVICE",
                details={"service": unknown[0]},
            )
        for file in files_of(served[name] for name in request.services or served):
            data = file.serialized_pb
            if len(data) > MAX_FILE_BYTES:
                raise RpcError(
                    f"the descriptor of {file.name} has {len(data)} bytes",
                    status=StatusCode.FAILED_PRECONDITION,
                    reason="FILE_TOO_LARGE",
                    details={"size_bytes": str(len(data)), "limit_bytes": str(MAX_FILE_BYTES)},
                )
            await send(reflection_pb2.DescriptorFile(file_descriptor_proto=data))
