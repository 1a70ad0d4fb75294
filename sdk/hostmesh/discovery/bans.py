"""Keys that signed two different records of one sequence: banned, until they are bound anew.

What is banned are bindings: those of the key up to the epoch that the two records name, whichever wallet signed them,
since a liar's next wallet costs him nothing. A host that came back from a backup and contradicted itself recovers by a
binding with a higher epoch, which its operator's wallet signs; proofs of before say nothing of that one.

How many bans there may be, and which goes: :mod:`hostmesh.discovery.room`. And one peer may tell of few keys that
nobody here knew in an hour. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from hostmesh.discovery.room import LEAST_PER_SUBNET as LEAST_PER_SUBNET
from hostmesh.discovery.room import STRANGERS_SHARE as STRANGERS_SHARE
from hostmesh.discovery.room import SUBNET_SHARE as SUBNET_SHARE
from hostmesh.discovery.room import Familiarity as Familiarity
from hostmesh.discovery.room import make_room, rooms_of
from hostmesh.discovery.subnet import NOWHERE
from hostmesh.net.peer_id import PeerId

MAX_BANS = 1024
MAX_STRANGERS_PER_INTRODUCER = 8
"""Bans of keys that nobody here knew, of which one peer may tell in :data:`INTRODUCER_WINDOW_S`."""
INTRODUCER_WINDOW_S = 3600.0


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
    epoch: int = 0
    """The highest revocation epoch of a binding under which it is banned."""

    @property
    def is_owners_word(self) -> bool:
        """The key signed both records of each contradiction."""
        return True

    def joined(self, other: Ban) -> Ban:
        """Return this ban with what another one of the same key adds; this one itself where that is nothing.

        It stands where it stood, and makes the key no better known. The proof is that of the highest epoch.
        """
        if other.epoch > self.epoch:
            return replace(self, epoch=other.epoch, proof=other.proof)
        if other.epoch == self.epoch and self.proof is None and other.proof is not None:
            return replace(self, proof=other.proof)
        return self


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

    def covers(self, peer_id: PeerId, epoch: int) -> bool:
        """Tell whether a key is banned under a binding of this epoch."""
        ban = self._bans.get(peer_id)
        return ban is not None and epoch <= ban.epoch

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

        A key that is banned already only gains a higher epoch or a proof: that makes it no better known. One that
        nobody here knows gains no epoch: whoever holds such a key could tell of ever higher ones.

        Cost: O(bans).
        """
        if ban.familiarity is Familiarity.STRANGER:
            known = self._bans.get(ban.peer_id)
            if known is not None and ban.epoch > known.epoch:
                return False
            introducer = ban.introducer if known is None else None
            if introducer is not None and not self.may_tell(introducer, ban.banned_at_unix_s):
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
            joined = known.joined(ban)
            self._bans[ban.peer_id] = joined
            return joined is not known
        self._bans[ban.peer_id] = ban
        make_room(self._bans, ban, self._rooms)
        return ban.peer_id in self._bans
