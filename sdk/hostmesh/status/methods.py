"""The methods of the status service, for client and server."""

from __future__ import annotations

from hostmesh.rpc.method import method
from hostmesh.v1 import status_pb2

STATUS_SERVICE = status_pb2.DESCRIPTOR.services_by_name["StatusService"]

PING = method(STATUS_SERVICE, "Ping", status_pb2.PingRequest, status_pb2.PingResponse)
GET_SNAPSHOT = method(STATUS_SERVICE, "GetSnapshot", status_pb2.GetSnapshotRequest, status_pb2.StatusSnapshot)
WATCH_STATUS = method(STATUS_SERVICE, "WatchStatus", status_pb2.WatchStatusRequest, status_pb2.StatusSnapshot)
