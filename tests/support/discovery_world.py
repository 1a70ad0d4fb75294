"""A small world for discovery: hosts with real peer keys and signed records, on a network that is a dictionary.

Time passes only through trio, so that tests run under its mock clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from hostmesh.discovery.collaborators import NodeOptions, RunningNode
from hostmesh.discovery.description import HostDescription, HostState, ModelOffer
from hostmesh.discovery.probe import QuoteProbe
from hostmesh.discovery.publisher import HostPublisher
from hostmesh.discovery.record import HostInfo, build_record, verify_record
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.service import DiscoveryServer
from hostmesh.discovery.source import Advert, Candidate, SourceQuery
from hostmesh.discovery.store import SequenceStore
from hostmesh.discovery.terms import ModelKind, Place, Price
from hostmesh.errors import BadSignatureError, DeadlineExceededError, DialError, ReadyTimeoutError, RpcError, StatusCode
from hostmesh.net.address import AddressOrigin
from hostmesh.net.connection_view import ConnectionView
from hostmesh.net.peer_id import PeerId, peer_id_from_bytes, peer_id_to_bytes
from hostmesh.net.peer_key import PeerKey
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.v1 import status_pb2
from hostmesh.v1.discovery_hostmesh import DiscoveryServiceMethods

NETWORK = "testnet"
EPOCH = 1_700_000_000
_SIGNED = b"\x07" * 65


def make_key(name: str) -> PeerKey:
    """Return the same key for the same name."""
    return PeerKey(hashlib.sha256(b"peer " + name.encode()).digest())


def make_operator(name: str) -> bytes:
    return hashlib.sha256(b"wallet " + name.encode()).digest()[:20]


def make_binding(
    key: PeerKey, operator: bytes, *, issued: int = EPOCH - 10, life_s: int = 86_400, epoch: int = 0
) -> pb.PeerBinding:
    """A binding as :func:`trusting_verifier` takes it; real wallets are tested in test_host_record."""
    return pb.PeerBinding(
        operator=operator,
        peer_id=peer_id_to_bytes(key.peer_id),
        issued_at_unix_s=issued,
        expires_at_unix_s=issued + life_s,
        revocation_epoch=epoch,
        signature=_SIGNED,
    )


def make_revocation(
    name: str = "host", *, operator: str | None = None, least_epoch: int = 1, issued: int = EPOCH
) -> pb.BindingRevocation:
    """A revocation as :func:`trusting_revocations` takes it; real wallets are tested in test_revocation."""
    return pb.BindingRevocation(
        operator=make_operator(operator or name),
        peer_id=peer_id_to_bytes(make_key(name).peer_id),
        least_epoch=least_epoch,
        issued_at_unix_s=issued,
        signature=_SIGNED,
    )


def trusting_revocations(revocation: pb.BindingRevocation, *, network: str, now: float) -> PeerId:
    if revocation.signature != _SIGNED:
        raise BadSignatureError("the wallet did not sign this")
    return peer_id_from_bytes(revocation.peer_id)


def trusting_verifier(binding: pb.PeerBinding, *, peer_id: PeerId, network: str, now: float) -> bytes:
    if binding.signature != _SIGNED:
        raise BadSignatureError("the wallet did not sign this")
    return binding.operator


def make_description(
    *model_ids: str,
    price: int | None = 100,
    currency: str = "USD",
    kind: ModelKind = ModelKind.CHAT,
    location: str | None = None,
    capabilities: Sequence[str] = (),
) -> HostDescription:
    offered = None if price is None else Price(micros_per_mtok=price, currency=currency)
    return HostDescription(
        models=[ModelOffer(model_id=model_id, kind=kind, price=offered) for model_id in model_ids or ("m-3",)],
        location=location,
        capabilities=capabilities,
        max_concurrent_jobs=2,
    )


def make_record(
    name: str = "host",
    description: HostDescription | None = None,
    *,
    sequence: int = 1,
    issued: int = EPOCH,
    life_s: int = 120,
    started: int = EPOCH - 7200,
    state: HostState = HostState.AVAILABLE,
    operator: str | None = None,
    addresses: tuple[str, ...] = ("/ip4/192.0.2.1/tcp/4001",),
    network: str = NETWORK,
    epoch: int = 0,
) -> pb.SignedHostRecord:
    key = make_key(name)
    wallet = make_operator(operator or name)
    return build_record(
        description or make_description(),
        key=key,
        operator=wallet,
        binding=make_binding(key, wallet, issued=min(issued, EPOCH) - 10, epoch=epoch),
        network=network,
        sequence=sequence,
        issued_at_unix_s=issued,
        started_at_unix_s=started,
        addresses=addresses,
        state=state,
        life_s=life_s,
    )


def make_info(name: str = "host", description: HostDescription | None = None, **options: Any) -> HostInfo:
    """Return a verified record."""
    record = make_record(name, description, **options)
    return verify_record(
        record,
        expected_peer_id=None,
        network=options.get("network", NETWORK),
        now=options.get("issued", EPOCH),
        verify_binding=trusting_verifier,
    )


def trio_system() -> System:
    """A machine whose clocks are trio's; for tests under trio's mock clock, which starts at 0."""
    counter = iter(range(1, 1_000_000))
    return System(
        unix_s=lambda: EPOCH + trio.current_time(),
        monotonic_s=trio.current_time,
        random_bytes=lambda n: hashlib.sha256(str(next(counter)).encode()).digest()[:n],
    )


@dataclass
class FakePeer:
    """A peer on the network."""

    peer_id: PeerId
    record: Callable[[], pb.SignedHostRecord | None] = lambda: None
    rtt_s: float = 0.01
    is_dead: bool = False
    is_silent: bool = False
    """Takes calls and never answers."""
    serves_status: bool = True
    state: int = pb.HOST_STATE_AVAILABLE
    ready_models: tuple[str, ...] | None = None
    """None = all that the record offers."""
    active_jobs: int = 0
    clock_ahead_s: float = 0.0
    announce: Callable[[PeerId, pb.AnnounceRequest], Any] | None = None
    asked: int = 0
    pinged: int = 0
    got: list[pb.SignedHostRecord] = field(default_factory=list)
    tells: list[pb.BindingRevocation] = field(default_factory=list)
    """Revocations that stand beside its record."""
    operator_address: str = ""
    """Of a host: its wallet's."""


