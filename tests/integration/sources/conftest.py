"""DNS packets by hand, so that the truth about mDNS does not come from zeroconf."""

from __future__ import annotations

import json
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

from json_process import JsonProcess, json_processes

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

    async def ask(self) -> None:
        """Ask for the service, as a peer that has just come."""
        question = name_bytes(SERVICE) + struct.pack("!HH", PTR, 1)
        await self.socket.sendto(struct.pack("!HHHHHH", 0, 0, 1, 0, 0, 0) + question, (GROUP, PORT))

    async def announce(self, label: str, txt: bytes, *, ttl: int = 120) -> None:
        name = f"{label}.{SERVICE}"
        await self.respond(record(SERVICE, PTR, ttl, name_bytes(name)), record(name, TXT, ttl, txt, flush=True))

    async def announce_each(self, label: str, txts: list[bytes]) -> None:
        """One TXT record for each, as js-libp2p has it."""
        name = f"{label}.{SERVICE}"
        each = [record(name, TXT, 120, txt) for txt in txts]
        await self.respond(record(SERVICE, PTR, 120, name_bytes(name)), *each)

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


@pytest.fixture
async def start_node() -> AsyncIterator[Callable[..., Awaitable[JsonProcess]]]:
    """Start a ``source_node.py`` and wait until it listens: ``await start_node(role="host", ...)``."""
    async with json_processes() as start:

        async def start_node(script: str = "source_node.py", **wanted: Any) -> JsonProcess:
            return await start([sys.executable, str(Path(__file__).parent / script), json.dumps(wanted)])

        yield start_node


@pytest.fixture
def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
