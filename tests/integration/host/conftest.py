"""Real engines as processes, started without the code under test, and the truth about them over HTTP of our own."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from hostmesh_host.engines.weights import MINILM, SMOLLM2, find_weights

RECORDED_ENGINE = Path(__file__).parents[2] / "engines" / "recorded_engine.py"
CONTEXT_TOKENS = 2048


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
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            return await client.get(self.url + path, headers=self.headers)

    async def post(self, path: str, body: Mapping[str, object]) -> Any:
        async with httpx.AsyncClient(trust_env=False, timeout=120) as client:
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


@pytest.fixture(scope="session")
def llama() -> Iterator[RunningEngine]:
    """llama.cpp's own server with SmolLM2, one thread, metrics on."""
    key = secrets.token_hex(16)
    process, line = start_child(
        "hostmesh_host.engines.llamacpp_child",
        {
            "api_key": key,
            "weights": str(find_weights(SMOLLM2, None)),
            "threads": 1,
            "context_tokens": CONTEXT_TOKENS,
            "slots": 1,
            "metrics": True,
        },
    )
    yield RunningEngine(name="llama", url=line["url"], key=key, process=process, chat_model=SMOLLM2.model_id)
    stop(process)


@pytest.fixture(scope="session")
def minilm() -> Iterator[RunningEngine]:
    """Our embedding engine."""
    key = secrets.token_hex(16)
    process, line = start_child(
        "hostmesh_host.engines.minilm_child", {"api_key": key, "weights": str(find_weights(MINILM, None)), "threads": 1}
    )
    yield RunningEngine(
        name="minilm", url=line["url"], key=key, process=process, chat_model="", embedding_model=MINILM.model_id
    )
    stop(process)


StartRecorded = Callable[..., RunningEngine]


@pytest.fixture
def start_recorded() -> Iterator[StartRecorded]:
    """Start test engines with arguments of the test's choice."""
    started = []

    def start(*arguments: str, key: str | None = None) -> RunningEngine:
        process = subprocess.Popen(
            [sys.executable, str(RECORDED_ENGINE), "--until-eof", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | ({} if key is None else {"RECORDED_ENGINE_KEY": key}),
        )
        started.append(process)
        return RunningEngine(
            name="recorded",
            url=first_line(process)["url"],
            key=key,
            process=process,
            chat_model="recorded",
            embedding_model="recorded-embedding",
        )

    yield start
    for process in started:
        stop(process)


@pytest.fixture
def recorded(start_recorded: StartRecorded) -> RunningEngine:
    """The test engine, with a key."""
    return start_recorded(key=secrets.token_hex(16))
