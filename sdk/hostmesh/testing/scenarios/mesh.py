"""Whole hostmesh nodes of a scenario: bootstrap nodes, hosts and clients, and the account of what truly runs where."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import trio

from hostmesh.discovery.manager import DiscoveryManager
from hostmesh.node_stack import SourceFactory
from hostmesh.rpc.interceptors import ClientInterceptor
from hostmesh.sdk import SDK
from hostmesh.testing.engine import FakeEngine
from hostmesh.testing.machine import DEFAULT_PORT, SimMachine
from hostmesh.testing.network import SimNetwork
from hostmesh.testing.records import make_description
from hostmesh.testing.wallets import make_wallet

if TYPE_CHECKING:
    from trio_typing import TaskStatus

HOST_CONNECTIONS = 1_000
"""As ``hostmesh-host`` has it."""


CONTINENTS_S = (
    (0.012, 0.045, 0.080),
    (0.045, 0.018, 0.075),
    (0.080, 0.075, 0.030),
)
"""One-way latency within and between Europe, North America and East Asia, about as the large clouds publish theirs."""


class Leaving(Enum):
    """How a node leaves the network."""

    QUIT = "quit"
    """It says goodbye and ends."""
    KILL = "kill"
    """``kill -9``: its peers meet resets."""
    POWER_OFF = "power-off"
    """Silence."""


@dataclass(eq=False, kw_only=True)
class MeshNode:
    """One node, as the scenario knows it."""

    machine: SimMachine
    models: tuple[str, ...] = ()
    """What it serves as a host; empty for a client."""
    peer_id: str = ""
    manager: DiscoveryManager | None = None
    """Once it runs."""
    begun_s: float = field(default_factory=trio.current_time)
    """When it began to start."""
    started_s: float = 0.0
    """When it ran, and as a host served, in seconds of the simulation."""
    left_s: float | None = None
    quit: trio.Event = field(default_factory=trio.Event)


ClientWork = Callable[[MeshNode], Awaitable[None]]
"""What a client does; it is cancelled when the client leaves."""


class Mesh:
    """The nodes of one scenario. Their account is the truth that finds are held against.

    Args:
        network: where they live.
        nursery: owns their tasks.
        latency_s: one-way latency from region to region, a square matrix; machines are put into the regions by turns.
            None: links stay as the network has them.
        draw_latency_s: draws the one-way latency of each pair of machines, where they are in no regions.
    """

    def __init__(
        self,
        network: SimNetwork,
        nursery: trio.Nursery,
        *,
        latency_s: Sequence[Sequence[float]] | None = None,
        draw_latency_s: Callable[[], float] | None = None,
    ) -> None:
        self.network = network
        self.nodes: list[MeshNode] = []
        """Hosts and clients that have not left, in the order in which they came."""
        self.server_ids: list[str] = []
        """Of all DHT servers that were started here."""
        self._nursery = nursery
        self._latency_s = latency_s
        self._draw_latency_s = draw_latency_s
        self._regions: dict[str, int] = {}
        self.bootstrap: list[str] = []
        """Addresses of the bootstrap nodes, with ``/p2p``."""
        self._by_peer_id: dict[str, MeshNode] = {}

    def serving(self, model_id: str, *, for_s: float = 0.0) -> list[MeshNode]:
        """Return the hosts that serve a model, and have for so long."""
        latest_s = trio.current_time() - for_s
        return [node for node in self.nodes if model_id in node.models and node.started_s <= latest_s]

    def by_peer_id(self, peer_id: str) -> MeshNode:
        """Return a host or client that is here or was."""
        return self._by_peer_id[peer_id]

    async def start_bootstrap(self, name: str) -> None:
        """Start a bootstrap node; nodes that start later know it."""
        node = MeshNode(machine=self.machine(name))
        await self._nursery.start(self._run_bootstrap, node)
        self.bootstrap.append(f"/ip4/{node.machine.address}/tcp/{DEFAULT_PORT}/p2p/{node.peer_id}")

    async def start_host(self, name: str, models: Sequence[str]) -> MeshNode:
        """Start a host, and return it once it serves."""
        node = MeshNode(machine=self.machine(name), models=tuple(models))
        await self._nursery.start(self._run_host, node)
        return node

    async def start_client(
        self,
        name: str,
        work: ClientWork,
        *,
        interceptors: Sequence[ClientInterceptor] = (),
        sources: SourceFactory | None = None,
    ) -> MeshNode:
        """Start a client, and return it once its node runs and its work has begun.

        Args:
            name: of its machine.
            work: what it does.
            interceptors: around the calls that it makes.
            sources: by which it finds hosts; None = those of its settings.
        """
        node = MeshNode(machine=self.machine(name))
        await self._nursery.start(self._run_client, node, work, interceptors, sources)
        return node

    def leave(self, node: MeshNode, way: Leaving) -> None:
        """Let a node leave, for good."""
        self.nodes.remove(node)
        node.left_s = trio.current_time()
        if way is Leaving.QUIT:
            node.quit.set()
        elif way is Leaving.KILL:
            node.machine.kill()
        else:
            node.machine.power_off()

    def machine(self, name: str) -> SimMachine:
        """Make a machine, with its links to those that there are."""
        others = list(self.network.machines)
        machine = self.network.machine(name)
        if self._draw_latency_s is not None:
            for other in others:
                self.network.link(name, other).latency_s = self._draw_latency_s()
        if self._latency_s is not None:
            region = len(self._regions) % len(self._latency_s)
            for other, others_region in self._regions.items():
                self.network.link(name, other).latency_s = self._latency_s[region][others_region]
            self._regions[name] = region
        return machine

    async def _run_bootstrap(self, node: MeshNode, *, task_status: TaskStatus[None]) -> None:
        async with node.machine.open_bootstrap_node(bootstrap_nodes=self.bootstrap) as sdk:
            self._admit(node, sdk)
            self.server_ids.append(node.peer_id)
            task_status.started()
            await trio.sleep_forever()

    async def _run_host(self, node: MeshNode, *, task_status: TaskStatus[None]) -> None:
        # Who leaves does so for good: files that nobody reads again would be 33 descriptors a host.
        async with node.machine.open_sdk(in_memory=True, serve_dht=True, max_connections=HOST_CONNECTIONS) as sdk:
            await self._join(node, sdk)
            self.server_ids.append(node.peer_id)
            models = list(node.models)
            async with sdk.get_host_manager().serve(make_description(models), FakeEngine(models)):
                self._note(node)
                task_status.started()
                await node.quit.wait()

    async def _run_client(
        self,
        node: MeshNode,
        work: ClientWork,
        interceptors: Sequence[ClientInterceptor],
        sources: SourceFactory | None,
        *,
        task_status: TaskStatus[None],
    ) -> None:
        async with node.machine.open_sdk(ephemeral_key=True, client_interceptors=interceptors, sources=sources) as sdk:
            await self._join(node, sdk)
            async with trio.open_nursery() as nursery:
                self._note(node)
                nursery.start_soon(work, node)
                task_status.started()
                await node.quit.wait()
                nursery.cancel_scope.cancel()

    async def _join(self, node: MeshNode, sdk: SDK) -> None:
        await sdk.authenticate(wallet=make_wallet(node.machine.name))
        await sdk.get_discovery_manager().create_node(bootstrap=self.bootstrap)
        self._admit(node, sdk)

    def _admit(self, node: MeshNode, sdk: SDK) -> None:
        node.manager = sdk.get_discovery_manager()
        node.peer_id = node.manager.network_topology().peer_id
        self._by_peer_id[node.peer_id] = node

    def _note(self, node: MeshNode) -> None:
        node.started_s = trio.current_time()
        self.nodes.append(node)
