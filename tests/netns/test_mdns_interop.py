"""mDNS with js-libp2p and go-libp2p as they are, from another network namespace over a bridge, both ways."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.interop.go_peer import build_go_peer
from tests.interop.js_peer import prepare_js_peer
from tests.netns.namespaces import Lan, ip

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from json_process import JsonProcess, json_processes

pytestmark = [pytest.mark.netns, pytest.mark.timeout(900)]  # the first builds go-libp2p and installs js-libp2p

PROGRAM = Path(__file__).with_name("mdns_node.py")
FOUND_S = 20.0
"""go-libp2p asks every 4 s at first, js-libp2p every 10 s."""
TTL_S = 120.0


@dataclass(frozen=True)
class Family:
    """One version of IP."""

    network: str
    listen: str
    address: str


IPV4 = Family("10.77.0.{}/24", "/ip4/0.0.0.0/tcp/0", "/ip4/10.77.0.{}/tcp/")
IPV6 = Family("fd77::{}/64", "/ip6/::/tcp/0", "/ip6/fd77::{}/tcp/")
# js-libp2p's mDNS speaks IPv4 alone.
PEERS = [
    pytest.param("js", IPV4, id="js"),
    pytest.param("go", IPV4, id="go"),
    pytest.param("go", IPV6, id="go-ipv6"),
]


@pytest.fixture(scope="module")
def peer_commands() -> Mapping[str, list[str]]:
    """The start of each peer's command line, after building it."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = home / "hostmesh-tests"
    return {
        "js": [*prepare_js_peer(cache / "js"), "mdns"],
        "go": [str(build_go_peer(cache / "go")), "mdns"],
    }


class Link:
    """Programs in namespaces of one bridge."""

    def __init__(self, lan: Lan, family: Family, commands: Mapping[str, list[str]], start: Any, home: Path) -> None:
        self._lan, self._family, self._commands, self._start, self._home = lan, family, commands, start, home
        self._joined = 0

    def join(self) -> str:
        self._joined += 1
        name = self._lan.join(self._family.network.format(self._joined))
        # As every machine has one: what js-libp2p sends to a group, it leaves to the kernel's routes.
        ip("-n", name, "-6" if ":" in self._family.network else "-4", "route", "add", "default", "dev", "eth0")
        return name

    def address(self, number: int) -> str:
        """Return how the addresses of the namespace that joined so begin, counted from 1."""
        return self._family.address.format(number)

    async def node(self, namespace: str, role: str) -> JsonProcess:
        """Start a hostmesh node."""
        settings = {"listen_addresses": [self._family.listen] if role == "host" else []}
        program = [sys.executable, str(PROGRAM), json.dumps({"role": role, "settings": settings})]
        home = str(self._home / f"{namespace}-{role}")
        return await self._start(["ip", "netns", "exec", namespace, *program], {"HOSTMESH_HOME": home})

    async def peer(self, namespace: str, name: str) -> JsonProcess:
        """Start a peer of another implementation, or a hostmesh host."""
        if name == "hostmesh":
            return await self.node(namespace, "host")
        return await self._start(["ip", "netns", "exec", namespace, *self._commands[name]])


OpenLink = Callable[[Family], Link]


@pytest.fixture
async def open_link(lan: Lan, peer_commands: Mapping[str, list[str]], tmp_path: Path) -> AsyncIterator[OpenLink]:
    async with json_processes() as start:
        yield lambda family: Link(lan, family, peer_commands, start, tmp_path)


