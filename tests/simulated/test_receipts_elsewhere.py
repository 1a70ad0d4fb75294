"""What both sides keep of real jobs: somebody who was not there verifies it, and both come to the same sum."""

from __future__ import annotations

import trio
from tests.simulated.world import join
from tests.support.simulated import simulated

from hostmesh import SDK, HostCriteria, HostDescription, ModelKind, ModelOffer, Price
from hostmesh.receipts.bundle import SessionBundle
from hostmesh.receipts.export import bundle_lines, read_bundles
from hostmesh.receipts.paper_store import KeptFilter
from hostmesh.receipts.receipt import JobState, open_sealed
from hostmesh.receipts.settlement import Statement
from hostmesh.testing import FakeEngine, SimMachine, SimNetwork, chat_model, embedding_model

CHAT, EMBED = "tiny-chat", "tiny-embed"
PRICE = Price(micros_per_mtok=1_000_000, currency="USD")
OFFER = HostDescription(
    models=[
        ModelOffer(model_id=CHAT, price=PRICE),
        ModelOffer(model_id=EMBED, kind=ModelKind.EMBEDDING, price=PRICE),
    ]
)


async def serve(machine: SimMachine, *, task_status: trio.TaskStatus[tuple[SDK, str]]) -> None:
    engine = FakeEngine([chat_model(CHAT), embedding_model(EMBED)], answer=lambda work: "one two three four five six")
    async with machine.open_sdk(ephemeral_key=True, enable_dht=False) as sdk:
        address = await join(sdk, machine)
        async with sdk.get_host_manager().serve(OFFER, engine):
            task_status.started((sdk, address))
            await trio.sleep_forever()


def kept(sdk: SDK) -> list[SessionBundle]:
    """Its receipts as a file has them, read back line by line."""
    sessions = sdk._files.receipts.papers.sessions(KeptFilter())
    lines = [line for each in sessions if each.bundle is not None for line in bundle_lines(each.bundle)]
    return list(read_bundles(lines))


@simulated()
async def test_receipts_of_real_jobs_verify_elsewhere(net: SimNetwork) -> None:
    async with trio.open_nursery() as nursery:
        host, address = await nursery.start(serve, net.machine("host"))
        machine = net.machine("client")
        charged = 0
        async with machine.open_sdk(ephemeral_key=True, enable_dht=False) as client:
            await join(client, machine)
            discovery = client.get_discovery_manager()
            await discovery.connect_to_peer(address)
            for model, given in ((CHAT, {"prompt": "Count."}), (EMBED, {"texts": ["a", "b"]})):
                choice = await discovery.find_host(HostCriteria(required_models=[model]))
                async with client.get_session_manager().open_session(choice, spending_limit_micros=1_000) as session:
                    for _ in range(2):
                        async with client.get_job_manager().run(session, **given) as job:  # type: ignore[arg-type]
                            async for _ in job:
                                pass
                        charged += job.usage.cost_micros
            theirs, ours = kept(host), kept(client)
        nursery.cancel_scope.cancel()
    assert len(ours) == len(theirs) == 2
    for bundle in (*ours, *theirs):
        for job in bundle.jobs:
            last = open_sealed(job.receipts[-1].envelope, network=bundle.session.network)
            assert (last.state, bool(job.receipts[-1].countersignature)) == (JobState.SUCCEEDED, True)
    statements = [Statement().settle(each) for each in (ours, theirs)]
    assert statements[0] == statements[1]
    (owed,) = statements[0]
    assert (owed.amount_micros, owed.sessions, owed.jobs) == (charged, 2, 4)
    assert charged > 0
