"""Answers pings and tells the host's load.

Register it with ``rpc_server.add_service(status_server)``, and call :meth:`StatusServer.changed`
whenever something that the snapshot shows has changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import trio

from hostmesh.errors import RpcError, StatusCode
from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.context import CallContext
from hostmesh.rpc.limits import CallLimits, ServiceLimits
from hostmesh.rpc.shapes import SendResponse
from hostmesh.status.snapshot import HostStatus, status_to_proto
from hostmesh.system import System
from hostmesh.v1 import status_pb2
from hostmesh.v1.status_hostmesh import StatusServiceBase

MIN_WATCH_INTERVAL_S = 0.1
"""The server's own least time between two snapshots to one watcher. Chosen here: a person sees no finer."""
MAX_WATCHERS = 256
MAX_WATCHERS_PER_PEER = 4
STATUS_LIMITS = ServiceLimits(
    group="status",
    per_peer=CallLimits(max_concurrent=32, calls_per_s=100.0, burst=1000),
    per_service=CallLimits(max_concurrent=2048, calls_per_s=2000.0, burst=4000),
)
"""Counted apart from hostmesh's other services: who floods a host with pings spends nothing of what it may run jobs
with, and nobody else's. A probe is five calls, four of them of this service, and every search sends its own."""


class StatusServer(StatusServiceBase):
    """Handler of the status service.

    Args:
        source: gives the host's status now; cheap, as it is called for every snapshot.
        system: its monotonic clock spaces the snapshots.
    """

    def __init__(self, source: Callable[[], HostStatus], system: System) -> None:
        self._source = source
        self._system = system
        self._watchers: Counter[PeerId] = Counter()
        self._changed = trio.Event()

    @property
    def watchers(self) -> int:
        """Watchers in progress."""
        return self._watchers.total()

    def changed(self) -> None:
        """Tell the watchers that a new snapshot may differ. Cheap; call it as often as something changes."""
        if self._watchers:
            self._changed.set()
            self._changed = trio.Event()

    async def ping(self, request: status_pb2.PingRequest, context: CallContext) -> status_pb2.PingResponse:
        """Give the nonce back."""
        return status_pb2.PingResponse(nonce=request.nonce)

    async def get_snapshot(
        self, request: status_pb2.GetSnapshotRequest, context: CallContext
    ) -> status_pb2.StatusSnapshot:
        """Return the status now."""
        return status_to_proto(self._source())

    async def watch_status(
        self,
        request: status_pb2.WatchStatusRequest,
        context: CallContext,
        send: SendResponse[status_pb2.StatusSnapshot],
    ) -> None:
        """Send a snapshot at once, then one after each change, spaced; what changed in between shows in the next one.

        Raises:
            RpcError: RESOURCE_EXHAUSTED ``BUSY``: too many watchers, of this peer or of all.
        """
        peer_id = context.peer_id
        if self._watchers[peer_id] >= MAX_WATCHERS_PER_PEER or self.watchers >= MAX_WATCHERS:
            raise RpcError("too many watchers", status=StatusCode.RESOURCE_EXHAUSTED, reason="BUSY")
        interval_s = max(request.min_interval_ms / 1000, MIN_WATCH_INTERVAL_S)
        self._watchers[peer_id] += 1
        try:
            await self._watch(interval_s, send)
        finally:
            self._watchers[peer_id] -= 1
            if not self._watchers[peer_id]:
                del self._watchers[peer_id]

    async def _watch(self, interval_s: float, send: SendResponse[status_pb2.StatusSnapshot]) -> None:
        sent: HostStatus | None = None
        while True:
            # Taken before the snapshot, so that a change during the send is not missed.
            changed = self._changed
            status = self._source()
            if sent is None or not status.same_load(sent):
                sent_at_s = self._system.monotonic_s()
                await send(status_to_proto(status))
                sent = status
                await trio.sleep(max(sent_at_s + interval_s - self._system.monotonic_s(), 0.0))
            await changed.wait()
