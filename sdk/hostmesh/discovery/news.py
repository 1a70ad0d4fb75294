"""What waits to be handed on to peers: proofs of equivocation and revocations."""

from __future__ import annotations

from typing import TypeVar

import trio

from hostmesh.discovery.bans import Ban
from hostmesh.discovery.revocations import RevokedEpoch
from hostmesh.discovery.room import Familiarity
from hostmesh.net.peer_id import PeerId
from hostmesh.v1 import discovery_pb2 as pb

MAX_HANDED_ON = 16
"""Of each kind wait at most; that of the key known least goes first."""

News = Ban | RevokedEpoch
NewsT = TypeVar("NewsT", Ban, RevokedEpoch)


class NewsQueue:
    """A bounded queue of both; what is of the key that was known best comes first.

    Only what is of keys that were known here is handed on: what is of others costs whoever makes it nothing, and would
    cost every peer of every peer.
    """

    def __init__(self) -> None:
        self._bans: list[Ban] = []
        self._revocations: list[RevokedEpoch] = []
        self._came = trio.Event()

    def put(self, news: News) -> None:
        """Have a proof or a revocation handed on, if there is one and its key was known."""
        if isinstance(news, Ban):
            if news.proof is not None:
                self._put(self._bans, news)
        elif news.signed is not None:
            self._put(self._revocations, news)

    async def next(self) -> News:
        """Wait for something to hand on; of equals a revocation comes first. Cancellation: safe."""
        while not self._bans and not self._revocations:
            self._came = trio.Event()
            await self._came.wait()
        waiting: list[News] = [*self._revocations, *self._bans]
        best = max(waiting, key=lambda news: news.familiarity)
        if isinstance(best, Ban):
            self._bans.remove(best)
        else:
            self._revocations.remove(best)
        return best

    def _put(self, waiting: list[NewsT], news: NewsT) -> None:
        if news.familiarity is Familiarity.STRANGER:
            return
        waiting.append(news)
        if len(waiting) > MAX_HANDED_ON:
            waiting.remove(min(waiting, key=lambda each: each.familiarity))
        self._came.set()


def announcement_of(news: News) -> tuple[pb.AnnounceRequest, set[PeerId | None]]:
    """Return what to hand on, and who need not have it."""
    if isinstance(news, Ban):
        proof = pb.EquivocationProof.FromString(news.proof or b"")
        return pb.AnnounceRequest(proof=proof), {news.peer_id, news.introducer}
    # The host itself gets it as well: an honest one stops.
    return pb.AnnounceRequest(revocation=pb.BindingRevocation.FromString(news.signed or b"")), set()
