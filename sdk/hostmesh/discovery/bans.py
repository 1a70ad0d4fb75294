"""Keys that signed two different records of one sequence: banned for good. Pure.

A key costs nothing, and neither does a proof against a key of one's own. So the room is shared by how well the key was
known here when it was banned: a ban pushes out only bans of keys that were known less, or as little and longer ago.
Keys that nobody here knew have a quarter of the room, and one peer may tell of few of them in an hour: a flood of
proofs against such keys pushes out its own like.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

from hostmesh.net.peer_id import PeerId

MAX_BANS = 1024
MAX_STRANGERS = MAX_BANS // 4
MAX_STRANGERS_PER_INTRODUCER = 8
"""Bans of keys that nobody here knew, of which one peer may tell in :data:`INTRODUCER_WINDOW_S`."""
INTRODUCER_WINDOW_S = 3600.0


class Familiarity(IntEnum):
    """How well a key was known here when it was banned."""

    STRANGER = 0
    """Others spoke of it, at most."""
    SEEN = 1
    """It gave us a record itself."""
    USED = 2
    """It answered us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ban:
    """One banned key."""

    peer_id: PeerId
    banned_at_unix_s: float
    familiarity: Familiarity
    introducer: PeerId | None = None
    """The peer that told us of it; None = we noticed it ourselves."""
    proof: bytes | None = None
    """For :func:`hostmesh.discovery.equivocation.verify_proof`; None = the other record was no longer kept whole."""


class BanList:
    """A bounded list of bans.

    Args:
        max_bans: most of them, >= 1; bans of strangers take a quarter of it, one at least.
    """

    def __init__(self, max_bans: int = MAX_BANS) -> None:
        if max_bans < 1:
            raise ValueError("a list of bans holds at least 1")
        self._max_bans = max_bans
        self._max_strangers = max(1, max_bans // 4)
        self._bans: dict[PeerId, Ban] = {}

    def __len__(self) -> int:
        return len(self._bans)

    def __iter__(self) -> Iterator[Ban]:
        """Go through the bans, the one put in first first."""
        return iter(self._bans.values())

    def __contains__(self, peer_id: object) -> bool:
        return peer_id in self._bans

    @property
    def peer_ids(self) -> tuple[PeerId, ...]:
        """The banned keys, the one banned longest ago first."""
        return tuple(self._bans)

    def get(self, peer_id: PeerId) -> Ban | None:
        """Return the ban of a key, or None."""
        return self._bans.get(peer_id)

    def may_tell(self, introducer: PeerId, now: float) -> bool:
        """Tell whether a peer may bring another ban of a stranger's key at ``now``."""
        told = sum(
            ban.introducer == introducer
            and ban.familiarity is Familiarity.STRANGER
            and 0 <= now - ban.banned_at_unix_s < INTRODUCER_WINDOW_S
            for ban in self._bans.values()
        )
        return told < MAX_STRANGERS_PER_INTRODUCER

    def add(self, ban: Ban) -> bool:
        """Put a ban in; tell whether that changed anything.

        A key that is banned already only gains the proof, if it had none: that makes it no better known.

        Cost: O(bans).
        """
        known = self._bans.get(ban.peer_id)
        if known is not None:
            if known.proof is not None or ban.proof is None:
                return False
            self._bans[ban.peer_id] = replace(known, proof=ban.proof)
            return True
        is_stranger = ban.familiarity is Familiarity.STRANGER
        if is_stranger and ban.introducer is not None and not self.may_tell(ban.introducer, ban.banned_at_unix_s):
            return False
        self._bans[ban.peer_id] = ban
        strangers = [each for each in self._bans.values() if each.familiarity is Familiarity.STRANGER]
        if is_stranger and len(strangers) > self._max_strangers:
            self._drop_one(strangers)
        elif len(self._bans) > self._max_bans:
            self._drop_one(self._bans.values())
        return ban.peer_id in self._bans

    def _drop_one(self, bans: Iterable[Ban]) -> None:
        # The first of equals: the order is that in which they were put in.
        least = min(bans, key=lambda ban: (ban.familiarity, ban.banned_at_unix_s))
        del self._bans[least.peer_id]
