"""What a host finds out about itself and says in its record: how strangers reach it, how fast its models are."""

from __future__ import annotations

import pytest
import trio
from tests.simulated.members import Member, Mesh, mesh_on, took_s
from tests.simulated.world import World, join
from tests.support.simulated import simulated

from hostmesh import HostCriteria, HostInfo, Reachability
from hostmesh.hosting import Serving
from hostmesh.testing import FakeEngine, SimNetwork, make_description, read_host_record
from hostmesh.testing.machine import NETWORK_NAME
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.v1.discovery_hostmesh import DiscoveryServiceClient

MODEL = "fake-chat"
TOKENS_PER_S = 25.0
RENEWED_S = 65.0


def said(serving: Serving) -> int | None:
    assert serving.record is not None
    return serving.record.models[0].output_millitokens_per_s


async def run_jobs(world: World, count: int) -> None:
    """Run jobs, all at once."""
    choice = await world.client.get_discovery_manager().find_host(HostCriteria(required_models=[MODEL]))

    async def run() -> None:
        async with (
            world.client.get_session_manager().open_session(choice, spending_limit_micros=10_000) as session,
            world.client.get_job_manager().run(session, prompt="one two three") as job,
        ):
            await job.read_text()

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(run)


@simulated()
async def test_the_speed_of_a_model_is_said_once_a_job_had_the_host_to_itself(net: SimNetwork) -> None:
    host_machine, client_machine = net.machine("host"), net.machine("client")
    engine = FakeEngine([MODEL], first_token_s=3, tokens_per_s=TOKENS_PER_S, answer=lambda work: "word " * 40)
    async with (
        host_machine.open_sdk(ephemeral_key=True, enable_dht=False) as host,
        client_machine.open_sdk(ephemeral_key=True, enable_dht=False) as client,
    ):
        address = await join(host, host_machine)
        await join(client, client_machine)
        peer_id = await client.get_discovery_manager().connect_to_peer(address)
        world = World(net, host, client, peer_id, address, engine)
        async with host.get_host_manager().serve(make_description(MODEL), engine) as serving:
            await trio.sleep(RENEWED_S)
            assert said(serving) is None, "no job ran"
            await run_jobs(world, 2)
            await trio.sleep(RENEWED_S)
            assert said(serving) is None, "they shared the engine"
            await run_jobs(world, 1)
            await trio.sleep(RENEWED_S)
            assert said(serving) == pytest.approx(1000 * TOKENS_PER_S, rel=0.02), "without the time to the first token"
            choice = await world.client.get_discovery_manager().find_host(HostCriteria(required_models=[MODEL]))
            assert choice.record.models[0].output_millitokens_per_s == said(serving)


# --- reachability ---


async def told(client: Member, teller: Member) -> HostInfo:
    """Return the one record that a node tells a client, verified."""
    asking = DiscoveryServiceClient(client.sdk.get_rpc_client(), teller.peer_id)
    (record,) = (await asking.query(pb.QueryRequest(), timeout_s=5)).records
    return read_host_record(record, now_unix_s=client.machine.system.unix_s(), network=NETWORK_NAME)


@simulated(mesh_on)
async def test_a_host_that_strangers_reach_says_so_and_says_it_anew_where_it_moves_to(mesh: Mesh) -> None:
    bootstrap = await mesh.start("bootstrap", serve_dht=True)
    host = await mesh.start("host", bootstrap.address, is_host=True)
    client = await mesh.start("client", bootstrap.address)
    await trio.sleep(1)
    assert (await told(client, bootstrap)).reachability is None, "nobody has tried yet"
    await trio.sleep(30)
    assert (await told(client, bootstrap)).reachability is Reachability.PUBLIC
    host.machine.move("12.0.0.1")

    async def is_told_where_it_is() -> bool:
        return (await told(client, bootstrap)).addresses == ("/ip4/12.0.0.1/tcp/4001",)

    await took_s(is_told_where_it_is, within_s=30)
    assert (await told(client, bootstrap)).reachability is None, "nobody has tried there"
    await trio.sleep(60)
    assert (await told(client, bootstrap)).reachability is Reachability.PUBLIC


@simulated(mesh_on)
async def test_a_host_that_announces_an_address_where_nobody_answers_says_that_it_cannot_be_reached(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    bootstrap = await mesh.start("bootstrap", serve_dht=True)
    wrong = ("/ip4/20.9.9.9/tcp/4001",)
    await mesh.start("host", bootstrap.address, is_host=True, announce_addresses=wrong)
    client = await mesh.start("client", bootstrap.address)
    await trio.sleep(200)
    assert (await told(client, bootstrap)).reachability is Reachability.UNREACHABLE
    assert caplog.text.count("others cannot dial this host") == 1


@simulated(mesh_on)
async def test_a_host_that_nobody_could_judge_says_nothing(mesh: Mesh) -> None:
    """A client does not dial back, and nobody else is there."""
    lonely = await mesh.start("lonely", is_host=True)
    client = await mesh.start("client")
    await client.manager.connect_to_peer(lonely.address)
    await trio.sleep(300)
    record = (
        await DiscoveryServiceClient(client.sdk.get_rpc_client(), lonely.peer_id).get_record(
            pb.GetRecordRequest(), timeout_s=5
        )
    ).record
    info = read_host_record(record, now_unix_s=client.machine.system.unix_s(), network=NETWORK_NAME)
    assert info.reachability is None
