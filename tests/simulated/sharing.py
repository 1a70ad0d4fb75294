"""Three nodes: one whose user shares its receipts of a host, the host, and one who asks; and a peer that means harm."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio
from tests.simulated.world import join

from hostmesh import SDK, CallContext, HostCriteria, HostDescription, ModelOffer, PeerId, Price
from hostmesh.receipts.sharing import FIRST, session_message
from hostmesh.testing import FakeEngine, SimMachine, SimNetwork, chat_model, open_adversary_node
from hostmesh.v1 import receipt_pb2 as pb
from hostmesh.v1.receipt_hostmesh import RECEIPT_SERVICE

MODEL = "tiny-chat"
OFFER = HostDescription(models=[ModelOffer(model_id=MODEL, price=Price(micros_per_mtok=1_000_000, currency="USD"))])
JOBS = 3


async def serve(machine: SimMachine, *, task_status: trio.TaskStatus[str]) -> None:
    engine = FakeEngine([chat_model(MODEL)], answer=lambda work: "one two three")
    async with machine.open_sdk(ephemeral_key=True, enable_dht=False) as sdk:
        address = await join(sdk, machine)
        async with sdk.get_host_manager().serve(OFFER, engine):
            task_status.started(address)
            await trio.sleep_forever()


async def run_jobs(sdk: SDK, address: str) -> PeerId:
    """Run jobs in one session with the host at an address; return its peer id."""
    discovery = sdk.get_discovery_manager()
    host = await discovery.connect_to_peer(address)
    choice = await discovery.find_host(HostCriteria(required_models=[MODEL], include=[host]))
    async with sdk.get_session_manager().open_session(choice, spending_limit_micros=10_000) as session:
        for _ in range(JOBS):
            async with sdk.get_job_manager().run(session, prompt="Count.") as job:
                await job.read_text()
    return host


@dataclass
class World:
    """A host, one who used it, and one who asks; the last two are connected."""

    host: PeerId
    host_address: str
    sharer: SDK
    sharer_id: PeerId
    sharer_address: str
    sharer_machine: SimMachine
    asker: SDK
    asker_machine: SimMachine

    def share(self) -> pb.SharedSession:
        """Agree to share all; return the session as peers are told it."""
        self.sharer.get_receipt_exchange().share()
        ((_, bundle),) = self.sharer._files.receipts.shared.after(
            FIRST, network="simnet", hosts=(), max_sessions=1, max_jobs=8
        )
        message = session_message(bundle)
        assert message is not None
        return message


@asynccontextmanager
async def world_of(net: SimNetwork, *, in_memory: bool = False) -> AsyncIterator[World]:
    """``in_memory``: what the sharer keeps."""
    host_machine, sharer_machine, asker_machine = (net.machine(name) for name in ("host", "sharer", "asker"))
    async with trio.open_nursery() as nursery:
        address: str = await nursery.start(serve, host_machine)
        async with (
            sharer_machine.open_sdk(ephemeral_key=True, in_memory=in_memory, enable_dht=False) as sharer,
            asker_machine.open_sdk(ephemeral_key=True, enable_dht=False) as asker,
        ):
            sharer_address = await join(sharer, sharer_machine)
            await join(asker, asker_machine)
            host = await run_jobs(sharer, address)
            sharer_id = await asker.get_discovery_manager().connect_to_peer(sharer_address)
            yield World(host, address, sharer, sharer_id, sharer_address, sharer_machine, asker, asker_machine)
        nursery.cancel_scope.cancel()


class Hostile:
    """A peer that serves whatever ``answer`` makes of a request."""

    def __init__(self, answer: Callable[[pb.ListSharedRequest], Awaitable[pb.ListSharedResponse]]) -> None:
        self._answer = answer
        self.asked = 0

    async def list_shared(self, request: pb.ListSharedRequest, context: CallContext) -> pb.ListSharedResponse:
        self.asked += 1
        return await self._answer(request)


@asynccontextmanager
async def hostile_peer(net: SimNetwork, asker: SDK, handler: Hostile) -> AsyncIterator[PeerId]:
    machine = net.machine("hostile")
    async with open_adversary_node(machine) as node:
        node.serve(RECEIPT_SERVICE, handler)
        yield await asker.get_discovery_manager().connect_to_peer(f"{node.address}/p2p/{node.peer_id}")
