"""DNS packets by hand, so that the truth about mDNS does not come from zeroconf."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

GROUP, PORT = "224.0.0.251", 5353
PTR, TXT = 12, 16
SERVICE = "_p2p._udp.local"


def name_bytes(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\x00"


def record(name: str, kind: int, ttl: int, data: bytes, *, flush: bool = False) -> bytes:
    return name_bytes(name) + struct.pack("!HHIH", kind, 0x8001 if flush else 1, ttl, len(data)) + data


@dataclass
class LoopbackLink:
    """A responder and listener like js-libp2p's: PTR and TXT, nothing else."""

    socket: trio.socket.SocketType

    async def respond(self, *records: bytes) -> None:
        header = struct.pack("!HHHHHH", 0, 0x8400, 0, len(records), 0, 0)
        await self.socket.sendto(header + b"".join(records), (GROUP, PORT))

    async def announce(self, label: str, txt: bytes, *, ttl: int = 120) -> None:
        name = f"{label}.{SERVICE}"
        await self.respond(record(SERVICE, PTR, ttl, name_bytes(name)), record(name, TXT, ttl, txt, flush=True))

    async def announce_name(self, label: str) -> None:
        await self.respond(record(SERVICE, PTR, 120, name_bytes(f"{label}.{SERVICE}")))

    async def announce_txt(self, label: str, txt: bytes, *, ttl: int = 120) -> None:
        await self.respond(record(f"{label}.{SERVICE}", TXT, ttl, txt, flush=True))

    async def packet(self, wanted: Callable[[bytes], bool]) -> bytes:
        """Return the next packet on the link that is wanted."""
        while True:
            data, _ = await self.socket.recvfrom(9000)
            if wanted(data):
                return data

    async def question(self, name: str = SERVICE, kind: int = PTR) -> bytes:
        """Return the next packet that asks for a name."""
        asked = name_bytes(name) + struct.pack("!HH", kind, 1)
        return await self.packet(lambda data: data[2:4] == b"\x00\x00" and asked in data)

    async def txt_question(self, label: str) -> bytes:
        """Return the next packet that asks for a name's TXT."""
        return await self.question(f"{label}.{SERVICE}", TXT)


def txt_of(*texts: str) -> bytes:
    return b"".join(bytes([len(text)]) + text.encode() for text in texts)


@pytest.fixture
async def link() -> AsyncIterator[LoopbackLink]:
    sock = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
    await sock.bind(("", PORT))
    lo = socket.inet_aton("127.0.0.1")
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + lo)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, lo)
    with sock:
        yield LoopbackLink(sock)


@pytest.fixture
def txt() -> Callable[..., bytes]:
    return txt_of


class NodeProcess:
    """A ``source_node.py``: its events as they come."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._events: list[dict[str, Any]] = []
        self._changed = trio.Event()
        self._has_ended = False
        self.peer_id = ""
        self.addresses: list[str] = []

    async def run(self) -> None:
        assert self._process.stdout is not None
        buffer = b""
        async for data in self._process.stdout:
            *lines, buffer = (buffer + data).split(b"\n")
            self._events += map(json.loads, lines)
            self._wake()
        self._has_ended = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def has(self, name: str) -> bool:
        return any(event["event"] == name for event in self._events)

    async def event(self, name: str, *, within_s: float = 40.0) -> dict[str, Any]:
        """Return the first event of that name."""
        with trio.fail_after(within_s):
            while not self.has(name):
                assert not self._has_ended, f"the process ended; it told {self._events}"
                await self._changed.wait()
        return next(event for event in self._events if event["event"] == name)

    async def command(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(line.encode() + b"\n")

    async def stop(self) -> dict[str, Any]:
        """Close its standard input and return what it says was left."""
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        return await self.event("stopped")


@pytest.fixture
async def start_node(nursery: trio.Nursery) -> AsyncIterator[Callable[..., Awaitable[NodeProcess]]]:
    """Start a ``source_node.py`` and wait until it listens: ``await start_node(role="host", ...)``."""
    processes: list[trio.Process] = []

    async def start(
        prefix_command: Sequence[str] = (), script: Path = Path(__file__).parent / "source_node.py", **wanted: Any
    ) -> NodeProcess:
        process = await trio.lowlevel.open_process(
            [*prefix_command, sys.executable, str(script), json.dumps(wanted)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        processes.append(process)
        node = NodeProcess(process)
        nursery.start_soon(node.run)
        ready = await node.event("ready")
        node.peer_id, node.addresses = ready["peer_id"], ready["addresses"]
        return node

    yield start
    for process in processes:
        process.kill()
    for process in processes:
        await process.wait()


@pytest.fixture
def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
