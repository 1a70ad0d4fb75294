"""The calls of the discovery protocol."""

from __future__ import annotations

from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.shapes import RpcCaller
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.v1.discovery_hostmesh import DiscoveryServiceClient


async def fetch_record(caller: RpcCaller, peer_id: PeerId, *, timeout_s: float) -> pb.GetRecordResponse:
    """Ask a peer for its own record, and for revocations that it knows of. Nothing in the answer is verified.

    Raises:
        RpcError: NOT_FOUND: the peer is no host.
        ProtocolNotSupportedError: likewise.
        HostmeshError: the path or the peer failed; see ``RpcClient.unary``.
    """
    return await DiscoveryServiceClient(caller, peer_id).get_record(pb.GetRecordRequest(), timeout_s=timeout_s)
