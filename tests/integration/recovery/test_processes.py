"""Nodes in processes of their own that are killed, stopped and started again, on loopback.

Bounds are of the real clock, with room for a busy machine; what the simulator can play is in
tests/simulated/test_recovery.py, with bounds of its own.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from tests.support.json_process import JsonProcess, Start, json_processes

PROGRAM = Path(__file__).with_name("node.py")
LOOK_EVERY_S = 0.2
BOUND_S = 30.0
"""On an idle machine each recovery here takes a second or two."""


class Nodes:
    """Starts nodes; each name has a home of its own, so that who is started again has its key and its stores."""

    def __init__(self, start: Start, folder: Path) -> None:
        self._start = start
        self._folder = folder

    async def start(self, name: str, role: str, *bootstrap: str, port: int = 0) -> JsonProcess:
        settings = {"listen_addresses": [f"/ip4/127.0.0.1/tcp/{port}"], "bootstrap_nodes": list(bootstrap)}
        home = self._folder / name
        home.mkdir(exist_ok=True)
        command = [sys.executable, str(PROGRAM), json.dumps([role, settings])]
        return await self._start(command, {"HOSTMESH_HOME": str(home)})


@asynccontextmanager
async def nodes_in(folder: Path) -> AsyncIterator[Nodes]:
    async with json_processes() as start:
        yield Nodes(start, folder)


async def kill(process: JsonProcess) -> None:
    """Kill a process with SIGKILL, and wait until it is gone."""
    process.signal(signal.SIGKILL)
    await process.ended()


async def look(client: JsonProcess, what: str) -> tuple[set[str], float]:
    """Have a client look; return whom it found and how long that took."""
    number = len(client.events("found"))
    await client.command(what)
    told = await client.event("found", number=number)
    return set(told["peer_ids"]), told["took_s"]


async def look_until(client: JsonProcess, hosts: set[str], *, within_s: float = BOUND_S) -> float:
    """Have a client look for all hosts until it finds just these; return how long that took."""
    began_s = time.monotonic()
    found: set[str] = set()
    with trio.move_on_after(within_s):
        while True:
            found, _ = await look(client, "all")
            if found == hosts:
                return time.monotonic() - began_s
            # A find that has nobody to ask ends at once, and so many of them a second are refused (TooManyLookups).
            await trio.sleep(LOOK_EVERY_S)
    raise AssertionError(f"after {within_s} s it finds {found} and not {hosts}")


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def test_a_killed_host_is_not_chosen_once_its_connection_has_ended(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        bootstrap = await nodes.start("bootstrap", "bootstrap")
        hosts = [await nodes.start(f"host-{n}", "host", bootstrap.addresses[0]) for n in range(2)]
        client = await nodes.start("client", "client", bootstrap.addresses[0])
        await look_until(client, {host.peer_id for host in hosts})
        chosen, other = await _best_first(client, hosts)
        await kill(chosen)
        await _only(client, other.peer_id, within_s=5)


async def test_a_stopped_host_is_not_chosen_once_its_measurement_is_old_and_found_again_when_it_goes_on(
    tmp_path: Path,
) -> None:
    async with nodes_in(tmp_path) as nodes:
        bootstrap = await nodes.start("bootstrap", "bootstrap")
        hosts = [await nodes.start(f"host-{n}", "host", bootstrap.addresses[0]) for n in range(2)]
        client = await nodes.start("client", "client", bootstrap.addresses[0])
        everybody = {host.peer_id for host in hosts}
        await look_until(client, everybody)
        chosen, other = await _best_first(client, hosts)
        chosen.signal(signal.SIGSTOP)
        # What was measured is used again for 30 s while the connection stands.
        await _only(client, other.peer_id, within_s=45)
        chosen.signal(signal.SIGCONT)
        # It was left alone after the misses, for a minute at most.
        await look_until(client, everybody, within_s=75)


async def _best_first(client: JsonProcess, hosts: list[JsonProcess]) -> list[JsonProcess]:
    """Return the hosts, first the one that the client chooses while all are well."""
    chosen, _ = await look(client, "one")
    return sorted(hosts, key=lambda host: host.peer_id not in chosen)


async def _only(client: JsonProcess, peer_id: str, *, within_s: float) -> None:
    """Have a client look until it finds this host, and see that it stays with it and does not wait for the other."""
    with trio.fail_after(within_s):
        while (await look(client, "one"))[0] != {peer_id}:  # noqa: ASYNC110 - the answer is what is waited for
            await trio.sleep(0.2)
    for _ in range(3):
        found, took_s = await look(client, "one")
        assert found == {peer_id}
        assert took_s < 5.0


async def test_a_killed_client_finds_its_hosts_again_with_no_bootstrap_node_left(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        bootstrap = await nodes.start("bootstrap", "bootstrap")
        hosts = [await nodes.start(f"host-{n}", "host", bootstrap.addresses[0]) for n in range(2)]
        client = await nodes.start("client", "client", bootstrap.addresses[0])
        everybody = {host.peer_id for host in hosts}
        await look_until(client, everybody)
        await _until_known(tmp_path / "client" / "peers.sqlite3", everybody)
        await kill(bootstrap)
        await kill(client)
        again = await nodes.start("client", "client", bootstrap.addresses[0])
        assert again.peer_id == client.peer_id
        await look_until(again, everybody)


async def test_a_bootstrap_node_that_starts_after_the_others_joins_them(tmp_path: Path) -> None:
    """Its key is known: it has run before."""
    port = free_port()
    async with nodes_in(tmp_path) as nodes:
        before = await nodes.start("bootstrap", "bootstrap", port=port)
        address = before.addresses[0]
        await kill(before)
        host = await nodes.start("host", "host", address)
        client = await nodes.start("client", "client", address)
        assert (await look(client, "one"))[0] == set()
        await nodes.start("bootstrap", "bootstrap", port=port)
        await look_until(client, {host.peer_id}, within_s=60)


async def test_a_host_that_is_killed_and_starts_at_another_port_is_found_there(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        bootstrap = await nodes.start("bootstrap", "bootstrap")
        host = await nodes.start("host", "host", bootstrap.addresses[0])
        client = await nodes.start("client", "client", bootstrap.addresses[0])
        await look_until(client, {host.peer_id})
        await kill(host)
        assert (await look(client, "one"))[0] == set()
        again = await nodes.start("host", "host", bootstrap.addresses[0])
        assert again.peer_id == host.peer_id
        assert again.addresses != host.addresses
        await look_until(client, {host.peer_id}, within_s=70)


async def _until_known(file: Path, peers: set[str]) -> None:
    """Wait until the client's cache names the hosts: read from its disk, as the next process will.

    As peers that can be dialled (1), which is enough: that a host told its record itself (2) is kept, too, but another
    one may have been faster.
    """
    import sqlite3

    with trio.fail_after(60):
        while True:
            with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
                kept = {row[0] for row in database.execute("SELECT peer_id FROM peers WHERE use >= 1")}
            database.close()
            if kept >= peers:
                return
            await trio.sleep(0.5)
