"""A host whose session service is flooded: honest clients still come in, at the stated cost, and nothing piles up."""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
from tests.simulated import world as whole
from tests.simulated.nodes import Nodes, nodes_on
from tests.support.simulated import simulated

from hostmesh.errors import HostmeshError, JobError, RpcError, SessionError
from hostmesh.identity.address import keccak256
from hostmesh.identity.binding import sign_binding
from hostmesh.identity.structs import SessionAuthorization
from hostmesh.net.address import AddressOrigin
from hostmesh.net.node import Node
from hostmesh.net.peer_id import PeerId, peer_id_to_bytes
from hostmesh.reputation.standing import FIRST_PAUSE_S
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.server import RpcServer
from hostmesh.sessions import opening
from hostmesh.sessions.admission.challenge_table import network_key_of
from hostmesh.sessions.admission.policy import AdmissionPolicy
from hostmesh.sessions.admission.work import WorkLimit
from hostmesh.sessions.authorization import ModelPrice, message_from_terms
from hostmesh.sessions.client import SessionManager
from hostmesh.sessions.client_terms import ChosenHost
from hostmesh.sessions.server import SessionServer
from hostmesh.testing import SimNetwork, make_peer_key, make_wallet
from hostmesh.v1 import job_pb2
from hostmesh.v1 import session_pb2 as pb
from hostmesh.v1.job_hostmesh import JobServiceClient
from hostmesh.v1.session_hostmesh import SessionServiceClient

NETWORK = "testnet"
MODEL = "smollm2-135m-instruct"
PREFIX = "/hostmesh"
CROWD = 1000
CONNECTED = 20
"""Of the crowd, those with a node and connections of their own; the others call the service as they would after the
handshake, which took no part in what is tested and is most of what a connection costs a simulation."""
PRICE = ModelPrice(micros_per_mtok=150_000, currency="USD")


@dataclass(frozen=True)
class Call:
    """What the service sees of a call."""

    peer_id: PeerId
    session_id: bytes = b""


@dataclass
class World:
    """A host, and who comes to it."""

    nodes: Nodes
    host: Node
    server: SessionServer
    operator: bytes

    async def client(self, name: str) -> SessionManager:
        """Start an honest client."""
        node = await self.nodes.start(key=make_peer_key(name))
        caller = await self.caller(node)
        return SessionManager(
            caller=caller,
            wallet=make_wallet(name),
            peer_id=node.peer_id,
            network=NETWORK,
            system=self.nodes.machine_of(node).system,
        )

    async def caller(self, node: Node) -> RpcClient:
        node.add_addresses(self.host.peer_id, self.host.listen_addresses(), AddressOrigin.CONFIGURED)
        return RpcClient(node, prefix=PREFIX, system=self.nodes.machine_of(node).system)

    @property
    def choice(self) -> ChosenHost:
        return ChosenHost(peer_id=self.host.peer_id, operator=self.operator, model_id=MODEL, price=PRICE)

    def terms(self, peer_id: PeerId, nonce: bytes) -> pb.SessionAuthorization:
        """Terms that the host would take, signed with nonsense: an attacker pays for no signature."""
        now = int(self.nodes.machine_of(self.host).system.unix_s())
        terms = SessionAuthorization(
            client=bytes(20),
            operator=self.operator,
            client_peer_id=peer_id_to_bytes(peer_id),
            host_peer_id=peer_id_to_bytes(self.host.peer_id),
            nonce=nonce,
            model_id=MODEL,
            max_price_micros_per_mtok=150_000,
            currency="USD",
            spending_limit_micros=10_000,
            slice_micros=1_000,
            issued_at_unix_s=now,
            expires_at_unix_s=now + 600,
        )
        return message_from_terms(terms, bytes(64) + b"\x1b")


@asynccontextmanager
async def world_of(net: SimNetwork, policy: AdmissionPolicy | None = None) -> AsyncIterator[World]:
    async with nodes_on(net) as nodes:
        key, operator = make_peer_key("host"), make_wallet("operator")
        host = await nodes.start(key=key, max_connections=1000)
        system = nodes.machine_of(host).system
        binding = sign_binding(operator, host.peer_id, network=NETWORK, now=system.unix_s(), lifetime_s=86_400)

        def network_of(peer_id: PeerId) -> str | None:
            ip = host.remote_ip(peer_id)
            return None if ip is None else network_key_of(ip)

        server = SessionServer(
            key=key,
            binding=lambda: binding,
            network=NETWORK,
            price_of=lambda model_id, peer_id: PRICE,
            system=system,
            network_of=network_of,
            admission=policy,
        )
        rpc = RpcServer(prefix=PREFIX, system=system)
        rpc.add_service(pb.DESCRIPTOR.services_by_name["SessionService"], server)
        for protocol_id, handler in rpc.stream_handlers().items():
            host.set_stream_handler(protocol_id, handler)
        yield World(nodes, host, server, operator.address_bytes)
        await host.stop()


