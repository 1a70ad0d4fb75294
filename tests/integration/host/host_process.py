"""A ``hostmesh-host`` as a process, and a client of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from hostmesh import SDK, HostChoice, HostCriteria, Wallet, load_settings, open_sdk

PROGRAM = [sys.executable, "-m", "hostmesh_host.cli.main"]


def environment(home: Path, **more: str) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HOSTMESH_", "P2P_"))}
    return env | {"HOSTMESH_HOME": str(home), "HOSTMESH_ENABLE_MDNS": "false"} | more


class HostProcess:
    """One run of ``hostmesh-host start``."""

    def __init__(self, home: Path, *arguments: str, new_wallet: bool = True, **env: str) -> None:
        self.home = home
        self.log = home.with_name(f"{home.name}.log")
        with self.log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [*PROGRAM, "start", "--json", *(["--new-wallet"] if new_wallet else []), *arguments],
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment(home, **env),
            )

    async def ready(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await trio.to_thread.run_sync(self.process.stdout.readline)
        answer: dict[str, Any] = json.loads(line)
        assert answer.get("event") == "ready", (answer, self.log.read_text())
        return answer

    async def wait(self) -> int:
        return await trio.to_thread.run_sync(self.process.wait)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


async def command(home: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run another command of ``hostmesh-host`` to its end."""

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *arguments], env=environment(home, **env), capture_output=True, text=True, check=False
        )

    return await trio.to_thread.run_sync(run)


@asynccontextmanager
async def client(home: Path, address: str, *, wallet: Wallet | None = None) -> AsyncIterator[SDK]:
    """A client that knows the host's address and has a wallet of its own, or this one."""
    settings = load_settings(
        {"bootstrap_nodes": [address], "enable_mdns": False, "enable_dht": False}, {"HOSTMESH_HOME": str(home)}
    )
    async with open_sdk(settings, ephemeral_key=True) as sdk:
        await sdk.authenticate(wallet=wallet or Wallet.generate())
        await sdk.get_discovery_manager().create_node()
        yield sdk


async def find(sdk: SDK, model_id: str) -> HostChoice:
    criteria = HostCriteria(required_models=[model_id])
    return await sdk.get_discovery_manager().find_host(criteria, timeout_s=20)
