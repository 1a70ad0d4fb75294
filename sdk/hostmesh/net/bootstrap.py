"""The bootstrap loop: keep trying to reach a fixed list of peers, for ever, without anybody waiting for it.

Every address has its own task and outcome. A peer that was reached is watched; when its connection ends, the retries
begin anew. Between attempts the delay doubles up to a minute, with jitter, so that the clients of a bootstrap node that
comes back do not arrive as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from hostmesh.errors import DialError, NodeNotRunningError
from hostmesh.net.backoff import FIRST_RETRY_S, MAX_RETRY_S, failures_after_end, retry_delay_s, unit_of
from hostmesh.net.events import NodeEvent, RetryPlanned, RetryReason
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System

OUTCOMES = ("pending", "dns", "dial", "handshake", "timeout", "connected", "address", "limit")
"""Words that an outcome can be; ``pending`` before the first attempt has ended."""


class BootstrapNode(Protocol):
    """What the loop needs of the node."""

    async def connect_configured(self, peer_id: PeerId, address: str, *, timeout_s: float) -> None:
        """Dial this address; raises DialError, or NodeNotRunningError once the node stops."""
        ...

    async def wait_disconnected(self, peer_id: PeerId) -> None:
        """Return once there is no connection."""
        ...


class BootstrapLoop:
    """Reaches for the bootstrap peers until it is cancelled.

    Args:
        node: dials.
        peers: addresses and who is there.
        system: random bytes.
        first_retry_s: the longest pause after a first failure.
        max_retry_s: the longest pause.
        timeout_s: for each attempt.
        tell: is told every pause.
    """

    def __init__(
        self,
        node: BootstrapNode,
        peers: Sequence[tuple[str, PeerId]],
        *,
        system: System,
        first_retry_s: float = FIRST_RETRY_S,
        max_retry_s: float = MAX_RETRY_S,
        timeout_s: float = 30.0,
        tell: Callable[[NodeEvent], None] | None = None,
    ) -> None:
        self._node = node
        self._peers = tuple(peers)
        self._system = system
        self._first_retry_s = first_retry_s
        self._max_retry_s = max_retry_s
        self._timeout_s = timeout_s
        self._tell = tell
        self._waits: set[trio.CancelScope] = set()
        """Attempts and pauses that :meth:`hurry` ends."""
        self._outcomes = {f"{address}/p2p/{peer_id}": "pending" for address, peer_id in self._peers}

    @property
    def outcomes(self) -> dict[str, str]:
        """Per address with ``/p2p``, what happened last; see :data:`OUTCOMES`."""
        return dict(self._outcomes)

    async def run(self) -> None:
        """Try for ever; returns only when the list is empty."""
        async with trio.open_nursery() as nursery:
            for address, peer_id in self._peers:
                nursery.start_soon(self._hold, address, peer_id)

    def hurry(self) -> None:
        """Dial everybody who is not connected, now and as for the first time; attempts that run begin anew."""
        for scope in self._waits:
            scope.cancel()

    async def _hold(self, address: str, peer_id: PeerId) -> None:
        label = f"{address}/p2p/{peer_id}"
        failures = 0
        while True:
            with trio.CancelScope() as scope:
                self._waits.add(scope)
                try:
                    failures = await self._try(address, peer_id, failures)
                except NodeNotRunningError:
                    # It stops at this moment; the cancellation comes next.
                    return
                finally:
                    self._waits.discard(scope)
            if scope.cancelled_caught:
                failures = 0
            if self._outcomes[label] == "connected":
                began_s = trio.current_time()
                await self._node.wait_disconnected(peer_id)
                self._outcomes[label] = "dial"
                failures = failures_after_end(failures, trio.current_time() - began_s)

    async def _try(self, address: str, peer_id: PeerId, failures: int) -> int:
        """Pause for the failures before, dial once, and return the failures after it."""
        label = f"{address}/p2p/{peer_id}"
        if failures:
            delay_s = retry_delay_s(
                failures, unit_of(self._system.random_bytes(2)), first_s=self._first_retry_s, max_s=self._max_retry_s
            )
            self._tell_retry(address, peer_id, failures, delay_s)
            await trio.sleep(delay_s)
        try:
            await self._node.connect_configured(peer_id, address, timeout_s=self._timeout_s)
        except DialError as error:
            self._outcomes[label] = error.stage
            return failures + 1
        self._outcomes[label] = "connected"
        return failures

    def _tell_retry(self, address: str, peer_id: PeerId, failures: int, delay_s: float) -> None:
        if self._tell is not None:
            self._tell(
                RetryPlanned(
                    at_s=trio.current_time(),
                    peer_id=peer_id,
                    reason=RetryReason.BOOTSTRAP,
                    address=address,
                    stage=self._outcomes[f"{address}/p2p/{peer_id}"],
                    failures=failures,
                    delay_s=delay_s,
                )
            )
