"""Keys that signed two different records of one sequence: banned for good. Pure.

A key costs nothing, and neither does a proof against a key of one's own. So the room is shared by how well the key was
known here when it was banned: a ban pushes out only bans of keys that were known less, or as little and longer ago.
Keys that nobody here knew have a quarter of the room, and one peer may tell of few of them in an hour. What came from
one network (the /24 of IPv4 or /48 of IPv6 that the connection to the teller leads to, which is no claim) takes an
eighth of either room, 16 places at least: a flood of guilty keys pushes out its own like.

No clock decides what goes first, only the order of coming: a clock that steps makes no ban older or younger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

from hostmesh.discovery.subnet import NOWHERE
from hostmesh.net.peer_id import PeerId

MAX_BANS = 1024
STRANGERS_SHARE = 4
"""Keys that nobody here knew take one part in so many of the room."""
SUBNET_SHARE = 8
"""What came from one network takes one part in so many of the room."""
LEAST_PER_SUBNET = 16
"""Bans that one network may bring to a list however small."""
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
    """The peer that told us of it; None = the host itself contradicted itself."""
    subnet: str = NOWHERE
    """The network of whoever told us, as the connection showed it."""
    proof: bytes | None = None
    """For :func:`hostmesh.discovery.equivocation.verify_proof`; None = the other record was no longer kept whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many bans of a kind there may be."""

    is_of_strangers: bool
    """Only keys that nobody here knew; else all."""
    is_of_subnet: bool
    """Only what came from one network, each for itself."""
    most: int


def rooms_of(max_bans: int) -> tuple[Room, ...]:
    """Return the bounds of a list of ``max_bans``, in the order in which they are to be kept."""
    strangers = max(1, max_bans // STRANGERS_SHARE)
    return tuple(
        Room(
            is_of_strangers=is_of_strangers,
            is_of_subnet=is_of_subnet,
            most=max(LEAST_PER_SUBNET, room // SUBNET_SHARE) if is_of_subnet else room,
        )
        for is_of_subnet in (True, False)
        for is_of_strangers, room in ((True, strangers), (False, max_bans))
    )


class BanList:
    """A bounded list of bans.

    Args:
        max_bans: most of them, >= 1; see the module for the parts of it.
    """

    def __init__(self, max_bans: int = MAX_BANS) -> None:
        if max_bans < 1:
            raise ValueError("a list of bans holds at least 1")
        self._rooms = rooms_of(max_bans)
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
        """The banned keys, the one put in first first."""
        return tuple(self._bans)

    def get(self, peer_id: PeerId) -> Ban | None:
        """Return the ban of a key, or None."""
        return self._bans.get(peer_id)

    def may_tell(self, introducer: PeerId, now: float) -> bool:
        """Tell whether a peer may bring another ban of a stranger's key at ``now``."""
        told = sum(
            ban.introducer == introducer
            and ban.familiarity is Familiarity.STRANGER
            # Both ways: what was told before the clock stepped back counts, too.
            and abs(now - ban.banned_at_unix_s) < INTRODUCER_WINDOW_S
            for ban in self._bans.values()
        )
        return told < MAX_STRANGERS_PER_INTRODUCER

    def add(self, ban: Ban) -> bool:
        """Put a ban in; tell whether that changed anything.

        A key that is banned already only gains the proof, if it had none: that makes it no better known.

        Cost: O(bans).
        """
        if (
            ban.peer_id not in self._bans
            and ban.familiarity is Familiarity.STRANGER
            and ban.introducer is not None
            and not self.may_tell(ban.introducer, ban.banned_at_unix_s)
        ):
            return False
        return self._put(ban)

    def restore(self, bans: Iterable[Ban]) -> None:
        """Put the bans of earlier runs in, before those that are here.

        They were told in their time, so that only the room bounds them.

        Args:
            bans: the one put in first first.

        Cost: O(bans) for each.
        """
        here, self._bans = self._bans, {}
        for ban in (*bans, *here.values()):
            self._put(ban)

    def _put(self, ban: Ban) -> bool:
        known = self._bans.get(ban.peer_id)
        if known is not None:
            if known.proof is not None or ban.proof is None:
                return False
            self._bans[ban.peer_id] = replace(known, proof=ban.proof)
            return True
        self._bans[ban.peer_id] = ban
        for room in self._rooms:
            inside = [
                each
                for each in self._bans.values()
                if (not room.is_of_strangers or each.familiarity is Familiarity.STRANGER)
                and (not room.is_of_subnet or each.subnet == ban.subnet)
            ]
            if len(inside) > room.most:
                # The first of equals: the order is that in which they were put in.
                del self._bans[min(inside, key=lambda each: each.familiarity).peer_id]
        return ban.peer_id in self._bans
