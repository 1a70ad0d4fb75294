"""One running node with everything that stands on it: calls, services, sources, publisher."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio
from google.protobuf.descriptor import ServiceDescriptor

from hostmesh.discovery.description import HostState
from hostmesh.discovery.introductions import Introductions
from hostmesh.discovery.measurement import QuotedPrice, QuoteRefusal
from hostmesh.discovery.peer_cache import PeerCache
from hostmesh.discovery.peer_cache_store import PeerCacheStore
from hostmesh.discovery.publisher import HostPublisher
from hostmesh.discovery.record import VerifyBinding
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.service import DiscoveryServer
from hostmesh.discovery.source import Source
from hostmesh.discovery.sources.bootstrap import BootstrapSource
from hostmesh.discovery.sources.cache import CacheSource
from hostmesh.discovery.sources.dht import DhtSource
from hostmesh.discovery.sources.exchange import ExchangeSource
from hostmesh.discovery.sources.gossip import GossipSource, records_topic
from hostmesh.discovery.sources.static import StaticSource
from hostmesh.discovery.store import SequenceStore
from hostmesh.discovery.terms import Price
from hostmesh.errors import ConfigError, JobError, ProtocolNotSupportedError, RpcError, StatusCode
from hostmesh.jobs.offer import open_quote
from hostmesh.messaging.direct import DirectMessenger
from hostmesh.neighbours import NeighbourWatch
from hostmesh.net.config import NodeConfig
from hostmesh.net.gossip import OpenGossip
from hostmesh.net.network import Network
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId
from hostmesh.net.peer_key import PeerKey
from hostmesh.reflection.server import ReflectionServer
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.interceptors import ClientInterceptor, ServerInterceptor
from hostmesh.rpc.key_store import KeyStore
from hostmesh.rpc.limits import BUILT_IN_LIMITS, ServiceLimits
from hostmesh.rpc.promised import PromisedVersions
from hostmesh.rpc.server import RpcServer
from hostmesh.rpc.shapes import ServiceBase
from hostmesh.status.client import StatusClient
from hostmesh.status.server import STATUS_LIMITS, StatusServer
from hostmesh.status.snapshot import HostStatus, ServingState
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2, job_pb2, status_pb2
from hostmesh.v1.job_hostmesh import JobServiceClient
from hostmesh.v1.status_hostmesh import StatusServiceClient

if TYPE_CHECKING:
    from trio_typing import TaskStatus

SourceFactory = Callable[[Node, RpcClient], Sequence[Source]]
"""Makes the discovery sources of a node, given it and what makes its calls."""


def default_sources(
    node: Node,
    rpc: RpcClient,
    *,
    network: str,
    records: RecordBook,
    system: System,
    enable_mdns: bool,
    mdns_interfaces: Sequence[str],
    gossip_prefix: str | None = None,
    static_hosts: Sequence[str] = (),
    cache: tuple[PeerCache, PeerCacheStore] | None = None,
    ran_jobs: Callable[[PeerId], bool] = lambda _: False,
) -> tuple[Source, ...]:
    """Return the sources of the settings: bootstrap and exchange always, the others where there is something to ask.

    Args:
        node: of which.
        rpc: makes its calls.
        network: name of the network.
        records: verified records.
        system: clocks and random bytes.
        enable_mdns: look on the local network.
        mdns_interfaces: which ones; empty = all.
        gossip_prefix: with what the name of the gossip's topic begins, the prefix of protocols; None = no gossip.
        static_hosts: multiaddrs with ``/p2p`` that each find asks.
        cache: the peers of before, and where they are kept; None = nobody is remembered.
        ran_jobs: whether a host ran jobs for this client; such are remembered for longest.

    Raises:
        ConfigError: gossip is wanted, and py-libp2p is not there.
    """
    sources: list[Source] = [BootstrapSource(node), ExchangeSource(node, rpc, records, system=system)]
    if static_hosts:
        sources.append(StaticSource(static_hosts))
    if cache is not None:
        peers, store = cache
        sources.append(
            CacheSource(
                node,
                peers,
                store,
                network=network,
                records=records,
                servers=lambda: () if node.dht is None else node.dht.servers(),
                ran_jobs=ran_jobs,
                system=system,
            )
        )
    if node.dht is not None:
        sources.append(DhtSource(node.dht, network=network, system=system))
    if enable_mdns:
        from hostmesh.discovery.sources.mdns import MdnsSource

        mdns = MdnsSource(node.peer_id, interfaces=tuple(mdns_interfaces), system=system)
        node.on_network_change(lambda change: mdns.rescan())
        sources.append(mdns)
    if gossip_prefix is not None:
        topic = records_topic(gossip_prefix, network)
        sources.append(GossipSource(_gossip_on(node), records, topic=topic, system=system))
    return tuple(sources)


def _gossip_on(node: Node) -> OpenGossip:
    """Return what runs GossipSub on a node, with an import that costs about 0.6 s the first time."""
    try:
        from hostmesh.net.libp2p_gossip import open_gossip
    except ImportError as error:
        raise ConfigError(
            f"enable_gossip needs py-libp2p, which cannot be imported: {error}",
            name="enable_gossip",
            remedy='install the extra, pip install "hostmesh[libp2p]", or set enable_gossip to false',
        ) from error
    return partial(open_gossip, node)


_LEAVING: dict[HostState | None, ServingState] = {
    HostState.DRAINING: ServingState.DRAINING,
    HostState.WITHDRAWN: ServingState.WITHDRAWN,
}


class StatusCalls:
    """What discovery measures a host with: a timed ping, and the snapshot as it came."""

    def __init__(self, rpc: RpcClient, status: StatusClient) -> None:
        self._rpc = rpc
        self._status = status

    async def ping(self, peer_id: PeerId, *, timeout_s: float) -> float:
        """Return the round-trip time in seconds."""
        return await self._status.ping(peer_id, timeout_s=timeout_s)

    async def get_snapshot(self, peer_id: PeerId, *, timeout_s: float) -> status_pb2.StatusSnapshot:
        """Return the host's own word about its load."""
        request = status_pb2.GetSnapshotRequest()
        return await StatusServiceClient(self._rpc, peer_id).get_snapshot(request, timeout_s=timeout_s)


