"""A topology of :mod:`hostmesh.testing.topologies` on whole simulated nodes: real calls, records, DHT and jobs."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from hostmesh.discovery.choice import HostChoice
from hostmesh.errors import HostmeshError
from hostmesh.net.address import split_peer_address
from hostmesh.net.peer_id import PeerId
from hostmesh.sdk import SDK
from hostmesh.testing.adversary_host import HostLies, JobLie, PingLie, run_lying_host
from hostmesh.testing.adversary_node import AdversaryNode, open_adversary_node
from hostmesh.testing.adversary_records import CALL_TIMEOUT_S, RecordPeer
from hostmesh.testing.engine import FakeEngine
from hostmesh.testing.machine import NETWORK_NAME, SimMachine
from hostmesh.testing.network import SimNetwork
from hostmesh.testing.records import make_host_record, reseal
from hostmesh.testing.scenarios.mesh import Mesh
from hostmesh.testing.topologies import (
    MODEL,
    OTHER_MODEL,
    OWN_COUNTRY,
    Lie,
    Topology,
    TopologyHost,
    quoted_per_claimed,
)
from hostmesh.testing.topology_play import FIND_S, TopologyVerdict, find
from hostmesh.testing.wallets import make_wallet
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.v1.discovery_hostmesh import DiscoveryServiceClient

if TYPE_CHECKING:
    from trio_typing import TaskStatus

MAX_NODES = 10
"""Hosts of a topology on whole nodes."""
_SETTLE_S = 40.0
_JOB_S = 20.0
_RENEW_S = 30.0
_BAD_JOBS = (JobLie.FAILS, JobLie.WRONG_COST, JobLie.NO_USAGE)
_PINGS = (PingLie.EARLY, PingLie.WRONG_NONCE, PingLie.NONE)


def for_whole_nodes(topology: Topology) -> Topology:
    """Return what of a topology whole nodes can be: their models are loaded, and no stranger fills their slots."""
    hosts = tuple(
        replace(host, is_loaded=True, claims=replace(host.claims, free_slots=max(1, host.claims.free_slots)))
        for host in topology.hosts
    )
    return replace(topology, hosts=hosts, junk=0)


async def play_whole_nodes(topology: Topology, network: SimNetwork) -> TopologyVerdict:
    """Find hosts in a topology of whole nodes, run the jobs, and judge what comes of it.

    Args:
        topology: of :func:`for_whole_nodes`, at most :data:`MAX_NODES` hosts.
        network: an empty one.
    """
    verdict = TopologyVerdict()
    async with trio.open_nursery() as nursery:
        mesh = Mesh(network, nursery)
        await mesh.start_bootstrap("bootstrap")
        client_machine = mesh.machine("client")
        hosts: dict[PeerId, TopologyHost] = {}
        for host in topology.hosts:
            machine = mesh.machine(host.name)
            network.link(client_machine, machine).latency_s = host.rtt_s / 2
            peer_id: PeerId = await nursery.start(_run_host, machine, host, mesh.bootstrap)
            hosts[peer_id] = host
        await trio.sleep(_SETTLE_S)
        async with client_machine.open_sdk(ephemeral_key=True, location=OWN_COUNTRY) as sdk:
            await sdk.authenticate(wallet=make_wallet("client"))
            await sdk.get_discovery_manager().create_node(bootstrap=mesh.bootstrap)
            await _play_finds(sdk, topology, hosts, verdict)
        nursery.cancel_scope.cancel()
    return verdict


async def _play_finds(
    sdk: SDK, topology: Topology, hosts: dict[PeerId, TopologyHost], verdict: TopologyVerdict
) -> None:
    manager, failed = sdk.get_discovery_manager(), set[str]()
    explained = await manager.explain(topology.criteria, strategy=topology.strategy, timeout_s=FIND_S)
    verdict.note_all(explained, hosts)
    for _ in topology.hosts:
        choice = await find(manager, topology, verdict)
        if choice is None:
            return
        verdict.note_choice(choice, hosts[choice.peer_id], topology)
        if await _run_job(sdk, choice):
            return
        if choice.peer_id in failed:
            verdict.liars_chosen[Lie.JOBS.value] += bool(topology.fitting)
            return
        failed.add(choice.peer_id)
        verdict.first_jobs_lost += 1


async def _run_job(sdk: SDK, choice: HostChoice) -> bool:
    """Run a job at the chosen host; tell whether it went well."""
    try:
        async with (
            sdk.get_session_manager().open_session(choice, spending_limit_micros=1_000_000) as session,
            sdk.get_job_manager().run(session, prompt="why?", timeout_s=_JOB_S, max_output_tokens=20) as job,
        ):
            await job.read_text()
    except HostmeshError:
        return False
    return True


async def _run_host(
    machine: SimMachine, host: TopologyHost, bootstrap: list[str], *, task_status: TaskStatus[PeerId]
) -> None:
    if host.lie is None:
        async with machine.open_sdk(serve_dht=True) as sdk:
            await sdk.authenticate(wallet=make_wallet(machine.name))
            peer_id = await sdk.get_discovery_manager().create_node(bootstrap=bootstrap)
            description, engine = host.claims.description(*host.model_ids), FakeEngine(host.model_ids)
            async with sdk.get_host_manager().serve(description, engine):
                task_status.started(peer_id)
                await trio.sleep_forever()
    if host.lie in (Lie.ADDRESSES, Lie.EXPIRY):
        async with open_adversary_node(machine, bootstrap=bootstrap, listens=host.lie is Lie.EXPIRY) as adversary:
            await adversary.node.wait_connected(1, CALL_TIMEOUT_S)
            RecordPeer(adversary, lambda asker, turn: _record_of(adversary, host, bootstrap))
            if host.lie is Lie.EXPIRY:
                await adversary.advertise(host.model_ids, host.claims.country_code)
            task_status.started(adversary.peer_id)
            while True:
                # It knows nobody but the bootstrap node, which is to tell of it.
                if host.lie is Lie.ADDRESSES:
                    await _push(adversary, _record_of(adversary, host, bootstrap), bootstrap)
                await trio.sleep(_RENEW_S)
    truth = replace(host.claims, price_micros_per_mtok=host.claims.price_micros_per_mtok * quoted_per_claimed(host))
    truth = replace(truth, country_code=host.country_code)
    models = (OTHER_MODEL,) if host.lie is Lie.READINESS else host.model_ids
    async with run_lying_host(
        machine, _lies_of(host), description=truth.description(*models), bootstrap=bootstrap
    ) as liar:
        task_status.started(liar.adversary.peer_id)
        contradicted: pb.SignedHostRecord | None = None
        while host.lie is Lie.SEQUENCE:
            record = (await liar.get_record(pb.GetRecordRequest(), liar.adversary)).record
            if record != contradicted:
                contradicted = record
                await _push(
                    liar.adversary, reseal(record, _change, key=liar.adversary.key, network=NETWORK_NAME), bootstrap
                )
            await trio.sleep(1)
        await trio.sleep_forever()


def _lies_of(host: TopologyHost) -> HostLies:
    """Return how a host lies that serves jobs."""
    if host.lie is Lie.LATENCY:
        return HostLies(ping=_PINGS[host.manner])
    if host.lie is Lie.SLOTS:
        return HostLies(is_always_ready=True, job=JobLie.REFUSED)
    if host.lie is Lie.READINESS:
        return HostLies(extra_models=(MODEL,), is_always_ready=bool(host.manner))
    if host.lie is Lie.REGION:
        return HostLies(location=host.claims.country_code)
    if host.lie is Lie.PRICE:
        return HostLies(price_micros_per_mtok=host.claims.price_micros_per_mtok)
    if host.lie is Lie.JOBS:
        return HostLies(job=_BAD_JOBS[host.manner])
    return HostLies()


def _record_of(adversary: AdversaryNode, host: TopologyHost, bootstrap: list[str]) -> pb.SignedHostRecord:
    """Return the record of a host that lies about its addresses, which are another's, or about its expiry."""
    now = int(adversary.machine.system.unix_s())

    def lie(body: pb.HostRecord) -> None:
        if host.lie is Lie.EXPIRY:
            moved_s = (0, 3600, -3600)[host.manner]
            body.issued_at_unix_s += moved_s
            body.expires_at_unix_s += moved_s or 86_400

    others_address = bootstrap[0].partition("/p2p/")[0]
    return make_host_record(
        adversary.machine.name,
        host.claims.description(*host.model_ids),
        network=NETWORK_NAME,
        sequence=now * 1000,
        issued_at_unix_s=now,
        addresses=(others_address if host.lie is Lie.ADDRESSES else adversary.address,),
        edit=lie,
    )


def _change(body: pb.HostRecord) -> None:
    body.capabilities.append("another")


async def _push(adversary: AdversaryNode, record: pb.SignedHostRecord, bootstrap: list[str]) -> None:
    peer_id = split_peer_address(bootstrap[0])[1]
    assert peer_id is not None
    # Whoever noticed the lie refuses it from then on.
    with suppress(HostmeshError):
        request = pb.AnnounceRequest(record=record)
        await DiscoveryServiceClient(adversary.rpc, peer_id).announce(request, timeout_s=CALL_TIMEOUT_S)
