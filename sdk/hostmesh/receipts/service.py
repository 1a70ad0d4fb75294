"""Tells peers the receipts of sessions that this user agreed to share, and nothing of any other."""

from __future__ import annotations

import logging

from hostmesh.errors import RpcError, StatusCode, StoreError
from hostmesh.receipts.shared_store import SharedStore
from hostmesh.receipts.sharing import MAX_LOOKED, MAX_SESSION_JOBS, page_of, place_of
from hostmesh.rpc.context import CallContext
from hostmesh.v1 import receipt_pb2 as pb
from hostmesh.v1.receipt_hostmesh import ReceiptServiceBase

logger = logging.getLogger("hostmesh.receipts")


class ReceiptServer(ReceiptServiceBase):
    """Handler of ``ReceiptService``.

    Args:
        shared: what may be told; consent is read anew for each page.
        network: the network's name; sessions of others are not told here.

    How often a peer may ask is stated in the .proto.
    """

    def __init__(self, shared: SharedStore, *, network: str) -> None:
        self._shared = shared
        self._network = network

    async def list_shared(self, request: pb.ListSharedRequest, context: CallContext) -> pb.ListSharedResponse:
        """Return a page of shared sessions. Whoever asks is told the same.

        Raises:
            RpcError: UNAVAILABLE, RECEIPTS_UNAVAILABLE: the file cannot be read now.

        Cost: at most 192 KiB; some 6 ms for a full page, or to find none among 20,000 sessions that are shared.
        """
        follow = self._shared.after(
            place_of(request.page_token),
            network=self._network,
            hosts=tuple(request.host_peer_ids),
            max_sessions=MAX_LOOKED,
            max_jobs=MAX_SESSION_JOBS,
        )
        try:
            return page_of(follow)
        except StoreError as error:
            logger.warning("shared receipts cannot be read: %s", error.message)
            raise RpcError(
                "the receipts cannot be read now", status=StatusCode.UNAVAILABLE, reason="RECEIPTS_UNAVAILABLE"
            ) from error
