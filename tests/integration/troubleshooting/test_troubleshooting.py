"""Each fault of docs/troubleshooting.md, made to happen."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio

import hostmesh
from hostmesh import SDK, HostCriteria, Wallet, open_sdk
from hostmesh.net.peer_key import PeerKey

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "troubleshooting.md").read_text()


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTMESH_HOME", str(tmp_path / "home"))


@asynccontextmanager
async def an_sdk(**settings: object) -> AsyncIterator[SDK]:
    options = {"enable_mdns": False, "ephemeral_key": True} | settings
    async with open_sdk(**options) as sdk:  # type: ignore[arg-type]
        await sdk.authenticate(wallet=Wallet.generate())
        yield sdk


@contextmanager
def black_hole() -> Iterator[int]:
    """A port whose packets are dropped, as by a firewall: a listener whose queue is full answers no SYN."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        fillers = []
        try:
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
                fillers.append(filler)
            yield port
        finally:
            for filler in fillers:
                filler.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_the_page_has_the_four_headings_of_the_seed() -> None:
    for heading in (
        "Failed to start P2P node",
        "Cannot connect to bootstrap nodes",
        "No peers discovered",
        "Message delivery failed",
    ):
        assert f"\n## {heading}\n" in PAGE


# --- failed to start ---


async def test_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with an_sdk(listen_addresses=[f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}"]) as sdk:
            with pytest.raises(hostmesh.StartFailedError, match="in use") as raised:
                await sdk.get_discovery_manager().create_node()
            assert raised.value.remedy
            assert not sdk.get_discovery_manager().is_running()


async def test_address_of_no_interface() -> None:
    async with an_sdk(listen_addresses=["/ip4/192.0.2.1/tcp/0"]) as sdk:
        with pytest.raises(hostmesh.StartFailedError):
            await sdk.get_discovery_manager().create_node()


async def test_malformed_multiaddr() -> None:
    async with an_sdk() as sdk:
        with pytest.raises(hostmesh.InvalidAddressError):
            await sdk.get_discovery_manager().create_node(listen=["/ip4/127.0.0.1/tpc/4001"])


async def test_key_in_use(tmp_path: Path) -> None:
    key_file = tmp_path / "peer.key"
    async with (
        an_sdk(ephemeral_key=False, key_file=key_file) as first,
        an_sdk(ephemeral_key=False, key_file=key_file) as second,
    ):
        await first.get_discovery_manager().create_node()
        with pytest.raises(hostmesh.KeyInUseError) as raised:
            await second.get_discovery_manager().create_node()
        assert raised.value.path == str(key_file)
        await first.get_discovery_manager().stop()
        await second.get_discovery_manager().create_node()


async def test_key_that_others_can_read(tmp_path: Path) -> None:
    key_file = tmp_path / "peer.key"
    async with an_sdk(ephemeral_key=False, key_file=key_file) as sdk:
        await sdk.get_discovery_manager().create_node()
    key_file.chmod(0o644)
    async with an_sdk(ephemeral_key=False, key_file=key_file) as sdk:
        with pytest.raises(hostmesh.KeyFileError) as raised:
            await sdk.get_discovery_manager().create_node()
        assert "chmod 600" in raised.value.remedy


# --- bootstrap nodes ---


async def outcome_of(address: str, **settings: object) -> str:
    async with an_sdk(bootstrap_nodes=[address], **settings) as sdk:
        discovery = sdk.get_discovery_manager()
        await discovery.create_node()
        with pytest.raises(hostmesh.ReadyTimeoutError) as raised:
            await discovery.wait_ready(timeout_s=1.5)
        return raised.value.outcomes[address]


async def test_bootstrap_offline() -> None:
    peer_id = PeerKey.generate().peer_id
    assert await outcome_of(f"/ip4/127.0.0.1/tcp/{free_port()}/p2p/{peer_id}") == "dial"


async def test_bootstrap_behind_a_firewall() -> None:
    with black_hole() as port:
        address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{PeerKey.generate().peer_id}"
        assert await outcome_of(address, connection_timeout_ms=500) == "timeout"


async def test_bootstrap_with_another_peer_id() -> None:
    async with an_sdk() as sdk:
        await sdk.get_discovery_manager().create_node()
        real = sdk.get_discovery_manager().listen_addresses()[0]
        address = f"{real.rpartition('/')[0]}/{PeerKey.generate().peer_id}"
        assert await outcome_of(address) == "handshake"


async def test_bootstrap_that_is_there() -> None:
    async with an_sdk() as there:
        await there.get_discovery_manager().create_node()
        address = there.get_discovery_manager().listen_addresses()[0]
        async with an_sdk(bootstrap_nodes=[address]) as sdk:
            await sdk.get_discovery_manager().create_node()
            await sdk.get_discovery_manager().wait_ready(timeout_s=10)
            assert sdk.get_discovery_manager().get_connected_peers()


# --- no peers ---


async def test_nobody_there() -> None:
    async with an_sdk() as sdk:
        await sdk.get_discovery_manager().create_node()
        with pytest.raises(hostmesh.NoHostFoundError) as raised:
            await sdk.get_discovery_manager().find_host(HostCriteria(), timeout_s=2)
        assert raised.value.seen == 0


class Idle:
    """An engine that is never asked to work here."""

    def models(self) -> tuple[hostmesh.ModelInfo, ...]:
        kind = hostmesh.ModelKind.CHAT
        return (hostmesh.ModelInfo(model_id="idle", kind=kind, context_tokens=1, engine="idle"),)

    async def ready(self) -> dict[str, bool]:
        return {"idle": True}

    async def count_prompt_tokens(self, work: hostmesh.Work) -> int:
        raise AssertionError

    def generate(self, work: hostmesh.Work) -> AbstractAsyncContextManager[AsyncIterator[hostmesh.EngineEvent]]:
        raise AssertionError


@asynccontextmanager
async def a_network() -> AsyncIterator[tuple[str, SDK]]:
    """A bootstrap node, and a host that it knows."""
    offer = hostmesh.ModelOffer(model_id="idle", price=hostmesh.Price(micros_per_mtok=500, currency="USD"))
    async with an_sdk(serve_dht=True) as bootstrap:
        await bootstrap.get_discovery_manager().create_node()
        address = bootstrap.get_discovery_manager().listen_addresses()[0]
        async with an_sdk(serve_dht=True, bootstrap_nodes=[address]) as host:
            await host.get_discovery_manager().create_node()
            await host.get_discovery_manager().wait_ready(timeout_s=10)
            async with host.get_host_manager().serve(hostmesh.HostDescription(models=[offer]), Idle()):
                yield address, host


async def test_dht_off() -> None:
    async with a_network() as (address, _):
        for enable_dht, seen in ((False, 0), (True, 1)):
            async with an_sdk(bootstrap_nodes=[address], enable_dht=enable_dht) as sdk:
                discovery = sdk.get_discovery_manager()
                await discovery.create_node()
                await discovery.wait_ready(timeout_s=10)
                explanation = await discovery.explain(HostCriteria(required_models=["idle"]))
                assert explanation.funnel.seen == seen


async def test_a_criterion_that_is_too_strict_is_named_with_what_would_do() -> None:
    async with a_network() as (address, _), an_sdk(bootstrap_nodes=[address]) as sdk:
        discovery = sdk.get_discovery_manager()
        await discovery.create_node()
        await discovery.wait_ready(timeout_s=10)
        with pytest.raises(hostmesh.NoHostFoundError) as raised:
            await discovery.find_host(HostCriteria(required_models=["idle"], min_reputation=500))
        assert raised.value.seen == sum(raised.value.rejected.values()) == 1
        assert raised.value.rejected["reputation"] == 1
        assert "100" in raised.value.relaxation
        await discovery.find_host(HostCriteria(required_models=["idle"], min_reputation=100))


async def test_a_host_that_left_is_gone() -> None:
    async with an_sdk() as sdk:
        discovery = sdk.get_discovery_manager()
        await discovery.create_node()
        async with a_network() as (_, host):
            await discovery.connect_to_peer(host.get_discovery_manager().listen_addresses()[0])
            await discovery.find_host(HostCriteria(required_models=["idle"]))
        with pytest.raises(hostmesh.NoHostFoundError):
            await discovery.find_host(HostCriteria(required_models=["idle"]), timeout_s=2)


# --- messages ---


async def two(
    stack: AsyncExitStack, **second: object
) -> tuple[hostmesh.DiscoveryManager, hostmesh.DiscoveryManager, str]:
    a = (await stack.enter_async_context(an_sdk())).get_discovery_manager()
    b = (await stack.enter_async_context(an_sdk(**second))).get_discovery_manager()
    await a.create_node()
    await b.create_node()
    return a, b, await a.connect_to_peer(b.listen_addresses()[0])


async def test_message_to_a_peer_that_is_gone() -> None:
    async with AsyncExitStack() as stack:
        a, b, peer_id = await two(stack)
        await b.stop()
        with pytest.raises((hostmesh.DialError, hostmesh.ConnectionLostError)):
            await a.send_message(peer_id, {"type": "x"}, timeout_s=3, retries=0)


async def test_message_to_another_protocol() -> None:
    async with AsyncExitStack() as stack:
        a, _, peer_id = await two(stack, protocol_prefix="/another")
        with pytest.raises(hostmesh.ProtocolNotSupportedError) as raised:
            await a.send_message(peer_id, {"type": "x"}, timeout_s=5)
        assert raised.value.needed == "/hostmesh/message/1.0.0"
        assert "/another/message/1.0.0" in raised.value.offered


async def test_message_too_large() -> None:
    async with AsyncExitStack() as stack:
        a, _, peer_id = await two(stack)
        with pytest.raises(hostmesh.FrameTooLargeError) as raised:
            await a.send_message(peer_id, b"x" * (256 * 1024 + 1))
        assert raised.value.limit_bytes == 256 * 1024


async def test_message_is_delivered_once() -> None:
    async with AsyncExitStack() as stack:
        a, b, peer_id = await two(stack)
        got: list[object] = []
        arrived = trio.Event()

        async def take(message: object) -> None:
            got.append(message)
            arrived.set()

        b.on_message(take)
        await a.send_message(peer_id, {"type": "job_request", "data": {"n": 1}})
        with trio.fail_after(5):
            await arrived.wait()
        assert len(got) == 1
