"""A small world of shipped nodes, to which a test adds its adversary: a bootstrap node, an honest host, a client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from hostmesh import HostChoice, HostCriteria, PeerId
from hostmesh.discovery.manager import DiscoveryManager
from hostmesh.discovery.sources.model_keys import epoch_of, model_key
from hostmesh.sdk import SDK
from hostmesh.testing import FakeEngine, LinkProfile, SimMachine, SimNetwork, SimOptions, make_description, make_wallet
from hostmesh.testing.machine import NETWORK_NAME

MODEL = "fake-chat"
WANTED = HostCriteria(required_models=[MODEL])
LATENCY_S = 0.03
OPTIONS = SimOptions(link=LinkProfile(latency_s=LATENCY_S))


@dataclass(frozen=True, kw_only=True)
class World:
    """What runs."""

    net: SimNetwork
    boot: SDK
    host: SDK
    client: SDK
    bootstrap: list[str]
    """The bootstrap node's address."""
    honest: PeerId
    """The honest host."""

    @property
    def discovery(self) -> DiscoveryManager:
        """The client's."""
        return self.client.get_discovery_manager()

    async def start_client(self) -> PeerId:
        """Let the client join, 30 s from now, when the DHT has heard of everybody. It knows the bootstrap node only."""
        await trio.sleep(30)
        return await start_node(self.net.machines["client"], self.client, self.bootstrap)

    @property
    def now_unix_s(self) -> int:
        """The time, by the client's clock."""
        return int(self.net.machines["client"].system.unix_s())

    def shard_key(self, shard: int) -> bytes:
        """Return the DHT key of a shard of the model now."""
        return model_key(NETWORK_NAME, MODEL, shard, epoch=epoch_of(MODEL, self.now_unix_s))

    def address_of(self, name: str) -> str:
        """Return where a machine's node listens."""
        return f"/ip4/{self.net.machines[name].address}/tcp/4001"

    async def find_timed(self, criteria: HostCriteria = WANTED) -> tuple[HostChoice, float]:
        """Return the host that the client finds, and how many seconds that took."""
        began_s = trio.current_time()
        choice = await self.discovery.find_host(criteria)
        return choice, trio.current_time() - began_s


async def start_node(machine: SimMachine, sdk: SDK, bootstrap: list[str]) -> PeerId:
    """Start an SDK's node, with the machine's wallet, and return its peer id once it has joined."""
    await sdk.authenticate(wallet=make_wallet(machine.name))
    discovery = sdk.get_discovery_manager()
    peer_id = await discovery.create_node(bootstrap=bootstrap)
    if bootstrap:
        await discovery.wait_ready()
    return peer_id


@asynccontextmanager
async def world_on(net: SimNetwork, *, max_connections: int = 10) -> AsyncIterator[World]:
    """Run a bootstrap node and a host that serves :data:`MODEL`; the client's node is started by the test.

    The host is no DHT server, so that the client hears of it from others only.

    Args:
        net: their machines are made in it.
        max_connections: of the client; few, so that it is soon short of them.
    """
    machines = [net.machine(name) for name in ("boot", "host", "client")]
    boot, host, client = machines
    async with (
        boot.open_sdk(serve_dht=True, max_connections=1000) as boot_sdk,
        host.open_sdk(max_connections=1000) as host_sdk,
        client.open_sdk(max_connections=max_connections) as client_sdk,
    ):
        bootstrap = [f"/ip4/{boot.address}/tcp/4001/p2p/{await start_node(boot, boot_sdk, [])}"]
        honest = await start_node(host, host_sdk, bootstrap)
        offer = make_description(MODEL, price_micros_per_mtok=100)
        engine = FakeEngine([MODEL], answer=lambda work: "It is a law of nature.")
        async with host_sdk.get_host_manager().serve(offer, engine):
            yield World(net=net, boot=boot_sdk, host=host_sdk, client=client_sdk, bootstrap=bootstrap, honest=honest)
