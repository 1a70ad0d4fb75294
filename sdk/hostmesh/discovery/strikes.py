"""Hosts that did not answer several times in a row: left alone for a while, though their records still hold. Pure.

A record says that a host was there up to two and a half minutes ago. Whoever was asked twice since then and did not
answer is most likely gone, and asking costs each search the time of a probe. So it is left out for 15 s, then asked
once more; each further miss doubles that, up to a minute. A record from the host itself, or any answer, ends it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from hostmesh.net.peer_id import PeerId

STRIKES = 2
"""Probes in a row without an answer. Chosen here: one may be lost with a connection that had died unnoticed."""
FIRST_PAUSE_S = 15.0
MAX_PAUSE_S = 60.0
"""Well below the life of a record: a host that is back is asked again before it would have been forgotten."""
MAX_HOSTS = 4096
"""Hosts that are remembered; the one that missed longest ago goes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """A row of probes without an answer."""

    misses: int
    last_s: float
    """When the last ended, on the caller's monotonic clock."""
    last_unix_s: float
    why: str
    """Of the last one."""

    @property
    def ends_s(self) -> float:
        """When the host may be asked again."""
        if self.misses < STRIKES:
            return self.last_s
        return self.last_s + min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self.misses - STRIKES, 16))


class Strikes:
    """Rows of misses by host.

    Args:
        max_hosts: most hosts remembered, >= 1.
    """

    def __init__(self, *, max_hosts: int = MAX_HOSTS) -> None:
        if max_hosts < 1:
            raise ValueError("at least one host is remembered")
        self._max_hosts = max_hosts
        self._rows: OrderedDict[PeerId, Strike] = OrderedDict()

    def __len__(self) -> int:
        """Return how many hosts are remembered."""
        return len(self._rows)

    def missed(self, peer_id: PeerId, *, now_s: float, unix_s: float, why: str) -> None:
        """Note a probe that got no answer."""
        row = self._rows.pop(peer_id, None)
        misses = 1 if row is None else row.misses + 1
        self._rows[peer_id] = Strike(misses=misses, last_s=now_s, last_unix_s=unix_s, why=why)
        while len(self._rows) > self._max_hosts:
            self._rows.popitem(last=False)

    def answered(self, peer_id: PeerId) -> None:
        """Note an answer."""
        self._rows.pop(peer_id, None)

    def standing_out(self, peer_id: PeerId, *, now_s: float, heard_unix_s: float) -> Strike | None:
        """Return why a host is not asked now; None = it may be.

        Args:
            peer_id: whose.
            now_s: on the same clock as the misses.
            heard_unix_s: when the host itself was last heard of.
        """
        row = self._rows.get(peer_id)
        if row is None or row.misses < STRIKES or row.last_unix_s < heard_unix_s or now_s >= row.ends_s:
            return None
        return row
