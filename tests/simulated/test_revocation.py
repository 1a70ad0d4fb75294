"""An operator takes back the binding of a stolen machine: whole nodes, one of them the operator's office.

What is true is read from each node of its own: what it finds, what it is answered, what its sessions say.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

import pytest
import trio
from google.protobuf.wrappers_pb2 import Int64Value
from tests.simulated.adversary_world import MODEL, OPTIONS, WANTED, World, start_node, world_on
from tests.support.simulated import eventually, simulated

from hostmesh import (
    HostCriteria,
    HostRevoked,
    HostState,
    NoHostFoundError,
    PeerId,
    ProtocolDowngradeError,
    Serving,
    SessionError,
    sign_revocation,
)
from hostmesh.discovery.manager import DiscoveryManager
from hostmesh.errors import BindingRevokedError, RpcError, UsageError
from hostmesh.rpc.method import method
from hostmesh.sdk import SDK
from hostmesh.testing import (
    FakeEngine,
    SimMachine,
    SimNetwork,
    make_description,
    make_host_record,
    make_service,
    make_wallet,
)
from hostmesh.testing.adversary_records import by_turns, run_record_peer
from hostmesh.testing.machine import NETWORK_NAME
from hostmesh.testing.records import make_binding
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.v1 import session_pb2
from hostmesh.v1.session_hostmesh import SessionServiceClient

DESCRIPTION = make_description(MODEL, price_micros_per_mtok=100)


@dataclass
class Market:
    """A bootstrap node, two hosts of one operator, and a client who has found both."""

    net: SimNetwork
    bootstrap: list[str]
    hosts: dict[str, SDK]
    serving: dict[str, Serving]
    client: SDK

    def peer_id(self, name: str) -> PeerId:
        record = self.serving[name].record
        assert record is not None
        return record.peer_id

    @property
    def discovery(self) -> DiscoveryManager:
        return self.client.get_discovery_manager()

    async def found(self) -> set[PeerId]:
        """Return whom the client finds now."""
        return {choice.peer_id for choice in await self.discovery.find_all_hosts(WANTED)}

    def revocation(self, name: str, *, least_epoch: int | None = None) -> pb.BindingRevocation:
        now = self.net.machines["client"].system.unix_s()
        wallet = make_wallet("operator")
        return sign_revocation(wallet, self.peer_id(name), network=NETWORK_NAME, now=now, least_epoch=least_epoch)

    async def spread_from_the_office(self, revocation: pb.BindingRevocation) -> int:
        """The operator's other machine, which knows the bootstrap node alone."""
        office = self.net.machine("office")
        async with office.open_sdk() as sdk:
            await start_node(office, sdk, self.bootstrap)
            return await sdk.get_discovery_manager().spread_revocation(revocation)


async def start_host(machine: SimMachine, sdk: SDK, bootstrap: list[str]) -> None:
    await sdk.authenticate(wallet=make_wallet("operator"))
    discovery = sdk.get_discovery_manager()
    await discovery.create_node(bootstrap=bootstrap)
    await discovery.wait_ready()


@asynccontextmanager
async def market_on(net: SimNetwork) -> AsyncIterator[Market]:
    boot, one, other, client = [net.machine(name) for name in ("boot", "stolen", "kept", "client")]
    async with boot.open_sdk(serve_dht=True) as boot_sdk, one.open_sdk() as one_sdk, other.open_sdk() as other_sdk:
        bootstrap = [f"/ip4/{boot.address}/tcp/4001/p2p/{await start_node(boot, boot_sdk, [])}"]
        for machine, sdk in ((one, one_sdk), (other, other_sdk)):
            await start_host(machine, sdk, bootstrap)
        engine = FakeEngine([MODEL], answer=lambda work: "It is a law of nature.")
        async with (
            one_sdk.get_host_manager().serve(DESCRIPTION, engine) as stolen,
            other_sdk.get_host_manager().serve(DESCRIPTION, engine) as kept,
            client.open_sdk() as client_sdk,
        ):
            await trio.sleep(30)
            await start_node(client, client_sdk, bootstrap)
            hosts = {"stolen": one_sdk, "kept": other_sdk}
            market = Market(net, bootstrap, hosts, {"stolen": stolen, "kept": kept}, client_sdk)
            assert await market.found() == {market.peer_id("stolen"), market.peer_id("kept")}
            yield market


