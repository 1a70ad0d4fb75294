"""The sources of :class:`hostmesh.testing.topology_world.TopologyWorld`, and the records that its hosts sign."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from hostmesh.discovery.record import build_record
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.source import Advert, Candidate, SourceQuery
from hostmesh.errors import RemoteProtocolError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey
from hostmesh.system import System
from hostmesh.testing.records import reseal
from hostmesh.testing.topologies import (
    Lie,
    TopologyHost,
)
from hostmesh.testing.wallets import TEST_NETWORK, make_peer_key
from hostmesh.v1 import discovery_pb2 as pb

if TYPE_CHECKING:
    from trio_typing import TaskStatus

    from hostmesh.testing.topology_world import TopologyWorld

_HEARSAY_S = 0.05
"""When somebody hands over what another host signed."""
_BINDING_S = 86_400
_SIGNED = b"\x07" * 65


class _Source:
    """What both simulated sources do not do."""

    def __init__(self, world: TopologyWorld) -> None:
        self._world = world

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def advertise(self, advert: Advert | None) -> None:
        """Do nothing: the client is no host."""


class NamingSource(_Source):
    """Names those who are not in a ring, each after its time."""

    name = "dht"

    async def find(self, query: SourceQuery, found: Callable[[Candidate], None]) -> None:
        """Name them."""
        began_s = trio.current_time()
        alone = [(host.named_after_s, peer_id) for peer_id, host in self._world.hosts.items() if not host.is_in_ring]
        for after_s, peer_id in sorted(alone):
            if not _offers(self._world.hosts[peer_id], query):
                continue
            await trio.sleep_until(began_s + after_s)
            found(_candidate(peer_id, self.name))
        await trio.lowlevel.checkpoint()


class RingSource(_Source):
    """Liars of a ring name each other, hand over each other's records, and name peers that do not exist.

    Whoever holds another record of a host that contradicts itself hands that over, and is honest.
    """

    name = "exchange"

    def __init__(self, world: TopologyWorld, records: RecordBook) -> None:
        super().__init__(world)
        self._records = records

    async def find(self, query: SourceQuery, found: Callable[[Candidate], None]) -> None:
        """Hand over and name."""
        world = self._world
        ring = {peer_id: host for peer_id, host in world.hosts.items() if host.is_in_ring and _offers(host, query)}
        # In a circle: each is handed over by the one before it. Who is alone at a false address is handed over, too.
        introducers = dict(zip(ring, [*list(ring)[1:], *list(ring)[:1]], strict=True))
        for peer_id, host in world.hosts.items():
            if host.lie is Lie.ADDRESSES and _offers(host, query):
                introducers.setdefault(peer_id, make_peer_key("somebody").peer_id)
        for peer_id, introducer in introducers.items():
            self._hand_over(peer_id, introducer, is_other=False)
            found(_candidate(peer_id, self.name, named_by=introducer))
        for number in range(world.topology.junk):
            found(_candidate(make_peer_key(f"nobody-{number}").peer_id, self.name, named_by=next(iter(ring), None)))
        await trio.sleep(_HEARSAY_S)
        for peer_id, host in world.hosts.items():
            if host.lie is Lie.SEQUENCE:
                self._hand_over(peer_id, make_peer_key("witness").peer_id, is_other=True)

    def _hand_over(self, peer_id: PeerId, introducer: PeerId, *, is_other: bool) -> None:
        signed = record_of(self._world.hosts[peer_id], self._world.system, is_other=is_other)
        try:
            self._records.accept(signed, introducer=introducer)
        except RemoteProtocolError:
            return  # as of the source exchange: counted by the book


def record_of(host: TopologyHost, system: System, *, is_other: bool = False) -> pb.SignedHostRecord:
    """Return the record that a host serves now.

    Args:
        host: whose.
        system: the clock.
        is_other: of a host that signs two records of one sequence, the second.
    """
    now, key = int(system.unix_s()), make_peer_key(host.name)
    contradicts = host.lie is Lie.SEQUENCE
    signed = build_record(
        host.claims.description(*host.model_ids, *(["spare"] if is_other else [])),
        key=key,
        operator=operator_of(key.peer_id),
        binding=binding_of(key, system),
        network=TEST_NETWORK,
        sequence=7 if contradicts else now * 1000,
        issued_at_unix_s=now,
        started_at_unix_s=max(1, now - host.claims.uptime_s),
        addresses=(f"/ip4/198.51.{sum(host.name.encode()) % 256}.{len(host.name)}/tcp/4001",),
    )
    if host.lie is not Lie.EXPIRY:
        return signed

    def lie(body: pb.HostRecord) -> None:
        moved_s = (0, 3600, -3600)[host.manner]
        body.issued_at_unix_s += moved_s
        body.expires_at_unix_s += moved_s or 86_400

    return reseal(signed, lie, key=key)


def _offers(host: TopologyHost, query: SourceQuery) -> bool:
    """Whether a source that is asked so would name the host: by its models and the country that it claims."""
    is_there = query.country_code in (None, host.claims.country_code)
    return is_there and all(model_id in host.model_ids for model_id in query.model_ids)


def _candidate(peer_id: PeerId, source: str, *, named_by: PeerId | None = None) -> Candidate:
    return Candidate(peer_id=peer_id, addresses=(), source=source, origin=AddressOrigin.REMOTE, named_by=named_by)


def operator_of(peer_id: PeerId) -> bytes:
    """Return the wallet of a host, which nobody has."""
    return peer_id_to_bytes(peer_id)[-20:]


def binding_of(key: PeerKey, system: System) -> pb.PeerBinding:
    """Return a binding of a key by its wallet."""
    now = int(system.unix_s())
    return pb.PeerBinding(
        operator=operator_of(key.peer_id),
        peer_id=peer_id_to_bytes(key.peer_id),
        issued_at_unix_s=now - 10,
        expires_at_unix_s=now + _BINDING_S,
        signature=_SIGNED,
    )
