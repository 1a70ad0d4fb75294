"""Fixtures: a switched network of namespaces, and nodes in them. Needs root and iproute2."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from json_process import JsonProcess, json_processes
from tests.netns.namespaces import Lan


@pytest.fixture
def lan() -> Iterator[Lan]:
    lan = Lan()
    try:
        lan.build()
        yield lan
    finally:
        lan.delete()


@pytest.fixture
async def start_mesh_node(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[JsonProcess]]]:
    """Start a ``mesh_node.py`` in a namespace and wait until it listens."""
    numbers = itertools.count()
    async with json_processes() as start:

        async def start_mesh_node(namespace: str, role: str, **settings: Any) -> JsonProcess:
            wanted = {"role": role, "settings": {"enable_mdns": False, "enable_dht": False, **settings}}
            script = str(Path(__file__).parent / "mesh_node.py")
            command = ["ip", "netns", "exec", namespace, sys.executable, script, json.dumps(wanted)]
            return await start(command, {"HOSTMESH_HOME": str(tmp_path / f"home{next(numbers)}")})

        yield start_mesh_node
