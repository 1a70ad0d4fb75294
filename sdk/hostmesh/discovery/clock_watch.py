"""Compares our clock with those of connected peers, and remembers what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import trio

from hostmesh.discovery.clock import ClockReading, ClockSample, clock_skew_s
from hostmesh.discovery.probe import StatusProbe
from hostmesh.errors import HostmeshError, InvalidAddressError
from hostmesh.net.address import split_peer_address
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System


class ClockNode(Protocol):
    """What the comparison needs of the node."""

    def connected_peers(self) -> tuple[PeerId, ...]:
        """Return the peers with an open connection."""
        ...

    def bootstrap_outcomes(self) -> Mapping[str, str]:
        """Return what happened last, by bootstrap address with ``/p2p``."""
        ...


class ClockWatch:
    """Measures our clock against peers, those that we configured first.

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

    @property
    def last(self) -> ClockReading | None:
        """The newest measurement in which anybody answered; None = none yet. Its time is that of our own clock."""
        return self._last

    async def measure(self) -> ClockReading:
        """Ask peers for the time.

        Cancellation: safe. Cost: one short call to each of at most ``max_peers``, side by side.
        """
        trusted = set(_peers_of(self._node.bootstrap_outcomes()))
        peers = sorted(self._node.connected_peers(), key=lambda peer_id: peer_id not in trusted)
        samples: list[ClockSample] = []
        with trio.move_on_after(self._timeout_s):
            async with trio.open_nursery() as nursery:
                for peer_id in peers[: self._max_peers]:
                    nursery.start_soon(self._ask, peer_id, peer_id in trusted, samples)
        reading = ClockReading(
            skew_s=clock_skew_s(samples), samples=tuple(samples), measured_at_unix_s=self._system.unix_s()
        )
        if samples:
            self._last = reading
        return reading

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


def _peers_of(addresses: Mapping[str, str]) -> list[PeerId]:
    found: list[PeerId] = []
    for address in addresses:
        try:
            peer_id = split_peer_address(address)[1]
        except InvalidAddressError:
            continue
        if peer_id is not None:
            found.append(peer_id)
    return found