class QuoteCalls:
    """What discovery asks for a price with: a quote for no prompt and no token, verified as a job's is.

    Args:
        rpc: makes the calls.
        peer_id: this node's; quotes are bound to it.
        network: the network's name.
        system: the wall clock judges quotes.
    """

    def __init__(self, rpc: RpcClient, *, peer_id: PeerId, network: str, system: System) -> None:
        self._rpc = rpc
        self._peer_id = peer_id
        self._network = network
        self._system = system

    async def request_quote(self, peer_id: PeerId, model_id: str, *, timeout_s: float) -> QuotedPrice | QuoteRefusal:
        """Return what the host asks for a job of the model, or why it gives no quote.

        Raises:
            RemoteProtocolError: its answer proves nothing.
            TransportError: no answer.
        """
        request = job_pb2.QuoteRequest(model_id=model_id, prompt_tokens_estimate=0)
        try:
            response = await JobServiceClient(self._rpc, peer_id).quote(request, timeout_s=timeout_s)
            now = self._system.unix_s()
            offer = open_quote(
                response.quote,
                network=self._network,
                client_peer_id=self._peer_id,
                host_peer_id=peer_id,
                model_id=model_id,
                max_output_tokens=None,
                max_price_micros_per_mtok=None,
                currency=None,
                now=now,
            )
            price = Price(micros_per_mtok=offer.price_micros_per_mtok, currency=offer.currency)
        except ProtocolNotSupportedError:
            return QuoteRefusal(reason=QuoteRefusal.NOT_SERVED)
        except RpcError as error:
            if error.status is StatusCode.UNIMPLEMENTED:
                return QuoteRefusal(reason=QuoteRefusal.NOT_SERVED)
            return QuoteRefusal(reason=error.reason or error.status.name, retry_after_ms=error.retry_after_ms)
        except (JobError, ConfigError):
            # A quote of another time, or in a currency that has no name.
            return QuoteRefusal(reason=QuoteRefusal.BROKEN)
        return QuotedPrice(model_id=model_id, price=price, jobs_ahead=offer.queue_position, at_unix_s=now)


@dataclass(kw_only=True, eq=False)
class NodeStack:
    """The parts of a running node, by name."""

    node: Node
    key: PeerKey
    rpc: RpcClient
    server: RpcServer
    status: StatusClient
    status_server: StatusServer
    probe: StatusCalls
    quotes: QuoteCalls
    messenger: DirectMessenger
    sources: tuple[Source, ...]
    publisher: HostPublisher
    records: RecordBook
    nursery: trio.Nursery
    host_status: Callable[[], HostStatus] | None = None
    """What the status service tells while this node is a host."""

    async def start_task(self, work: Callable[..., Awaitable[None]], scope: trio.CancelScope) -> None:
        """Start work in the SDK's nursery that ends when ``scope`` is cancelled; return once it has started.

        Args:
            work: takes a ``task_status`` and calls ``started()`` on it.
            scope: ends it.
        """

        async def run(*, task_status: TaskStatus[None]) -> None:
            with scope:
                await work(task_status=task_status)

        await self.nursery.start(run)

    def serve(
        self,
        service: ServiceDescriptor | ServiceBase,
        handler: object | None = None,
        *,
        limits: ServiceLimits | None = BUILT_IN_LIMITS,
        interceptors: Sequence[ServerInterceptor] = (),
    ) -> None:
        """Serve one more protocol from now on, in all versions that its options state.

        Args:
            service: its descriptor, or the handler where that is of a generated base.
            handler: see :meth:`hostmesh.rpc.server.RpcServer.add_service`.
            limits: of its calls; those of hostmesh's own protocols unless said otherwise, None for an application's.
            interceptors: around its handlers.
        """
        self.server.add_service(service, handler, limits=limits, interceptors=interceptors)
        for protocol_id, stream_handler in self.server.stream_handlers().items():
            self.node.set_stream_handler(protocol_id, stream_handler)

    def withdraw(self, service: ServiceDescriptor | ServiceBase) -> None:
        """Serve a protocol no longer; calls in progress go on."""
        for protocol_id in self.server.remove_service(service):
            self.node.remove_stream_handler(protocol_id)


