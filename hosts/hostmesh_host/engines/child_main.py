"""What every child engine does around its engine: takes its options, says when it is ready, dies with its parent.

The parent writes one line of JSON to the child's standard input and keeps it open. The child answers one line on
standard output, ``{"event": "ready", ...}`` or ``{"event": "failed", "message", "remedy"}``, and ends when its standard
input does. Options hold the key, so they are never arguments, which every user of the machine can read.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from hostmesh.errors import EngineError

MAX_OPTIONS_BYTES = 64 * 1024
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def run_child(start: Callable[[Mapping[str, Any]], Mapping[str, object]]) -> NoReturn:
    """Read the options, start the engine, say so, and live until the parent closes standard input.

    Args:
        start: gets the options, starts the engine on threads of its own, returns what the parent is told.
    """
    answers = _claim_stdout()
    # A Ctrl-C or a service manager may signal every process; the parent, which drains, says when its engine ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _die_with_parent()
    line = sys.stdin.buffer.readline(MAX_OPTIONS_BYTES)
    try:
        options = json.loads(line)
    except ValueError:
        _say(answers, {"event": "failed", "message": "no options on standard input", "remedy": ""})
        os._exit(2)
    # Starts before the engine loads: a parent that dies meanwhile takes this process along.
    threading.Thread(target=_exit_at_end_of_input, name="parent-watch", daemon=True).start()
    try:
        said = start(options)
    except EngineError as error:
        _say(answers, {"event": "failed", "message": error.message, "remedy": error.remedy})
        os._exit(1)
    _say(answers, {"event": "ready", **said})
    while True:
        signal.pause()


def _claim_stdout() -> int:
    """Return a descriptor for the one answer; standard output becomes standard error: engines print what they like."""
    answers = os.dup(1)
    os.dup2(2, 1)
    return answers


def _die_with_parent() -> None:
    """Ask Linux to kill this process when the thread that started it ends; the end of standard input comes on top."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _exit_at_end_of_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def _say(descriptor: int, answer: Mapping[str, object]) -> None:
    os.write(descriptor, json.dumps(answer).encode() + b"\n")
