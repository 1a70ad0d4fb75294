"""The node of ``cli_service.py`` as a process, and ``hostmesh call`` as one that talks with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

from cli_world import Process

CLUB_PROGRAM = Path(__file__).resolve().with_name("cli_service.py")


class Club:
    """The node that serves."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.address = str(process.event("ready")["address"])

    def end_of(self, *words: str) -> str:
        """Wait until the call ends that was about these words, and return how: a pytest timeout is the bound."""
        assert self._process.process.stdout is not None
        while line := self._process.process.stdout.readline():
            event = json.loads(line)
            if event["words"] == [*words]:
                return str(event["by"])
        raise AssertionError("the node has ended")


class Caller:
    """``hostmesh call`` as a process, with its standard input open."""

    def __init__(self, home: Path, *argv: str) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("HOSTMESH_", "P2P_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hostmesh.cli.main", "call", *argv, "--no-mdns"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env | {"HOSTMESH_HOME": str(home)},
            text=True,
        )

    def say(self, **fields: object) -> None:
        pipe = self._pipe(self.process.stdin)
        pipe.write(json.dumps(fields) + "\n")
        pipe.flush()

    def hear(self) -> dict[str, object]:
        """Return the next response, which blocks until it is printed; pytest's own timeout is the bound."""
        line = self._pipe(self.process.stdout).readline()
        heard = json.loads(line)
        assert isinstance(heard, dict)
        return heard

    def end(self, signal_number: int | None = None) -> tuple[int, str, str]:
        """Close its input or signal it, and return its exit code and what is left of its output."""
        if signal_number is not None:
            self.process.send_signal(signal_number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err

    @staticmethod
    def _pipe(stream: IO[str] | None) -> IO[str]:
        assert stream is not None
        return stream