@simulated(market_on, network=OPTIONS)
async def test_a_stolen_machine_is_out_at_once_and_the_operators_other_one_goes_on(market: Market) -> None:
    sessions = market.client.get_session_manager()
    opened = {}
    for name in ("stolen", "kept"):
        criteria = HostCriteria(required_models=[MODEL], include=[market.peer_id(name)])
        choice = await market.discovery.find_host(criteria)
        opened[name] = await sessions.start_session(choice, spending_limit_micros=1000)
    heard: list[HostRevoked] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_hear, market.discovery, heard)
        await trio.sleep(1)
        assert await market.spread_from_the_office(market.revocation("stolen")) == 1
        # From the bootstrap node to the client, and to the machine itself.
        await eventually(lambda: opened["stolen"].is_closed and market.serving["stolen"].is_revoked, within_s=5)
        await eventually(lambda: heard, within_s=1)
        nursery.cancel_scope.cancel()
    assert opened["stolen"].end_reason == "BINDING_REVOKED"
    with pytest.raises(SessionError) as ended:
        async with market.client.get_job_manager().run(opened["stolen"], prompt="For nobody's eyes"):
            pytest.fail("the prompt went to a thief")
    assert ended.value.reason == "BINDING_REVOKED"
    assert [event.peer_id for event in heard] == [market.peer_id("stolen")]
    assert await market.found() == {market.peer_id("kept")}
    # The other machine has not noticed anything.
    assert not opened["kept"].is_closed
    assert not market.serving["kept"].is_revoked
    async with market.client.get_job_manager().run(opened["kept"], prompt="Why does an apple fall?") as job:
        assert "".join([piece.text async for piece in job]) == "It is a law of nature."


async def _hear(discovery: DiscoveryManager, heard: list[HostRevoked]) -> None:
    with discovery.events() as events:
        async for event in events:
            heard += [event] if isinstance(event, HostRevoked) else []


@simulated(market_on, network=OPTIONS)
async def test_the_host_itself_stops_and_says_so(market: Market) -> None:
    """Also to who has not heard of it and asks it for a session, or uses one."""
    target, serving = market.peer_id("stolen"), market.serving["stolen"]
    choice = await market.discovery.find_host(HostCriteria(required_models=[MODEL], include=[target]))
    session = await market.client.get_session_manager().start_session(choice, spending_limit_micros=1000)
    await market.spread_from_the_office(market.revocation("stolen", least_epoch=1))
    await eventually(lambda: serving.is_revoked, within_s=5)
    await trio.sleep(1)
    record = serving.record
    assert record is not None
    assert record.state is HostState.WITHDRAWN
    caller = market.client.get_rpc_client()
    with pytest.raises(RpcError) as refused:
        await SessionServiceClient(caller, target).get_challenge(session_pb2.GetChallengeRequest(), timeout_s=5)
    assert refused.value.reason == "DRAINING"
    # What the host's own disk says of the session.
    (path,) = market.net.machines["stolen"].folder.rglob("hosted_sessions.sqlite3")
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT session_id, end_reason FROM sessions").fetchall()
    assert rows == [(session.session_id, "BINDING_REVOKED")]
    with pytest.raises(UsageError):
        await serving.announce(DESCRIPTION)
    for wait_s in (0, 300):  # while the tombstone holds, and when it has expired
        await trio.sleep(wait_s)
        findings = await market.hosts["stolen"].get_discovery_manager().diagnostics()
        (found,) = [each for each in findings if each.code.startswith("BINDING")]
        assert (found.code, found.severity.value) == ("BINDING_REVOKED", "fail")
        assert found.remedy.endswith("hostmesh-host bind --revocation-epoch 1")


@simulated(market_on, network=OPTIONS)
async def test_a_host_that_was_revoked_does_not_start_again_under_the_old_binding(market: Market) -> None:
    """What its node heard is on its disk."""
    await market.spread_from_the_office(market.revocation("kept", least_epoch=1))
    await eventually(lambda: market.serving["kept"].is_revoked, within_s=5)
    manager = market.hosts["kept"].get_discovery_manager()
    await manager.stop()
    await manager.create_node(bootstrap=market.bootstrap)
    with pytest.raises(BindingRevokedError) as caught:
        await manager.announce(DESCRIPTION)
    assert "--revocation-epoch 1" in caught.value.remedy


@simulated(market_on, network=OPTIONS)
async def test_a_client_that_comes_later_does_not_choose_it(market: Market) -> None:
    """Its thief's software goes on under the old binding; the newcomer has heard of neither."""
    await market.spread_from_the_office(market.revocation("stolen"))
    await trio.sleep(120)
    machine = market.net.machine("newcomer")
    async with machine.open_sdk() as sdk:
        await start_node(machine, sdk, market.bootstrap)
        discovery = sdk.get_discovery_manager()
        assert {choice.peer_id for choice in await discovery.find_all_hosts(WANTED)} == {market.peer_id("kept")}


