"""Sessions between nodes: the rules hold against the connection's own peer id."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from tests.simulated.nodes import nodes_on
from tests.support.simulated import simulated

from hostmesh.errors import DialError, RpcError, SessionError, StatusCode
from hostmesh.identity.binding import sign_binding
from hostmesh.identity.structs import SessionAuthorization
from hostmesh.identity.wallet import Wallet
from hostmesh.net.address import AddressOrigin
from hostmesh.net.node import Node
from hostmesh.net.peer_id import peer_id_to_bytes
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.server import CallContext, RpcServer
from hostmesh.sessions.admission.challenge_table import ChallengeLimits
from hostmesh.sessions.authorization import ModelPrice, message_from_terms
from hostmesh.sessions.client import SessionManager
from hostmesh.sessions.client_terms import ChosenHost
from hostmesh.sessions.server import SessionServer
from hostmesh.sessions.server_limits import SessionServerLimits
from hostmesh.system import System
from hostmesh.testing import SimNetwork, make_peer_key, make_wallet
from hostmesh.v1 import session_pb2 as pb
from hostmesh.v1.session_hostmesh import SessionServiceClient

NETWORK = "testnet"
MODEL = "smollm2-135m-instruct"
PREFIX = "/hostmesh"


@dataclass
class Client:
    node: Node
    rpc: RpcClient
    wallet: Wallet
    sessions: SessionManager

    def uses(self, session_id: bytes) -> CallContext:
        """A call of this client's, as the host's RPC server would describe it."""
        return CallContext(peer_id=self.node.peer_id, method="JobService.Run", deadline=None, session_id=session_id)


@dataclass
class Mesh:
    host: Node
    system: System
    operator: Wallet
    server: SessionServer
    choice: ChosenHost
    clients: tuple[Client, Client]


@asynccontextmanager
async def mesh_of(net: SimNetwork, limits: SessionServerLimits | None = None) -> AsyncIterator[Mesh]:
    operator = make_wallet("operator")
    price = ModelPrice(micros_per_mtok=150_000, currency="USD")
    async with nodes_on(net) as nodes:
        key = make_peer_key("host")
        host = await nodes.start(key=key, max_connections=100)
        system = nodes.machine_of(host).system
        binding = sign_binding(operator, host.peer_id, network=NETWORK, now=system.unix_s(), lifetime_s=3600)
        server = SessionServer(
            key=key,
            binding=lambda: binding,
            network=NETWORK,
            price_of=lambda model_id, peer_id: price if model_id == MODEL else None,
            system=system,
            limits=limits,
        )
        rpc = RpcServer(prefix=PREFIX, system=system)
        rpc.add_service(pb.DESCRIPTOR.services_by_name["SessionService"], server)
        for protocol_id, handler in rpc.stream_handlers().items():
            host.set_stream_handler(protocol_id, handler)

        async def start_client(name: str) -> Client:
            node = await nodes.start(max_connections=100)
            node.add_addresses(host.peer_id, host.listen_addresses(), AddressOrigin.CONFIGURED)
            own = nodes.machine_of(node).system
            caller = RpcClient(node, prefix=PREFIX, system=own)
            wallet = make_wallet(name)
            manager = SessionManager(caller=caller, wallet=wallet, peer_id=node.peer_id, network=NETWORK, system=own)
            return Client(node, caller, wallet, manager)

        choice = ChosenHost(peer_id=host.peer_id, operator=operator.address_bytes, model_id=MODEL, price=price)
        clients = await start_client("first"), await start_client("second")
        yield Mesh(host, system, operator, server, choice, clients)
        for node in (*(client.node for client in clients), host):
            await node.stop()


def terms_of(mesh: Mesh, client: Client, nonce: bytes, /, **changes: Any) -> SessionAuthorization:
    now = int(mesh.system.unix_s())
    fields: dict[str, Any] = {
        "client": client.wallet.address_bytes,
        "operator": mesh.operator.address_bytes,
        "client_peer_id": peer_id_to_bytes(client.node.peer_id),
        "host_peer_id": peer_id_to_bytes(mesh.host.peer_id),
        "nonce": nonce,
        "model_id": MODEL,
        "max_price_micros_per_mtok": 150_000,
        "currency": "USD",
        "spending_limit_micros": 10_000,
        "slice_micros": 1_000,
        "issued_at_unix_s": now,
        "expires_at_unix_s": now + 600,
    }
    return SessionAuthorization(**(fields | changes))


async def challenge(mesh: Mesh, client: Client) -> bytes:
    answer = await SessionServiceClient(client.rpc, mesh.host.peer_id).get_challenge(
        pb.GetChallengeRequest(), timeout_s=10
    )
    return answer.nonce


async def authorize(mesh: Mesh, client: Client, message: pb.SessionAuthorization) -> bytes:
    request = pb.AuthorizeRequest(authorization=message)
    return (await SessionServiceClient(client.rpc, mesh.host.peer_id).authorize(request, timeout_s=10)).grant


@simulated(mesh_of)
async def test_a_session_lives_as_long_as_its_block(mesh: Mesh) -> None:
    client, other = mesh.clients
    async with client.sessions.open_session(mesh.choice, spending_limit_micros=10_000) as session:
        held = mesh.server.require_session(client.uses(session.session_id), MODEL)
        assert held.client == client.wallet.address
        assert held.spending_limit_micros == 10_000
        with pytest.raises(RpcError) as caught:
            mesh.server.require_session(other.uses(session.session_id), MODEL)
        assert caught.value.reason == "UNAUTHORIZED"
        assert mesh.server.active_sessions == 1
    assert mesh.server.active_sessions == 0
    assert mesh.server.refusals == {"SESSION_OF_ANOTHER_PEER": 1}


@simulated(mesh_of)
async def test_a_repetition_gets_the_same_grant_and_a_thief_gets_nothing(mesh: Mesh) -> None:
    client, thief = mesh.clients
    terms = terms_of(mesh, client, await challenge(mesh, client))
    message = message_from_terms(terms, client.wallet.sign(terms, NETWORK))
    grant = await authorize(mesh, client, message)
    assert await authorize(mesh, client, message) == grant
    with pytest.raises(RpcError) as caught:
        await authorize(mesh, thief, message)
    assert (caught.value.status, caught.value.reason) == (StatusCode.UNAUTHENTICATED, "WRONG_PEER")
    assert mesh.server.refusals == {"WRONG_PEER": 1}
    assert mesh.server.granted == 1


@pytest.mark.parametrize(
    ("changes", "network", "reason"),
    [
        ({"host_peer_id": b"another"}, NETWORK, "WRONG_HOST"),
        ({"issued_at_unix_s": 1, "expires_at_unix_s": 2}, NETWORK, "EXPIRED"),
        ({}, "testnet-2", "BAD_SIGNATURE"),
        ({"client": bytes(20)}, NETWORK, "BAD_SIGNATURE"),
        ({"nonce": bytes(32)}, NETWORK, "UNKNOWN_CHALLENGE"),
        ({"model_id": "gpt"}, NETWORK, "UNKNOWN_MODEL"),
    ],
)
@simulated(mesh_of)
async def test_what_is_wrong_is_refused_with_its_reason(
    mesh: Mesh, changes: dict[str, Any], network: str, reason: str
) -> None:
    client, _ = mesh.clients
    nonce = await challenge(mesh, client)
    terms = terms_of(mesh, client, nonce, **changes)
    with pytest.raises(RpcError) as caught:
        await authorize(mesh, client, message_from_terms(terms, client.wallet.sign(terms, network)))
    assert caught.value.reason == reason
    assert mesh.server.refusals == {reason: 1}


@simulated(mesh_of)
async def test_a_stranger_cannot_close_anothers_session(mesh: Mesh) -> None:
    client, stranger = mesh.clients
    session = await client.sessions.start_session(mesh.choice, spending_limit_micros=1)
    request = pb.CloseSessionRequest(session_id=session.session_id)
    with pytest.raises(RpcError) as caught:
        await SessionServiceClient(stranger.rpc, mesh.host.peer_id).close_session(request, timeout_s=10)
    assert caught.value.details == {"cause": "UNKNOWN_SESSION"}
    mesh.server.require_session(client.uses(session.session_id), MODEL)
    await session.close()
    assert mesh.server.active_sessions == 0


@simulated(mesh_of)
async def test_a_session_survives_its_connection(mesh: Mesh) -> None:
    """It belongs to the peer id, and the peer proves that again."""
    client, _ = mesh.clients
    async with client.sessions.open_session(mesh.choice, spending_limit_micros=1) as session:
        await client.node.disconnect(mesh.host.peer_id)
        assert not client.node.is_connected(mesh.host.peer_id)
        mesh.server.require_session(client.uses(session.session_id), MODEL)
    # Closing dialled again.
    assert mesh.server.active_sessions == 0


@simulated(mesh_of)
async def test_fifty_sessions_are_opened_at_once(mesh: Mesh) -> None:
    opened: set[bytes] = set()
    every = trio.Event()

    async def hold(client: Client) -> None:
        async with client.sessions.open_session(mesh.choice, spending_limit_micros=1, timeout_s=60) as session:
            opened.add(session.session_id)
            if len(opened) == 50:
                assert mesh.server.active_sessions == 50
                every.set()
            await every.wait()

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(hold, mesh.clients[number % 2])
    assert mesh.server.active_sessions == 0
    assert mesh.server.refusals == {}


@simulated()
async def test_a_flood_of_challenges_is_answered_and_bounded(net: SimNetwork) -> None:
    async with mesh_of(net, SessionServerLimits(challenges=ChallengeLimits(per_peer=5))) as mesh:
        client, other = mesh.clients
        for _ in range(5):
            await challenge(mesh, client)
        with pytest.raises(RpcError) as caught:
            await client.sessions.start_session(mesh.choice, spending_limit_micros=1)
        assert caught.value.reason == "TOO_MANY_CHALLENGES"
        assert caught.value.retry_after_ms is not None
        assert 0 < caught.value.retry_after_ms <= 60_000
        async with other.sessions.open_session(mesh.choice, spending_limit_micros=1):
            pass
        # What the refusal says is when it works again.
        await trio.sleep(caught.value.retry_after_ms / 1000)
        assert await challenge(mesh, client)


@simulated(mesh_of)
async def test_an_operator_that_changed_is_noticed(mesh: Mesh) -> None:
    client, _ = mesh.clients
    stale = dataclasses.replace(mesh.choice, operator=make_wallet("another").address_bytes)
    with pytest.raises(SessionError) as caught:
        await client.sessions.start_session(stale, spending_limit_micros=1)
    assert caught.value.reason == "OPERATOR_CHANGED"
    assert mesh.server.granted == 0


@simulated(mesh_of)
async def test_a_host_that_left_does_not_hold_the_client_up(mesh: Mesh) -> None:
    client, other = mesh.clients
    async with client.sessions.open_session(mesh.choice, spending_limit_micros=1) as session:
        await mesh.host.stop()
    assert session.is_closed
    with pytest.raises(DialError):
        await other.sessions.start_session(mesh.choice, spending_limit_micros=1)
