"""A thief binds a copy of a host's key to a wallet of his own: whole nodes, and whom the client chooses."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
from tests.simulated.adversary_world import MODEL, OPTIONS, start_node
from tests.support.simulated import simulated

from hostmesh import HostChoice, HostCriteria, NoHostFoundError
from hostmesh.discovery.manager import DiscoveryManager
from hostmesh.sdk import SDK
from hostmesh.testing import FakeEngine, SimMachine, SimNetwork, make_description, make_wallet

WANTED = HostCriteria(required_models=[MODEL])
TRUSTED = HostCriteria(required_models=[MODEL], min_reputation=900)
OWNER, OTHER, THIEF = (make_wallet(name).address.lower() for name in ("owner", "other", "thief"))
DESCRIPTION = make_description(MODEL, price_micros_per_mtok=100)


@dataclass
class Market:
    """A bootstrap node, an honest host, one that will lose its key, and a client that is to use both."""

    net: SimNetwork
    bootstrap: list[str]
    client: SDK

    @property
    def discovery(self) -> DiscoveryManager:
        return self.client.get_discovery_manager()

    async def seen(self) -> dict[str, HostChoice]:
        """Return all hosts, by the wallets under which the client sees them."""
        return {choice.operator_address: choice for choice in (await self.discovery.explain(WANTED)).choices}

    async def chosen(self) -> str:
        """Return the wallet of the host that the client would use."""
        assert len(await self.seen()) == 2, "it has the choice"
        return (await self.discovery.find_host(WANTED)).operator_address

    @asynccontextmanager
    async def hosting(self, machine: SimMachine) -> AsyncIterator[None]:
        """Serve the model on a machine, under its own wallet."""
        engine = FakeEngine([MODEL], answer=lambda work: "It is a law of nature.")
        async with machine.open_sdk() as sdk:
            await start_node(machine, sdk, self.bootstrap)
            async with sdk.get_host_manager().serve(DESCRIPTION, engine):
                await trio.sleep(30)
                yield


@asynccontextmanager
async def market_on(net: SimNetwork) -> AsyncIterator[Market]:
    boot, client = net.machine("boot"), net.machine("client")
    async with boot.open_sdk(serve_dht=True) as boot_sdk, client.open_sdk() as client_sdk:
        bootstrap = [f"/ip4/{boot.address}/tcp/4001/p2p/{await start_node(boot, boot_sdk, [])}"]
        await start_node(client, client_sdk, bootstrap)
        yield Market(net, bootstrap, client_sdk)


@simulated(market_on, network=OPTIONS)
async def test_a_thief_with_a_copy_of_the_key_has_nothing_of_its_name(market: Market) -> None:
    owner, other, thief = (market.net.machine(name) for name in ("owner", "other", "thief"))
    discovery = market.discovery
    async with market.hosting(other):
        async with market.hosting(owner):
            seen = await market.seen()
            for wallet, jobs in ((OWNER, 81), (OTHER, 10)):
                for _ in range(jobs):
                    discovery.record_outcome(seen[wallet].peer_id, wallet, good=True)
            assert await market.chosen() == OWNER
            assert (await discovery.find_host(TRUSTED)).operator_address == OWNER
        shutil.copytree(owner.folder, thief.folder, dirs_exist_ok=True)
        async with market.hosting(thief):
            assert await market.chosen() == OTHER
            stolen = (await market.seen())[THIEF]
            assert stolen.peer_id == seen[OWNER].peer_id
            assert (stolen.reputation.points, stolen.reputation.n) == (100, 0)
            with pytest.raises(NoHostFoundError):
                await discovery.find_host(TRUSTED)
        async with market.hosting(owner):
            assert await market.chosen() == OWNER, "the name is as good as it was"
