"""Whole nodes that live, die and start again on a simulated network, with their keys and stores on its disks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from hostmesh import (
    SDK,
    DiscoveryManager,
    HostChoice,
    HostCriteria,
    HostDescription,
    ModelOffer,
    NoHostFoundError,
    PeerId,
)
from hostmesh.testing import SimMachine, SimNetwork, make_wallet

WANTED = HostCriteria(required_models=["m"])


@dataclass
class Member:
    """A node of the mesh."""

    machine: SimMachine
    sdk: SDK
    peer_id: PeerId

    @property
    def manager(self) -> DiscoveryManager:
        return self.sdk.get_discovery_manager()

    @property
    def address(self) -> str:
        return f"/ip4/{self.machine.address}/tcp/4001/p2p/{self.peer_id}"

    async def find_all(self, timeout_s: float = 10.0) -> set[PeerId]:
        """Return the hosts that answer this client now."""
        return {choice.peer_id for choice in await self.manager.find_all_hosts(WANTED, timeout_s=timeout_s)}

    async def find(self) -> HostChoice | None:
        try:
            return await self.manager.find_host(WANTED)
        except NoHostFoundError:
            return None


class Mesh:
    """Starts nodes, each in a task of its own; keys and stores are on the machines' disks."""

    def __init__(self, net: SimNetwork, nursery: trio.Nursery) -> None:
        self.net = net
        self._nursery = nursery

    async def start(
        self,
        machine: SimMachine | str,
        *bootstrap: str,
        is_host: bool = False,
        serve_dht: bool = False,
        **settings: Any,
    ) -> Member:
        """Start a node; return it once it listens, and once it is announced where it is a host."""
        on = self.net.machine(machine) if isinstance(machine, str) else machine
        member: Member = await self._nursery.start(self._live, on, bootstrap, is_host, serve_dht, settings)
        return member

    async def _live(
        self,
        machine: SimMachine,
        bootstrap: tuple[str, ...],
        is_host: bool,
        serve_dht: bool,
        settings: dict[str, Any],
        *,
        task_status: Any,
    ) -> None:
        async with machine.open_sdk(serve_dht=serve_dht or is_host, bootstrap_nodes=bootstrap, **settings) as sdk:
            await sdk.authenticate(wallet=make_wallet(machine.name))
            manager = sdk.get_discovery_manager()
            peer_id = await manager.create_node()
            if is_host:
                await manager.announce(HostDescription(models=[ModelOffer(model_id="m")]))
            task_status.started(Member(machine, sdk, peer_id))
            await trio.sleep_forever()


@asynccontextmanager
async def mesh_on(net: SimNetwork) -> AsyncIterator[Mesh]:
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield Mesh(net, nursery)
        except Exception as error:  # noqa: BLE001 - raised again below, without the nursery's group around it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def took_s(holds: Callable[[], Awaitable[object]], *, within_s: float) -> float:
    """Ask again and again until it holds; return how long that took.

    Raises:
        trio.TooSlowError: it does not hold in time.
    """
    began_s = trio.current_time()
    with trio.fail_after(within_s):
        while not await holds():  # noqa: ASYNC110 - the virtual clock's sleep costs nothing
            await trio.sleep(0.5)
    return trio.current_time() - began_s
