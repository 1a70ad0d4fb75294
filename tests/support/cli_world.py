"""Commands and hosts as processes, for the tests of the command line."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

HOST_PROGRAM = Path(__file__).resolve().with_name("cli_host.py")
READY_TIMEOUT_S = 60.0

HOSTILE = "\x1b]0;pwned\x07\r<script>alert(1)</script>\u202e\x9b2J"
"""OSC, CR, a script tag, a bidi mark and a C1 control."""


class Process:
    """A program that prints JSON lines, and what it printed so far."""

    def __init__(self, *command: str, home: Path) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("HOSTMESH_", "P2P_"))}
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # a second line in a buffer of ours would be none to select()
            env=env | {"HOSTMESH_HOME": str(home), "HOSTMESH_ENABLE_MDNS": "false"},
        )

    def event(self, name: str) -> dict[str, object]:
        """Return the next line of that event."""
        while True:
            line = self.line()
            if line.get("event") == name:
                return line

    def line(self) -> dict[str, object]:
        out = self._pipe(self.process.stdout)
        assert select.select([out], [], [], READY_TIMEOUT_S)[0], "nothing was printed in time"
        text = out.readline()
        assert text, self._pipe(self.process.stderr).read().decode()
        parsed = json.loads(text)
        assert isinstance(parsed, dict)
        return parsed

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Signal it, and return its exit code and what is left on standard error."""
        self.process.send_signal(number)
        return self.end()

    def end(self) -> tuple[int, str]:
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err.decode()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    @staticmethod
    def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
        assert stream is not None
        return stream


@dataclass
class World:
    """A bootstrap node and hosts. All are found through it: by the DHT, and by the records that it keeps."""

    bootstrap: str
    hosts: dict[str, str]
    """Peer id by name."""
    processes: dict[str, Process]

    def join(self, *arguments: str) -> list[str]:
        """Return a command line whose client knows the bootstrap node."""
        return [*arguments, "--bootstrap", self.bootstrap, "--no-mdns"]


HOSTS: dict[str, dict[str, object]] = {
    "cheap": {"model": "m1", "price": 100_000, "location": "US/california"},
    "dear": {"model": "m1", "price": 200_000, "location": "DE"},
    "endless": {"model": "endless", "price": 0, "pieces": ["begun "], "endless": True},
    "hostile": {
        "model": f"evil{HOSTILE}",
        "price": 7,
        "location": f"US/{HOSTILE}",
        "software": HOSTILE,
        "capabilities": [HOSTILE],
        "pieces": ["one\n", HOSTILE, "\ttwo"],
    },
}


@dataclass
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        """Standard output as the one JSON object that it is."""
        (line,) = self.out.splitlines()
        value = json.loads(line)
        assert isinstance(value, dict)
        return value


Command = Callable[..., Outcome]