@asynccontextmanager
async def run_stack(
    *,
    config: NodeConfig,
    key: PeerKey,
    network_name: str,
    records: RecordBook,
    store: SequenceStore,
    binding: Callable[[PeerId], discovery_pb2.PeerBinding],
    verify: VerifyBinding,
    make_sources: SourceFactory,
    nursery: trio.Nursery,
    system: System,
    network: Network | None,
    client_interceptors: Sequence[ClientInterceptor] = (),
    server_interceptors: Sequence[ServerInterceptor] = (),
    keys: KeyStore | None = None,
    neighbours: NeighbourWatch | None = None,
) -> AsyncIterator[NodeStack]:
    """Run a node for the life of the block; entering returns once it listens.

    ``keys`` keeps the calls with idempotency keys; None = in memory. ``neighbours`` is told how peers behave; None =
    nobody is.

    Raises:
        StartFailedError, InvalidAddressError: nothing was left behind.
    """
    node = Node(config, key, system=system, network=network)
    started_s = system.monotonic_s()

    def promised(peer_id: PeerId) -> tuple[str, ...]:
        known = records.known(peer_id)
        # A new record is the way out for who went back to an older version: it is signed, whatever carries it.
        discovery = f"{config.protocol_prefix}/discovery/"
        return () if known is None else tuple(each for each in known.info.protocols if not each.startswith(discovery))

    rpc = RpcClient(
        PromisedVersions(node, promised),
        prefix=config.protocol_prefix,
        system=system,
        interceptors=client_interceptors,
        watch=neighbours,
    )
    if neighbours is not None:
        records.forgeries.tell_to(neighbours.note_forgery)
    status = StatusClient(rpc, system)
    probe = StatusCalls(rpc, status)
    sources = tuple(make_sources(node, rpc))

    def current_status() -> HostStatus:
        if stack.host_status is not None:
            return stack.host_status()
        return HostStatus(
            # Nothing is known of an engine; that the host leaves is, to those as well whom its record has not reached.
            state=_LEAVING.get(stack.publisher.state, ServingState.UNKNOWN),
            active_jobs=0,
            queued_jobs=0,
            max_concurrent_jobs=0,
            max_queued_jobs=0,
            models=(),
            uptime_s=system.monotonic_s() - started_s,
            time_unix_s=system.unix_s(),
        )

    stack = NodeStack(
        node=node,
        key=key,
        rpc=rpc,
        server=RpcServer(prefix=config.protocol_prefix, system=system, interceptors=server_interceptors, keys=keys),
        status=status,
        status_server=StatusServer(current_status, system),
        probe=probe,
        quotes=QuoteCalls(rpc, peer_id=key.peer_id, network=network_name, system=system),
        messenger=DirectMessenger(rpc, system),
        sources=sources,
        nursery=nursery,
        publisher=HostPublisher(
            key=key,
            network=network_name,
            node=node,
            sources=sources,
            caller=rpc,
            store=store,
            binding=partial(binding, key.peer_id),
            verify_binding=verify,
            status=probe,
            dial_backs=node,
            news=records,
            least_epoch=records.revoking.least_epoch,
            system=system,
        ),
        records=records,
    )
    records.see_peers_at(node.remote_ip)
    records.revoking.see_own(lambda: stack.publisher.info)
    # Whether or not an address changed: after a sleep the record has expired.
    node.on_network_change(lambda change: stack.publisher.moved() if change.changes_reach else None)
    stack.serve(DiscoveryServer(records, stack.publisher.current, secret=system.random_bytes(16)))
    stack.serve(stack.status_server, limits=STATUS_LIMITS)
    stack.serve(stack.messenger.inbox)
    # Its limits are those that its .proto states: it answers tools, not work.
    stack.serve(ReflectionServer(stack.server.services), limits=None)
    scope = trio.CancelScope()

    def told_of_revocation(peer_id: PeerId, revocation: discovery_pb2.BindingRevocation) -> None:
        records.learn_revocations([revocation], introducer=peer_id)

    async def run_services(*, task_status: TaskStatus[None]) -> None:
        async with trio.open_nursery() as services:
            await services.start(stack.messenger.run)
            await services.start(stack.server.run)
            await services.start(Introductions(node, rpc, stack.publisher.current, told_of_revocation).run)
            task_status.started()

    await nursery.start(node.run)
    try:
        await stack.start_task(run_services, scope)
        yield stack
    finally:
        scope.cancel()
        with trio.CancelScope(shield=True):
            await node.stop()
