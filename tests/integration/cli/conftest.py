"""A small network of processes for the commands, and a way to run a command in this process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

from cli_club import CLUB_PROGRAM, Club
from cli_world import HOST_PROGRAM, HOSTS, Command, Outcome, Process, World

from hostmesh.cli.main import main


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("world")
    bootstrap = Process(
        "-m", "hostmesh.cli.main", "bootstrap", "--listen", "/ip4/127.0.0.1/tcp/0", "--json", home=home / "bootstrap"
    )
    processes = {"bootstrap": bootstrap}
    try:
        addresses = bootstrap.event("ready")["addresses"]
        assert isinstance(addresses, list)
        for name, options in HOSTS.items():
            arguments = (str(HOST_PROGRAM), addresses[0], json.dumps(options))
            processes[name] = Process(*arguments, home=home / name)
        peers = {name: str(processes[name].event("ready")["peer_id"]) for name in HOSTS}
        yield World(bootstrap=addresses[0], hosts=peers, processes=processes)
    finally:
        for process in processes.values():
            process.kill()


@pytest.fixture(scope="session")
def club(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Club]:
    """A node that serves methods of every shape."""
    process = Process(str(CLUB_PROGRAM), home=tmp_path_factory.mktemp("club"))
    try:
        yield Club(process)
    finally:
        process.kill()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home for commands that run in this process."""
    for name in [name for name in os.environ if name.startswith(("HOSTMESH_", "P2P_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOSTMESH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def command(home: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run ``hostmesh`` in this process."""

    def run(*argv: str) -> Outcome:
        code = main(argv)
        out, err = capsys.readouterr()
        return Outcome(code, out, err)

    return run
