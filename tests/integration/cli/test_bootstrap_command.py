"""``hostmesh bootstrap`` as a process: its id stays, its files and ports are its own, it ends cleanly."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_world import Command, Process, World

LISTEN = ("--listen", "/ip4/127.0.0.1/tcp/0")
SERVICE = Path(__file__).parents[3] / "examples" / "ops" / "hostmesh-bootstrap.service"


@pytest.fixture
def node(home: Path) -> Iterator[Process]:
    process = Process("-m", "hostmesh.cli.main", "bootstrap", *LISTEN, "--json", home=home)
    yield process
    process.kill()


def test_its_id_stays_and_its_key_is_its_own(node: Process, home: Path, command: Command) -> None:
    ready = node.event("ready")
    assert ready["pid"] == node.process.pid
    (address,) = ready["addresses"]  # type: ignore[misc]
    assert re.fullmatch(rf"/ip4/127\.0\.0\.1/tcp/\d+/p2p/{ready['peer_id']}", address)

    second = command("bootstrap", *LISTEN)
    assert second.code == 3
    (line,) = second.err.splitlines()
    assert line.startswith("error[KEY_IN_USE]: ")
    assert str(home / "bootstrap.key") in line

    assert node.stop(signal.SIGTERM) == (143, "")
    again = Process("-m", "hostmesh.cli.main", "bootstrap", *LISTEN, "--json", home=home)
    try:
        assert again.event("ready")["peer_id"] == ready["peer_id"]
        assert again.stop(signal.SIGINT) == (130, "")
    finally:
        again.kill()


def test_a_client_without_dht_and_mdns_finds_hosts_by_what_the_bootstrap_node_tells(
    command: Command, world: World
) -> None:
    wanted, seen, given_up_s = {world.hosts["cheap"], world.hosts["dear"]}, set(), time.monotonic() + 20
    # A host that has just started hands its record to its bootstrap node half a second later at most.
    while seen != wanted and time.monotonic() < given_up_s:
        found = command(*world.join("find", "--model", "m1", "--no-dht", "--json"))
        hosts = found.json.get("hosts", [])
        assert isinstance(hosts, list)
        seen = {host["peer_id"] for host in hosts}
    assert seen == wanted
    # What an earlier round found is remembered.
    assert {source for host in hosts for source in host["sources"]} - {"cache"} == {"exchange"}


def test_a_port_in_use_an_address_of_others_and_a_bad_key(command: Command, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = command("bootstrap", "--listen", f"/ip4/127.0.0.1/tcp/{port}")
    assert refused.code == 5
    (line,) = refused.err.splitlines()
    assert line.startswith("error[START_FAILED]: ")
    assert str(port) in line
    assert "; remedy: " in line

    assert command("bootstrap", "--listen", "/ip4/192.0.2.1/tcp/0").code == 5
    assert command("bootstrap", "--listen", "nonsense").code == 2
    assert command("bootstrap", *LISTEN, "--announce", "/ip4/0.0.0.0/tcp/1").code == 2
    key = tmp_path / "key"
    key.write_text("not a key")
    key.chmod(0o600)
    wrong = command("bootstrap", *LISTEN, "--key", str(key))
    assert (wrong.code, str(key) in wrong.err) == (3, True)
    assert key.read_text() == "not a key"


def test_the_service_file_uses_options_that_exist(command: Command) -> None:
    text = SERVICE.read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = re.findall(r"^ExecStart=(.*)$", text, flags=re.MULTILINE)
    program, name, *arguments = line.split()
    assert program.endswith("/hostmesh")
    shown = command(name, "--help").out
    options = [word for word in arguments if word.startswith("--")]
    assert options
    assert all(option in shown for option in options)
