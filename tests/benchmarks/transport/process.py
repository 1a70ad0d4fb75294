"""A peer's process: one JSON line asks, one JSON line answers, each within its time."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

_MAX_LINE_BYTES = 1 << 20
_EXIT_S = 5.0
_TAIL_BYTES = 600


class PeerError(Exception):
    """A peer did not start, answered with an error, answered late or ended; the text says which."""


class PeerProcess:
    """A running peer. After a :class:`PeerError` other than the peer's own answer it is of no more use."""

    def __init__(self, name: str, process: trio.Process, log: Path) -> None:
        self._name = name
        self._process = process
        self._log = log
        self._buffer = b""
        self.is_usable = True

    async def ask(self, command: Mapping[str, Any], *, within_s: float) -> dict[str, Any]:
        """Send a command and return its answer.

        Raises:
            PeerError: the answer is an error, is late, or does not come.
        """
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send_all(json.dumps(command).encode() + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self._ended() from None
        answer = await self.read(within_s=within_s)
        if answer.get("ok") is False:
            raise PeerError(f"{self._name}: {answer.get('error', 'no reason given')}")
        return answer

    async def read(self, *, within_s: float) -> dict[str, Any]:
        """Return the next line that the peer writes.

        Raises:
            PeerError: it is late, the peer ended, or the line is no JSON object.
        """
        line = None
        with trio.move_on_after(within_s):
            line = await self._read_line()
        if line is None:
            self.is_usable = False
            raise PeerError(f"{self._name} is late: no answer within {within_s:g} s{self._tail()}")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            self.is_usable = False
            raise PeerError(f"{self._name} wrote what is no JSON object: {line[:200]!r}")
        return answer

    async def _read_line(self) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            data = await self._process.stdout.receive_some()
            if not data or len(self._buffer) > _MAX_LINE_BYTES:
                raise self._ended()
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    async def end(self) -> None:
        """Close its standard input, upon which it ends; kill it where it does not."""
        assert self._process.stdin is not None
        with trio.CancelScope(shield=True):
            await self._process.stdin.aclose()
            with trio.move_on_after(_EXIT_S if self.is_usable else 0):
                await self._process.wait()
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
            assert self._process.stdout is not None
            await self._process.stdout.aclose()

    def _ended(self) -> PeerError:
        self.is_usable = False
        return PeerError(f"{self._name} ended{self._tail()}")

    def _tail(self) -> str:
        """What it wrote to standard error last."""
        text = self._log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
        return f"; it wrote: {text}" if text else ""


@asynccontextmanager
async def open_peer(name: str, argv: Sequence[str], folder: Path) -> AsyncIterator[PeerProcess]:
    """Run a peer for the life of the block.

    Args:
        name: for errors.
        argv: the program.
        folder: gets a file with its standard error.

    Raises:
        PeerError: the program cannot be started.
    """
    with tempfile.NamedTemporaryFile(dir=folder, prefix=f"{name} ", suffix=".log", delete=False) as errors:
        try:
            process = await trio.lowlevel.open_process(
                list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
        except OSError as error:
            raise PeerError(f"{name} does not start: {error}") from error
    peer = PeerProcess(name, process, Path(errors.name))
    try:
        yield peer
    except trio.Cancelled:
        peer.is_usable = False  # no time for goodbyes
        raise
    finally:
        await peer.end()