@simulated(world_on, network=OPTIONS)
async def test_a_thief_who_goes_on_under_the_old_binding_finds_no_believers(world: World) -> None:
    async with run_record_peer(world.net.machine("thief"), bootstrap=world.bootstrap) as peer:
        peer.choose = by_turns(peer.record(make_description(MODEL, price_micros_per_mtok=1), sequence=7))
        await world.start_client()
        criteria = HostCriteria(required_models=[MODEL], include=[peer.adversary.peer_id], accept_unmeasured=True)
        (choice,) = (await world.discovery.explain(criteria)).choices
        wallet = make_wallet("thief")
        assert choice.operator == wallet.address_bytes
        revocation = sign_revocation(wallet, peer.adversary.peer_id, network=NETWORK_NAME, now=world.now_unix_s)
        await world.discovery.spread_revocation(revocation)
        for sequence in (8, 2**60):
            peer.choose = by_turns(peer.record(make_description(MODEL, price_micros_per_mtok=1), sequence=sequence))
            await trio.sleep(10)
            with pytest.raises(NoHostFoundError):
                await world.discovery.find_host(criteria)
        assert world.discovery.stats().records["revoked"] >= 2
        # The operator has his machine back, and binds it anew.
        epoch = revocation.least_epoch
        rebound = make_host_record(
            "thief",
            make_description(MODEL),
            key=peer.adversary.key,
            binding=make_binding(
                peer.adversary.key,
                wallet,
                network=NETWORK_NAME,
                issued_at_unix_s=world.now_unix_s - 5,
                revocation_epoch=epoch,
            ),
            network=NETWORK_NAME,
            issued_at_unix_s=world.now_unix_s,
            addresses=(peer.adversary.address,),
        )
        peer.choose = by_turns(rebound)
        await trio.sleep(10)
        (choice,) = (await world.discovery.explain(criteria)).choices
        assert (choice.record.sequence, choice.record.binding_epoch) == (1, epoch)


@simulated(world_on, network=OPTIONS)
async def test_a_restored_backup_that_contradicted_itself_recovers_by_a_new_binding(world: World) -> None:
    async with run_record_peer(world.net.machine("restored"), bootstrap=world.bootstrap) as peer:
        one, other = (peer.record(make_description(MODEL, price_micros_per_mtok=p), sequence=7) for p in (1, 2))
        peer.choose = by_turns(one, other)
        await world.start_client()
        criteria = HostCriteria(required_models=[MODEL], include=[peer.adversary.peer_id], accept_unmeasured=True)
        await world.discovery.explain(criteria)
        await trio.sleep(10)
        with pytest.raises(NoHostFoundError):
            await world.discovery.find_host(criteria)
        assert world.discovery.stats().records["equivocation"] == 1
        binding = make_binding(
            peer.adversary.key,
            make_wallet("restored"),
            network=NETWORK_NAME,
            issued_at_unix_s=world.now_unix_s - 5,
            revocation_epoch=1,
        )
        rebound = make_host_record(
            "restored",
            make_description(MODEL),
            key=peer.adversary.key,
            binding=binding,
            network=NETWORK_NAME,
            sequence=7,
            issued_at_unix_s=world.now_unix_s,
            addresses=(peer.adversary.address,),
        )
        peer.choose = by_turns(rebound)
        await trio.sleep(10)
        assert (await world.discovery.find_host(criteria)).record.binding_epoch == 1


# --- versions ---


class Echo:
    async def say(self, request: Int64Value, context: object) -> Int64Value:
        return request


@simulated(market_on, network=OPTIONS)
async def test_a_host_that_offers_less_than_it_signed_is_not_called(market: Market) -> None:
    new, old = (
        make_service("chat", version=version, min_version="1.0.0", Say=(Int64Value, Int64Value))
        for version in ("1.1.0", "1.0.0")
    )
    host, serving, target = market.hosts["kept"], market.serving["kept"], market.peer_id("kept")
    host.serve(new, Echo())
    record = await serving.announce(DESCRIPTION)
    assert {"/hostmesh/chat/1.1.0", "/hostmesh/chat/1.0.0"} <= set(record.protocols)
    await trio.sleep(1)
    rpc, say = market.client.get_rpc_client(), method(new, "Say", Int64Value, Int64Value)
    assert (await rpc.unary(target, say, Int64Value(value=7), timeout_s=5)).value == 7
    host.withdraw(new)
    host.serve(old, Echo())
    # The peer tells at once what it speaks now; its signed record still says more.
    await eventually(lambda: "/hostmesh/chat/1.1.0" not in market.client.protocols_of(target), within_s=5)
    with pytest.raises(ProtocolDowngradeError) as caught:
        await rpc.unary(target, say, Int64Value(value=7), timeout_s=5)
    assert (caught.value.promised, caught.value.offered) == ("/hostmesh/chat/1.1.0", "/hostmesh/chat/1.0.0")
    assert caught.value.code == "PROTOCOL_DOWNGRADED"
    # It says so over its signature: then the older version will do.
    await serving.announce(DESCRIPTION)
    await trio.sleep(1)
    assert (await rpc.unary(target, say, Int64Value(value=7), timeout_s=5)).value == 7
