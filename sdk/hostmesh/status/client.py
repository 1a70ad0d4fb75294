"""Asks peers how they are."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from hostmesh.errors import DeadlineExceededError, HostmeshError, MalformedMessageError
from hostmesh.net.beside import working_beside
from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.client import ResponseStream, RpcClient
from hostmesh.status.snapshot import HostStatus, status_from_proto
from hostmesh.system import System
from hostmesh.v1 import status_pb2
from hostmesh.v1.status_hostmesh import StatusServiceClient, StatusServiceMethods

_NONCE_BYTES = 8


class StatusClient:
    """Pings peers and reads their status.

    Args:
        rpc: makes the calls.
        system: gives the random bytes of a ping.
    """

    def __init__(self, rpc: RpcClient, system: System) -> None:
        self._rpc = rpc
        self._system = system

    async def ping(self, peer_id: PeerId, timeout_s: float = 5.0) -> float:
        """Return the seconds from a request to its answer, on the path that calls take.

        Dialling and opening the stream are not in them; the peer's own time for the answer is.

        Raises:
            As :meth:`RpcClient.unary`.
        """
        nonce = self._system.random_bytes(_NONCE_BYTES)
        response, rtt_s = await self._rpc.unary_timed(
            peer_id, StatusServiceMethods.PING, status_pb2.PingRequest(nonce=nonce), timeout_s=timeout_s
        )
        if response.nonce != nonce:
            raise MalformedMessageError("a ping was answered with another nonce", field="nonce")
        return rtt_s

    async def get_snapshot(self, peer_id: PeerId, timeout_s: float = 5.0) -> HostStatus:
        """Return what the peer says of its load now.

        Raises:
            As :meth:`RpcClient.unary`.
        """
        request = status_pb2.GetSnapshotRequest()
        return status_from_proto(
            await StatusServiceClient(self._rpc, peer_id).get_snapshot(request, timeout_s=timeout_s)
        )

    @asynccontextmanager
    async def watch_status(
        self, peer_id: PeerId, min_interval_s: float = 1.0, *, timeout_s: float = 10.0
    ) -> AsyncIterator[StatusWatch]:
        """Watch a peer's status: ``async with client.watch_status(peer) as watch: async for status in watch: ...``.

        The first status comes at once, then one whenever something changed. The latest wins: a slow reader gets the
        newest status and never the ones before it. Leaving the block ends the watch.

        Args:
            peer_id: whom to watch.
            min_interval_s: least time between two statuses; the host's own minimum is 0.1 s.
            timeout_s: seconds until the first status must be there.

        Raises:
            DeadlineExceededError: the first status did not come in time.
            As :meth:`RpcClient.server_stream`, from entering or iterating.
        """
        interval_ms = min(max(math.ceil(min_interval_s * 1000), 0), 2**32 - 1)
        request = status_pb2.WatchStatusRequest(min_interval_ms=interval_ms)
        async with AsyncExitStack() as stack:
            with trio.move_on_after(timeout_s) as scope:
                call = StatusServiceClient(self._rpc, peer_id).watch_status(request, timeout_s=None)
                watch = StatusWatch(await stack.enter_async_context(call))
                await watch.read()
            if scope.cancelled_caught:
                raise DeadlineExceededError(f"no status of {peer_id} within {timeout_s} s")
            await stack.enter_async_context(working_beside(watch.follow))
            yield watch


class StatusWatch:
    """The newest status of a peer, as an async iterator; it ends when the host ends the call in order."""

    def __init__(self, responses: ResponseStream[status_pb2.StatusSnapshot]) -> None:
        self._responses = responses
        self._latest: HostStatus | None = None
        self._ended = False
        self._error: HostmeshError | None = None
        self._news = trio.Event()

    def __aiter__(self) -> AsyncIterator[HostStatus]:
        return self

    async def __anext__(self) -> HostStatus:
        while True:
            if self._latest is not None:
                status, self._latest = self._latest, None
                return status
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._news = trio.Event()
            await self._news.wait()

    async def read(self) -> None:
        """Read one status. Only the client calls this."""
        async for response in self._responses:
            self._latest = status_from_proto(response)
            return
        self._ended = True

    async def follow(self) -> None:
        """Read all the time, so that old statuses never wait in the connection. Only the client calls this."""
        try:
            while not self._ended:
                await self.read()
                self._news.set()
        except HostmeshError as error:
            self._error = error
            self._news.set()
