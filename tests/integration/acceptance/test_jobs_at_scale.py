"""Many jobs against one host process: each ends exactly once, and nothing grows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from hostmesh import HostCriteria, Session, Wallet, open_sdk
from hostmesh.rpc.workers import MAX_WORKERS

ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def process(*command: str | Path, home: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run a command; give it and its ready line. It is told to end like a service, and must end well."""
    child = subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=os.environ | {"HOSTMESH_HOME": str(home), "P2P_ENABLE_MDNS": "false"},
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    try:
        yield child, json.loads(child.stdout.readline())
        child.terminate()
        child.wait(timeout=20)
    finally:
        child.kill()
        child.communicate()


@contextmanager
def host(*arguments: str, home: Path) -> Iterator[tuple[int, str]]:
    """A hostmesh-host; its process id and its address."""
    start = ("-m", "hostmesh_host.cli.main", "start", "--json", "--new-wallet", "--price", "1000", *arguments)
    with process(*start, home=home) as (child, ready):
        assert ready["event"] == "ready"
        yield child.pid, f"{ready['addresses'][0].partition('/p2p/')[0]}/p2p/{ready['peer_id']}"


class Growth:
    """Files, threads and tasks of the host process and of this one."""

    def __init__(self, host_pid: int) -> None:
        self._host_pid = host_pid

    def _of(self, pid: int) -> tuple[int, int]:
        folder = Path("/proc") / str(pid)
        return len(list((folder / "fd").iterdir())), len(list((folder / "task").iterdir()))

    async def now(self, home: Path) -> dict[str, int]:
        status = await trio.run_process(
            [sys.executable, "-m", "hostmesh_host.cli.main", "status", "--json"],
            env=os.environ | {"HOSTMESH_HOME": str(home)},
            capture_stdout=True,
        )
        host_files, host_threads = self._of(self._host_pid)
        files, threads = self._of(os.getpid())
        return {
            "host_files": host_files,
            "host_threads": host_threads,
            "host_tasks": json.loads(status.stdout)["tasks"],
            "files": files,
            "threads": threads,
            "tasks": trio.lowlevel.current_statistics().tasks_living,
        }


@asynccontextmanager
async def a_session(address: str, model: str) -> AsyncIterator[tuple[Session, Any]]:
    async with AsyncExitStack() as stack:
        sdk = await stack.enter_async_context(
            open_sdk(ephemeral_key=True, enable_mdns=False, bootstrap_nodes=[address])
        )
        await sdk.authenticate(wallet=Wallet.generate())
        discovery = sdk.get_discovery_manager()
        await discovery.create_node()
        await discovery.wait_ready(timeout_s=10)
        choice = await discovery.find_host(HostCriteria(required_models=[model]))
        session = await stack.enter_async_context(
            sdk.get_session_manager().open_session(choice, spending_limit_micros=1_000_000)
        )
        yield session, sdk.get_job_manager()


async def test_200_in_a_row_and_50_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTMESH_HOME", str(tmp_path / "client"))
    home = tmp_path / "host"
    with (
        process(ROOT / "tests/engines/recorded_engine.py", home=tmp_path) as (_, engine),
        host("--engine", engine["url"], "--model", "recorded", "--max-concurrent", "8", home=home) as (pid, address),
    ):
        async with a_session(address, "recorded") as (session, jobs), httpx.AsyncClient(trust_env=False) as direct:
            growth = Growth(pid)
            answers: dict[str, str] = {}

            async def ask_engine(prompt: str) -> str:
                body = {"model": "recorded", "messages": [{"role": "user", "content": prompt}], "temperature": 0}
                reply = await direct.post(engine["url"] + "/v1/chat/completions", json=body)
                text: str = reply.json()["choices"][0]["message"]["content"]
                return text

            async def run(prompt: str) -> None:
                async with jobs.run(session, prompt=prompt, parameters={"temperature": 0}) as job:
                    text = await job.read_text()
                assert prompt not in answers
                answers[prompt] = text
                assert job.finish_reason is not None

            async def stats() -> dict[str, int]:
                counts: dict[str, int] = (await direct.get(engine["url"] + "/stats")).json()
                return counts

            for number in range(20):
                await run(f"warm-up {number}")
            before, counted = await growth.now(home), await stats()
            for number in range(200):
                await run(f"in a row {number}")
            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(run, f"at once {number}")
            after, counts = await growth.now(home), await stats()

            # The engine's own count: one request a job, none failed, none left over.
            assert counts["requests"] - counted["requests"] == 250
            assert counts["completed"] - counted["completed"] == 250
            assert counts["active"] == counts["failed"] == counts["cancelled"] == 0
            for prompt in ("in a row 0", "in a row 199", "at once 0", "at once 49"):
                assert answers[prompt] == await ask_engine(prompt)
            # The pool of engine connections holds as many as ran at once; nothing else may have grown.
            assert after["host_files"] <= before["host_files"] + 8
            for what in ("host_threads", "files", "threads", "tasks"):
                assert after[what] <= before[what], f"{what}: {before[what]} -> {after[what]}"
            # So many the server keeps for further calls.
            assert after["host_tasks"] <= before["host_tasks"] + MAX_WORKERS


async def test_20_against_a_real_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTMESH_HOME", str(tmp_path / "client"))
    home = tmp_path / "host"
    with host("--engine", "smollm2", "--threads", "1", "--max-concurrent", "2", home=home) as (pid, address):
        async with a_session(address, "smollm2-135m-instruct") as (session, jobs):
            growth = Growth(pid)
            ends: list[str] = []

            async def run(number: int) -> None:
                async with jobs.run(
                    session, prompt=f"Count from {number}.", parameters={"temperature": 0}, max_output_tokens=12
                ) as job:
                    text = await job.read_text()
                assert text
                assert 1 <= job.usage.completion_tokens <= 12
                ends.append(job.job_id.hex() if isinstance(job.job_id, bytes) else str(job.job_id))

            await run(0)
            before = await growth.now(home)
            async with trio.open_nursery() as nursery:
                for number in range(1, 11):
                    nursery.start_soon(run, number)
            for number in range(11, 21):
                await run(number)
            after = await growth.now(home)
            assert len(set(ends)) == len(ends) == 21
            assert after["host_files"] <= before["host_files"] + 2
            for what in ("files", "threads", "tasks"):
                assert after[what] <= before[what], f"{what}: {before[what]} -> {after[what]}"
            # Of 21 jobs none has left a task; what the server keeps for calls is as many as there were at once.
            assert after["host_tasks"] < before["host_tasks"] + 21