@dataclass
class FakeNetwork:
    """Every peer there is, and the calls between them."""

    peers: dict[PeerId, FakePeer] = field(default_factory=dict)

    def add_host(self, name: str, description: HostDescription | None = None, **options: Any) -> FakePeer:
        """Add a host with a record that is fresh whenever it is asked for."""
        peer_options = {key: options.pop(key) for key in list(options) if key in FakePeer.__dataclass_fields__}
        system = trio_system()
        offered = description or make_description()

        def record() -> pb.SignedHostRecord:
            now = int(system.unix_s())
            return make_record(name, offered, **{"sequence": now * 1000, "issued": now, **options})

        wallet = make_operator(options.get("operator") or name).hex()
        peer = FakePeer(make_key(name).peer_id, record=record, operator_address=f"0x{wallet}", **peer_options)
        if peer.ready_models is None:
            peer.ready_models = offered.model_ids
        self.peers[peer.peer_id] = peer
        return peer

    def reach(self, peer_id: PeerId) -> FakePeer:
        peer = self.peers.get(peer_id)
        if peer is None or peer.is_dead:
            raise DialError("no such peer", stage="dial")
        return peer


def view_of(peer_id: PeerId, address: str = "/ip4/127.0.0.1/tcp/4001", *, is_outbound: bool = True) -> ConnectionView:
    """Return a connection to a peer."""
    return ConnectionView(peer_id=peer_id, is_outbound=is_outbound, address=address, rtt_ms=None, lasted_s=1.0)


