"""``hostmesh doctor`` and ``hostmesh topology`` in a network of processes."""

from __future__ import annotations

import socket
from pathlib import Path

from cli_world import HOSTILE, Command, World

from hostmesh.net.peer_key import open_peer_key

QUICK = ("--no-mdns", "--join-s", "1", "--timeout-s", "20", "--json")


def found(result: dict[str, object]) -> dict[str, dict[str, str]]:
    findings = result["findings"]
    assert isinstance(findings, list)
    return {each["code"]: each for each in findings}


def test_a_machine_that_is_all_right(command: Command, world: World, home: Path) -> None:
    outcome = command("doctor", "--bootstrap", world.bootstrap, *QUICK)
    assert outcome.code == 0, outcome.out
    seen = found(outcome.json)
    assert {"VERSION", "KEY_NEW", "PORT_FREE", "BOOTSTRAP_CONNECTED", "REACHABLE", "DHT_WORKS"} <= set(seen)
    assert outcome.json["failed"] == 0
    assert not (home / "peer.key").exists()


def test_what_fails_is_exit_code_9_with_its_remedy(command: Command, world: World, tmp_path: Path) -> None:
    key = tmp_path / "peer.key"
    with open_peer_key(key):
        pass
    key.chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}"
        outcome = command(
            "doctor", "--bootstrap", world.bootstrap, "--key", str(key), "--listen", listen,
            "--binding", str(tmp_path / "none.json"), *QUICK,
        )  # fmt: skip
    assert outcome.code == 9
    seen = found(outcome.json)
    assert outcome.json["failed"] == 3
    assert seen["KEY_UNUSABLE"]["remedy"] == f"chmod 600 {key}"
    assert seen["PORT_IN_USE"]["subject"] == listen
    assert seen["BINDING_UNUSABLE"]["remedy"]
    # The rest is looked at all the same, by a node that does not listen.
    assert {"BOOTSTRAP_CONNECTED", "NOT_LISTENING"} <= set(seen)
    assert not {"REACHABLE", "UNREACHABLE"} & set(seen)


def test_for_people(command: Command) -> None:
    absent = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWSahP5pFRCEfaziPEba7urXGeif6T1y8jmodzdFUvzBHj"
    outcome = command("doctor", "--bootstrap", absent, "--no-mdns", "--join-s", "0.5", "--timeout-s", "5")
    assert outcome.code == 9
    lines = outcome.out.splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith("fail  BOOTSTRAP_DOWN"))
    assert absent in lines[at]
    assert lines[at + 1].startswith("      -> ")
    assert lines[-1].endswith("to look at")
    assert "joining the network" in outcome.err


def test_topology(command: Command, world: World, tmp_path: Path) -> None:
    page = tmp_path / "net.html"
    options = ("--bootstrap", world.bootstrap, "--no-mdns", "--timeout-s", "20")
    outcome = command("topology", *options, "--html", str(page), "--json")
    assert outcome.code == 0, outcome.err
    hosts = outcome.json["hosts"]
    assert isinstance(hosts, list)
    assert {each["peer_id"] for each in hosts} == set(world.hosts.values())
    peers = outcome.json["peers"]
    assert isinstance(peers, list)
    bootstrap = world.bootstrap.rpartition("/")[2]
    assert [each["peer_id"] for each in peers if each["is_bootstrap"]] == [bootstrap]
    html = page.read_text(encoding="utf-8")
    assert all(peer_id in html for peer_id in world.hosts.values())
    assert not any(part in html for part in (HOSTILE, "<script", "\x1b", "\u202e"))

    plain = command("topology", *options)
    assert plain.code == 0
    assert all(f"host {peer_id}" in plain.out for peer_id in world.hosts.values())
    assert "\x1b" not in plain.out


def test_a_page_that_cannot_be_written(command: Command, tmp_path: Path) -> None:
    outcome = command("topology", "--no-mdns", "--timeout-s", "0.1", "--html", str(tmp_path / "no" / "net.html"))
    assert outcome.code == 2
    assert "error[USAGE]" in outcome.err
