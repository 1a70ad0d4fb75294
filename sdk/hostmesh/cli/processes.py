"""Child processes of a command: started in groups of their own, waited for, and never left behind.

Three things end them: :func:`running_children` when its block is left, for whatever reason; the kernel, which sends
SIGTERM when this process dies without leaving it (kill -9, a second Ctrl-C); and SIGKILL to the group of one that does
not end in time.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from hostmesh.errors import StartFailedError

END_TIMEOUT_S = 8.0
"""How long children may take to end by themselves. A host drains and withdraws its record in less."""
MAX_LINE_BYTES = 1024 * 1024
_PR_SET_PDEATHSIG = 1


class Child:
    """One child process that prints JSON lines, the first with ``"event": "ready"``."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        assert process.stdout is not None
        self.name = name
        self.process = process
        self._log = log
        self._is_closed = False
        self._pipe = process.stdout
        self._stream = trio.lowlevel.FdStream(os.dup(process.stdout.fileno()))

    async def ready(self) -> Mapping[str, object]:
        """Wait for the ready line, and return it.

        Raises:
            StartFailedError: the process ended first, with the last line that it logged.
        """
        buffered = bytearray()
        while len(buffered) < MAX_LINE_BYTES:
            while (end := buffered.find(b"\n")) >= 0:
                line = _parsed(bytes(buffered[:end]))
                del buffered[: end + 1]
                if line.get("event") == "ready":
                    return line
            received = await self._stream.receive_some()
            if not received:
                break
            buffered += received
        last = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise StartFailedError(
            f"{self.name} did not start: {last[0] if last else 'it ended and said nothing'}",
            remedy="run it again with -v",
        )

    def signal_group(self, number: int) -> None:
        """Signal the process and all that it started, while it is there."""
        if self._is_closed:  # its id may be another's by now
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    async def close(self) -> None:
        """Wait for the end of the process and of all that hold its output, and close the pipe.

        Idempotent. Cancellation: safe; close it again.
        """
        if self._is_closed:
            return
        while await self._stream.receive_some():
            pass
        ended = os.pidfd_open(self.process.pid)
        try:
            await trio.lowlevel.wait_readable(ended)
        finally:
            os.close(ended)
        self.process.wait()
        self._is_closed = True
        self._pipe.close()
        await self._stream.aclose()


class Children:
    """The children of one block; see :func:`running_children`."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._all: list[Child] = []

    def start(
        self, name: str, command: Sequence[str], env: Mapping[str, str], *, links: Mapping[str, Path] | None = None
    ) -> Child:
        """Start a Python program as a child, with a home directory and a log of its own.

        Args:
            name: a word for people, also that of its home under ours.
            command: arguments after the interpreter, such as ``-m hostmesh.cli.main``.
            env: its whole environment but ``HOSTMESH_HOME`` and ``TMPDIR``.
            links: what its home shares with others: folders by the name that they have there.

        The fork happens in the calling thread, which must be one that lives as long as this process: the kernel's
        signal at a parent's death is one at the death of the thread that forked.
        """
        home = self._home / name
        home.mkdir(mode=0o700)
        for link, target in (links or {}).items():
            (home / link).symlink_to(target, target_is_directory=True)
        log = home / "log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(  # noqa: S603 - our own programs
                [sys.executable, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**env, "HOSTMESH_HOME": str(home), "TMPDIR": str(home)},
                start_new_session=True,
                preexec_fn=_die_with_parent(),
            )
        child = Child(name, process, log)
        self._all.append(child)
        return child

    async def end(self) -> None:
        """Ask all to end, wait for it, and kill what stays."""
        for child in reversed(self._all):
            child.signal_group(signal.SIGTERM)
        with trio.move_on_after(END_TIMEOUT_S):
            for child in self._all:
                await child.close()
            return
        for child in self._all:
            child.signal_group(signal.SIGKILL)
        for child in self._all:
            await child.close()


@asynccontextmanager
async def running_children(home: Path) -> AsyncIterator[Children]:
    """Hold children for the life of the block. Leaving it ends them all, also when it is cancelled.

    Args:
        home: a folder for their home directories and logs.
    """
    children = Children(home)
    try:
        yield children
    finally:
        with trio.CancelScope(shield=True):
            await children.end()


def _die_with_parent() -> Callable[[], None] | None:
    """Return what makes a forked child end when its parent is gone, where the system can (Linux)."""
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None, use_errno=True).prctl, os.getpid()  # looked up before the fork

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return in_child


def _parsed(line: bytes) -> Mapping[str, object]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