class FakeNode:
    """A node of the fake network."""

    def __init__(self, network: FakeNetwork, name: str = "client") -> None:
        self.network = network
        self.peer_id = make_key(name).peer_id
        self.connected: dict[PeerId, None] = {}
        self.addresses: dict[PeerId, list[tuple[str, AddressOrigin]]] = {}
        self.outcomes: dict[str, str] = {}
        self.views: dict[PeerId, ConnectionView] = {}
        """Connections that are not what :meth:`connections` says."""
        self.retained: dict[object, Callable[[], Iterable[PeerId]]] = {}
        self.became_connected = trio.Event()
        self.waited_s: list[float] = []
        self.pinged_s: dict[PeerId, float] = {}
        self.listeners: list[Callable[[Any], None]] = []
        self.own_addresses: tuple[str, ...] = ("/ip4/192.0.2.9/tcp/4001",)

    async def connect(
        self,
        peer_id: PeerId,
        addresses: Sequence[str] = (),
        *,
        origin: AddressOrigin = AddressOrigin.REMOTE,
        timeout_s: float | None = None,
    ) -> None:
        await trio.lowlevel.checkpoint()
        self.network.reach(peer_id)
        self.connected[peer_id] = None

    async def disconnect(self, peer_id: PeerId) -> None:
        await trio.lowlevel.checkpoint()
        self.connected.pop(peer_id, None)

    def connected_peers(self) -> tuple[PeerId, ...]:
        return tuple(self.connected)

    def is_connected(self, peer_id: PeerId) -> bool:
        return peer_id in self.connected

    def retain(self, peers: Callable[[], Iterable[PeerId]]) -> Callable[[], None]:
        key = object()
        self.retained[key] = peers
        return lambda: self.retained.__delitem__(key)

    def connections(self) -> tuple[ConnectionView, ...]:
        """Peers are on this machine and were dialled, unless ``views`` says otherwise."""
        return tuple(self.views.get(peer_id) or view_of(peer_id) for peer_id in self.connected)

    def add_addresses(self, peer_id: PeerId, addresses: Sequence[str], origin: AddressOrigin) -> None:
        self.addresses.setdefault(peer_id, []).extend((address, origin) for address in addresses)

    def listen_addresses(self) -> tuple[str, ...]:
        return self.own_addresses

    def announced_addresses(self) -> tuple[str, ...]:
        return self.own_addresses

    def bootstrap_outcomes(self) -> dict[str, str]:
        return self.outcomes

    def rtt_s(self, peer_id: PeerId) -> float | None:
        return self.pinged_s.get(peer_id)

    def on_event(self, listener: Callable[[Any], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    async def wait_connected(self, min_peers: int, timeout_s: float) -> None:
        self.waited_s.append(timeout_s)
        with trio.move_on_after(timeout_s):
            await self.became_connected.wait()
            assert len(self.connected) >= min_peers
            return
        raise ReadyTimeoutError("too few peers", outcomes=self.outcomes)

    # --- calls ---

    async def unary(self, peer_id: PeerId, method: Any, request: Any, *, timeout_s: float, **_: object) -> Any:
        with trio.move_on_after(timeout_s):
            peer = await self._travel(peer_id)
            if method is DiscoveryServiceMethods.GET_RECORD:
                peer.asked += 1
                record = peer.record()
                if record is None:
                    raise RpcError("no host", status=StatusCode.NOT_FOUND)
                return pb.GetRecordResponse(record=record, revocations=peer.tells)
            assert method is DiscoveryServiceMethods.ANNOUNCE
            peer.got.append(request.record)
            if peer.announce is not None:
                await peer.announce(self.peer_id, request)
            return pb.AnnounceResponse()
        raise DeadlineExceededError("no answer")

    async def ping(self, peer_id: PeerId, *, timeout_s: float) -> float:
        with trio.move_on_after(timeout_s):
            began = trio.current_time()
            peer = await self._travel(peer_id)
            self._need_status(peer)
            peer.pinged += 1
            return trio.current_time() - began
        raise DeadlineExceededError("no answer")

    async def get_snapshot(self, peer_id: PeerId, *, timeout_s: float) -> status_pb2.StatusSnapshot:
        with trio.move_on_after(timeout_s):
            peer = await self._travel(peer_id)
            self._need_status(peer)
            return status_pb2.StatusSnapshot(
                state=peer.state,
                active_jobs=peer.active_jobs,
                max_concurrent_jobs=2,
                models=[status_pb2.ModelStatus(model_id=name, ready=True) for name in peer.ready_models or ()],
                time_unix_ms=int((trio_system().unix_s() + peer.clock_ahead_s) * 1000),
            )
        raise DeadlineExceededError("no answer")

    def _need_status(self, peer: FakePeer) -> None:
        if not peer.serves_status:
            raise RpcError("no status here", status=StatusCode.UNIMPLEMENTED)

    async def _travel(self, peer_id: PeerId) -> FakePeer:
        await trio.lowlevel.checkpoint()
        peer = self.network.reach(peer_id)
        self.connected[peer_id] = None
        await trio.sleep(peer.rtt_s)
        if peer.is_silent:
            await trio.sleep_forever()
        if peer.is_dead:
            self.connected.pop(peer_id, None)
            raise DialError("it died", stage="dial")
        return peer


@dataclass
class FakeSource:
    """Names what it was given, each after a time."""

    name: str
    candidates: list[tuple[float, Candidate]] = field(default_factory=list)
    lasts_s: float = 0.0
    fails: Exception | None = None
    queries: list[SourceQuery] = field(default_factory=list)
    adverts: list[Advert | None] = field(default_factory=list)
    wide_only: bool = False
    """Names its candidates only when asked for any model."""

    def names(self, *peers: FakePeer | PeerId, after_s: float = 0.0, addresses: tuple[str, ...] = ()) -> FakeSource:
        for peer in peers:
            peer_id = peer.peer_id if isinstance(peer, FakePeer) else peer
            candidate = Candidate(peer_id=peer_id, addresses=addresses, source=self.name, origin=AddressOrigin.REMOTE)
            self.candidates.append((after_s, candidate))
        return self

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def find(self, query: SourceQuery, found: Callable[[Candidate], None]) -> None:
        self.queries.append(query)
        began = trio.current_time()
        if not self.wide_only or not query.model_ids:
            for after_s, candidate in sorted(self.candidates, key=lambda each: each[0]):
                await trio.sleep_until(began + after_s)
                found(candidate)
        await trio.sleep_until(began + self.lasts_s)
        if self.fails is not None:
            raise self.fails

    async def advertise(self, advert: Advert | None) -> None:
        self.adverts.append(advert)


@dataclass
class FakeMessenger:
    handlers: list[Callable[[Any], Any]] = field(default_factory=list)
    sent: list[tuple[PeerId, Any]] = field(default_factory=list)

    async def send(self, peer_id: PeerId, body: Any, *, timeout_s: float = 30.0, retries: int = 3) -> Any:
        await trio.lowlevel.checkpoint()
        self.sent.append((peer_id, body))
        return "ack"

    def on_message(self, handler: Callable[[Any], Any]) -> Callable[[], None]:
        self.handlers.append(handler)
        return lambda: self.handlers.remove(handler)


@dataclass(frozen=True)
class FakeReputation:
    points: int = 100
    n: int = 0


@dataclass
class FakeBook:
    """Reputations by peer id; 100 otherwise."""

    known: dict[PeerId, int] = field(default_factory=dict)
    outcomes: list[tuple[PeerId, bool]] = field(default_factory=list)

    def of(self, peer_id: PeerId, operator_address: str) -> FakeReputation:
        points = self.known.get(peer_id)
        return FakeReputation() if points is None else FakeReputation(points=points, n=10)

    def snapshot(self) -> FakeBook:
        return FakeBook(dict(self.known))

    def record_outcome(self, peer_id: PeerId, operator_address: str, *, good: bool) -> FakeReputation:
        self.outcomes.append((peer_id, good))
        return self.of(peer_id, operator_address)


class FakeFactory:
    """Opens one fake node after another."""

    def __init__(self, network: FakeNetwork, sources: Sequence[FakeSource], records: RecordBook) -> None:
        self.network = network
        self.sources = tuple(sources)
        self.records = records
        self.options: list[NodeOptions] = []
        self.node = FakeNode(network)
        self.messenger = FakeMessenger()
        self.open = 0
        self.error: Exception | None = None
        self.waits = False
        self.place: Place | None = None
        """Where the node says that it is."""
        self.quotes: QuoteProbe | None = None
        self.publisher = make_publisher(self.node, self.sources)

    @asynccontextmanager
    async def __call__(self, options: NodeOptions) -> AsyncIterator[RunningNode]:
        self.options.append(options)
        if self.error is not None:
            raise self.error
        if self.waits:
            await trio.sleep_forever()
        self.publisher = make_publisher(self.node, self.sources)
        server = DiscoveryServer(self.records, self.publisher.current, secret=b"s" * 16)
        self.network.peers[self.node.peer_id] = FakePeer(self.node.peer_id, record=self.publisher.current)
        self.server = server
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            self.open += 1
            try:
                yield RunningNode(
                    node=self.node,
                    caller=self.node,
                    sources=self.sources,
                    status=self.node,
                    messenger=self.messenger,
                    publisher=self.publisher,
                    place=self.place,
                    quotes=self.quotes,
                )
            finally:
                self.open -= 1
                nursery.cancel_scope.cancel()


def make_publisher(
    node: FakeNode,
    sources: Sequence[FakeSource] = (),
    *,
    name: str = "client",
    binding: Callable[[], pb.PeerBinding] | None = None,
    **options: Any,
) -> HostPublisher:
    key = make_key(name)
    system = options.pop("system", None) or trio_system()
    return HostPublisher(
        key=key,
        network=NETWORK,
        node=node,
        sources=sources,
        caller=node,
        store=options.pop("store", None) or SequenceStore(None),
        binding=binding or (lambda: make_binding(key, make_operator(name))),
        verify_binding=trusting_verifier,
        status=node,
        system=system,
        **options,
    )


def make_records(system: System | None = None) -> RecordBook:
    return RecordBook(
        network=NETWORK,
        verify_binding=trusting_verifier,
        verify_revocation=trusting_revocations,
        system=system or trio_system(),
    )
