"""What a node answers to peers that speak the discovery protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hostmesh.discovery.bans import INTRODUCER_WINDOW_S
from hostmesh.discovery.pages import RecordQuery, page_of
from hostmesh.discovery.records import ProofTaken, RecordBook
from hostmesh.discovery.revoking import RevocationTaken
from hostmesh.discovery.table import Merge
from hostmesh.errors import RemoteProtocolError, RpcError, StatusCode
from hostmesh.net.peer_id import PeerId
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.v1.discovery_hostmesh import DiscoveryServiceBase

MAX_TOLD_WITH_RECORD = 4
MAX_TOLD_WITH_PAGE = 16
"""Revocations of others that an answer carries, as the .proto has it."""


class CallFrom(Protocol):
    """Who calls; :class:`hostmesh.rpc.context.CallContext` is one."""

    @property
    def peer_id(self) -> PeerId:
        """The caller, as the connection proved it."""
        ...


class DiscoveryServer(DiscoveryServiceBase):
    """Handler of ``DiscoveryService``: serves our own record, takes in what others push.

    Args:
        records: where pushed records go, once verified.
        own_record: our current record or tombstone; None = this node is no host.
        secret: random bytes of this process; orders the pages of :meth:`query`.

    How often a peer may call is the RPC server's matter.
    """

    def __init__(
        self, records: RecordBook, own_record: Callable[[], pb.SignedHostRecord | None], *, secret: bytes
    ) -> None:
        self._records = records
        self._own_record = own_record
        self._secret = secret

    async def get_record(self, request: pb.GetRecordRequest, context: CallFrom) -> pb.GetRecordResponse:
        """Return our own record.

        Raises:
            RpcError: NOT_FOUND: this node is no host.
        """
        record = self._own_record()
        if record is None:
            raise RpcError("this node is no host", status=StatusCode.NOT_FOUND, reason="NOT_A_HOST")
        return pb.GetRecordResponse(
            record=record, revocations=self._told(MAX_TOLD_WITH_RECORD, context.peer_id, record.envelope)
        )

    async def announce(self, request: pb.AnnounceRequest, context: CallFrom) -> pb.AnnounceResponse:
        """Take in what the caller hands over: a record, its own or another's; a proof against a key; a revocation.

        Returns:
            Empty, or the revocation for which the record was not taken.

        Raises:
            RpcError: INVALID_ARGUMENT with the reason and field: what came does not hold.
                RESOURCE_EXHAUSTED: this caller has handed over too many hosts, or proofs against keys unknown here, or
                there is no room for the revocation.
        """
        if sum(request.HasField(name) for name in ("record", "proof", "revocation")) != 1:
            raise RpcError(
                "an announcement has a record, a proof or a revocation",
                status=StatusCode.INVALID_ARGUMENT,
                reason="RECORD_INVALID",
            )
        if request.HasField("proof"):
            self._take_proof(request.proof, context.peer_id)
            return pb.AnnounceResponse()
        if request.HasField("revocation"):
            self._take_revocation(request.revocation, context.peer_id)
            return pb.AnnounceResponse()
        try:
            info, merge = self._records.accept(request.record, introducer=context.peer_id)
        except RemoteProtocolError as error:
            raise _invalid(error) from error
        if merge is Merge.REFUSED:
            raise RpcError(
                "no room for another host from this peer",
                status=StatusCode.RESOURCE_EXHAUSTED,
                reason="RATE_LIMITED",
                retry_after_ms=60_000,
            )
        if merge in (Merge.ADDED, Merge.REPLACED):
            self._records.name(info.peer_id, "announce")
        if merge is Merge.REVOKED:
            return pb.AnnounceResponse(revocation=self._records.revoking.evidence(info.operator, info.peer_id))
        return pb.AnnounceResponse()

    def _take_proof(self, proof: pb.EquivocationProof, introducer: PeerId) -> None:
        try:
            taken = self._records.accept_proof(proof, introducer=introducer)
        except RemoteProtocolError as error:
            raise _invalid(error) from error
        if taken is ProofTaken.REFUSED:
            raise RpcError(
                "too many proofs from this peer against keys that are not known here",
                status=StatusCode.RESOURCE_EXHAUSTED,
                reason="RATE_LIMITED",
                retry_after_ms=int(INTRODUCER_WINDOW_S * 1000),
            )

    def _take_revocation(self, revocation: pb.BindingRevocation, introducer: PeerId) -> None:
        try:
            taken = self._records.accept_revocation(revocation, introducer=introducer)
        except RemoteProtocolError as error:
            raise _invalid(error) from error
        if taken is RevocationTaken.REFUSED:
            raise RpcError(
                "no room for another revocation of a key that is not known here",
                status=StatusCode.RESOURCE_EXHAUSTED,
                reason="RATE_LIMITED",
                retry_after_ms=60_000,
            )

    def _told(self, most: int, asker: PeerId, page: bytes) -> list[pb.BindingRevocation]:
        """Return what this asker is told along with this page: others are told others."""
        return self._records.revoking.to_tell(most, lot=self._secret + asker.encode() + page)

    async def query(self, request: pb.QueryRequest, context: CallFrom) -> pb.QueryResponse:
        """Return a page of records of hosts that this node has spoken with, and revocations of such as it had.

        Cost: O(hosts known); at most 16 records, 192 KiB, and 16 revocations, 3 KiB.
        """
        query = RecordQuery(
            model_ids=tuple(request.model_ids),
            country_code=request.country_code,
            limit=request.limit,
            cursor=request.cursor,
        )
        page = page_of(self._records.live(), query, asker=context.peer_id, secret=self._secret)
        records = [pb.SignedHostRecord.FromString(host.info.signed) for host in page.hosts]
        revocations = self._told(MAX_TOLD_WITH_PAGE, context.peer_id, request.cursor)
        return pb.QueryResponse(records=records, cursor=page.cursor, revocations=revocations)


def _invalid(error: RemoteProtocolError) -> RpcError:
    field = getattr(error, "field", "")
    return RpcError(
        error.message,
        status=StatusCode.INVALID_ARGUMENT,
        reason=error.code,
        details={"field": field} if field else {},
    )
