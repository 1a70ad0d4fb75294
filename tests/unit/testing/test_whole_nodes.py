"""The shipped node, all of it, on a simulated network: a client finds a host through the DHT and runs a job."""

from __future__ import annotations

import pytest
import trio

from hostmesh import (
    ConnectionLostError,
    HostCriteria,
    HostDescription,
    HostmeshError,
    ModelOffer,
    NoHostFoundError,
    Price,
    RpcError,
)
from hostmesh.sdk import SDK
from hostmesh.testing import FaultKind, LinkProfile, SimMachine, SimNetwork, SimOptions, StreamFault, run_sim
from hostmesh.testing.engine import FakeEngine
from hostmesh.testing.wallets import make_wallet

MODEL = "fake-chat"
WANTED = HostCriteria(required_models=[MODEL])
OFFER = HostDescription(
    models=[ModelOffer(model_id=MODEL, price=Price(micros_per_mtok=250_000, currency="USD"))], max_concurrent_jobs=2
)


async def start_node(machine: SimMachine, sdk: SDK, bootstrap: list[str]) -> str:
    await sdk.authenticate(wallet=make_wallet(machine.name))
    discovery = sdk.get_discovery_manager()
    peer_id = await discovery.create_node(bootstrap=bootstrap)
    if bootstrap:
        await discovery.wait_ready()
    return f"/ip4/{machine.address}/tcp/4001/p2p/{peer_id}"


async def run_a_job(net: SimNetwork, *faults: StreamFault) -> tuple[str, float]:
    """Return what a job said, and how long finding and running took. The client knows a bootstrap node only."""
    boot, host, client = net.machine("boot"), net.machine("host"), net.machine("client")
    engine = FakeEngine([MODEL], first_token_s=0.5, tokens_per_s=20, answer=lambda work: "It is a law of nature.")
    async with (
        boot.open_sdk(serve_dht=True) as boot_sdk,
        host.open_sdk(serve_dht=True) as host_sdk,
        client.open_sdk(ephemeral_key=True) as client_sdk,
    ):
        bootstrap = [await start_node(boot, boot_sdk, [])]
        host_address = await start_node(host, host_sdk, bootstrap)
        async with host_sdk.get_host_manager().serve(OFFER, engine):
            await trio.sleep(30)
            await start_node(client, client_sdk, bootstrap)
            began = trio.current_time()
            choice = await client_sdk.get_discovery_manager().find_host(WANTED)
            assert host_address.endswith(f"/{choice.peer_id}")
            net.faults.schedule(faults)
            async with (
                client_sdk.get_session_manager().open_session(choice, spending_limit_micros=1000) as session,
                client_sdk.get_job_manager().run(session, prompt="why?") as job,
            ):
                text = await job.read_text()
            took_s = trio.current_time() - began
        with pytest.raises(NoHostFoundError):
            await client_sdk.get_discovery_manager().find_host(WANTED)
    return text, took_s


def test_a_client_that_knows_a_bootstrap_node_finds_a_host_and_runs_a_job() -> None:
    run = run_sim(run_a_job, network=SimOptions(link=LinkProfile(latency_s=0.03, jitter_s=0.01)))
    text, took_s = run.result
    assert text == "It is a law of nature."
    # The engine takes 0.5 s to the first token and 0.05 s for each of the five others; the rest is round trips.
    assert 0.75 < took_s < 2.5


def test_one_flipped_bit_of_the_ciphertext_ends_the_connection_and_its_calls_at_once() -> None:
    # Byte 2 is the first of the Noise message after its length.
    flip = StreamFault(kind=FaultKind.CORRUPT, source="host", target="client", byte=2, bit=3)

    async def main(net: SimNetwork) -> None:
        with pytest.raises(HostmeshError) as caught:
            await run_a_job(net, flip)
        assert net.faults.happened == [flip]
        assert isinstance(caught.value, ConnectionLostError | RpcError)
        flipped_s = next(event.time_s for event in net.trace if event.kind == "fault-corrupt")
        ended_s = next(
            event.time_s
            for event in net.trace
            if event.kind in ("end", "reset") and event.source == "client" and event.time_s > flipped_s
        )
        assert ended_s - flipped_s < 0.1

    run_sim(main)
