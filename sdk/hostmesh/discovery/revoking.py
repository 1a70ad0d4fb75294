"""Takes revocations in: verifies them, keeps them, takes revoked hosts out, and tells who has to know."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Protocol

import trio

from hostmesh.discovery.events import DiscoveryEvent, HostRevoked
from hostmesh.discovery.news import NewsQueue
from hostmesh.discovery.record import HostInfo
from hostmesh.discovery.revocation_store import RevocationStore
from hostmesh.discovery.revocations import LIFE_S, RevokedEpoch
from hostmesh.discovery.room import Familiarity
from hostmesh.discovery.table import HostTable
from hostmesh.errors import InvalidAddressError, RemoteProtocolError, StoreError
from hostmesh.net.event_feed import EventFeed
from hostmesh.net.peer_id import PeerId, peer_id_from_bytes
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2 as pb

_log = logging.getLogger("hostmesh.discovery")


class VerifyRevocation(Protocol):
    """Checks a wallet's revocation; :func:`hostmesh.identity.revocation.verify_revocation` is one."""

    def __call__(self, revocation: pb.BindingRevocation, *, network: str, now: float) -> PeerId:
        """Return the peer whose bindings are void.

        Raises:
            RemoteProtocolError: the revocation does not hold.
        """
        ...


class RevocationTaken(Enum):
    """What became of a revocation."""

    TAKEN = "taken"
    KNOWN = "known"
    """It says nothing new."""
    REFUSED = "refused"
    """It holds, but there is no room for it."""


