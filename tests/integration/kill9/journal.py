"""What a server has done, on disk before it goes on: the truth that its callers' errors are held to."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# How far a call has come, in the order of a call.
ARRIVED = "stream arrived"
"""Its stream is here, and nothing of it was read."""
READ = "request read"
"""Its request is here, or its header where requests are a stream; no handler has started."""
STARTED = "handler started"
EFFECT = "effect done"
ANSWERING = "answering"
"""The handler has something to say, or is done; no byte of it has left."""
HALF_ANSWERED = "half answered"
ANSWERED = "answered"
"""The kernel has the whole answer, or the first of several."""

POINTS = (ARRIVED, READ, STARTED, EFFECT, ANSWERING, HALF_ANSWERED, ANSWERED)


class Journal:
    """Lines that outlive the process that wrote them.

    Args:
        path: of the file; the journals of a server's lives follow each other in it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def write(self, point: str, effect: str = "") -> None:
        """Write a line, and return once the disk has it."""
        if self._file is None:
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(self._file, json.dumps({"point": point, "effect": effect}).encode() + b"\n")
        os.fsync(self._file)

    def _lines(self) -> list[Mapping[str, Any]]:
        return [json.loads(line) for line in self._path.read_text().splitlines()] if self._path.exists() else []

    @property
    def points(self) -> list[str]:
        """How far calls have come, in order."""
        return [line["point"] for line in self._lines()]

    @property
    def has_run(self) -> bool:
        """Whether a handler was started."""
        return STARTED in self.points

    def effects(self, effect: str) -> int:
        """How often an effect has happened."""
        return sum(line["point"] == EFFECT and line["effect"] == effect for line in self._lines())
