"""Interop peers as processes: one that serves, and others that dial it, each for one scenario.

A peer is known by the start of its command line, such as ``["node", "peer.mjs"]``; what follows is the same for all
languages, see :mod:`tests.interop.scenarios`.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from tests.interop import scenarios

ROOT = Path(__file__).resolve().parents[2]
HOSTMESH = [sys.executable, "-m", "tests.interop.hostmesh_peer"]
HOSTMESH_AT_ONCE = [*HOSTMESH, "--at-once"]
"""Opens streams before it knows what the peer speaks, so that each waits for the peer's consent."""
AT_ONCE_SCENARIOS = ("ping", "echo", "bulk-up", "bulk-down", "streams", "half-close", "reset")
STOCK = [sys.executable, "-m", "tests.interop.stock_peer"]

START_LIMIT_S = 30.0
SCENARIO_LIMIT_S = 60.0
STOP_LIMIT_S = 10.0
_SHOWN_BYTES = 6000


class Server:
    """A peer that serves.

    Args:
        process: the peer; its standard output was read as far as ``announcement``.
        announcement: its first line.
        log: its standard error.
    """

    def __init__(self, process: subprocess.Popen[bytes], announcement: dict[str, Any], log: IO[bytes]) -> None:
        self._process = process
        self._log = log
        self.peer_id: str = announcement["peer_id"]
        self.addresses: list[str] = announcement["addresses"]

    def log_size(self) -> int:
        return os.fstat(self._log.fileno()).st_size

    def state(self, since: int) -> str:
        """Return whether the peer runs, and what it logged since it had logged so many bytes."""
        return f"{'runs' if self.runs() else f'ended with {self._process.returncode}'}\n{_tail(self._log, since)}"

    def runs(self) -> bool:
        return self._process.poll() is None


@contextmanager
def serving(peer: Sequence[str]) -> Iterator[Server]:
    """Run a peer that serves. At the end it must go by itself, with status 0, once its standard input ends."""
    with tempfile.TemporaryFile() as log, _process([*peer, "serve"], log) as process:
        assert process.stdin is not None
        try:
            announcement = json.loads(_first_line(process))
        except (ValueError, TimeoutError) as error:
            raise AssertionError(f"{list(peer)} does not serve: {error}\n{_tail(log)}") from error
        yield Server(process, announcement, log)
        process.stdin.close()
        try:
            status = process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{list(peer)} runs on after its standard input ended\n{_tail(log)}") from None
        assert status == 0, f"{list(peer)} ended with {status}\n{_tail(log)}"


def run_scenario(peer: Sequence[str], server: Server, scenario: str) -> dict[str, Any]:
    """Let a peer dial a server and run a scenario; return the facts that it told.

    Raises:
        AssertionError: it failed, or took longer than a minute; says what both told about it.
    """
    offset = server.log_size()
    with tempfile.TemporaryFile() as log, _process([*peer, "dial", server.addresses[0], scenario], log) as process:
        try:
            output, _ = process.communicate(timeout=SCENARIO_LIMIT_S)
            problem = _problem(process.returncode, output)
        except subprocess.TimeoutExpired:
            output, problem = b"", f"not done after {SCENARIO_LIMIT_S:g} s"
        if problem or not server.runs():
            raise AssertionError(
                f"{scenario}: {problem or 'done'}\n--- the dialling peer\n{_tail(log)}\n--- the serving peer "
                f"{server.state(offset)}"
            )
    return json.loads(output)


def check_scenario(peer: Sequence[str], server: Server, scenario: str) -> None:
    """Let a peer dial a server, run a scenario, and check the facts that are more than its own verdict."""
    facts = run_scenario(peer, server, scenario)
    if scenario == "identify":
        assert {scenarios.IDENTIFY, scenarios.PING, *scenarios.HANDLERS} <= set(facts["protocols"])
        assert facts["agent"]
    if scenario == "ping":
        assert facts["rtt_us"]


def _problem(status: int, output: bytes) -> str | None:
    try:
        outcome = json.loads(output)
    except ValueError:
        return f"exit status {status}, and no JSON: {output!r}"
    return None if status == 0 and outcome["ok"] else f"exit status {status}: {outcome}"


@contextmanager
def _process(command: Sequence[str], log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a process group of its own; nothing of the group is left at the end."""
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    """Return what the process prints first.

    Raises:
        TimeoutError: it does not, in time.
    """
    assert process.stdout is not None
    deadline = time.monotonic() + START_LIMIT_S
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(deadline - time.monotonic()):
                raise TimeoutError(f"nothing within {START_LIMIT_S:g} s but {line!r}")
            data = os.read(process.stdout.fileno(), 65536)
            if not data:
                break
            line += data
    return line


def _tail(log: IO[bytes], offset: int = 0) -> str:
    """Return the end of what was logged since an offset."""
    size = os.fstat(log.fileno()).st_size
    start = max(offset, size - _SHOWN_BYTES)
    return os.pread(log.fileno(), size - start, start).decode(errors="replace")