async def answer_of(peer: JsonProcess, host: JsonProcess) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return how a peer of another implementation heard of the host, and what the host answered."""
    found = await peer.event("found", within_s=FOUND_S)
    answered = await peer.event("answered", within_s=FOUND_S)
    assert {event["peer_id"] for event in (found, answered)} == {host.peer_id}
    return found, answered


async def until_known(listener: JsonProcess, is_enough: Callable[[Mapping[str, list[str]]], bool]) -> dict[str, Any]:
    """Return whom the listener knows, once that is enough."""
    number = 0
    with trio.fail_after(FOUND_S):
        while True:
            peers: dict[str, Any] = (await listener.event("known", number=number))["peers"]
            if is_enough(peers):
                return peers
            number += 1


@pytest.mark.parametrize("is_host_first", [True, False], ids=["host-first", "peer-first"])
@pytest.mark.parametrize(("name", "family"), PEERS)
async def test_a_host_is_found_and_answers(open_link: OpenLink, name: str, family: Family, is_host_first: bool) -> None:
    """The peer finds it by asking, or by the announcement; and it is not told of anybody who is not there."""
    link = open_link(family)
    here, there = link.join(), link.join()
    starts: list[Callable[[], Awaitable[JsonProcess]]] = [
        lambda: link.node(here, "host"),
        lambda: link.peer(there, name),
    ]
    if is_host_first:
        host, peer = [await start() for start in starts]
    else:
        peer, host = [await start() for start in reversed(starts)]
    found, answered = await answer_of(peer, host)
    port = host.addresses[0].split("/")[4]
    assert found["addresses"] == [f"{link.address(1)}{port}"]
    assert answered["address"].partition("/p2p/")[0] == f"{link.address(1)}{port}"
    assert answered["rtt_ms"] >= 0  # js-libp2p tells whole milliseconds
    assert answered["agent"].startswith("hostmesh")
    assert any("/discovery/" in protocol for protocol in answered["protocols"])
    assert not peer.has("failed")
    await host.stop()
    await peer.stop()


@pytest.mark.parametrize(("name", "family"), PEERS)
async def test_a_peer_is_found_and_is_no_host(open_link: OpenLink, name: str, family: Family) -> None:
    """find_host names it, dials it where mDNS said, and learns that it is no host."""
    link = open_link(family)
    here, there = link.join(), link.join()
    peer = await link.peer(there, name)
    client = await link.node(here, "client")
    looked = await client.event("looked")
    assert (looked["seen"], looked["fetches"]) == (0, {"not_a_host": 1})
    reached = looked["peers"][peer.peer_id]
    assert set(looked["peers"]) == {peer.peer_id}
    assert reached["addresses"]
    assert all(address.startswith(link.address(2)) for address in reached["addresses"])
    assert {address.partition("/p2p/")[0] for address in reached["addresses"]} <= {
        address.partition("/p2p/")[0] for address in peer.addresses
    }
    assert "/ipfs/ping/1.0.0" in reached["protocols"]
    assert not peer.has("found"), "who is no host announces nothing"
    await client.stop()
    await peer.stop()


@pytest.mark.parametrize("name", ["hostmesh", "go"])
async def test_who_leaves_says_goodbye(open_link: OpenLink, name: str) -> None:
    link = open_link(IPV4)
    here, there = link.join(), link.join()
    listener = await link.node(here, "listener")
    peer = await link.peer(there, name)
    known = await until_known(listener, lambda peers: peer.peer_id in peers)
    assert any(address.startswith(link.address(2)) for address in known[peer.peer_id])
    await peer.stop()
    assert await until_known(listener, lambda peers: peer.peer_id not in peers) == {}


@pytest.mark.parametrize("name", ["hostmesh", "js", "go"])
async def test_who_is_killed_is_forgotten_after_two_minutes(open_link: OpenLink, name: str) -> None:
    """Without a goodbye, whatever time to live was said: go-libp2p says 53 minutes."""
    link = open_link(IPV4)
    here, there = link.join(), link.join()
    listener = await link.node(here, "listener")
    peer = await link.peer(there, name)
    await until_known(listener, lambda peers: peer.peer_id in peers)
    peer.signal(signal.SIGKILL)
    await peer.ended()
    await listener.command(str(TTL_S - 60))
    assert set((await listener.event("later"))["peers"]) == {peer.peer_id}
    await listener.command("60")
    assert (await listener.event("later", number=1))["peers"] == {}
