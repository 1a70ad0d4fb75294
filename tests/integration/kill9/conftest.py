"""Servers in processes of their own that may be killed, and a client that calls them."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.integration.kill9.lives import Server, StartServer
from tests.unit.protoc.kit import run_protoc

from hostmesh.net.node import Node, NodeConfig
from hostmesh.net.peer_key import PeerKey

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]


@pytest.fixture(scope="package")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What protoc-gen-hostmesh makes of the service, where it can be imported from."""
    folder = tmp_path_factory.mktemp("effects_modules")
    result = run_protoc(HERE / "protos", folder, "effects/v1/effects.proto")
    assert result.returncode == 0, result.stderr
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="package")
def effects(generated: Path) -> Any:
    """The module with the client."""
    return importlib.import_module("effects.v1.effects_hostmesh")


@pytest.fixture(scope="package")
def nest(generated: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The process from which all servers are forked."""
    paths = os.pathsep.join((str(ROOT), str(generated), *sys.path))
    command = [sys.executable, "-m", "tests.integration.kill9.server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.fixture
async def start_server(nest: subprocess.Popen[bytes], tmp_path: Path) -> AsyncIterator[StartServer]:
    """Start a server, or the same one once more; see :class:`tests.integration.kill9.lives.Server`."""
    async with AsyncExitStack() as stack:

        async def start(*, die_at: str = "", is_silent: bool = False, after: Server | None = None) -> Server:
            server = Server(tmp_path, after)
            stack.push_async_callback(server.close)
            await server.start(nest, die_at=die_at, is_silent=is_silent)
            return server

        yield start


@pytest.fixture
async def client(nursery: trio.Nursery) -> Node:
    """The caller's node."""
    node = Node(NodeConfig(enable_dht=False, listen_addresses=()), PeerKey.generate())
    await nursery.start(node.run)
    return node
