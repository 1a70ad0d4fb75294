"""A topology of :mod:`hostmesh.testing.topologies` come to life: the real discovery manager over simulated sources.

There are no sockets and no streams: a call takes the true round trip and gives what the host says. Records are signed
and verified by their peer keys as everywhere; of bindings one stands for all, because a wallet's signature costs more
than all the rest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from hostmesh.discovery.collaborators import NodeOptions, RunningNode
from hostmesh.discovery.manager import DiscoveryManager
from hostmesh.discovery.measurement import QuotedPrice, QuoteRefusal
from hostmesh.discovery.publisher import HostPublisher
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.store import SequenceStore
from hostmesh.discovery.terms import Place, Price
from hostmesh.errors import DeadlineExceededError, DialError, MalformedMessageError
from hostmesh.net.address import AddressOrigin
from hostmesh.net.autonat_report import ReachabilityReport
from hostmesh.net.connection_view import ConnectionView
from hostmesh.net.peer_id import PeerId
from hostmesh.reputation.book import ReputationBook
from hostmesh.reputation.standing_book import StandingBook
from hostmesh.system import System
from hostmesh.testing.topologies import (
    OWN_COUNTRY,
    Lie,
    Topology,
    TopologyHost,
    quoted_per_claimed,
)
from hostmesh.testing.topology_sources import NamingSource, RingSource, binding_of, operator_of, record_of
from hostmesh.testing.wallets import TEST_NETWORK, make_peer_key
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.v1 import status_pb2
from hostmesh.v1.discovery_hostmesh import DiscoveryServiceMethods

_EARLY_S = 0.001
"""When a host answers that guesses what it will be asked."""
STATED_RTT_S = 0.004
"""What a host that lies about its latency would be believed."""


class TopologyWorld:
    """The hosts of one topology, as a client meets them. It stands for the client's node and all of its calls.

    Args:
        topology: who there is.
        system: clocks and random bytes.
        is_believing: break the probe: a host that lies about its latency is believed.
    """

    def __init__(self, topology: Topology, system: System, *, is_believing: bool = False) -> None:
        self.topology = topology
        self.system = system
        self.hosts = {make_peer_key(host.name).peer_id: host for host in topology.hosts}
        self.key = make_peer_key("client")
        self.reputation = ReputationBook(system=system)
        self.standings = StandingBook(system=system)
        self._is_believing = is_believing
        self._connected: dict[PeerId, None] = {}

    @asynccontextmanager
    async def client(self) -> AsyncIterator[DiscoveryManager]:
        """Run the client."""
        records = RecordBook(network=TEST_NETWORK, verify_binding=_trusting, system=self.system)
        async with trio.open_nursery() as nursery:
            manager = DiscoveryManager(
                nursery=nursery,
                open_node=partial(self._open_node, records),
                records=records,
                reputation=self.reputation,
                standings=self.standings,
                system=self.system,
            )
            await manager.create_node()
            try:
                yield manager
            finally:
                with trio.CancelScope(shield=True):
                    await manager.stop()
                self.reputation.close()
                self.standings.close()
            nursery.cancel_scope.cancel()

    def run_job(self, peer_id: PeerId) -> bool:
        """Run a job at a host and note its outcome, as the job manager does; tell whether it went well."""
        is_good = self.hosts[peer_id].lie is not Lie.JOBS
        self.reputation.record_outcome(peer_id, "0x" + operator_of(peer_id).hex(), good=is_good)
        self.standings.record_outcome(peer_id, good=is_good)
        return is_good

    @asynccontextmanager
    async def _open_node(self, records: RecordBook, _options: NodeOptions) -> AsyncIterator[RunningNode]:
        sources = (NamingSource(self), RingSource(self, records))
        publisher = HostPublisher(
            key=self.key,
            network=TEST_NETWORK,
            node=self,
            sources=sources,
            caller=self,  # type: ignore[arg-type]  # of calls, it makes the one that there is
            store=SequenceStore(None),
            binding=partial(binding_of, self.key, self.system),
            verify_binding=_trusting,
            system=self.system,
        )
        yield RunningNode(
            node=self,
            caller=self,  # type: ignore[arg-type]
            sources=sources,
            status=self,
            messenger=self,  # type: ignore[arg-type]  # nobody sends a message here
            publisher=publisher,
            quotes=self,
            place=Place(country_code=OWN_COUNTRY),
        )

    # --- the calls ---

    async def unary(self, peer_id: PeerId, method: Any, _request: Any, *, timeout_s: float, **_: object) -> Any:
        """Ask a host for its record."""
        assert method is DiscoveryServiceMethods.GET_RECORD, "nothing else is called here"
        host = await self._travel(peer_id, timeout_s)
        return pb.GetRecordResponse(record=record_of(host, self.system))

    async def ping(self, peer_id: PeerId, *, timeout_s: float) -> float:
        """Return the round-trip time; an answer with another nonce is none, as for the status client."""
        host = self._reach(peer_id)
        if host.lie is Lie.LATENCY and self._is_believing:
            return STATED_RTT_S
        if host.lie is Lie.LATENCY and host.manner == 0:
            await trio.sleep(_EARLY_S)
        else:
            await self._travel(peer_id, timeout_s)
        if host.lie is Lie.LATENCY and host.manner < 2:
            raise MalformedMessageError("a ping was answered with another nonce", field="nonce")
        return host.rtt_s

    async def get_snapshot(self, peer_id: PeerId, *, timeout_s: float) -> status_pb2.StatusSnapshot:
        """Return what a host says of its load."""
        host = await self._travel(peer_id, timeout_s)
        free_slots = host.claims.free_slots
        is_ready = host.is_loaded and not (host.lie is Lie.READINESS and host.manner == 0)
        return status_pb2.StatusSnapshot(
            state=pb.HOST_STATE_AVAILABLE,
            active_jobs=0 if free_slots else 1,
            max_concurrent_jobs=max(1, free_slots),
            models=[status_pb2.ModelStatus(model_id=name, ready=is_ready) for name in host.model_ids],
            time_unix_ms=int(self.system.unix_s() * 1000),
        )

    async def request_quote(self, peer_id: PeerId, model_id: str, *, timeout_s: float) -> QuotedPrice | QuoteRefusal:
        """Return what a host asks for a job."""
        host = await self._travel(peer_id, timeout_s)
        if not host.is_loaded or (host.lie is Lie.READINESS and host.manner == 1):
            return QuoteRefusal(reason="UNSUPPORTED_MODEL")
        if host.lie is Lie.READINESS and host.manner == 2:
            return QuoteRefusal(reason="MODEL_NOT_READY")
        if host.lie is Lie.SLOTS and host.manner == 2:
            return QuoteRefusal(reason="BUSY")
        micros = host.claims.price_micros_per_mtok * quoted_per_claimed(host)
        is_busy = host.lie is Lie.SLOTS or not host.claims.free_slots
        return QuotedPrice(
            model_id=model_id,
            price=Price(micros_per_mtok=micros, currency="USD"),
            jobs_ahead=1 + host.manner if is_busy else 0,
            at_unix_s=self.system.unix_s(),
        )

    async def _travel(self, peer_id: PeerId, timeout_s: float) -> TopologyHost:
        host = self._reach(peer_id)
        with trio.move_on_after(timeout_s):
            await trio.sleep(host.rtt_s)
            return host
        raise DeadlineExceededError("no answer")

    def _reach(self, peer_id: PeerId) -> TopologyHost:
        host = self.hosts.get(peer_id)
        if host is None or host.lie is Lie.ADDRESSES:
            raise DialError("another peer is at this address", stage="security")
        self._connected[peer_id] = None
        return host

    # --- the node ---

    @property
    def peer_id(self) -> PeerId:
        """The client's own."""
        return self.key.peer_id

    async def connect(
        self,
        peer_id: PeerId,
        addresses: Sequence[str] = (),
        *,
        origin: AddressOrigin = AddressOrigin.REMOTE,
        timeout_s: float | None = None,
    ) -> None:
        """Connect to a host. Raises DialError."""
        await trio.lowlevel.checkpoint()
        self._reach(peer_id)

    async def disconnect(self, peer_id: PeerId) -> None:
        """End the connection to a host."""
        await trio.lowlevel.checkpoint()
        self._connected.pop(peer_id, None)

    def connected_peers(self) -> tuple[PeerId, ...]:
        """Return who was called."""
        return tuple(self._connected)

    def is_connected(self, peer_id: PeerId) -> bool:
        """Tell whether a host was called."""
        return peer_id in self._connected

    def retain(self, peers: Callable[[], Iterable[PeerId]]) -> Callable[[], None]:
        """Keep every connection in any case."""
        return lambda: None

    def rtt_s(self, peer_id: PeerId) -> float | None:
        """Return None: no connection is pinged here."""

    def on_event(self, _listener: Callable[[Any], None]) -> Callable[[], None]:
        """Tell of nothing."""
        return lambda: None

    def add_addresses(self, peer_id: PeerId, addresses: Sequence[str], origin: AddressOrigin) -> None:
        """Take an address; who is where does not depend on it."""

    def listen_addresses(self) -> tuple[str, ...]:
        """Return none: a client."""
        return ()

    announced_addresses = listen_addresses

    def bootstrap_outcomes(self) -> Mapping[str, str]:
        """Return none: there are no bootstrap nodes."""
        return {}

    async def wait_connected(self, min_peers: int, timeout_s: float) -> None:
        """Return at once."""
        await trio.lowlevel.checkpoint()

    def protocols_of(self, peer_id: PeerId) -> tuple[str, ...]:
        """Return nothing."""
        return ()

    def connections(self) -> tuple[ConnectionView, ...]:
        """Return nothing."""
        return ()

    @property
    def reachability(self) -> ReachabilityReport | None:
        """None: it was not checked."""
        return None

    async def check_reachability(self, timeout_s: float = 10.0) -> ReachabilityReport:
        """Refuse: there is nobody who could dial."""
        raise DialError("there is no network here", stage="dial")

    def on_message(self, _handler: object) -> Callable[[], None]:
        """Take a handler that nothing comes to."""
        return lambda: None


def _trusting(binding: pb.PeerBinding, *, peer_id: PeerId, network: str, now: float) -> bytes:
    return binding.operator
