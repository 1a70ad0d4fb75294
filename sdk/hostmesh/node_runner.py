"""Runs a node as the settings say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from hostmesh.data_files import DataFiles
from hostmesh.discovery.collaborators import NodeOptions, RunningNode
from hostmesh.discovery.records import RecordBook
from hostmesh.discovery.supervise import keep_running
from hostmesh.discovery.terms import Place
from hostmesh.discovery_history import DiscoveryHistory
from hostmesh.identity.binding import verify_binding
from hostmesh.identity.operator import OperatorBinding
from hostmesh.neighbours import NeighbourWatch
from hostmesh.net.config import NodeConfig
from hostmesh.net.network import Network
from hostmesh.node_stack import NodeStack, SourceFactory, default_sources, run_stack
from hostmesh.rpc.interceptors import ClientInterceptor, ServerInterceptor
from hostmesh.sessions.client_revocations import RevocationPusher
from hostmesh.settings import Settings
from hostmesh.system import System

if TYPE_CHECKING:
    from trio_typing import TaskStatus


@dataclass(frozen=True, kw_only=True)
class NodeRunner:
    """What every node of an SDK is run with, one after the other."""

    settings: Settings
    files: DataFiles
    records: RecordBook
    nursery: trio.Nursery
    system: System
    network: Network | None
    make_sources: SourceFactory | None
    """None: the sources of the settings."""
    serve_dht: bool
    client_interceptors: Sequence[ClientInterceptor]
    server_interceptors: Sequence[ServerInterceptor]

    @asynccontextmanager
    async def run(self, options: NodeOptions, binding: OperatorBinding) -> AsyncIterator[tuple[NodeStack, RunningNode]]:
        """Run a node for the life of the block; entering returns once it listens.

        Args:
            options: beat the settings.
            binding: the operator's word for the node's key.

        Yields:
            The node's parts, and those of them that discovery works with.
        """
        settings = self.settings
        config = NodeConfig(
            listen_addresses=settings.listen_addresses if options.listen is None else options.listen,
            announce_addresses=settings.announce_addresses if options.announce is None else options.announce,
            bootstrap_addresses=settings.bootstrap_nodes if options.bootstrap is None else options.bootstrap,
            fallback_peers=self.files.fallback_peers,
            peer_scores=self.files.neighbours,
            enable_dht=settings.enable_dht,
            dht_server=self.serve_dht,
            protocol_prefix=settings.protocol_prefix,
            max_connections=settings.max_connections,
            max_streams=settings.max_streams,
            connection_timeout_s=settings.connection_timeout_s,
        )
        place = None if settings.location is None else Place.parse(settings.location)
        make_sources = self.make_sources or partial(
            default_sources,
            network=settings.network,
            records=self.records,
            system=self.system,
            enable_mdns=settings.enable_mdns,
            mdns_interfaces=settings.mdns_interfaces,
            gossip_prefix=settings.protocol_prefix if settings.enable_gossip else None,
            static_hosts=settings.static_hosts,
            cache=self.files.cache,
            ran_jobs=self.files.reputation.knows,
        )
        self.records.remember_bans(self.files.bans)
        self.records.revoking.remember(self.files.revocations)
        self.records.lie_watch = DiscoveryHistory(self.files.reputation, self.system)
        with ExitStack() as held:
            key = self.files.open_peer_key(held)
            async with run_stack(
                config=config,
                key=key,
                network_name=settings.network,
                records=self.records,
                store=self.files.sequences,
                binding=binding.current,
                verify=verify_binding,
                make_sources=make_sources,
                nursery=self.nursery,
                system=self.system,
                network=self.network,
                client_interceptors=self.client_interceptors,
                server_interceptors=self.server_interceptors,
                keys=self.files.open_call_keys(held, key.peer_id),
                neighbours=NeighbourWatch(self.files.neighbours, self.system),
            ) as stack:
                scope = trio.CancelScope()
                await stack.start_task(partial(keep_running, "revocations", partial(self._push, stack)), scope)
                node = RunningNode(
                    node=stack.node,
                    caller=stack.rpc,
                    sources=stack.sources,
                    status=stack.probe,
                    messenger=stack.messenger,
                    publisher=stack.publisher,
                    protocol_prefix=config.protocol_prefix,
                    max_connections=config.max_connections,
                    quotes=stack.quotes,
                    place=place,
                    address_of=stack.node.remote_address,
                )
                try:
                    yield stack, node
                finally:
                    scope.cancel()

    async def _push(self, stack: NodeStack, *, task_status: TaskStatus[None]) -> None:
        """Tell hosts of revocations that they have not taken."""
        pusher = RevocationPusher(stack.rpc, self.files.sessions, self.system)
        await pusher.run(task_status=task_status)
