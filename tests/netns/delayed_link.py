"""A link with delay between two network namespaces: one process holds a TAP in each and passes frames on late.

The kernel need not know netem. Nothing is lost, frames keep their order, and jitter is uniform: what a
:class:`hostmesh.testing.LinkProfile` says. Told by JSON on its command line, it writes one JSON object a line and ends
when its standard input does. How late it was itself is in its last line.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import random
import select
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

INTERFACE = "far0"
"""What the link is called in both namespaces."""
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_CLONE_NEWNET = 0x40000000
_LARGEST_FRAME_BYTES = 65536
_HIGHEST_PRIORITY = -20


class DelayLine:
    """One direction. Pure: ``now`` is an argument.

    Args:
        delay_s: what every frame takes.
        jitter_s: added: uniform between 0 and this, drawn for each frame. None overtakes another.
        draw: numbers from 0 to below 1.
    """

    def __init__(self, delay_s: float, jitter_s: float, draw: Callable[[], float]) -> None:
        self._delay_s = delay_s
        self._jitter_s = jitter_s
        self._draw = draw
        self._last_due_s = 0.0
        self._frames: deque[tuple[float, bytes]] = deque()

    @property
    def next_due_s(self) -> float | None:
        """When the next frame is to leave; None = there is none."""
        return self._frames[0][0] if self._frames else None

    def put(self, now: float, frame: bytes) -> None:
        """Take a frame that came."""
        self._last_due_s = max(self._last_due_s, now + self._delay_s + self._jitter_s * self._draw())
        self._frames.append((self._last_due_s, frame))

    def take(self, now: float) -> tuple[float, bytes] | None:
        """Return the next frame that is due, with its time; None = none is."""
        return self._frames.popleft() if self._frames and self._frames[0][0] <= now else None


@dataclass(slots=True)
class _Direction:
    source: int
    target: int
    line: DelayLine


def open_tap(namespace: str) -> int:
    """Return a TAP that stands in a namespace; this process stays where it is."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(namespace_file: int) -> None:
        if libc.setns(namespace_file, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")

    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        enter(there)
        try:
            tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", INTERFACE.encode(), _IFF_TAP | _IFF_NO_PI))
        finally:
            enter(home)
    finally:
        os.close(there)
        os.close(home)
    return tap


def carry(directions: list[_Direction], end_of_input: int) -> list[float]:
    """Pass frames on until the input ends.

    Returns:
        How many seconds after its time each frame was passed on.
    """
    lateness_s: list[float] = []
    while True:
        due = [direction.line.next_due_s for direction in directions]
        next_due_s = min((each for each in due if each is not None), default=None)
        wait_s = None if next_due_s is None else max(0.0, next_due_s - time.monotonic())
        # select and not epoll, whose timeouts are whole milliseconds.
        readable, _, _ = select.select([*(each.source for each in directions), end_of_input], [], [], wait_s)
        if end_of_input in readable and not os.read(end_of_input, 4096):
            return lateness_s
        for direction in directions:
            while direction.source in readable:
                try:
                    frame = os.read(direction.source, _LARGEST_FRAME_BYTES)
                except BlockingIOError:
                    break
                direction.line.put(time.monotonic(), frame)
            while (taken := direction.line.take(time.monotonic())) is not None:
                due_s, frame = taken
                os.write(direction.target, frame)
                lateness_s.append(time.monotonic() - due_s)


def main(wanted: dict) -> None:
    # A wire waits for no CPU: this process goes first whenever it has something to do.
    os.setpriority(os.PRIO_PROCESS, 0, _HIGHEST_PRIORITY)
    one, two = (open_tap(namespace) for namespace in wanted["namespaces"])
    dice = random.Random(wanted["seed"])
    directions = [
        _Direction(source, target, DelayLine(wanted["delay_s"], wanted["jitter_s"], dice.random))
        for source, target in ((one, two), (two, one))
    ]
    print(json.dumps({"event": "ready", "peer_id": "", "addresses": []}), flush=True)
    lateness_s = carry(directions, sys.stdin.fileno())
    print(json.dumps({"event": "stopped", "lateness_s": lateness_s}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
