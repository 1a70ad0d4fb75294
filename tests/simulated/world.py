"""A host and a client, connected, on two machines of a simulated network, with an engine that takes its time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from hostmesh import SDK, HostChoice, HostCriteria, HostDescription, ModelInfo, ModelKind, PeerId
from hostmesh.testing import FakeEngine, SimMachine, SimNetwork, make_description, make_wallet

MODEL = "held-chat"
PRICE = 250_000
TOKEN_S = 10.0
"""Between the two tokens of the engine's answer: long enough for whatever shall happen during a job."""
ANSWER = "first last"
_HELD = ModelInfo(model_id=MODEL, kind=ModelKind.CHAT, context_tokens=64, engine="fake 1")


@dataclass
class World:
    """Both ends, connected."""

    net: SimNetwork
    host: SDK
    client: SDK
    host_id: PeerId
    host_address: str
    engine: FakeEngine

    async def find(self) -> HostChoice:
        """Return the host as the client finds it."""
        return await self.client.get_discovery_manager().find_host(HostCriteria(required_models=[MODEL]))


async def join(sdk: SDK, machine: SimMachine, *bootstrap: str) -> str:
    """Start a node; return its address."""
    await sdk.authenticate(wallet=make_wallet(machine.name))
    peer_id = await sdk.get_discovery_manager().create_node(bootstrap=bootstrap)
    return f"/ip4/{machine.address}/tcp/4001/p2p/{peer_id}"


@asynccontextmanager
async def world_of(net: SimNetwork) -> AsyncIterator[World]:
    """Two nodes without a DHT. The host serves nothing yet."""
    host_machine, client_machine = net.machine("host"), net.machine("client")
    engine = FakeEngine([_HELD], tokens_per_s=1 / TOKEN_S, answer=lambda work: ANSWER)
    async with (
        host_machine.open_sdk(ephemeral_key=True, enable_dht=False) as host,
        client_machine.open_sdk(ephemeral_key=True, enable_dht=False) as client,
    ):
        address = await join(host, host_machine)
        await join(client, client_machine)
        host_id = await client.get_discovery_manager().connect_to_peer(address)
        yield World(net, host, client, host_id, address, engine)


def offer(price: int | None = PRICE) -> HostDescription:
    """Return what the host offers."""
    return make_description(MODEL, price_micros_per_mtok=price, max_concurrent_jobs=2, max_queued_jobs=2)
