"""Peers that somebody wants to stay connected to: who is dialled when. Pure.

::

    want -> DUE --take_due--> DIALLING --note_failed--> WAITING --time--> DUE
                                 |                          ^
                                 `--note_connected--> CONNECTED --note_disconnected--'

Whatever the state, :meth:`WantedPeers.hurry` makes everybody who is not connected due at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hostmesh.net.backoff import FIRST_RETRY_S, failures_after_end, retry_delay_s
from hostmesh.net.peer_id import PeerId

MAX_WANTED = 64
"""Peers wanted at once by one node. Chosen here: the hosts of a client's sessions, and the best of those it knows."""
MAX_DIALS = 8
"""Wanted peers dialled at once."""
MAX_RETRY_S = 30.0
"""The longest pause. Half of a bootstrap node's: nobody but its clients wants a host back."""


@dataclass(slots=True)
class _Wanted:
    wishes: int
    due_s: float
    """When to dial; infinity while the peer is connected or being dialled."""
    failures: int = 0
    is_dialling: bool = False
    connected_s: float | None = None
    """Since when there is a connection."""


class WantedPeers:
    """Who is wanted, and when each is to be dialled. Times are seconds of one monotonic clock.

    Args:
        max_peers: peers at once, >= 1.
    """

    def __init__(self, max_peers: int = MAX_WANTED) -> None:
        self._max_peers = max_peers
        self._peers: dict[PeerId, _Wanted] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, peer_id: object) -> bool:
        return peer_id in self._peers

    @property
    def is_full(self) -> bool:
        """Whether no further peer can be wanted."""
        return len(self._peers) >= self._max_peers

    def want(self, peer_id: PeerId, *, is_connected: bool, now: float) -> None:
        """Want a peer. Several may want the same one; it stays wanted until each has called :meth:`unwant`.

        Raises:
            ValueError: there is no room; see :attr:`is_full`.
        """
        wanted = self._peers.get(peer_id)
        if wanted is not None:
            wanted.wishes += 1
        elif self.is_full:
            raise ValueError(f"{len(self._peers)} peers are wanted")
        else:
            self._peers[peer_id] = (
                _Wanted(wishes=1, due_s=math.inf, connected_s=now) if is_connected else _Wanted(wishes=1, due_s=now)
            )

    def unwant(self, peer_id: PeerId) -> bool:
        """Take back one wish, and say whether it was the last."""
        wanted = self._peers[peer_id]
        wanted.wishes -= 1
        if wanted.wishes:
            return False
        del self._peers[peer_id]
        return True

    def next_due_s(self) -> float:
        """Return when :meth:`take_due` next has somebody; infinity: not by time alone."""
        return min((each.due_s for each in self._peers.values()), default=math.inf)

    def take_due(self, now: float, limit: int) -> tuple[PeerId, ...]:
        """Return who is to be dialled now, at most ``limit``, the longest due first; each counts as being dialled."""
        due = sorted((each.due_s, peer_id) for peer_id, each in self._peers.items() if each.due_s <= now)[:limit]
        for _, peer_id in due:
            wanted = self._peers[peer_id]
            wanted.due_s = math.inf
            wanted.is_dialling = True
        return tuple(peer_id for _, peer_id in due)

    def note_connected(self, peer_id: PeerId, now: float) -> None:
        """Note a first connection, whoever made it. A peer that is not wanted is of no interest."""
        wanted = self._peers.get(peer_id)
        if wanted is not None:
            wanted.due_s = math.inf
            wanted.is_dialling = False
            wanted.connected_s = now

    def note_disconnected(self, peer_id: PeerId, now: float, random_unit: float) -> tuple[int, float] | None:
        """Note the end of the last connection; return the failures in a row and the pause, or None: it changes nothing.

        Args:
            peer_id: whose; it need not be wanted.
            now: the time.
            random_unit: 0 to 1, the jitter.
        """
        wanted = self._peers.get(peer_id)
        if wanted is None or wanted.connected_s is None:
            return None
        wanted.failures = failures_after_end(wanted.failures, now - wanted.connected_s)
        wanted.connected_s = None
        return self._wait(wanted, now, random_unit)

    def note_failed(self, peer_id: PeerId, now: float, random_unit: float) -> tuple[int, float] | None:
        """Note a dial that failed; returns as :meth:`note_disconnected`. One that came too late changes nothing."""
        wanted = self._peers.get(peer_id)
        if wanted is None or not wanted.is_dialling:
            return None
        wanted.failures += 1
        wanted.is_dialling = False
        return self._wait(wanted, now, random_unit)

    def hurry(self, now: float) -> None:
        """Have everybody who is not connected dialled now, as for the first time: what failed may work."""
        for wanted in self._peers.values():
            if wanted.connected_s is None:
                wanted.failures = 0
                wanted.is_dialling = False
                wanted.due_s = now

    def _wait(self, wanted: _Wanted, now: float, random_unit: float) -> tuple[int, float]:
        delay_s = retry_delay_s(wanted.failures, random_unit, first_s=FIRST_RETRY_S, max_s=MAX_RETRY_S)
        wanted.due_s = now + delay_s
        return wanted.failures, delay_s
