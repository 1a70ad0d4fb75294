"""Who failed, a short while ago, a claim that a client can check. Pure.

It costs nobody a place among the results: a doubted host is probed after the others, so that hosts whose records
promise what they do not keep cannot use up the probes of every search.
"""

from __future__ import annotations

from collections import OrderedDict

from hostmesh.discovery.criteria import HostCriteria
from hostmesh.discovery.matching import failing
from hostmesh.discovery.offers import broken_price
from hostmesh.discovery.view import HostView
from hostmesh.net.peer_id import PeerId

DOUBT_S = 300.0
"""So long a host that failed a claim is asked after others. Chosen here: to ask it last costs an honest one little."""
MAX_DOUBTED = 4096


def broken_claim(view: HostView, criteria: HostCriteria) -> str:
    """Return which word of its record a host did not keep when it was probed; empty = it kept all that is checked.

    The price (an overquote, no quote that holds), the place, and that it takes jobs of the model in question.
    """
    if view.probe is None or not view.probe.is_answer or view.throttling is not None:
        return ""
    broken = broken_price(view) or view.refuted
    if broken:
        return broken
    failures = failing(view, criteria, questions=("state", "ready"), first_only=True)
    return failures[0][1] if failures else ""


class Doubts:
    """Hosts that failed a claim, 4,096 at most; whoever failed longest ago is forgotten first."""

    def __init__(self) -> None:
        self._failed_s: OrderedDict[PeerId, float] = OrderedDict()

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._failed_s)

    def note(self, peer_id: PeerId, *, has_failed: bool, now_s: float) -> None:
        """Note what the last probe of a host came to; one that kept its word is doubted no more."""
        self._failed_s.pop(peer_id, None)
        if has_failed:
            self._failed_s[peer_id] = now_s
            if len(self._failed_s) > MAX_DOUBTED:
                self._failed_s.popitem(last=False)

    def holds(self, peer_id: PeerId, *, now_s: float) -> bool:
        """Tell whether the host failed a claim in the last five minutes."""
        failed_s = self._failed_s.get(peer_id)
        return failed_s is not None and now_s - failed_s < DOUBT_S
