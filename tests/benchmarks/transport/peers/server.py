"""The measured server's command loop: it tells what it used, and ends with standard input."""

from __future__ import annotations

import ctypes
import gc
import time
from pathlib import Path

from tests.benchmarks.transport.peers.client import read_commands, tell
from tests.benchmarks.transport.peers.endpoint import Stack


async def run_server(stack: Stack) -> None:
    """Serve until standard input ends."""
    async with stack.serve() as served:
        tell({"address": served.address, "settings": served.settings})
        async for command in read_commands():
            if command["cmd"] == "usage":
                tell(usage())
            else:
                tell({"ok": False, "error": f"unknown command {command['cmd']}"})


def usage() -> dict[str, float]:
    """Return the CPU that this process has used so far, and the memory it holds after a collection."""
    cpu_s = time.process_time()
    for _ in range(2):
        gc.collect()
    _return_free_memory()
    return {"cpu_s": cpu_s, "rss_kib": _rss_kib()}


def _return_free_memory() -> None:
    """Give the C heap's free pages back: what starting up left there would hide what connections take."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)


def _rss_kib() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise OSError("the kernel does not tell this process's memory")
