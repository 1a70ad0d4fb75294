"""Hosts that are published, found, withdrawn and killed: real nodes over loopback, through the public SDK."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from hostmesh import SDK, ClockSkewError, HostCriteria, HostDescription, ModelOffer, NoHostFoundError, Price, open_sdk
from hostmesh.discovery.calls import DISCOVERY_SERVICE
from hostmesh.errors import RpcError, StatusCode
from hostmesh.system import System
from hostmesh.v1 import discovery_pb2 as pb

OPERATOR = "0x" + "ab" * 32
CLIENT = "0x" + "cd" * 32


@dataclass
class SteppedClock:
    """The machine's clock, set off by some seconds."""

    ahead_s: float = 0.0

    def system(self) -> System:
        real = System()
        return System(unix_s=lambda: real.unix_s() + self.ahead_s)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOSTMESH_HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith("P2P_")]:
        monkeypatch.delenv(name)
    return tmp_path / "home"


@asynccontextmanager
async def node(
    wallet: str, *bootstrap: str, dht: bool = True, serve_dht: bool = False, system: System | None = None
) -> AsyncIterator[SDK]:
    async with open_sdk(
        ephemeral_key=True, enable_mdns=False, enable_dht=dht, serve_dht=serve_dht, system=system
    ) as sdk:
        await sdk.authenticate(private_key=wallet)
        await sdk.get_discovery_manager().create_node(bootstrap=bootstrap)
        yield sdk


def address_of(sdk: SDK) -> str:
    return sdk.get_discovery_manager().listen_addresses()[0]


def offer(model_id: str = "m", price: int = 100, **options: Any) -> HostDescription:
    return HostDescription(
        models=[ModelOffer(model_id=model_id, price=Price(micros_per_mtok=price, currency="USD"))], **options
    )


async def test_a_host_is_found_through_a_third_node_and_gone_when_it_withdraws() -> None:
    """The client is given the bootstrap node alone: the DHT names the host, the host itself hands its record over."""
    async with node(OPERATOR, serve_dht=True) as bootstrap, node(OPERATOR, address_of(bootstrap)) as host:
        publisher = host.get_discovery_manager()
        await publisher.wait_ready(timeout_s=10)
        info = await publisher.announce(offer(location="US", capabilities=["streaming"]))
        async with node(CLIENT, address_of(bootstrap)) as client:
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
            assert choice.sources == ("dht",)
            assert choice.latency is not None
            assert 0 < choice.latency.value < 2000
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
                await trio.lowlevel.checkpoint()


async def test_a_connected_host_is_found_without_dht() -> None:
    async with node(OPERATOR, dht=False) as host, node(CLIENT, dht=False) as client:
        await host.get_discovery_manager().announce(offer())
        discovery = client.get_discovery_manager()
        await discovery.connect_to_peer(address_of(host))
        choice = await discovery.find_host(HostCriteria(required_models=["m"]))
        assert choice.sources == ("bootstrap",)
        assert (await discovery.find_all_hosts())[0].peer_id == choice.peer_id


async def test_the_push_of_a_change_reaches_a_connected_client() -> None:
    """The second search asks nobody: the record came by itself."""
    async with node(OPERATOR, dht=False) as host, node(CLIENT, dht=False) as client:
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


HOST_PROGRAM = """
import sys, trio
from hostmesh import HostDescription, ModelOffer, open_sdk

async def main():
    async with open_sdk(ephemeral_key=True, enable_mdns=False, enable_dht=False) as sdk:
        await sdk.authenticate(private_key="0x" + "ab" * 32)
        discovery = sdk.get_discovery_manager()
        await discovery.create_node()
        await discovery.announce(HostDescription(models=[ModelOffer(model_id="m")]))
        print(discovery.listen_addresses()[0], flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


async def test_a_killed_host_is_gone() -> None:
    """D9: at once from what is returned, and from the table when its record is over."""
    clock = SteppedClock()
    async with node(CLIENT, dht=False, system=clock.system()) as client:
        discovery = client.get_discovery_manager()
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", HOST_PROGRAM], stdout=subprocess.PIPE, env=dict(os.environ)
        )
        try:
            assert process.stdout is not None
            address = await _first_line(process.stdout)
            await discovery.connect_to_peer(address)
            assert (await discovery.find_host(HostCriteria(required_models=["m"]))).peer_id in address
            process.send_signal(signal.SIGKILL)
            await process.wait()
        finally:
            with trio.CancelScope(shield=True):
                if process.returncode is None:
                    process.kill()
                await process.wait()
                if process.stdout is not None:
                    await process.stdout.aclose()
        with trio.fail_after(10):
            with pytest.raises(NoHostFoundError) as caught:
                await discovery.find_host(HostCriteria(required_models=["m"]))
        assert caught.value.rejected == {"reachable": 1}
        clock.ahead_s = 151
        with pytest.raises(NoHostFoundError) as caught:
            await discovery.find_host(HostCriteria(required_models=["m"]))
        assert caught.value.seen == 0


async def _first_line(stream: trio.abc.ReceiveStream) -> str:
    data = b""
    with trio.fail_after(60):
        while not data.endswith(b"\n"):
            chunk = await stream.receive_some()
            assert chunk, "the host ended"
            data += chunk
    return data.decode().strip()


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


async def test_hostile_peers_do_not_keep_an_honest_host_from_being_found() -> None:
    """Each of them is connected to the client and answers when it is asked for a record."""
    async with node(OPERATOR, dht=False) as host, node(CLIENT, dht=False) as client:
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
            for answer in answers:
                await nursery.start(_hostile, answer, address_of(client))
            choices = await discovery.find_all_hosts()
            assert [choice.record for choice in choices] == [info]
            refused = {key: value for key, value in discovery.stats().records.items() if key.startswith("refused")}
            assert sum(refused.values()) >= 4, json.dumps(refused)
            nursery.cancel_scope.cancel()


async def _hostile(answer: Any, victim: str, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    async with node(OPERATOR, dht=False) as sdk:
        stack = sdk._running()
        stack.withdraw(DISCOVERY_SERVICE)
        stack.serve(DISCOVERY_SERVICE, LyingServer(answer))
        await sdk.get_discovery_manager().connect_to_peer(victim)
        task_status.started()
        await trio.sleep_forever()


async def test_a_host_with_a_wrong_clock_refuses_to_publish() -> None:
    clock = SteppedClock(ahead_s=-300)
    async with (
        node(CLIENT, dht=False) as bootstrap,
        node(OPERATOR, address_of(bootstrap), dht=False, system=clock.system()) as host,
    ):
        publisher = host.get_discovery_manager()
        await publisher.wait_ready(timeout_s=10)
        with pytest.raises(ClockSkewError) as caught:
            await publisher.announce(offer())
        assert caught.value.skew_s == pytest.approx(300, abs=5)
        clock.ahead_s = 0
        assert (await publisher.announce(offer())).sequence


async def test_a_search_right_after_the_start_finds_what_the_bootstrap_connection_brings() -> None:
    """D35: without wait_ready."""
    async with node(OPERATOR, dht=False) as host:
        await host.get_discovery_manager().announce(offer())
        async with node(CLIENT, address_of(host), dht=False) as client:
            choice = await client.get_discovery_manager().find_host(HostCriteria(required_models=["m"]))
            assert choice.sources == ("bootstrap",)
