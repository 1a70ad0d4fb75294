"""A bare TCP echo: what round trips over a link take, with next to no program at its ends.

``python echo.py '{"role": "server", "host": ..., "port": ...}'`` answers until its standard input ends; the role
``client`` writes, for each line of its input, which is a number, the seconds of so many round trips.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time

SEGMENT_BYTES = 64


def answer(listener: socket.socket) -> None:
    """Send back what comes, on one connection after another."""
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := connection.recv(SEGMENT_BYTES):
                connection.sendall(data)


def round_trips_s(host: str, port: int, count: int) -> list[float]:
    """Return what each of so many round trips took, one after another on one connection."""
    taken: list[float] = []
    segment = bytes(SEGMENT_BYTES)
    with socket.create_connection((host, port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            began = time.perf_counter()
            connection.sendall(segment)
            left = SEGMENT_BYTES
            while left:
                data = connection.recv(left)
                if not data:
                    raise ConnectionError("the echo ended")
                left -= len(data)
            taken.append(time.perf_counter() - began)
    return taken


def tell(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def main(wanted: dict) -> None:
    where = wanted["host"], wanted["port"]
    if wanted["role"] == "server":
        listener = socket.create_server(where)
        # A daemon: it is not asked whether it wants to end.
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
    tell("ready", peer_id="", addresses=[])
    for number, line in enumerate(sys.stdin):
        tell(f"round trips {number}", seconds=round_trips_s(*where, int(line)))
    tell("stopped")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