class Crowd:
    """1,000 peers that ask for challenges and answer them with signatures of nobody."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._peers = [make_peer_key(f"attacker {number}").peer_id for number in range(CROWD - CONNECTED)]
        self.reasons: Counter[str] = Counter()

    async def flood(self, *, rounds: int, per_s: float) -> None:
        """Come at an even rate, each in turn, so many times."""
        for _ in range(rounds):
            for peer_id in self._peers:
                await trio.sleep(1 / per_s)
                await self._come(peer_id)

    async def flood_connected(self, node: Node, *, every_s: float) -> None:
        """Come again and again over a connection, until cancelled."""
        stub = SessionServiceClient(await self._world.caller(node), self._world.host.peer_id)
        while True:
            try:
                challenge = await stub.get_challenge(pb.GetChallengeRequest(), timeout_s=5)
                request = pb.AuthorizeRequest(authorization=self._world.terms(node.peer_id, challenge.nonce))
                await stub.authorize(request, timeout_s=5)
            except HostmeshError as error:
                self.reasons[getattr(error, "reason", error.code)] += 1
            await trio.sleep(every_s)

    async def _come(self, peer_id: PeerId) -> None:
        server, call = self._world.server, Call(peer_id)
        try:
            challenge = await server.get_challenge(pb.GetChallengeRequest(), call)
            await server.authorize(pb.AuthorizeRequest(authorization=self._world.terms(peer_id, challenge.nonce)), call)
        except RpcError as error:
            self.reasons[error.reason] += 1


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many hashes each work of a client took, counted by who looks at what it found."""
    counted: list[int] = []
    real = opening.do_work

    async def do_work(nonce: bytes, bits: int, limit: WorkLimit) -> bytes:
        work = await real(nonce, bits, limit)
        digest = int.from_bytes(keccak256(nonce + work), "big")
        assert digest >> (256 - bits) == 0
        counted.append(int.from_bytes(work, "big") + 1)
        return work

    monkeypatch.setattr(opening, "do_work", do_work)
    return counted


@simulated(world_of)
async def test_without_an_attack_nobody_works(world: World, hashes: list[int]) -> None:
    managers = [await world.client(f"honest {number}") for number in range(20)]

    async def come(manager: SessionManager) -> None:
        for _ in range(5):
            async with manager.open_session(world.choice, spending_limit_micros=10_000):
                assert world.server.work_bits == 0

    async with trio.open_nursery() as nursery:
        for manager in managers:
            nursery.start_soon(come, manager)
    assert world.server.granted == 100
    assert world.server.refusals == {}
    assert hashes == []


@simulated(world_of)
async def test_honest_clients_come_in_while_a_thousand_peers_flood_the_host(world: World, hashes: list[int]) -> None:
    crowd = Crowd(world)
    attackers = [await world.nodes.start(key=make_peer_key(f"connected {number}")) for number in range(CONNECTED)]
    honest = [await world.client(f"honest {number}") for number in range(3)]
    took_s: list[float] = []

    async def come(manager: SessionManager) -> None:
        began = trio.current_time()
        async with manager.open_session(world.choice, spending_limit_micros=10_000):
            took_s.append(trio.current_time() - began)

    async with trio.open_nursery() as nursery:
        for node in attackers:
            nursery.start_soon(lambda node=node: crowd.flood_connected(node, every_s=0.5))
        nursery.start_soon(lambda: crowd.flood(rounds=3, per_s=1000))
        await trio.sleep(1.0)
        assert world.server.work_bits == 14
        async with trio.open_nursery() as clients:
            for manager in honest:
                clients.start_soon(come, manager)
        nursery.cancel_scope.cancel()
    # Three round trips, and what the work takes, which is no time here: it is counted in hashes instead.
    assert len(took_s) == 3
    assert max(took_s) < 1.0
    assert len(hashes) == 3
    assert all(count < 64 << 14 for count in hashes)
    # The flood opened nothing and had no signature checked once work was asked for.
    assert world.server.granted == 3
    assert crowd.reasons["WORK_REQUIRED"] > 500
    assert crowd.reasons["BAD_SIGNATURE"] <= 400
    assert set(crowd.reasons) <= {"WORK_REQUIRED", "BAD_SIGNATURE", "RATE_LIMITED", "TOO_MANY_CHALLENGES"}
    # It is over some time after it ended, and then nobody works.
    await trio.sleep(120)
    late = await world.client("late")
    async with late.open_session(world.choice, spending_limit_micros=10_000):
        assert world.server.granted == 4
    assert len(hashes) == 3


