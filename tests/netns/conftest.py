"""A switched network of namespaces: each has one interface, all are ports of one bridge. Needs root and iproute2."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from json_process import JsonProcess, json_processes

_numbers = itertools.count()


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


@dataclass
class Lan:
    """Namespaces on one bridge. That stands in a namespace of its own, so the machine's network is not touched."""

    names: list[str] = field(default_factory=list)

    @property
    def switch(self) -> str:
        return self.names[0]

    def _new(self) -> str:
        name = f"hostmesh-{os.getpid()}-{next(_numbers)}"
        ip("netns", "add", name)
        self.names.append(name)
        ip("-n", name, "link", "set", "lo", "up")
        return name

    def build(self) -> None:
        self._new()
        ip("-n", self.switch, "link", "add", "br0", "type", "bridge")
        ip("-n", self.switch, "link", "set", "br0", "up")

    def join(self, *addresses: str) -> str:
        """Return a new namespace on the bridge with these addresses."""
        name = self._new()
        port = f"port{len(self.names)}"
        ip("-n", self.switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("-n", self.switch, "link", "set", port, "master", "br0", "up")
        self.plug_in(name, *addresses)
        return name

    def plug_in(self, name: str, *addresses: str) -> None:
        for address in addresses:
            # Without duplicate address detection, which would keep an IPv6 address from use for a second.
            ip("-n", name, "address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
        if not any(":" in address for address in addresses):
            # Without a link-local address either: what is said to go over IPv4 cannot go over IPv6.
            ip("-n", name, "link", "set", "eth0", "addrgenmode", "none")
        ip("-n", name, "link", "set", "eth0", "up")

    def unplug(self, name: str) -> None:
        ip("-n", name, "address", "flush", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "down")

    def delete(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


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
