"""A host in a process of its own that is killed; see tests/simulated/test_find_hosts.py for the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from hostmesh import HostCriteria, NoHostFoundError, open_sdk
from hostmesh.system import System

CLIENT = "0x" + "cd" * 32


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


async def test_a_killed_host_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D9: at once from what is returned, and from the table when its record is over."""
    monkeypatch.setenv("HOSTMESH_HOME", str(tmp_path / "home"))
    real, ahead_s = System(), 0.0
    system = System(unix_s=lambda: real.unix_s() + ahead_s)
    async with open_sdk(ephemeral_key=True, enable_mdns=False, enable_dht=False, system=system) as client:
        await client.authenticate(private_key=CLIENT)
        discovery = client.get_discovery_manager()
        await discovery.create_node()
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
        ahead_s = 151
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
