"""The one way into the host table: verify, merge, count. And who named which host."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping

from hostmesh.discovery.record import HostInfo, VerifyBinding, verify_record
from hostmesh.discovery.table import HostTable, KnownHost, Merge
from hostmesh.errors import RemoteProtocolError
from hostmesh.net.peer_id import PeerId
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2 as pb

_log = logging.getLogger("hostmesh.discovery")

MAX_NAMED = 8192
"""Peers whose sources are remembered; the one named longest ago goes first."""


class RecordBook:
    """Verified records and where they came from.

    Args:
        network: the network's name; records of others are refused.
        verify_binding: checks the wallet's half of a record.
        system: the clock.
        table: where the records are kept; None = a new one.
    """

    def __init__(
        self,
        *,
        network: str,
        verify_binding: VerifyBinding,
        system: System | None = None,
        table: HostTable | None = None,
    ) -> None:
        self._network = network
        self._verify_binding = verify_binding
        self._system = system or System()
        self._table = table or HostTable()
        self._named: OrderedDict[PeerId, tuple[str, ...]] = OrderedDict()
        self._counts: Counter[str] = Counter()

    @property
    def network(self) -> str:
        """The network's name."""
        return self._network

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each thing happened: ``added``, ``replaced``, ``equivocation``, ``refused:<field or code>``, ..."""
        return {**self._counts, "evicted": self._table.evicted}

    def accept(
        self, signed: pb.SignedHostRecord, *, expected_peer_id: PeerId | None = None, introducer: PeerId | None = None
    ) -> tuple[HostInfo, Merge]:
        """Verify a record and put it into the table.

        Args:
            signed: as it came.
            expected_peer_id: the host that was asked for it; None = it was pushed.
            introducer: the peer that pushed it, if that was not the host itself.

        Returns:
            What it says, and what became of it.

        Raises:
            RemoteProtocolError: it does not hold; counted, and nothing else happened.
        """
        now = self._system.unix_s()
        try:
            info = verify_record(
                signed,
                expected_peer_id=expected_peer_id,
                network=self._network,
                now=now,
                verify_binding=self._verify_binding,
            )
        except RemoteProtocolError as error:
            field = getattr(error, "field", "")
            # Counters are bounded: a field's index is left out, and fields are those of the schema.
            self._counts[f"refused:{field.split('[')[0] or error.code}"] += 1
            raise
        if introducer == info.peer_id:
            introducer = None
        merge = self._table.merge(info, now=now, introducer=introducer)
        self._counts[merge.value] += 1
        if merge is Merge.EQUIVOCATION:
            _log.warning("host %s signed two records of sequence %d; banned", info.peer_id, info.sequence)
        return info, merge

    def known(self, peer_id: PeerId) -> KnownHost | None:
        """Return the newest usable record of a peer, or None."""
        return self._table.known(peer_id, self._system.unix_s())

    def live(self) -> list[KnownHost]:
        """Return every host whose record may be used now."""
        return self._table.live(self._system.unix_s())

    def name(self, peer_id: PeerId, source: str) -> None:
        """Note that a source named this peer."""
        sources = self._named.pop(peer_id, ())
        self._named[peer_id] = sources if source in sources else tuple(sorted((*sources, source)))
        while len(self._named) > MAX_NAMED:
            self._named.popitem(last=False)

    def sources_of(self, peer_id: PeerId) -> tuple[str, ...]:
        """Return the sources that named this peer, in alphabetical order."""
        return self._named.get(peer_id, ())

    def mark_useful(self, peer_ids: Iterable[PeerId]) -> None:
        """Note that these hosts answered; they are evicted last."""
        for peer_id in peer_ids:
            self._table.mark_useful(peer_id)

    def purge(self) -> None:
        """Free what can no longer matter."""
        self._table.purge(self._system.unix_s())
