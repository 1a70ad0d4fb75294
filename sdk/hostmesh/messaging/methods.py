"""The service and the method that the test kit asks for by these names."""

from __future__ import annotations

from hostmesh.v1.message_hostmesh import MESSAGE_SERVICE as MESSAGE_SERVICE
from hostmesh.v1.message_hostmesh import MessageServiceMethods

SEND = MessageServiceMethods.SEND
