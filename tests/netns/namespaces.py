"""Network namespaces that stand for machines. Needs root and iproute2."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_numbers = itertools.count()


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


def add_namespace() -> str:
    """Add a namespace with nothing but loopback in it, and return its name."""
    name = f"hostmesh-{os.getpid()}-{next(_numbers)}"
    ip("netns", "add", name)
    ip("-n", name, "link", "set", "lo", "up")
    return name


def set_kernel(namespace: str, name: str, value: str) -> None:
    """Set what the kernel does in a namespace, ``net/ipv4/...`` as under /proc/sys."""
    command = ["ip", "netns", "exec", namespace, "tee", f"/proc/sys/{name}"]
    done = subprocess.run(command, input=value, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{name} = {value}: {done.stderr}"


def delete_namespace(name: str) -> None:
    """Delete a namespace with all that is in it. One that is gone already stays so."""
    subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@contextmanager
def two_namespaces() -> Iterator[tuple[str, str]]:
    """Yield two namespaces that nothing joins."""
    names: list[str] = []
    try:
        names += [add_namespace()]
        names += [add_namespace()]
        yield names[0], names[1]
    finally:
        for name in names:
            delete_namespace(name)


@dataclass
class Lan:
    """Namespaces, each with one interface, all ports of one bridge. That stands in a namespace of its own, so the
    machine's network is not touched."""

    names: list[str] = field(default_factory=list)

    @property
    def switch(self) -> str:
        return self.names[0]

    def _new(self) -> str:
        self.names.append(add_namespace())
        return self.names[-1]

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
            delete_namespace(name)
