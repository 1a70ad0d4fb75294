"""What calls and discovery see of peers as neighbours, taken to the book of neighbours.

Calls, of all protocols: an answer is good, a broken protocol is bad. One that is late is bad for answers that need no
work, those of discovery and status, once they were waited for as long as no honest path takes; how long a job or an
application's handler may take is not for a neighbour's score to say. Records: a peer that hands over an envelope that
nobody signed has forged it, or did not look.

What went wrong at one time is one event, however many calls it was; so is what went well in one second.
"""

from __future__ import annotations

from collections import OrderedDict

from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.peer_score import PeerEvent
from hostmesh.reputation.peer_score_book import PeerScoreBook
from hostmesh.rpc.conduct import Conduct
from hostmesh.rpc.method import AnyMethod
from hostmesh.system import System

PATIENCE_S = 3.0
"""An answer that needs no work is late after that; a caller that was less patient learns nothing of its peer. Chosen
here: three times the round trip at which a neighbour's latency counts for nothing."""
EVENT_S = 1.0
"""Of one kind at most one event in so many seconds."""
MAX_TIMES = 8192
"""Last events remembered, of a peer and a kind each; the oldest goes first."""
_NEED_NO_WORK = frozenset({"discovery", "status"})


class NeighbourWatch:
    """Takes conduct to the book; a :class:`hostmesh.rpc.conduct.ConductWatch` itself.

    Args:
        scores: the book.
        system: its monotonic clock tells events apart.
    """

    def __init__(self, scores: PeerScoreBook, system: System) -> None:
        self._scores = scores
        self._system = system
        self._last_s: OrderedDict[tuple[PeerId, PeerEvent], float] = OrderedDict()

    def note_call(self, peer_id: PeerId, method: AnyMethod, conduct: Conduct, waited_s: float) -> None:
        """Take in how a call ended. Cost: microseconds."""
        match conduct:
            case Conduct.ANSWERED:
                self._note(peer_id, PeerEvent.SERVED, waited_s)
            case Conduct.BROKEN:
                self._note(peer_id, PeerEvent.CORRUPT, waited_s)
            case Conduct.LATE if waited_s >= PATIENCE_S and method.protocol in _NEED_NO_WORK:
                self._note(peer_id, PeerEvent.TIMED_OUT, waited_s)

    def note_forgery(self, peer_id: PeerId) -> None:
        """Take in that a peer handed over what the one whom it names never signed."""
        self._note(peer_id, PeerEvent.FORGED, 0.0)

    def _note(self, peer_id: PeerId, event: PeerEvent, waited_s: float) -> None:
        now, key = self._system.monotonic_s(), (peer_id, event)
        last_s = self._last_s.get(key)
        # Calls that were under way together when something went wrong tell of one thing.
        if last_s is not None and (now - waited_s < last_s or now - last_s < EVENT_S):
            return
        self._last_s[key] = now
        self._last_s.move_to_end(key)
        if len(self._last_s) > MAX_TIMES:
            self._last_s.popitem(last=False)
        self._scores.record(peer_id, event)
