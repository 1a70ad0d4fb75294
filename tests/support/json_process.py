"""A program under test in a process of its own, which tells what happens as one JSON object a line."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio


class JsonProcess:
    """The events of a process as they come."""

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

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of that name so far."""
        return [event for event in self._events if event["event"] == name]

    def has(self, name: str) -> bool:
        return bool(self.events(name))

    async def event(self, name: str, *, number: int = 0, within_s: float = 40.0) -> dict[str, Any]:
        """Return the event of that name, the first one or that with the number; they are counted from 0."""
        with trio.move_on_after(within_s):
            while len(self.events(name)) <= number and not self._has_ended:
                await self._changed.wait()
        told = self.events(name)
        assert len(told) > number, f"the process {'ended' if self._has_ended else 'runs'}; it told {self._events}"
        return told[number]

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        self._process.send_signal(number)

    async def ended(self) -> None:
        """Return once the process is gone."""
        await self._process.wait()

    async def command(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(line.encode() + b"\n")

    async def stop(self) -> dict[str, Any]:
        """Close its standard input and return what it says was left."""
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        return await self.event("stopped")


Start = Callable[..., Awaitable[JsonProcess]]


@asynccontextmanager
async def json_processes() -> AsyncIterator[Start]:
    """Yield ``start(command, environment={})``, which returns once the program told ``ready``; kill all at the end."""
    processes: list[trio.Process] = []
    async with trio.open_nursery() as nursery:

        async def start(command: Sequence[str], environment: Mapping[str, str] | None = None) -> JsonProcess:
            process = await trio.lowlevel.open_process(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **(environment or {})},
            )
            processes.append(process)
            program = JsonProcess(process)
            nursery.start_soon(program.run)
            ready = await program.event("ready")
            program.peer_id, program.addresses = ready["peer_id"], ready["addresses"]
            return program

        try:
            yield start
        finally:
            with trio.CancelScope(shield=True):
                for process in processes:
                    process.kill()
                for process in processes:
                    await process.wait()
            nursery.cancel_scope.cancel()
