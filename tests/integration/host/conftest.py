"""Engines and hosts as processes, started without the code under test."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from engine_process import RunningEngine, first_line, start_child, stop
from host_process import HostProcess, environment

from hostmesh_host.cli.main import main
from hostmesh_host.engines.weights import MINILM, SMOLLM2, find_weights

RECORDED_ENGINE = Path(__file__).parents[2] / "engines" / "recorded_engine.py"
CONTEXT_TOKENS = 2048


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


StartHost = Callable[..., HostProcess]


@pytest.fixture
def start_host(tmp_path: Path) -> Iterator[StartHost]:
    """Start hosts; each is killed at the end, should it still run."""
    started: list[HostProcess] = []

    def start(*arguments: str, home: str = "host", **options: object) -> HostProcess:
        host = HostProcess(tmp_path / home, *arguments, **options)  # type: ignore[arg-type]
        started.append(host)
        return host

    yield start
    for host in started:
        host.end()


@pytest.fixture
def command_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command of ``hostmesh-host`` to its end, in this process: what it says does not depend on whose it is."""
    wanted = environment(tmp_path / "h")
    for name in os.environ:
        if name not in wanted:
            monkeypatch.delenv(name)
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = main(arguments)
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, code, out, err)

    return run
