"""The service and the method that the test kit asks for by these names."""

from __future__ import annotations

from hostmesh.v1.status_hostmesh import STATUS_SERVICE as STATUS_SERVICE
from hostmesh.v1.status_hostmesh import StatusServiceMethods

PING = StatusServiceMethods.PING
