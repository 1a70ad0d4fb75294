"""The calls of the discovery protocol, for client and server alike."""

from __future__ import annotations

from typing import Protocol

from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.method import Method, RequestT, ResponseT, method
from hostmesh.v1 import discovery_pb2 as pb

DISCOVERY_SERVICE = pb.DESCRIPTOR.services_by_name["DiscoveryService"]
GET_RECORD = method(DISCOVERY_SERVICE, "GetRecord", pb.GetRecordRequest, pb.GetRecordResponse)
ANNOUNCE = method(DISCOVERY_SERVICE, "Announce", pb.AnnounceRequest, pb.AnnounceResponse)


class Caller(Protocol):
    """Makes unary calls; :class:`hostmesh.rpc.client.RpcClient` is one."""

    async def unary(
        self, peer_id: PeerId, method: Method[RequestT, ResponseT], request: RequestT, *, timeout_s: float
    ) -> ResponseT:
        """Call a method of a peer.

        Raises:
            HostmeshError: it failed; see ``RpcClient.unary``.
        """
        ...


async def fetch_record(caller: Caller, peer_id: PeerId, *, timeout_s: float) -> pb.SignedHostRecord:
    """Ask a peer for its own record. Nothing in the answer is verified.

    Raises:
        RpcError: NOT_FOUND: the peer is no host.
        ProtocolNotSupportedError: likewise.
        HostmeshError: the path or the peer failed; see ``RpcClient.unary``.
    """
    response = await caller.unary(peer_id, GET_RECORD, pb.GetRecordRequest(), timeout_s=timeout_s)
    return response.record
