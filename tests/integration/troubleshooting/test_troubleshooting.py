"""Faults of docs/troubleshooting.md that are the machine's; those of the network are in tests/simulated."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import hostmesh
from hostmesh import SDK, Wallet, open_sdk

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


def test_the_page_has_the_four_headings_of_the_seed() -> None:
    for heading in (
        "Failed to start P2P node",
        "Cannot connect to bootstrap nodes",
        "No peers discovered",
        "Message delivery failed",
    ):
        assert f"\n## {heading}\n" in PAGE


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
