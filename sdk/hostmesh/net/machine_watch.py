"""Notices that the machine slept, or that its addresses changed. Pure.

Nothing of the system's tells both on every platform, so both are read off what can be looked at every few seconds. On
Linux and macOS the monotonic clock stands still while the machine sleeps and the wall clock does not; on Windows both
go on, and the look comes late. A process that was stopped (SIGSTOP) or kept from running looks late everywhere.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from hostmesh.net.events import NetworkChanged

LATE_S = 5.0
"""A look that is so much late, or a wall clock so far ahead of the other, is a sleep. Chosen here: a shorter one ends
no connection. A wall clock that somebody sets ahead looks the same; it costs a ping to each peer."""
MAX_ADDRESSES = 1024
"""Addresses that are looked at; a machine with more is watched by these."""


class MachineWatch:
    """Compares each look with the one before.

    Args:
        every_s: the time between two looks.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._before: tuple[float, float, frozenset[str]] | None = None

    def observe(
        self, *, at_s: float, monotonic_s: float, unix_s: float, addresses: Iterable[str]
    ) -> NetworkChanged | None:
        """Take in a look, and return what changed since the one before; None: nothing, or it is the first.

        Args:
            at_s: what the event says about its time.
            monotonic_s: never goes back.
            unix_s: the wall clock; may step.
            addresses: the machine's IP addresses, without zones, in any order.

        Cost: linear in the addresses.
        """
        now = frozenset(sorted(addresses)[:MAX_ADDRESSES])
        before, self._before = self._before, (monotonic_s, unix_s, now)
        if before is None:
            return None
        monotonic_then, unix_then, then = before
        passed_s = monotonic_s - monotonic_then
        slept_s = max(unix_s - unix_then - passed_s, passed_s - self._every_s)
        if slept_s < LATE_S:
            slept_s = 0.0
        if not slept_s and now == then:
            return None
        added, removed = now - then, then - now
        return NetworkChanged(
            at_s=at_s,
            added=added,
            removed=removed,
            slept_s=slept_s,
            changes_reach=bool(slept_s) or any(map(_reaches_far, added | removed)),
        )


def _reaches_far(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return not ip.is_link_local and not ip.is_loopback
