"""Many nodes at once on a simulated network, for who tests a protocol of his own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import trio
from google.protobuf.message import Message

from hostmesh.net.peer_id import PeerId
from hostmesh.rpc.method import Method
from hostmesh.sdk import SDK
from hostmesh.testing.machine import DEFAULT_PORT, SimMachine
from hostmesh.testing.network import SimNetwork
from hostmesh.testing.wallets import make_wallet

if TYPE_CHECKING:
    from trio_typing import TaskStatus

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


@dataclass(frozen=True, slots=True)
class SimNode:
    """A node that :func:`open_nodes` runs."""

    machine: SimMachine
    sdk: SDK
    peer_id: PeerId

    @property
    def address(self) -> str:
        """Where others reach it, its peer id included."""
        return f"/ip4/{self.machine.address}/tcp/{DEFAULT_PORT}/p2p/{self.peer_id}"

    async def call(
        self, other: SimNode, method: Method[RequestT, ResponseT], request: RequestT, *, timeout_s: float
    ) -> ResponseT:
        """Make a call with one response to another node, which is dialled at its address if there is no connection.

        Args:
            other: whom to ask.
            method: see :func:`hostmesh.method`.
            request: for the method.
            timeout_s: for everything.

        Raises:
            HostmeshError: see :meth:`hostmesh.DiscoveryManager.connect_to_peer` and :meth:`hostmesh.RpcClient.unary`.
        """
        deadline = trio.current_time() + timeout_s
        await self.sdk.get_discovery_manager().connect_to_peer(other.address, timeout_s)
        left_s = deadline - trio.current_time()
        return await self.sdk.get_rpc_client().unary(other.peer_id, method, request, timeout_s=left_s)


@asynccontextmanager
async def open_nodes(
    network: SimNetwork, count: int, *, prefix: str = "n", **settings: object
) -> AsyncIterator[Sequence[SimNode]]:
    """Run nodes on machines ``n0``, ``n1``, ... of their own, all connected to the first, which is a bootstrap node.

    Each runs in a task of its own: one whose machine is killed or loses power ends, the others and the block go on.
    Leaving the block closes all.

    Args:
        network: where they run.
        count: how many.
        prefix: of the machines' names.
        **settings: of every node; see :meth:`SimMachine.open_sdk`.

    Raises:
        UsageError: a machine's name is taken.
        ReadyTimeoutError: a node did not reach the first.
        HostmeshError: see :meth:`hostmesh.DiscoveryManager.create_node`.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            nodes: list[SimNode] = []
            for number in range(count):
                machine = network.machine(f"{prefix}{number}")
                bootstrap = tuple(node.address for node in nodes[:1])
                nodes.append(await nursery.start(_live, machine, bootstrap, settings))
            for node in nodes[1:]:
                await node.sdk.get_discovery_manager().wait_ready()
            if nodes:
                await nodes[0].sdk.get_discovery_manager().wait_ready(len(nodes) - 1)
            yield nodes
        except Exception as error:  # noqa: BLE001 - raised again below, without the nursery's group around it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _live(
    machine: SimMachine, bootstrap: Sequence[str], settings: dict[str, Any], *, task_status: TaskStatus[SimNode]
) -> None:
    wallet = make_wallet(machine.name)
    if not bootstrap:
        async with machine.open_bootstrap_node(wallet=wallet, **settings) as sdk:
            task_status.started(SimNode(machine, sdk, sdk.get_discovery_manager().network_topology().peer_id))
            await trio.sleep_forever()
    else:
        async with machine.open_sdk(**settings) as sdk:
            await sdk.authenticate(wallet=wallet)
            peer_id = await sdk.get_discovery_manager().create_node(bootstrap=bootstrap)
            task_status.started(SimNode(machine, sdk, peer_id))
            await trio.sleep_forever()
