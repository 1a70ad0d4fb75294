"""Hosts that are published, found, and withdrawn: whole nodes, through the public SDK."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from tests.support.simulated import simulated

from hostmesh import SDK, ClockSkewError, HostCriteria, HostDescription, ModelOffer, NoHostFoundError, Price
from hostmesh.discovery.introductions import LEAST_BETWEEN_LOOKS_S
from hostmesh.errors import RpcError, StatusCode
from hostmesh.testing import SimMachine, SimNetwork, make_wallet
from hostmesh.v1 import discovery_pb2 as pb
from hostmesh.v1.discovery_hostmesh import DISCOVERY_SERVICE


@asynccontextmanager
async def node(machine: SimMachine, *bootstrap: str, dht: bool = True, serve_dht: bool = False) -> AsyncIterator[SDK]:
    async with machine.open_sdk(
        ephemeral_key=True,
        enable_dht=dht,
        serve_dht=serve_dht,
        listen_addresses=(f"/ip4/{machine.address}/tcp/4001",),
    ) as sdk:
        await sdk.authenticate(wallet=make_wallet(machine.name))
        await sdk.get_discovery_manager().create_node(bootstrap=bootstrap)
        yield sdk


@asynccontextmanager
async def host_and_client(net: SimNetwork) -> AsyncIterator[tuple[SDK, SDK]]:
    """Without a DHT."""
    async with node(net.machine("host"), dht=False) as host, node(net.machine("client"), dht=False) as client:
        yield host, client


def address_of(sdk: SDK) -> str:
    return sdk.get_discovery_manager().listen_addresses()[0]


def offer(model_id: str = "m", price: int = 100, **options: Any) -> HostDescription:
    return HostDescription(
        models=[ModelOffer(model_id=model_id, price=Price(micros_per_mtok=price, currency="USD"))], **options
    )


@simulated()
async def test_a_host_is_found_through_a_third_node_and_gone_when_it_withdraws(net: SimNetwork) -> None:
    """The client is given the bootstrap node alone: the DHT names the host, the host itself hands its record over."""
    async with (
        node(net.machine("bootstrap"), serve_dht=True) as bootstrap,
        node(net.machine("host"), address_of(bootstrap)) as host,
    ):
        publisher = host.get_discovery_manager()
        await publisher.wait_ready(timeout_s=10)
        info = await publisher.announce(offer(location="US", capabilities=["streaming"]))
        async with node(net.machine("client"), address_of(bootstrap)) as client:
            discovery = client.get_discovery_manager()
            wanted = HostCriteria(
                required_models=["m"],
                location="US",
                capabilities=["streaming"],
                max_latency_ms=2000,
                min_reputation=100,
                max_price=Price(micros_per_mtok=100, currency="USD"),
            )
            choice = await _find_soon(discovery, wanted)
            assert choice.record == info
            assert choice.sources == ("dht", "exchange")
            assert choice.latency is not None
            assert choice.latency.value == pytest.approx(40, abs=1)
            assert choice.operator == info.operator

            with pytest.raises(NoHostFoundError) as caught:
                await discovery.find_host(HostCriteria(required_models=["n"]))
            assert caught.value.rejected == {"model": 1}
            assert caught.value.relaxation == "required_models without 'n'"

            dearer = await publisher.announce(offer(price=101, location="US", capabilities=["streaming"]))
            assert dearer.sequence > info.sequence
            with pytest.raises(NoHostFoundError) as caught:
                await discovery.find_host(wanted)
            assert caught.value.relaxation == "max_price 100 -> 101 micro-USD/Mtok"

            await publisher.withdraw()
            with pytest.raises(NoHostFoundError) as caught:
                await discovery.find_host(HostCriteria(required_models=["m"]))
            assert caught.value.seen == 0


async def _find_soon(discovery: Any, criteria: HostCriteria) -> Any:
    """Find a host whose record may still be on its way into the DHT."""
    with trio.fail_after(20):
        while True:
            try:
                return await discovery.find_host(criteria)
            except NoHostFoundError:
                await trio.sleep(0.1)


@simulated(host_and_client)
async def test_a_connected_host_is_found_without_dht(nodes: tuple[SDK, SDK]) -> None:
    host, client = nodes
    await host.get_discovery_manager().announce(offer())
    discovery = client.get_discovery_manager()
    await discovery.connect_to_peer(address_of(host))
    choice = await discovery.find_host(HostCriteria(required_models=["m"]))
    # A connected peer is asked. It may have handed its record over by itself before that, or not yet.
    assert {*choice.sources} - {"announce"} == {"bootstrap"}
    assert (await discovery.find_all_hosts())[0].peer_id == choice.peer_id


@simulated(host_and_client)
async def test_a_host_hands_its_record_to_whoever_connected(nodes: tuple[SDK, SDK]) -> None:
    host, client = nodes
    await host.get_discovery_manager().announce(offer())
    discovery = client.get_discovery_manager()
    await discovery.connect_to_peer(address_of(host))
    await trio.sleep(LEAST_BETWEEN_LOOKS_S + 0.5)
    assert not discovery.stats().fetches, "nobody was asked"
    choice = await discovery.find_host(HostCriteria(required_models=["m"]))
    assert {*choice.sources} == {"announce", "bootstrap"}


@simulated(host_and_client)
async def test_the_push_of_a_change_reaches_a_connected_client(nodes: tuple[SDK, SDK]) -> None:
    """The second search asks nobody: the record came by itself."""
    host, client = nodes
    publisher, discovery = host.get_discovery_manager(), client.get_discovery_manager()
    await publisher.announce(offer(price=100))
    await discovery.connect_to_peer(address_of(host))
    await discovery.find_host()
    fetched = discovery.stats().fetches["ok"]
    await publisher.announce(offer(price=7))
    choice = await discovery.find_host()
    assert choice.price == Price(micros_per_mtok=7, currency="USD")
    assert "announce" in choice.sources
    assert discovery.stats().fetches["ok"] == fetched
    await publisher.drain()
    with pytest.raises(NoHostFoundError) as caught:
        await discovery.find_host()
    assert caught.value.rejected == {"state": 1}


class LyingServer:
    """Answers GetRecord with whatever it was given."""

    def __init__(self, answer: pb.GetRecordResponse | Exception) -> None:
        self.answer = answer

    async def get_record(self, _request: Any, _context: Any) -> pb.GetRecordResponse:
        await trio.lowlevel.checkpoint()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def announce(self, _request: Any, _context: Any) -> pb.AnnounceResponse:
        await trio.lowlevel.checkpoint()
        return pb.AnnounceResponse()

    async def query(self, _request: Any, _context: Any) -> pb.QueryResponse:
        await trio.lowlevel.checkpoint()
        return pb.QueryResponse()


@simulated()
async def test_hostile_peers_do_not_keep_an_honest_host_from_being_found(net: SimNetwork) -> None:
    """Each of them is connected to the client and answers when it is asked for a record."""
    async with host_and_client(net) as (host, client):
        info = await host.get_discovery_manager().announce(offer())
        discovery = client.get_discovery_manager()
        await discovery.connect_to_peer(address_of(host))
        stolen = pb.SignedHostRecord.FromString(info.signed)
        garbled = pb.SignedHostRecord(envelope=b"\xff" * 10_000, binding=stolen.binding)
        answers: list[pb.GetRecordResponse | Exception] = [
            pb.GetRecordResponse(),
            pb.GetRecordResponse(record=stolen),
            pb.GetRecordResponse(record=garbled),
            pb.GetRecordResponse(record=pb.SignedHostRecord(envelope=stolen.envelope)),
            RpcError("no", status=StatusCode.INTERNAL),
            ValueError("a bug in the peer"),
        ]
        async with trio.open_nursery() as nursery:
            for number, answer in enumerate(answers):
                await nursery.start(_hostile, net.machine(f"hostile-{number}"), answer, address_of(client))
            choices = await discovery.find_all_hosts()
            assert [choice.record for choice in choices] == [info]
            refused = {key: value for key, value in discovery.stats().records.items() if key.startswith("refused")}
            assert sum(refused.values()) >= 4, json.dumps(refused)
            nursery.cancel_scope.cancel()


async def _hostile(
    machine: SimMachine, answer: Any, victim: str, *, task_status: Any = trio.TASK_STATUS_IGNORED
) -> None:
    async with node(machine, dht=False) as sdk:
        stack = sdk._running()
        stack.withdraw(DISCOVERY_SERVICE)
        stack.serve(DISCOVERY_SERVICE, LyingServer(answer))
        await sdk.get_discovery_manager().connect_to_peer(victim)
        task_status.started()
        await trio.sleep_forever()


@simulated()
async def test_a_host_with_a_wrong_clock_refuses_to_publish(net: SimNetwork) -> None:
    machine = net.machine("host", clock_skew_s=-300)
    async with (
        node(net.machine("bootstrap"), dht=False) as bootstrap,
        node(machine, address_of(bootstrap), dht=False) as host,
    ):
        publisher = host.get_discovery_manager()
        await publisher.wait_ready(timeout_s=10)
        with pytest.raises(ClockSkewError) as caught:
            await publisher.announce(offer())
        assert caught.value.skew_s == pytest.approx(300, abs=1)
        machine.clock.skew_s = 0
        assert (await publisher.announce(offer())).sequence


@simulated()
async def test_a_search_right_after_the_start_finds_what_the_bootstrap_connection_brings(net: SimNetwork) -> None:
    """D35: without wait_ready."""
    async with node(net.machine("host"), dht=False) as host:
        await host.get_discovery_manager().announce(offer())
        async with node(net.machine("client"), address_of(host), dht=False) as client:
            choice = await client.get_discovery_manager().find_host(HostCriteria(required_models=["m"]))
            assert choice.sources == ("bootstrap",)
