"""A real engine as a process, and the truth about it over HTTP of our own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import trio


@dataclass(frozen=True)
class RunningEngine:
    """An engine that runs, and how to ask it what is true."""

    name: str
    url: str
    key: str | None
    process: subprocess.Popen[bytes]
    chat_model: str
    embedding_model: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.key is None else {"Authorization": f"Bearer {self.key}"}

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=30, verify=False) as client:
            return await client.get(self.url + path, headers=self.headers)

    async def post(self, path: str, body: Mapping[str, object]) -> Any:
        async with httpx.AsyncClient(trust_env=False, timeout=120, verify=False) as client:
            response = await client.post(self.url + path, json=body, headers=self.headers)
            response.raise_for_status()
            return response.json()

    async def stats(self, wait: str = "") -> dict[str, int]:
        """The test engine's counts."""
        counts: dict[str, int] = (await self.get(f"/stats?wait={wait}" if wait else "/stats")).json()
        return counts

    async def active(self) -> int:
        """Requests that the engine computes at this moment, as it counts them."""
        if self.name == "recorded":
            return (await self.stats())["active"]
        text = (await self.get("/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith("llamacpp:requests_")]
        return sum(int(float(line.split()[1])) for line in lines)  # processing and deferred

    async def until_idle(self) -> None:
        """Return when the engine computes nothing. It answers between two batches, which paces the loop."""
        while await self.active():
            await trio.lowlevel.checkpoint()

    async def until_busy(self) -> None:
        while not await self.active():
            await trio.lowlevel.checkpoint()


def first_line(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    line: dict[str, Any] = json.loads(process.stdout.readline())
    assert line["event"] == "ready", line
    return line


def stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.wait(timeout=10)
    process.stdout.close()


def start_child(module: str, options: Mapping[str, object]) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """Start a child engine by its own protocol."""
    process = subprocess.Popen(
        [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(options).encode() + b"\n")
    process.stdin.flush()
    return process, first_line(process)
