"""A host and a client as two real nodes over loopback, with wallets, sessions and jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
from tests.unit.jobs.kit import CHAT, CHAT_PRICE, EMBED, EMBED_PRICE, NETWORK, Book, Clock, Host, ScriptedEngine

from hostmesh.identity.binding import sign_binding
from hostmesh.identity.wallet import Wallet
from hostmesh.jobs.admission import JobLimits
from hostmesh.jobs.client import JobManager
from hostmesh.jobs.server import JobServer
from hostmesh.net.address import AddressOrigin
from hostmesh.net.node import Node, NodeConfig
from hostmesh.net.peer_key import PeerKey
from hostmesh.rpc.client import RpcClient
from hostmesh.rpc.server import RpcServer
from hostmesh.sessions.client import ChosenHost, SessionManager
from hostmesh.sessions.server import SessionServer
from hostmesh.system import System
from hostmesh.v1 import job_pb2, session_pb2

PREFIX = "/hostmesh"


@dataclass
class Pair:
    """Both ends."""

    host: Host
    host_node: Node
    sessions_served: SessionServer
    client_node: Node
    sessions: SessionManager
    jobs: JobManager
    book: Book
    chat: ChosenHost
    embedding: ChosenHost


@asynccontextmanager
async def open_pair(limits: JobLimits | None = None) -> AsyncIterator[Pair]:
    system = System()
    host_key, client_key, operator = PeerKey.generate(), PeerKey.generate(), Wallet.generate()
    config = NodeConfig(enable_dht=False, max_connections=100)
    host_node, client_node = Node(config, host_key, system=system), Node(config, client_key, system=system)
    engine = ScriptedEngine()
    binding = sign_binding(
        operator, host_key.peer_id, network=NETWORK, now=system.unix_s(), lifetime_s=3600, revocation_epoch=0
    )
    sessions_served = SessionServer(
        key=host_key,
        binding=lambda: binding,
        network=NETWORK,
        price_of=lambda model_id, peer_id: server.price_of(model_id, peer_id),
        system=system,
    )
    server = JobServer(
        engine=engine,
        key=host_key,
        network=NETWORK,
        prices={CHAT: CHAT_PRICE, EMBED: EMBED_PRICE},
        require_session=sessions_served.require_session,
        limits=limits,
        system=system,
    )
    rpc = RpcServer(prefix=PREFIX, system=system)
    rpc.add_service(session_pb2.DESCRIPTOR.services_by_name["SessionService"], sessions_served)
    rpc.add_service(job_pb2.DESCRIPTOR.services_by_name["JobService"], server)
    async with trio.open_nursery() as nursery:
        for node in (host_node, client_node):
            await nursery.start(node.run)
        for protocol_id, handler in rpc.stream_handlers().items():
            host_node.set_stream_handler(protocol_id, handler)
        client_node.add_addresses(host_key.peer_id, host_node.listen_addresses(), AddressOrigin.CONFIGURED)
        caller = RpcClient(client_node, prefix=PREFIX, system=system)
        book = Book()
        chosen = {
            model_id: ChosenHost(
                peer_id=host_key.peer_id, operator=operator.address_bytes, model_id=model_id, price=price
            )
            for model_id, price in ((CHAT, CHAT_PRICE), (EMBED, EMBED_PRICE))
        }
        yield Pair(
            host=Host(server, engine, {}, Clock()),
            host_node=host_node,
            sessions_served=sessions_served,
            client_node=client_node,
            sessions=SessionManager(
                caller=caller, wallet=Wallet.generate(), peer_id=client_key.peer_id, network=NETWORK, system=system
            ),
            jobs=JobManager(caller=caller, peer_id=client_key.peer_id, network=NETWORK, outcomes=book, system=system),
            book=book,
            chat=chosen[CHAT],
            embedding=chosen[EMBED],
        )
        for node in (client_node, host_node):
            await node.stop()
        nursery.cancel_scope.cancel()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with open_pair() as opened:
        yield opened
