"""Which epochs of whose bindings still hold, as far as this node was told. Pure.

Two things tell: a revocation that the wallet signed, and a valid binding, which voids those of lower epochs of the same
key by the same wallet. Each wallet and key has one entry, with the highest epoch that was told; it goes when every
binding that it could concern has expired.

How many entries there may be, and which goes for which: :mod:`hostmesh.discovery.room`; a wallet's word about a key
that it never bound is worth a stranger's place at most. Only what a wallet signed is handed on, and only of hosts that
were known here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from hostmesh.discovery.room import Familiarity, make_room, rooms_of
from hostmesh.discovery.subnet import NOWHERE
from hostmesh.net.peer_id import PeerId

MAX_REVOCATIONS = 1024
LIFE_S = 7 * 86_400 + 60
"""After so long since it was told no binding of a lower epoch is accepted: 7 days, and a skew of 30 s at either end."""
RENEWAL_S = 86_400
"""An entry that would live longer by less than this is not put in anew: hosts renew their records every minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokedEpoch:
    """Bindings of one key by one wallet below an epoch are void."""

    operator: bytes
    """The wallet, 20 bytes."""
    peer_id: PeerId
    least_epoch: int
    """The lowest one that holds."""
    told_at_unix_s: float
    """When this node heard of the epoch."""
    expires_at_unix_s: float
    familiarity: Familiarity
    subnet: str = NOWHERE
    """The network of whoever told us, as the connection showed it."""
    signed: bytes | None = None
    """A serialised ``BindingRevocation``, of this epoch or a lower one; None = only a binding told of it."""

    @property
    def is_owners_word(self) -> bool:
        """Whether the wallet signed a revocation: such go last, since nothing else brings them back."""
        return self.signed is not None

    def joined(self, other: RevokedEpoch) -> RevokedEpoch:
        """Return this entry with what another one of the same wallet and key adds; itself where that is nothing."""
        is_higher = other.least_epoch > self.least_epoch
        is_longer = other.expires_at_unix_s >= self.expires_at_unix_s + RENEWAL_S
        # A binding's epoch leaves the wallet's word of before in its place: that can be handed on.
        signed = other.signed if other.signed is not None and (is_higher or self.signed is None) else self.signed
        if not is_higher and not is_longer and signed is self.signed:
            return self
        return replace(
            self,
            least_epoch=max(self.least_epoch, other.least_epoch),
            told_at_unix_s=other.told_at_unix_s if is_higher else self.told_at_unix_s,
            expires_at_unix_s=max(self.expires_at_unix_s, other.expires_at_unix_s),
            familiarity=max(self.familiarity, other.familiarity),
            signed=signed,
        )


class RevocationBook:
    """A bounded book of revoked epochs.

    Args:
        most: entries, >= 1.

    >>> book = RevocationBook()
    >>> who, seen = (b"w" * 20, PeerId("host")), Familiarity.SEEN
    >>> entry = RevokedEpoch(
    ...     operator=who[0], peer_id=who[1], least_epoch=2, told_at_unix_s=1, expires_at_unix_s=60, familiarity=seen
    ... )
    >>> book.put(entry) is entry, book.least_epoch(*who, 59), book.put(entry)
    (True, 2, None)
    """

    def __init__(self, most: int = MAX_REVOCATIONS) -> None:
        if most < 1:
            raise ValueError("a book of revocations holds at least 1")
        self._rooms = rooms_of(most)
        self._entries: dict[tuple[bytes, PeerId], RevokedEpoch] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[RevokedEpoch]:
        """Go through the entries, the one put in first first."""
        return iter(self._entries.values())

    def get(self, operator: bytes, peer_id: PeerId) -> RevokedEpoch | None:
        """Return what is told of a wallet's bindings of a key, or None."""
        return self._entries.get((operator, peer_id))

    def least_epoch(self, operator: bytes, peer_id: PeerId, now: float) -> int:
        """Return the lowest epoch of a wallet's bindings of a key that holds; 0 = each."""
        entry = self._entries.get((operator, peer_id))
        return 0 if entry is None or now > entry.expires_at_unix_s else entry.least_epoch

    def put(self, entry: RevokedEpoch) -> RevokedEpoch | None:
        """Put an entry in.

        Returns:
            What stands there now; None when nothing changed, or there is no room for it.

        Cost: O(entries) for one of a wallet and key that had none.
        """
        place = (entry.operator, entry.peer_id)
        known = self._entries.get(place)
        if known is not None:
            joined = self._entries[place] = known.joined(entry)
            return None if joined is known else joined
        self._entries[place] = entry
        make_room(self._entries, entry, self._rooms)
        return self._entries.get(place)

    def restore(self, entries: Iterable[RevokedEpoch]) -> None:
        """Put the entries of earlier runs in, before those that are here.

        Args:
            entries: the one put in first first.
        """
        here, self._entries = self._entries, {}
        for entry in (*entries, *here.values()):
            self.put(entry)

    def purge(self, now: float) -> None:
        """Drop what concerns nothing any more. Reads need no purge, it frees memory."""
        self._entries = {place: entry for place, entry in self._entries.items() if now <= entry.expires_at_unix_s}

    def to_tell(self, most: int, *, now: float, lot: bytes) -> list[bytes]:
        """Return some signed revocations of hosts that were known here.

        Args:
            most: of them.
            now: unix seconds.
            lot: decides where to begin; another one for each asker and page, so that a flood hides none for long.

        Cost: O(entries) and one hash.
        """
        signed = [
            entry.signed
            for entry in self._entries.values()
            if entry.signed is not None
            and entry.familiarity is not Familiarity.STRANGER
            and now <= entry.expires_at_unix_s
        ]
        first = int.from_bytes(hashlib.sha256(lot).digest(), "big") % max(1, len(signed))
        return [*signed[first:], *signed[:first]][:most]
