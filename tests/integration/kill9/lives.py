"""A server as its test sees it: started, heard, frozen, killed, and started again."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio
from tests.integration.kill9.journal import Journal

from hostmesh.net.address import split_peer_address
from hostmesh.net.peer_id import PeerId

START_S = 30.0


class Server:
    """One life of a server.

    Args:
        folder: of its files; all its lives have the same.
        before: the life before, whose port and peer id this one has.
    """

    def __init__(self, folder: Path, before: Server | None = None) -> None:
        self._folder = folder
        self._number = 1 if before is None else before._number + 1
        self._port = 0 if before is None else int(before.address.split("/")[4])
        self._events: trio.lowlevel.FdStream | None = None
        self._unread = b""
        self._pid_fd: int | None = None
        self.journal = Journal(folder / "journal")
        self.address = ""

    @property
    def peer_id(self) -> PeerId:
        peer_id = split_peer_address(self.address)[1]
        assert peer_id is not None
        return peer_id

    async def start(self, nest: subprocess.Popen[bytes], *, die_at: str, is_silent: bool) -> None:
        """Have it forked, and return once it serves."""
        fifo = self._folder / f"events-{self._number}"
        os.mkfifo(fifo)
        self._events = trio.lowlevel.FdStream(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))
        config = {
            "home": str(self._folder / "home"),
            "journal": str(self._folder / "journal"),
            "events": str(fifo),
            "port": self._port,
            "die_at": die_at,
            "is_silent": is_silent,
        }
        assert nest.stdin is not None
        nest.stdin.write(json.dumps(config).encode() + b"\n")
        nest.stdin.flush()
        with trio.fail_after(START_S):
            await trio.lowlevel.wait_readable(self._events.fileno())  # a FIFO that nobody writes to reads as ended
        ready = await self._event(lambda event: "address" in event)
        self.address = ready["address"]
        self._pid_fd = os.pidfd_open(ready["pid"])

    async def reached(self, point: str) -> None:
        """Return once a call has come to a point of the journal."""
        await self._event(lambda event: event.get("point") == point)

    async def _event(self, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        assert self._events is not None
        with trio.fail_after(START_S):
            while True:
                while b"\n" in self._unread:
                    line, _, self._unread = self._unread.partition(b"\n")
                    if is_it(event := json.loads(line)):
                        return event
                data = await self._events.receive_some()
                assert data, "the server ended"
                self._unread += data

    def stop(self) -> None:
        """Freeze it: its kernel goes on to take bytes, and nobody reads them."""
        assert self._pid_fd is not None
        signal.pidfd_send_signal(self._pid_fd, signal.SIGSTOP)

    def kill(self) -> None:
        """Kill -9, and return once it is dead and its sockets are closed. Yields to no task."""
        if self._pid_fd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pid_fd, signal.SIGKILL)
            self.wait_dead()
            os.close(self._pid_fd)
            self._pid_fd = None

    def wait_dead(self) -> None:
        """Return once it is dead, by whosever hand. Yields to no task."""
        if self._pid_fd is not None:
            assert select.select([self._pid_fd], [], [], 10)[0], "it lives"

    async def died(self) -> None:
        """Return once it is dead, by whosever hand."""
        assert self._pid_fd is not None
        await trio.lowlevel.wait_readable(self._pid_fd)

    async def close(self) -> None:
        """Kill it and close what it is heard on."""
        self.kill()
        if self._events is not None:
            await self._events.aclose()


StartServer = Callable[..., Awaitable[Server]]


class Supervisor:
    """Starts the server anew whenever it has died, as an operator's does.

    Args:
        start_server: starts a life.
        lives: what each is given, but for the last, which serves on.
    """

    def __init__(self, start_server: StartServer, *lives: Mapping[str, Any]) -> None:
        self._start_server = start_server
        self._lives = (*lives, {})
        self._is_up = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED) -> None:
        """Supervise until cancelled; ``started()`` gives the first life."""
        server: Server | None = None
        for life in self._lives:
            is_first = server is None
            server = await self._start_server(after=server, **life)
            self._is_up.set()
            if is_first:
                task_status.started(server)
            await server.died()
            self._is_up = trio.Event()

    async def wait_up(self) -> None:
        """Return once the server is not known to be down."""
        await self._is_up.wait()
