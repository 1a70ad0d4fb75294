"""The method of the message service, for client and server."""

from __future__ import annotations

from hostmesh.rpc.method import method
from hostmesh.v1 import message_pb2

MESSAGE_SERVICE = message_pb2.DESCRIPTOR.services_by_name["MessageService"]

SEND = method(MESSAGE_SERVICE, "Send", message_pb2.SendRequest, message_pb2.SendResponse)
