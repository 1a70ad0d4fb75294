"""A server and its client, and how each work is measured with them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.transport.process import PeerError, PeerProcess, open_peer
from tests.benchmarks.transport.works import Sizes, Work

START_S = 30.0
RUN_S = 20.0
"""Most time for a command beyond the time that it is asked to take."""

_FIRST_CONNECTS = 3
"""Untimed: they load what no later one does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a run came to."""

    value: float
    cpu_us_per_op: float | None = None
    latency_us: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two processes that are connected, warm, and have shown that they carry every byte."""

    server: PeerProcess
    client: PeerProcess
    settings: dict[str, Any]

    @property
    def is_usable(self) -> bool:
        """Whether both processes still answer."""
        return self.server.is_usable and self.client.is_usable

    async def measure(self, work: Work, sizes: Sizes) -> Measured:
        """Do one repetition of a work that needs no fresh server.

        Raises:
            PeerError: it went wrong, or took too long.
        """
        command, expected_s, least_s = _command(work, sizes)
        if work.name == "connect":
            await self.client.ask({**command, "count": _FIRST_CONNECTS}, within_s=RUN_S)
        # What the question itself costs is found by asking twice, and taken off; the first after work costs more.
        await _usage(self.server)
        first = await _usage(self.server)
        before = await _usage(self.server)
        ops, wall_s, client_cpu_s, data_bytes = 0, 0.0, 0.0, 0
        answer: dict[str, Any] = {}
        while ops == 0 or wall_s < least_s:
            answer = await self.client.ask(command, within_s=expected_s + RUN_S)
            if answer["ops"] < 1:
                raise PeerError("no operation was completed")
            ops += answer["ops"]
            wall_s += answer["wall_s"]
            client_cpu_s += answer["cpu_s"]
            data_bytes += answer.get("bytes", 0)
        after = await _usage(self.server)
        asking_s = before["cpu_s"] - first["cpu_s"]
        server_cpu_s = max(after["cpu_s"] - before["cpu_s"] - asking_s, 0.0)
        latency_us = answer.get("latency_us", {})
        return Measured(
            value=_value(work, ops, wall_s, data_bytes, latency_us),
            cpu_us_per_op=(client_cpu_s + server_cpu_s) / ops * 1e6,
            latency_us=latency_us,
        )


@asynccontextmanager
async def open_pair(name: str, argv: Sequence[str], sizes: Sizes, folder: Path) -> AsyncIterator[Pair]:
    """Start a server and a client, let them check every payload, and warm them up.

    Raises:
        PeerError: they do not start, or do not carry what they should.
    """
    async with _open_server(name, argv, folder) as (server, ready), _open_client(name, argv, ready, folder) as client:
        await client.ask({"cmd": "warmup"}, within_s=START_S)
        await client.ask({"cmd": "run", "work": "verify"}, within_s=RUN_S)
        if sizes.ramp_s > 0:
            ramp = {"cmd": "run", "work": "unary", "concurrency": 32, "seconds": sizes.ramp_s}
            await client.ask(ramp, within_s=sizes.ramp_s + RUN_S)
        yield Pair(server, client, ready.get("settings", {}))


async def measure_memory(name: str, argv: Sequence[str], work: Work, sizes: Sizes, folder: Path) -> Measured:
    """Measure what one more idle connection or stream adds to a fresh server, in KiB.

    A first client fills what the server has free after its start and loads what the first ones need; what a second
    client's add is counted.

    Raises:
        PeerError: it went wrong, or took too long.
    """
    async with (
        _open_server(name, argv, folder) as (server, ready),
        _open_client(name, argv, ready, folder) as first,
        _open_client(name, argv, ready, folder) as second,
    ):
        if work.name == "mem_connection":
            kind, before_it, count = "hold_connections", sizes.connections_before, sizes.held_connections
        else:
            kind, before_it, count = "hold_streams", sizes.streams_before, sizes.held_streams
            for client in (first, second):  # a client's own connection is none of the streams'
                await client.ask({"cmd": "warmup"}, within_s=START_S)
        await first.ask({"cmd": kind, "count": before_it}, within_s=2 * RUN_S)
        before = await _usage(server)
        await second.ask({"cmd": kind, "count": count}, within_s=2 * RUN_S)
        after = await _usage(server)
    return Measured(value=(after["rss_kib"] - before["rss_kib"]) / count)


@asynccontextmanager
async def _open_server(
    name: str, argv: Sequence[str], folder: Path
) -> AsyncIterator[tuple[PeerProcess, dict[str, Any]]]:
    async with open_peer(f"{name} server", [*argv, "bench-server"], folder) as server:
        ready = await server.read(within_s=START_S)
        if not isinstance(ready.get("address"), str):
            raise PeerError(f"{name} server told no address: {ready}")
        yield server, ready


@asynccontextmanager
async def _open_client(
    name: str, argv: Sequence[str], ready: dict[str, Any], folder: Path
) -> AsyncIterator[PeerProcess]:
    async with open_peer(f"{name} client", [*argv, "bench-client", ready["address"]], folder) as client:
        yield client


async def _usage(server: PeerProcess) -> dict[str, Any]:
    return await server.ask({"cmd": "usage"}, within_s=RUN_S)


def _command(work: Work, sizes: Sizes) -> tuple[dict[str, Any], float, float]:
    """Return the command, how long it should take, and for how long to repeat it."""
    match work.name:
        case "stream_burst":
            return {"cmd": "run", "work": work.name, "messages": sizes.burst_messages}, 0.0, sizes.least_timed_s
        case "bulk":
            return {"cmd": "run", "work": work.name, "frames": sizes.bulk_frames}, 0.0, sizes.least_timed_s
        case "stream_paced":
            messages = sizes.paced_messages
            return {"cmd": "run", "work": work.name, "messages": messages}, messages * 0.01, 0.0
        case "connect":
            return {"cmd": "run", "work": work.name, "count": sizes.connects}, 0.0, 0.0
    command = {"cmd": "run", "work": "unary", "concurrency": work.concurrency, "seconds": sizes.unary_s}
    return command, sizes.unary_s, 0.0


def _value(work: Work, ops: int, wall_s: float, data_bytes: int, latency_us: dict[str, float]) -> float:
    match work.name:
        case "stream_paced":
            return latency_us["p50"]
        case "connect":
            return latency_us["p50"] / 1000
        case "bulk":
            return data_bytes / wall_s / 1e6
    return ops / wall_s
