"""This node's book of neighbours: what their connections were like, and who is blacklisted for it.

Only what a peer did on a connection counts, where it had proven its key. A dial that fails does not: whoever names
wrong addresses for a peer could blacklist it so.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from pathlib import Path

from hostmesh.errors import StoreError
from hostmesh.net.events import CloseCause, ConnectionClosed, NodeEvent
from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.peer_score import POOR, PeerEvent, PeerScore
from hostmesh.reputation.peer_score_store import PeerScoreStore
from hostmesh.system import System

logger = logging.getLogger("hostmesh.reputation")

MAX_PEERS = 4096
"""Peers remembered; the one of the oldest event goes first, blacklisted ones last of some."""
LONG_S = 60.0
"""A connection that lasted so long served, however it ended: its peer was silent once, not always."""
_LOOKED_AT = 16
"""Of the oldest peers, how many are looked at for one that is not blacklisted."""

_MEANING = {
    CloseCause.CLOSED: PeerEvent.SERVED,
    CloseCause.SILENT: PeerEvent.TIMED_OUT,
    CloseCause.STUCK: PeerEvent.TIMED_OUT,
    CloseCause.VIOLATION: PeerEvent.CORRUPT,
}


class PeerScoreBook:
    """Scores the peers of a node; :class:`hostmesh.net.peer_scores.PeerScores` is what the node knows of it.

    A blacklisting is on disk at once, the rest when the book is closed: what a killed process loses of it has mostly
    decayed by the next start.

    Args:
        path: the database file, made when there is something to keep; None = nothing is kept.
        system: the clock.
        max_peers: most peers remembered, >= 1.

    Raises:
        StoreError: there is a file, and it cannot be used.
    """

    def __init__(self, path: Path | None = None, *, system: System | None = None, max_peers: int = MAX_PEERS) -> None:
        self._path = path
        self._system = system or System()
        self._max_peers = max_peers
        self._scores: OrderedDict[PeerId, PeerScore] = OrderedDict()
        self._store: PeerScoreStore | None = None
        if path is not None and path.exists():
            self._scores.update(self._opened(path).load())

    def score_of(self, peer_id: PeerId) -> float:
        """Return how good a neighbour a peer is, 0 to 1; 0.5 where nothing is known."""
        score = self._scores.get(peer_id)
        return POOR if score is None else score.score(self._system.unix_s())

    def may_dial(self, peer_id: PeerId) -> bool:
        """Tell whether a peer may be dialled or taken in: it is not blacklisted here, or its time is over."""
        score = self._scores.get(peer_id)
        return score is None or score.may_dial(self._system.unix_s())

    def note(self, event: NodeEvent) -> None:
        """Take in how a connection ended, and its round trip. Other events say nothing. Neither waits nor raises."""
        if not isinstance(event, ConnectionClosed):
            return
        if event.rtt_s is not None:
            self.measured(event.peer_id, event.rtt_s)
        if event.lasted_s >= LONG_S:
            self.record(event.peer_id, PeerEvent.SERVED)
        meaning = _MEANING.get(event.cause)
        if meaning is not None and not (meaning.is_good and event.lasted_s >= LONG_S):
            self.record(event.peer_id, meaning)

    def measured(self, peer_id: PeerId, rtt_s: float) -> None:
        """Take in a round trip. Neither waits nor raises.

        Args:
            peer_id: whose.
            rtt_s: seconds, by a ping on a connection.
        """
        self._put(peer_id, self._known(peer_id).measured(rtt_s))

    def record(self, peer_id: PeerId, event: PeerEvent) -> float:
        """Count what a peer did; return the score that follows. Neither waits nor raises.

        Cost: microseconds; one commit to the local disk where it blacklists the peer, or ends that.
        """
        before, now = self._known(peer_id), self._system.unix_s()
        after = before.after(event, now)
        self._put(peer_id, after)
        if after.suspension != before.suspension:
            if after.suspension is not None:
                shown = {"peer_id": peer_id, "seconds": round(after.suspension.duration_s)}
                logger.warning("blacklisted as a neighbour: %s", after.suspension.reason, extra=shown)
            self._keep([peer_id])
        return after.score(now)

    def close(self) -> None:
        """Keep the scores and close the file. Idempotent."""
        if self._scores:
            self._keep(list(self._scores))
        if self._store is not None:
            self._store.close()
        self._scores, self._path = OrderedDict(), None

    def __len__(self) -> int:
        return len(self._scores)

    def _known(self, peer_id: PeerId) -> PeerScore:
        return self._scores.get(peer_id) or PeerScore(at_unix_s=self._system.unix_s())

    def _put(self, peer_id: PeerId, score: PeerScore) -> None:
        self._scores.pop(peer_id, None)
        self._scores[peer_id] = score
        if len(self._scores) > self._max_peers:
            oldest = [peer for peer, _ in zip(self._scores, range(_LOOKED_AT), strict=False)]
            del self._scores[next((peer for peer in oldest if self._scores[peer].suspension is None), oldest[0])]

    def _keep(self, peers: list[PeerId]) -> None:
        if self._path is None:
            return
        try:
            self._opened(self._path).put([(peer_id, self._scores[peer_id]) for peer_id in peers])
        except StoreError as error:
            # What the node does with its connections matters more than its memory of them.
            logger.warning("neighbours not recorded: %s", error.message)

    def _opened(self, path: Path) -> PeerScoreStore:
        if self._store is None:
            self._store = PeerScoreStore(path, max_peers=self._max_peers)
        return self._store
