"""Compares our clock with those of connected peers, and remembers what came of it.

Peers that we configured decide. What strangers say is logged and shown and stops nothing: three keys of one liar are
strangers enough for any median.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

import trio

from hostmesh.discovery.acquaintance import acquaintances, one_of_each_network, peers_of
from hostmesh.discovery.clock import ClockReading, ClockSample, clock_skew_s
from hostmesh.discovery.probe import StatusProbe
from hostmesh.discovery.record import MAX_SKEW_S
from hostmesh.errors import ClockSkewError, HostmeshError
from hostmesh.net.connection_view import ConnectionView
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System

_log = logging.getLogger("hostmesh.discovery")
_REMEDY = "set the clock from a time server (timedatectl set-ntp true), then try again"


class ClockNode(Protocol):
    """What the comparison needs of the node."""

    def connected_peers(self) -> tuple[PeerId, ...]:
        """Return the peers with an open connection, the oldest first."""
        ...

    def connections(self) -> tuple[ConnectionView, ...]:
        """Return the connections as they are now."""
        ...

    def bootstrap_outcomes(self) -> Mapping[str, str]:
        """Return what happened last, by bootstrap address with ``/p2p``."""
        ...


class ClockWatch:
    """Measures our clock against peers: those that we configured, then those that we dialled, then who dialled us.

    Of the latter two one of each network (/24, /48) is asked; loopback is exempt.

    Args:
        node: knows the peers.
        status: asks them for their time.
        system: our clock.
        max_peers: most peers that one measurement asks, >= 1.
        timeout_s: for all of them together.
    """

    def __init__(
        self, node: ClockNode, status: StatusProbe, *, system: System, max_peers: int = 5, timeout_s: float = 2.0
    ) -> None:
        self._node = node
        self._status = status
        self._system = system
        self._max_peers = max_peers
        self._timeout_s = timeout_s
        self._last: ClockReading | None = None
        self._is_doubted = False

    @property
    def last(self) -> ClockReading | None:
        """The newest measurement in which anybody answered; None = none yet. Its time is that of our own clock."""
        return self._last

    async def measure(self) -> ClockReading:
        """Ask peers for the time.

        Cancellation: safe. Cost: one short call to each of at most ``max_peers``, side by side.
        """
        configured = peers_of(self._node.bootstrap_outcomes())
        known = acquaintances(self._node.connected_peers(), self._node.connections(), configured)
        asked, _same_network = one_of_each_network(known, self._max_peers)
        samples: list[ClockSample] = []
        with trio.move_on_after(self._timeout_s):
            async with trio.open_nursery() as nursery:
                for each in asked:
                    nursery.start_soon(self._ask, each.peer_id, each.is_configured, samples)
        reading = ClockReading(
            skew_s=clock_skew_s(samples), samples=tuple(samples), measured_at_unix_s=self._system.unix_s()
        )
        if samples:
            self._last = reading
        return reading

    async def require_right(self) -> None:
        """Ask peers for the time, and see that those of our configuration agree with us.

        When none of them answers and strangers disagree, that is logged once, until it is over.

        Raises:
            ClockSkewError: our clock is more than 30 s off by the median of the configured peers that answered.

        Cancellation and cost: as :meth:`measure`.
        """
        reading = await self.measure()
        skew_s = reading.skew_s
        if skew_s is None:
            return
        if abs(skew_s) <= MAX_SKEW_S:
            self._is_doubted = False
            return
        off = f"this machine's clock is {abs(skew_s):.0f} s {'behind' if skew_s > 0 else 'ahead'} of"
        if reading.is_trusted:
            raise ClockSkewError(f"{off} the network's", skew_s=skew_s, remedy=_REMEDY)
        if not self._is_doubted:
            self._is_doubted = True
            _log.warning("%s those of %d strangers; if they are right, nobody takes our record", off, reading.voters)

    async def _ask(self, peer_id: PeerId, is_trusted: bool, samples: list[ClockSample]) -> None:
        before = self._system.unix_s()
        try:
            snapshot = await self._status.get_snapshot(peer_id, timeout_s=self._timeout_s)
        except HostmeshError:
            return  # a peer that does not tell the time says nothing about ours
        if snapshot.time_unix_ms:
            after = self._system.unix_s()
            skew_s = snapshot.time_unix_ms / 1000 - (before + after) / 2
            samples.append(
                ClockSample(skew_s=skew_s, is_trusted=is_trusted, peer_id=peer_id, error_s=max(0.0, after - before) / 2)
            )