class Revoking:
    """See the module.

    Args:
        table: of hosts; its book of revoked epochs is kept here.
        network: the network's name.
        verify: checks the wallet's signature.
        system: the clock.
        news: what is handed on.
        events: told of each.
        counts: ``revocation:taken``, ``revocation:known``, ``revocation:refused``, ``revocation:invalid``.
    """

    def __init__(
        self,
        table: HostTable,
        *,
        network: str,
        verify: VerifyRevocation,
        system: System,
        news: NewsQueue,
        events: EventFeed[DiscoveryEvent],
        counts: Counter[str],
    ) -> None:
        self._table = table
        self._network = network
        self._verify = verify
        self._system = system
        self._news = news
        self._events = events
        self._counts = counts
        self._store: RevocationStore | None = None
        self._own: Callable[[], HostInfo | None] = lambda: None

    def see_own(self, own: Callable[[], HostInfo | None]) -> None:
        """Know this node's own record: a revocation of its binding always finds room, and is handed on."""
        self._own = own

    def accept(self, revocation: pb.BindingRevocation, *, subnet: str, is_ours: bool = False) -> RevocationTaken:
        """Take in a revocation.

        Args:
            revocation: as it came.
            subnet: where the connection to whoever handed it over leads, /24 or /48.
            is_ours: this node's user brings it, and hands it on: it is kept as of a host that was used.

        Raises:
            RecordInvalidError, RecordExpiredError, BadSignatureError: it does not hold; counted, and nothing happened.

        Cost: one recovery, 0.3 ms; of what is known already a look into a dictionary.
        """
        if not is_ours and self._is_known(revocation):
            self._counts["revocation:known"] += 1
            return RevocationTaken.KNOWN
        now = self._system.unix_s()
        try:
            peer_id = self._verify(revocation, network=self._network, now=now)
        except RemoteProtocolError:
            self._counts["revocation:invalid"] += 1
            raise
        operator = revocation.operator
        before = self._table.revocations.get(operator, peer_id)
        entry = RevokedEpoch(
            operator=operator,
            peer_id=peer_id,
            least_epoch=revocation.least_epoch,
            told_at_unix_s=now,
            expires_at_unix_s=revocation.issued_at_unix_s + LIFE_S,
            familiarity=Familiarity.USED if is_ours else self._familiarity(operator, peer_id),
            subnet=subnet,
            signed=revocation.SerializeToString(),
        )
        known = self._table.revoke(entry)
        if known is None:
            taken = RevocationTaken.REFUSED if before is None else RevocationTaken.KNOWN
        else:
            taken = RevocationTaken.TAKEN
            self._save(known, now)
            if not is_ours:
                self._news.put(known)
            if before is None or known.least_epoch > before.least_epoch:
                self._tell(known)
        self._counts[f"revocation:{taken.value}"] += 1
        return taken

    def learn(self, revocations: Iterable[pb.BindingRevocation], *, subnet: str) -> None:
        """Take in what a peer told along with something else; the first that does not hold ends it."""
        for revocation in revocations:
            try:
                self.accept(revocation, subnet=subnet)
            except RemoteProtocolError as error:
                _log.debug("a revocation that does not hold: %s", error.code)
                return

    def noted(self, info: HostInfo, least_epoch_before: int) -> None:
        """Go after a record that the table has merged: its binding may have voided earlier ones.

        Args:
            info: the record.
            least_epoch_before: the lowest epoch that held before.
        """
        known = self._table.revocations.get(info.operator, info.peer_id)
        if known is not None and known.least_epoch > least_epoch_before:
            self._save(known, self._system.unix_s())
            self._tell(known)

    def saw_binding(self, operator: bytes, peer_id: PeerId, epoch: int) -> None:
        """Go after a binding that holds, and that came without a record: as with one, earlier ones are void."""
        before = self.least_epoch(operator, peer_id)
        if epoch <= before:
            return
        now = self._system.unix_s()
        known = self._table.revoke(
            RevokedEpoch(
                operator=operator,
                peer_id=peer_id,
                least_epoch=epoch,
                told_at_unix_s=now,
                expires_at_unix_s=now + LIFE_S,
                # It was asked for, and answered.
                familiarity=Familiarity.USED,
            )
        )
        if known is not None:
            self._save(known, now)
            self._tell(known)

    def least_epoch(self, operator: bytes, peer_id: PeerId) -> int:
        """Return the lowest epoch of a wallet's bindings of a key that holds now; 0 = each."""
        return self._table.revocations.least_epoch(operator, peer_id, self._system.unix_s())

    def voided_at(self, operator: bytes, peer_id: PeerId) -> float:
        """Return when this node heard that bindings of a key by a wallet are void, in unix seconds; 0 = none is."""
        known = self._table.revocations.get(operator, peer_id)
        return 0.0 if known is None else known.told_at_unix_s

    def evidence(self, operator: bytes, peer_id: PeerId) -> pb.BindingRevocation | None:
        """Return the wallet's word that a key's bindings are void, or None."""
        entry = self._table.revocations.get(operator, peer_id)
        if entry is None or entry.signed is None:
            return None
        return pb.BindingRevocation.FromString(entry.signed)

    def to_tell(self, most: int, *, lot: bytes) -> list[pb.BindingRevocation]:
        """Return some revocations of hosts that were known here, by lot."""
        told = self._table.revocations.to_tell(most, now=self._system.unix_s(), lot=lot)
        return [pb.BindingRevocation.FromString(signed) for signed in told]

    def remember(self, store: RevocationStore) -> None:
        """Take up the revocations of earlier runs, and keep those to come in the same place. Idempotent.

        Raises:
            StoreError: they cannot be read.
        """
        if self._store is store:
            return
        told_before, now = tuple(self._table.revocations), self._system.unix_s()
        self._table.revocations.restore(store.load(self._network))
        self._table.revocations.purge(now)
        self._store = store
        for entry in told_before:
            self._save(entry, now)

    def _is_known(self, revocation: pb.BindingRevocation) -> bool:
        """Whether the very same was verified before."""
        try:
            peer_id = peer_id_from_bytes(revocation.peer_id)
        except InvalidAddressError:
            return False
        known = self._table.revocations.get(revocation.operator, peer_id)
        return known is not None and known.signed == revocation.SerializeToString()

    def _familiarity(self, operator: bytes, peer_id: PeerId) -> Familiarity:
        own = self._own()
        if own is not None and (own.operator, own.peer_id) == (operator, peer_id):
            return Familiarity.USED
        return self._table.familiarity_under(peer_id, operator)

    def _tell(self, entry: RevokedEpoch) -> None:
        _log.info("bindings of %s below epoch %d are revoked", entry.peer_id, entry.least_epoch)
        if self._events:
            self._events.tell(
                HostRevoked(
                    at_s=trio.current_time(),
                    peer_id=entry.peer_id,
                    operator=entry.operator,
                    least_epoch=entry.least_epoch,
                )
            )

    def _save(self, entry: RevokedEpoch, now: float) -> None:
        if self._store is None:
            return
        try:
            self._store.put(self._network, entry, now=now)
        except StoreError as error:
            # It holds while this process runs.
            self._counts["revocation_not_kept"] += 1
            _log.error("the revocation of %s is not kept: %s", entry.peer_id, error.message)
