"""The part of the job service that a test of calls does not ask for."""

from __future__ import annotations

from hostmesh.rpc.server import CallContext
from hostmesh.v1 import job_pb2


class UnsignedJobs:
    """Serves the methods about receipts, which nobody may call: a server takes only a handler that has every method.

    A double of the job service is a subclass with ``quote`` and ``run``.
    """

    async def countersign(
        self, request: job_pb2.CountersignRequest, context: CallContext
    ) -> job_pb2.CountersignResponse:
        raise AssertionError("no job of this service has a receipt to countersign")

    async def get_receipt(self, request: job_pb2.GetReceiptRequest, context: CallContext) -> job_pb2.GetReceiptResponse:
        raise AssertionError("no job of this service has a receipt to fetch")
