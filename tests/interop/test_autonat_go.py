"""AutoNAT v2 with go-libp2p's: each has the other dial it back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.interop.go_peer import build_go_peer
from tests.interop.peer_process import Server, serving

from hostmesh.net.autonat_report import DialBackOutcome, ReachState
from hostmesh.net.node import Node, NodeConfig
from hostmesh.net.peer_key import PeerKey

pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]  # the first builds go-libp2p


@pytest.fixture(scope="module")
def go_peer(toolchain_cache: Path) -> list[str]:
    return [str(build_go_peer(toolchain_cache / "go")), "autonat"]


@pytest.fixture(scope="module")
def go_server(go_peer: list[str]) -> Iterator[Server]:
    with serving(go_peer) as server:
        yield server


@asynccontextmanager
async def a_node(**config: Any) -> AsyncIterator[Node]:
    settings = {"enable_dht": False, "listen_addresses": ("/ip4/127.0.0.1/tcp/0",), **config}
    node = Node(NodeConfig(**settings), PeerKey.generate())
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        yield node
        await node.stop()


async def a_free_port() -> int:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        return int(listener.socket.getsockname()[1])


# --- go dials back ---


async def test_go_dials_hostmesh_back(go_server: Server) -> None:
    async with a_node(bootstrap_addresses=(go_server.addresses[0],)) as node:
        await node.wait_connected(1, 10)
        report = await node.check_reachability()
        assert report.state is ReachState.PUBLIC
        assert [answer.outcome for answer in report.answers] == [DialBackOutcome.REACHED]


async def test_go_finds_nobody(go_server: Server) -> None:
    address = f"/ip4/127.0.0.1/tcp/{await a_free_port()}"
    async with a_node(bootstrap_addresses=(go_server.addresses[0],), announce_addresses=(address,)) as node:
        await node.wait_connected(1, 10)
        report = await node.check_reachability()
        assert report.state is ReachState.UNREACHABLE
        assert [answer.outcome for answer in report.answers] == [DialBackOutcome.FAILED]


async def test_go_is_paid_for_another_address(go_server: Server) -> None:
    async with a_node(
        bootstrap_addresses=(go_server.addresses[0],), listen_addresses=("/ip4/127.0.0.2/tcp/0",)
    ) as node:
        await node.wait_connected(1, 10)
        report = await node.check_reachability()
        assert report.state is ReachState.PUBLIC
        assert [answer.outcome for answer in report.answers] == [DialBackOutcome.REACHED]


# --- hostmesh dials back ---


async def go_asks(go_peer: list[str], node: Node, *addresses: str) -> dict[str, Any]:
    command = [*go_peer, "check", node.peer_addresses()[0], *addresses]
    with trio.fail_after(60):
        done = await trio.run_process(command, capture_stdout=True, stderr=subprocess.DEVNULL, check=False)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


async def test_hostmesh_dials_go_back(go_peer: list[str]) -> None:
    async with a_node(serve_dial_back=True) as node:
        told = await go_asks(go_peer, node)
    assert told == {
        "ok": True,
        "reachability": "Public",
        "index": 0,
        "refused": False,
        "connections": told["connections"],
    }


async def test_hostmesh_finds_nobody(go_peer: list[str]) -> None:
    async with a_node(serve_dial_back=True) as node:
        told = await go_asks(go_peer, node, f"/ip4/127.0.0.1/tcp/{await a_free_port()}")
    assert (told["ok"], told["reachability"]) == (True, "Private")


async def test_go_pays_hostmesh_for_a_name(go_peer: list[str]) -> None:
    """The name is one of this machine, so it is not dialled; the specification has the client told of a failed dial."""
    async with a_node(serve_dial_back=True) as node:
        told = await go_asks(go_peer, node, f"/dns4/localhost/tcp/{await a_free_port()}")
    assert (told["ok"], told["reachability"]) == (True, "Private")


async def test_hostmesh_refuses_other_private_addresses(go_peer: list[str]) -> None:
    async with a_node(serve_dial_back=True) as node:
        told = await go_asks(go_peer, node, "/ip4/10.9.8.7/tcp/4001", "/ip4/127.0.0.2/tcp/4001")
    assert (told["ok"], told["refused"]) == (True, True)
