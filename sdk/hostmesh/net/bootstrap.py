"""The bootstrap loop: keep trying to reach a fixed list of peers, for ever, without anybody waiting for it.

Every address has its own task and outcome. A peer that was reached is watched; when its connection ends, the retries
begin anew. Between attempts the delay doubles up to a minute, with jitter, so that the clients of a bootstrap node that
comes back do not arrive as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import trio

from hostmesh.errors import DialError, NodeNotRunningError
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System

FIRST_RETRY_S = 1.0
MAX_RETRY_S = 60.0
OUTCOMES = ("pending", "dns", "dial", "handshake", "timeout", "connected", "address", "limit")
"""Words that an outcome can be; ``pending`` before the first attempt has ended."""


def retry_delay_s(
    failures: int, random_unit: float, *, first_s: float = FIRST_RETRY_S, max_s: float = MAX_RETRY_S
) -> float:
    """Return the pause after a number of failures in a row. Pure.

    Args:
        failures: >= 1.
        random_unit: 0 to 1, the jitter.
        first_s: the longest pause after the first failure.
        max_s: the longest pause ever.

    Returns:
        Between half and all of ``first_s * 2 ** (failures - 1)``, at most ``max_s``.

    >>> retry_delay_s(1, 0.0), retry_delay_s(3, 1.0), retry_delay_s(1000, 1.0)
    (0.5, 4.0, 60.0)
    """
    longest = min(max_s, first_s * 2.0 ** min(failures - 1, 60))
    return longest * (0.5 + 0.5 * random_unit)


class BootstrapNode(Protocol):
    """What the loop needs of the node."""

    async def connect_configured(self, peer_id: PeerId, address: str, *, timeout_s: float) -> None:
        """Dial this address; raises DialError, or NodeNotRunningError once the node stops."""
        ...

    async def wait_disconnected(self, peer_id: PeerId) -> None:
        """Return once there is no connection."""
        ...


class BootstrapLoop:
    """Reaches for the bootstrap peers until it is cancelled."""

    def __init__(
        self,
        node: BootstrapNode,
        peers: Sequence[tuple[str, PeerId]],
        *,
        system: System,
        first_retry_s: float = FIRST_RETRY_S,
        max_retry_s: float = MAX_RETRY_S,
        timeout_s: float = 30.0,
    ) -> None:
        self._node = node
        self._peers = tuple(peers)
        self._system = system
        self._first_retry_s = first_retry_s
        self._max_retry_s = max_retry_s
        self._timeout_s = timeout_s
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

    async def _hold(self, address: str, peer_id: PeerId) -> None:
        label = f"{address}/p2p/{peer_id}"
        failures = 0
        while True:
            try:
                await self._node.connect_configured(peer_id, address, timeout_s=self._timeout_s)
            except DialError as error:
                self._outcomes[label] = error.stage
                failures += 1
            except NodeNotRunningError:
                # It stops at this moment; the cancellation comes next.
                return
            else:
                self._outcomes[label] = "connected"
                failures = 0
                await self._node.wait_disconnected(peer_id)
                self._outcomes[label] = "dial"
                failures = 1
            random_unit = int.from_bytes(self._system.random_bytes(2), "big") / 65535
            await trio.sleep(retry_delay_s(failures, random_unit, first_s=self._first_retry_s, max_s=self._max_retry_s))