@simulated(world_of)
async def test_a_flood_leaves_nothing_in_the_hosts_memory(world: World) -> None:
    crowd = Crowd(world)
    await crowd.flood(rounds=1, per_s=1000)
    assert world.server.work_bits == 14
    gc.collect()
    tracemalloc.start()
    try:
        await crowd.flood(rounds=1, per_s=1000)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # 980 challenges in a table take 190 kB.
    assert kept < 50_000


@simulated(world_of)
async def test_a_session_that_is_open_is_not_touched_by_a_flood(world: World, hashes: list[int]) -> None:
    crowd = Crowd(world)
    manager = await world.client("honest")
    async with manager.open_session(world.choice, spending_limit_micros=10_000) as session:
        await crowd.flood(rounds=1, per_s=1000)
        assert world.server.work_bits == 14
        held = world.server.require_session(Call(session_peer(manager), session.session_id), MODEL)
        assert held.spending_limit_micros == 10_000
        async with manager.open_session(world.choice, spending_limit_micros=10_000):
            assert world.server.active_sessions == 2
    assert hashes == []


@simulated(world_of)
async def test_a_client_that_agreed_to_less_work_is_told(world: World) -> None:
    manager = await world.client("honest")
    await Crowd(world).flood(rounds=1, per_s=1000)
    with pytest.raises(SessionError) as caught:
        async with manager.open_session(world.choice, spending_limit_micros=10_000, work=WorkLimit(max_bits=8)):
            pass
    assert caught.value.reason == "WORK_REQUIRED"
    assert "14 bits" in caught.value.message


def session_peer(manager: SessionManager) -> PeerId:
    return manager._peer_id


# --- whole nodes: how clients pay is what their reputation is made of ---


async def ask(world: whole.World, *, runs: int = 1, **more: int) -> str:
    """Find the host, open a session, run jobs; return the reason of a refusal, or nothing."""
    choice = await world.find()
    sessions, jobs = world.client.get_session_manager(), world.client.get_job_manager()
    try:
        async with sessions.open_session(choice, spending_limit_micros=100, **more) as session:
            for _ in range(runs):
                async with jobs.run(session, prompt="one two three") as job:
                    await job.read_text()
    except (SessionError, JobError) as error:
        return error.reason
    return ""


@simulated(whole.world_of)
async def test_who_pays_earns_a_reputation(world: whole.World) -> None:
    policy = AdmissionPolicy(min_reputation=100)
    async with world.host.get_host_manager().serve(whole.offer(), world.engine, admission=policy) as serving:
        assert await ask(world) == ""
        # One job paid for is 181; a newcomer has 100.
        for least, reason in ((181, ""), (251, "REPUTATION_TOO_LOW")):
            serving.admission = AdmissionPolicy(min_reputation=least)
            assert await ask(world) == reason
        assert serving.session_refusals() == {"REPUTATION_TOO_LOW": 1}


@simulated(whole.world_of)
async def test_who_does_not_countersign_loses_it(world: whole.World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def say_nothing(*arguments: object, **more: object) -> job_pb2.CountersignResponse:
        await trio.lowlevel.checkpoint()
        return job_pb2.CountersignResponse()

    monkeypatch.setattr(JobServiceClient, "countersign", say_nothing)
    policy = AdmissionPolicy(min_reputation=100)
    host = world.host.get_host_manager()
    async with host.serve(whole.offer(), world.engine, admission=policy, min_slice_tokens=1):
        # The first job takes the whole slice; for the second no room comes.
        assert await ask(world, slice_micros=2, runs=2) == "RECEIPT_OVERDUE"
        # The job had been accepted: the client, who knows of no fault of its own, leaves the host alone for a while.
        await trio.sleep(FIRST_PAUSE_S)
        assert await ask(world) == "REPUTATION_TOO_LOW"
