"""``find --watch`` in a process of its own, against hosts that come and go in others."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from cli_world import HOST_PROGRAM, Command, Process, World

from hostmesh.cli.privacy import NOTE


def watching(world: World, home: Path, *arguments: str) -> Process:
    return Process("-m", "hostmesh.cli.main", *world.join("find", "--watch", *arguments), home=home)


def test_hosts_join_and_leave_as_lines_of_json(world: World, tmp_path: Path) -> None:
    options = {"model": "m1", "price": 1, "location": "US", "pieces": []}
    host = Process(str(HOST_PROGRAM), world.bootstrap, json.dumps(options), home=tmp_path / "host")
    watch = watching(world, tmp_path / "client", "--model", "m1", "--json")
    try:
        mine = host.event("ready")["peer_id"]
        joined = {watch.event("joined")["host"]["peer_id"] for _ in range(3)}  # type: ignore[index]
        assert joined == {world.hosts["cheap"], world.hosts["dear"], mine}
        assert host.process.stdin is not None
        host.process.stdin.close()  # it ends in order, and takes its record back
        host.process.stdin = None
        left = watch.event("left")
        assert (left["peer_id"], left["reason"]) in ((mine, "withdrawn"), (mine, "draining"))
        assert watch.stop(signal.SIGINT) == (130, "")
    finally:
        watch.kill()
        host.kill()


def test_lines_for_people(world: World, tmp_path: Path) -> None:
    watch = watching(world, tmp_path / "client", "--model", "m1", "--location", "DE")
    try:
        assert watch.process.stdout is not None
        clock, event, peer_id, *cells = watch.process.stdout.readline().decode().split()
        assert (len(clock.split(":")), event, peer_id) == (3, "joined", world.hosts["dear"])
        assert cells[0] == "m1"
        assert watch.stop(signal.SIGTERM) == (143, f"{NOTE}\n")
    finally:
        watch.kill()


def test_limits_on_how_many_are_alike_are_refused(command: Command, world: World) -> None:
    refused = command(*world.join("find", "--watch", "--max-per-operator", "1"))
    assert refused.code == 2
    assert refused.err.startswith("error[USAGE]: --watch tells of every host")
